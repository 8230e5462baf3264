//! A booted host with a GPU of 12 GiB whose memory is what processes hold: those of guests, and others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nixmox_testbed::{Behaviour, Options, Output, Testbed, fake_nvml};
use serde_json::Value;

use crate::stand_in::{self, GPUS, MAJOR, VERSION};

/// Longest wait for what the agent does by itself.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);
/// Where Ollama listens in its guest.
const PORT: u16 = 11434;
const STATES: &str = "/run/fake-nvidia";
const KEPT: &str = "/var/lib/stand-in";
const ROOTS: &str = "/var/lib/nixos-containers";
const MANIFEST: &str = "/srv/models/nixmox.toml";
pub(crate) const GIB: u64 = 1 << 30;

/// What demands 8 GiB at a high priority.
pub(crate) const HIGH: &str = "gpu = { devices = [\"GPU-0\"], vram = \"8G\", priority = 80 }";
/// What runs models, and keeps one of them loaded.
pub(crate) const OLLAMA: &str = "gpu = { devices = [\"GPU-0\"], vram = \"11G\", priority = 30 }\n\
                                 offload = { engine = \"ollama\", keep = [\"big\"], context = 4096 }";

/// Returns what runs models and keeps none of them loaded, with more of its table.
pub(crate) fn ollama(more: &str) -> String {
    format!(
        "gpu = {{ devices = [\"GPU-0\"], vram = \"11G\", priority = 30 }}\noffload = {{ engine = \"ollama\", {more} }}"
    )
}

/// The models that there are: about 4.3, 2.4 and 1.2 GiB on the GPU, with a context of 4096.
const MODELS: &str = "model big 16 4096 32 8 14336 32000 8192\nmodel mid 8 4096 32 8 14336 32000 8192\nmodel tiny 3 4096 32 8 14336 32000 8192\n\
                      load_takes 0.3\nmemory_returns 2\n";

/// The host.
pub(crate) struct Machine {
    pub(crate) bed: Testbed,
    systems: BTreeMap<&'static str, String>,
}

impl Machine {
    /// Boots the host; its simulators of Ollama are told these lines too.
    pub(crate) fn boot(name: &str, more: &str) -> Self {
        let bed = Testbed::boot(&Options::new(name).without_homelab()).expect("the host boots");
        let mut machine = Self { bed, systems: BTreeMap::new() };
        machine.has("ollama", &Behaviour::new().ollama(PORT, &format!("{MODELS}{more}")));
        machine.has("high", &Behaviour::new().holds_vram(0, 7 * GIB));
        machine.pretend();
        machine
    }

    /// Puts the system of a service into the store.
    pub(crate) fn has(&mut self, service: &'static str, behaviour: &Behaviour) {
        let system = self.bed.static_guest(service, behaviour).expect("the system is added");
        self.systems.insert(service, system);
    }

    /// Makes the host look as if it had a GPU, whose memory is what processes hold.
    fn pretend(&self) {
        let bed = &self.bed;
        let libraries = "/usr/lib/x86_64-linux-gnu";
        bed.copy_in(fake_nvml().expect("it is built"), format!("{libraries}/libnvidia-ml.so.1")).expect("copied");
        bed.succeed(&format!(
            "cd {libraries}; cp libc.so.6 libcuda.so.{VERSION}; ln -s libcuda.so.{VERSION} libcuda.so.1"
        ))
        .expect("a user space");
        let gpus = format!(
            "driver {VERSION}\ncuda 12080\ngpu\n uuid GPU-0\n name NVIDIA Stand-in 0\n minor {}\n pci 00000000:01:00.0\n total 12G\n \
             reserved 256M\n temperature 50\n slowdown 98\n power 90000\n limit 170000\n utilization 30\n mig off\n",
            GPUS[0]
        );
        bed.write_file(format!("{KEPT}/gpus"), gpus, 0o644).expect("written");
        let script = format!(
            "#!/bin/bash\n{}\n{}\n{}\nmkdir -p {STATES}\ncp {KEPT}/gpus {STATES}/\n",
            stand_in::load(MAJOR),
            stand_in::version(VERSION),
            stand_in::make_nodes(MAJOR)
        );
        bed.write_file(format!("{KEPT}/load"), script, 0o755).expect("written");
        let system = &self.systems["high"];
        bed.succeed(&format!("cp $(readlink -f {system}/init) {KEPT}/compose")).expect("copied");
        let unit = format!(
            "[Unit]\nDefaultDependencies=no\nBefore=nixmox-agent.service nixmox-agent.socket\n[Service]\n\
             ExecStartPre={KEPT}/load\nExecStart={KEPT}/compose compose {STATES} {ROOTS}\n[Install]\nWantedBy=sysinit.target\n"
        );
        bed.write_file("/etc/systemd/system/stand-in.service", unit, 0o644).expect("written");
        bed.succeed("systemctl daemon-reload; systemctl enable --now stand-in.service").expect("loaded");
        bed.wait_until(&format!("test -e {STATES}/state"), LIMIT).expect("told");
        bed.succeed("systemctl restart nixmox-agent.service").expect("restarted");
    }

    /// Brings services up: a name and the lines of its tables.
    pub(crate) fn up(&self, services: &[(&str, &str)]) {
        let mut manifest = "format = 1\n[stack]\nname = \"models\"\n".to_owned();
        for (name, tables) in services {
            let system = &self.systems[name];
            let _ = write!(
                manifest,
                "[services.{name}]\nsystem = \"{system}\"\nnetwork = {{ mode = \"private\" }}\n{tables}\n"
            );
        }
        self.bed.write_file(MANIFEST, manifest, 0o644).expect("written");
        let up = self.ctl("up --detach");
        assert!(up.success(), "{up}");
    }

    /// Runs `nixmoxctl` on the stack.
    pub(crate) fn ctl(&self, arguments: &str) -> Output {
        self.bed.shell(&format!("nixmoxctl -f {MANIFEST} {arguments}")).expect("it runs")
    }

    /// Runs `nixmoxctl` on the stack in the background: what it asks for may take longer than anybody waits.
    pub(crate) fn begin(&self, arguments: &str) {
        let script = format!("timeout 60 nixmoxctl -f {MANIFEST} {arguments} < /dev/null > /dev/null 2>&1 &");
        self.bed.succeed(&script).expect("begun");
    }

    /// Runs `nixmoxctl`, which must succeed, and returns what it prints.
    pub(crate) fn says(&self, arguments: &str) -> String {
        let output = self.ctl(arguments);
        assert!(output.success(), "{arguments}: {output}\n{}", self.journal());
        output.stdout
    }

    /// Waits until a service is in a state.
    pub(crate) fn is(&self, name: &str, state: &str) {
        self.wait(&format!("{name} is {state}"), || {
            let status: Value = serde_json::from_str(&self.says("status --json")).expect("JSON");
            let services = status["services"].as_array().cloned().unwrap_or_default();
            services.iter().any(|service| service["name"] == name && service["state"] == state)
        });
    }

    /// Waits for a condition; a failure tells what everybody says.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < LIMIT, "not {what}:\n{}", self.all());
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Asks the simulator, as from inside; `None`: it does not answer, or not so.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        self.http("ollama", PORT, method, path, body)
    }

    /// Asks what listens in a guest, as from inside; `None`: it does not answer, or not so.
    pub(crate) fn http(&self, name: &str, port: u16, method: &str, path: &str, body: &str) -> Option<Value> {
        let asked = self.bed.shell(&self.curl((name, port), method, path, body)?).expect("it runs");
        serde_json::from_str(&asked.stdout).ok()
    }

    fn curl(&self, (name, port): (&str, u16), method: &str, path: &str, body: &str) -> Option<String> {
        let leader = self.leader(name)?;
        let data = if body.is_empty() { String::new() } else { format!("-d '{body}'") };
        Some(format!("nsenter -t {leader} -n curl -sS -m 120 -X {method} {data} http://127.0.0.1:{port}{path}"))
    }

    /// Asks a `llama-server` something that takes as long as somebody listens, in the background.
    pub(crate) fn compute(&self, name: &str, port: u16, model: &str) {
        let body = format!(
            "{{\"model\":\"{model}\",\"prompt\":\"x\",\"n_predict\":10000000,\"ignore_eos\":true,\"stream\":true}}"
        );
        let curl = self.curl((name, port), "POST", "/completion", &body).expect("it runs");
        self.bed.succeed(&format!("systemd-run -q --unit=asks-{name} {curl}")).expect("begun");
    }

    /// Has nobody listen any more to what was asked of a `llama-server`.
    pub(crate) fn no_more(&self, name: &str) {
        self.bed.succeed(&format!("systemctl stop asks-{name}")).expect("stopped");
    }

    /// Loads a model as a client does that has nothing to ask it yet.
    pub(crate) fn load(&self, model: &str) {
        let answer = self.ask("POST", "/api/generate", &format!("{{\"model\":\"{model}\"}}"));
        assert_eq!(answer.map(|answer| answer["done_reason"].clone()), Some("load".into()), "{}", self.all());
    }

    /// Asks a model something that takes so many seconds, in the background; the answer is in the file that is returned once it is there.
    pub(crate) fn request(&self, model: &str, seconds: u32) -> String {
        let file = format!("/run/answer-{model}");
        let body =
            format!("{{\"model\":\"{model}\",\"prompt\":\"x\",\"options\":{{\"num_predict\":{}}}}}", seconds * 10);
        let curl = self.curl(("ollama", PORT), "POST", "/api/generate", &body).expect("it runs");
        self.bed
            .succeed(&format!("rm -f {file}; ({curl} > {file}.new; mv {file}.new {file}) >&- 2>&- &"))
            .expect("begun");
        self.wait(&format!("{model} computes"), || {
            self.runner(model).is_some_and(|runner| runner["requests"] == 1)
        });
        file
    }

    /// Returns what the simulator says of a loaded model.
    pub(crate) fn runner(&self, model: &str) -> Option<Value> {
        let runners = self.ask("GET", "/test/runners", "")?;
        runners.as_array()?.iter().find(|runner| runner["model"] == format!("{model}:latest")).cloned()
    }

    /// Returns whether a model is loaded with all of its layers on the GPU.
    pub(crate) fn is_whole(&self, model: &str) -> bool {
        self.runner(model).is_some_and(|runner| runner["layers"] == runner["layers_all"])
    }

    /// Returns what the simulator did, oldest first.
    pub(crate) fn steps(&self) -> Vec<String> {
        let steps = self.ask("GET", "/test/steps", "").unwrap_or_default();
        steps.as_array().into_iter().flatten().filter_map(|step| step.as_str().map(str::to_owned)).collect()
    }

    /// Returns how often the simulator did something with a model, such as `load`.
    pub(crate) fn count(&self, what: &str, model: &str) -> usize {
        let text = format!(" {what} {model}:latest");
        self.steps().iter().filter(|step| step.contains(&text)).count()
    }

    /// Returns where in the simulator's steps something was done with a model first.
    pub(crate) fn step(&self, what: &str, model: &str) -> Option<usize> {
        let text = format!(" {what} {model}:latest");
        self.steps().iter().position(|step| step.contains(&text))
    }

    /// Returns what `nixmoxctl offload --json` says of a service.
    pub(crate) fn offload(&self, name: &str) -> Option<Value> {
        let told: Value = serde_json::from_str(&self.says("offload --json")).expect("JSON");
        let services = told["services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|service| service["name"] == name)
    }

    /// Returns what is told of a model of `ollama`.
    pub(crate) fn told(&self, model: &str) -> Option<Value> {
        let service = self.offload("ollama")?;
        service["models"]
            .as_array()?
            .iter()
            .find(|told| told["name"] == format!("{model}:latest") || told["name"] == model)
            .cloned()
    }

    /// Lets a process of the host use so much of the GPU from now on, in MiB; 0 is nothing.
    pub(crate) fn other_uses(&self, mebibytes: u64) {
        let script = format!(
            "systemctl is-active -q game || systemd-run -q --unit=game sleep infinity\n\
             echo $(systemctl show -P MainPID game) 0 {mebibytes}M > {STATES}/others.new; mv {STATES}/others.new {STATES}/others"
        );
        self.bed.succeed(&script).expect("told");
    }

    pub(crate) fn invocation(&self, name: &str) -> String {
        self.bed.succeed(&format!("systemctl show -P InvocationID container@{name}.service")).expect("loaded")
    }

    /// Sends a signal to the simulator alone: its container knows nothing of it.
    pub(crate) fn signal_engine(&self, signal: &str) {
        self.bed.succeed(&format!("pkill -{signal} -f '^/proc/self/exe ollama'")).expect("there is one");
    }

    fn leader(&self, name: &str) -> Option<u32> {
        let told = self.bed.shell(&format!("machinectl show {name} -p Leader --value")).expect("it runs");
        told.stdout.trim().parse().ok()
    }

    /// Returns what NVML says is used, in bytes.
    pub(crate) fn used(&self) -> u64 {
        let state = self.bed.succeed(&format!("cat {STATES}/state")).expect("read");
        let used = state.lines().find_map(|line| line.trim().strip_prefix("used ")).expect("it tells");
        used.parse().expect("a number")
    }

    /// Returns all that is told, for a failed test.
    pub(crate) fn all(&self) -> String {
        let state = self.bed.shell(&format!("cat {STATES}/state")).map(|output| output.stdout).unwrap_or_default();
        format!(
            "{}\n{}\n{}\n{}\nsteps {:#?}\n{}",
            self.ctl("offload"),
            self.ctl("status"),
            self.ctl("gpu"),
            state,
            self.ask("GET", "/test/steps", ""),
            self.journal()
        )
    }

    pub(crate) fn journal(&self) -> String {
        self.bed.journal(&["-u", "nixmox-agent", "-n", "120", "-o", "cat"]).unwrap_or_default()
    }
}

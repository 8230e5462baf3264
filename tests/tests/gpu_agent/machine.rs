//! A booted host that looks as if it had four NVIDIA GPUs, also after a reboot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Output, Testbed, fake_nvml};

use crate::stand_in::{self, GPUS, MAJOR, VERSION};

/// Longest wait for what the agent does by itself: it looks every ten seconds, and into guests every minute.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);
/// Where the stand-in for NVML finds what it tells, and where that is kept over a reboot.
const STATE: &str = "/run/fake-nvidia/state";
const KEPT: &str = "/var/lib/stand-in";
const MANIFEST: &str = "/srv/gpus/nixmox.toml";

/// The host.
pub(crate) struct Machine {
    pub(crate) bed: Testbed,
    system: String,
}

/// What one GPU tells of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// GiB in use, over all processes.
    pub(crate) used: u32,
    /// Processes and their GiB.
    pub(crate) processes: Vec<(u32, u32)>,
}

impl Machine {
    /// Boots a host with four GPUs of 12 GiB.
    pub(crate) fn boot(name: &str) -> Self {
        let bed = Testbed::boot(&Options::new(name).without_homelab()).expect("the host boots");
        let opens = stand_in::tried().iter().fold(Behaviour::new(), |behaviour, path| behaviour.opens(path));
        let system = bed.static_guest("model", &opens).expect("the system is added");
        let libraries = "/usr/lib/x86_64-linux-gnu";
        bed.copy_in(fake_nvml().expect("it is built"), format!("{libraries}/libnvidia-ml.so.1")).expect("copied");
        bed.succeed(&format!(
            "cd {libraries}; cp libc.so.6 libcuda.so.{VERSION}; ln -s libcuda.so.{VERSION} libcuda.so.1"
        ))
        .expect("a user space");
        let script = format!(
            "#!/bin/bash\n{}\n{}\n{}\nmkdir -p /run/fake-nvidia\ncp {KEPT}/state {STATE}\n",
            stand_in::load(MAJOR),
            stand_in::version(VERSION),
            stand_in::make_nodes(MAJOR)
        );
        bed.write_file(format!("{KEPT}/load"), script, 0o755).expect("written");
        let unit = format!(
            "[Unit]\nDefaultDependencies=no\nBefore=nixmox-agent.service nixmox-agent.socket\n[Service]\nType=oneshot\n\
             RemainAfterExit=yes\nExecStart={KEPT}/load\n[Install]\nWantedBy=sysinit.target\n"
        );
        bed.write_file("/etc/systemd/system/stand-in.service", unit, 0o644).expect("written");
        let machine = Self { bed, system };
        machine.tell(&[], "");
        machine.bed.succeed("systemctl daemon-reload; systemctl enable --now stand-in.service").expect("loaded");
        machine.bed.succeed("systemctl restart nixmox-agent.service").expect("restarted");
        machine
    }

    /// Says what NVML tells from now on, by index of the GPU, and what goes wrong with it.
    pub(crate) fn tell(&self, told: &[(usize, Told)], faults: &str) {
        let told: BTreeMap<usize, &Told> = told.iter().map(|(index, told)| (*index, told)).collect();
        let mut state = format!("driver {VERSION}\ncuda 12080\n");
        for (index, minor) in GPUS.iter().enumerate() {
            let Told { used, processes } = told.get(&index).copied().cloned().unwrap_or_default();
            let _ = write!(
                state,
                "gpu\n uuid GPU-{index}\n name NVIDIA Stand-in {index}\n minor {minor}\n pci 00000000:0{}:00.0\n total 12G\n \
                 reserved 256M\n used {used}G\n temperature 5{index}\n slowdown 98\n power 90000\n limit 170000\n utilization 30\n mig off\n",
                index + 1
            );
            for (pid, memory) in processes {
                let _ = writeln!(state, " process compute {pid} {memory}G");
            }
        }
        state.push_str(faults);
        self.bed.write_file(format!("{KEPT}/state"), &state, 0o644).expect("written");
        self.bed
            .succeed(&format!("mkdir -p /run/fake-nvidia; cp {KEPT}/state {STATE}.new; mv {STATE}.new {STATE}"))
            .expect("told");
    }

    /// Brings these services up: a name and the lines of its `gpu` table.
    pub(crate) fn up(&self, services: &[(&str, &str)]) -> Output {
        let mut manifest = "format = 1\n[stack]\nname = \"gpus\"\n".to_owned();
        for (name, gpu) in services {
            let _ = write!(manifest, "[services.{name}]\nsystem = \"{}\"\n", self.system);
            if !gpu.is_empty() {
                let _ = write!(manifest, "[services.{name}.gpu]\n{gpu}\n");
            }
        }
        self.bed.write_file(MANIFEST, manifest, 0o644).expect("written");
        self.ctl("up --detach")
    }

    /// Runs `nixmoxctl` on the stack.
    pub(crate) fn ctl(&self, arguments: &str) -> Output {
        self.bed.shell(&format!("nixmoxctl -f {MANIFEST} {arguments}")).expect("it runs")
    }

    /// Runs `nixmoxctl`, which must succeed, and returns what it prints.
    pub(crate) fn says(&self, arguments: &str) -> String {
        let output = self.ctl(arguments);
        assert!(output.success(), "{arguments}: {output}\n{}", self.journal());
        output.stdout
    }

    /// Returns what `nixmoxctl gpu` shows now: it is content with a look that is a second old.
    pub(crate) fn overview(&self) -> String {
        std::thread::sleep(Duration::from_millis(1100));
        self.says("gpu")
    }

    /// Waits until a service is in a state.
    pub(crate) fn is(&self, name: &str, state: &str) {
        let script = format!(
            "nixmoxctl -f {MANIFEST} status --json | jq -e '.services[] | select(.name == \"{name}\") | .state == \"{state}\"'"
        );
        let waited = self.bed.wait_until(&script, LIMIT);
        assert!(waited.is_ok(), "{name} is not {state}: {}\n{}", self.ctl("status"), self.journal());
    }

    pub(crate) fn invocation(&self, name: &str) -> String {
        self.bed.succeed(&format!("systemctl show -P InvocationID container@{name}.service")).expect("loaded")
    }

    /// Returns the id of a process of a guest.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let leader = self.bed.succeed(&format!("machinectl show {name} -p Leader --value")).expect("it runs");
        leader.trim().parse().expect("a number")
    }

    /// Returns what came of opening each path from a process of a guest, all of it tried after this call.
    pub(crate) fn tries(&self, name: &str) -> BTreeMap<String, i32> {
        let file = format!("/var/lib/nixos-containers/{name}/var/lib/guest/opened");
        // The first round may have begun before.
        let round = format!("rm -f {file}; until test -e {file}; do sleep 0.02; done");
        let text = self.bed.succeed(&format!("{round}; {round}; cat {file}")).expect("the guest tries");
        let line = |line: &str| {
            let (path, errno) = line.split_once(' ').expect("a path and an errno");
            (path.to_owned(), errno.parse().expect("a number"))
        };
        text.lines().map(line).collect()
    }

    /// Waits until a guest can open exactly what is expected.
    pub(crate) fn opens(&self, name: &str, expected: &BTreeMap<String, i32>, when: &str) {
        let begin = std::time::Instant::now();
        loop {
            let tries = self.tries(name);
            if tries == *expected {
                return;
            }
            let late = begin.elapsed() > LIMIT;
            assert!(
                !late,
                "{when}: {tries:?}, expected {expected:?}\n{}\n{}",
                self.ctl("gpu doctor"),
                self.journal()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub(crate) fn journal(&self) -> String {
        self.bed.journal(&["-u", "nixmox-agent", "-n", "60", "-o", "cat"]).unwrap_or_default()
    }
}

/// Returns what a guest opens that has these GPUs, by index: 0 opens, 2 is not there; `shared` is what comes of the driver's nodes.
pub(crate) fn granted(gpus: &[usize], opens: i32, shared: i32) -> BTreeMap<String, i32> {
    let of = |path: &String| match GPUS.iter().position(|minor| stand_in::node(*minor) == *path) {
        Some(index) if gpus.contains(&index) => opens,
        Some(_) => ABSENT,
        None if path.starts_with("/dev") => shared,
        None => 0,
    };
    stand_in::tried().into_iter().map(|path| (path.clone(), of(&path))).collect()
}

const ABSENT: i32 = 2;

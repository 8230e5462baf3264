//! What differs between two declarations of a service, in the manifest's words.
//!
//! Owns the texts of `diff` and the question whether anything differs at all. Where it is declared is no difference.
//! Values of the environment are left out: names say what changed, and some hold secrets.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use crate::manifest::v1::Time;
use crate::model::{
    Bytes, Condition, ContainerName, Device, GpuShare, HealthCheck, Limits, Mount, Network, Offload, Port, Probe,
    Reason, Restart, Service, System, Tmpfs, Vendor, Word,
};
use crate::plan::limit_differences;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The manifest's key, such as `limits.memory_max`.
    pub key: String,
    /// What it was; empty when it was unset, or not among the values of a list.
    pub from: String,
    /// What it is; empty likewise.
    pub to: String,
}

/// Returns every difference between limits, in the order of the manifest's reference.
#[must_use]
pub fn limits(old: &Limits, new: &Limits) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    found.limits(old, new);
    found.0
}

/// Returns every difference between two declarations, in the order of the manifest's reference; of lists, each value
/// that was added or taken away.
#[must_use]
pub fn compare(old: &Service, new: &Service) -> Vec<Difference> {
    // Taken apart, so that a new key does not compile until it is compared.
    let Service {
        name: _,
        stack: _,
        origin: _,
        kind,
        system,
        depends_on: _,
        dependency_stacks: _,
        health,
        limits,
        network,
        ports,
        mounts,
        tmpfs,
        credentials,
        environment,
        devices,
        gpu,
        offload,
        capabilities,
        ephemeral,
        private_users,
        nspawn_flags,
        restart,
    } = old;
    let mut found = Found(Vec::new());
    found.value("system", system_text(system), system_text(&new.system));
    found.word("kind", *kind, new.kind);
    found.list("depends_on", &dependencies(old), &dependencies(new));
    found.health(health.as_ref(), new.health.as_ref());
    found.limits(limits, &new.limits);
    found.value("network", network_text(network), network_text(&new.network));
    found.list("network.ports", &texts(ports, Port::to_string), &texts(&new.ports, Port::to_string));
    found.list("mounts", &texts(mounts, mount_text), &texts(&new.mounts, mount_text));
    found.list("tmpfs", &texts(tmpfs, tmpfs_text), &texts(&new.tmpfs, tmpfs_text));
    found.list("credentials", &credentials_text(credentials), &credentials_text(&new.credentials));
    found.environment(environment, &new.environment);
    found.list("devices", &texts(devices, device_text), &texts(&new.devices, device_text));
    found.gpu(gpu.as_ref(), new.gpu.as_ref());
    found.offload(offload.as_ref(), new.offload.as_ref());
    found.list("capabilities", capabilities, &new.capabilities);
    found.value("ephemeral", *ephemeral, new.ephemeral);
    found.word("private_users", *private_users, new.private_users);
    found.list("nspawn_flags", nspawn_flags, &new.nspawn_flags);
    found.restart(restart, &new.restart);
    found.0
}

/// Returns whether two declarations ask for the same.
#[must_use]
pub fn is_same(old: &Service, new: &Service) -> bool {
    Service { origin: new.origin.clone(), ..old.clone() } == *new
}

struct Found(Vec<Difference>);

impl Found {
    fn limits(&mut self, old: &Limits, new: &Limits) {
        for reason in limit_differences(old, new) {
            if let Reason::Limit { key, from, to } = reason {
                let set = |text: String| if text == "unset" { String::new() } else { text };
                self.value(&format!("limits.{key}"), set(from), set(to));
            }
        }
    }

    fn value(&mut self, key: &str, from: impl Display, to: impl Display) {
        let (from, to) = (from.to_string(), to.to_string());
        if from != to {
            self.0.push(Difference { key: key.to_owned(), from, to });
        }
    }

    fn word<T: Word>(&mut self, key: &str, from: T, to: T) {
        self.value(key, from.as_word(), to.as_word());
    }

    fn list(&mut self, key: &str, from: &[String], to: &[String]) {
        let before = self.0.len();
        for gone in from.iter().filter(|value| !to.contains(value)) {
            self.0.push(Difference { key: key.to_owned(), from: gone.clone(), to: String::new() });
        }
        for added in to.iter().filter(|value| !from.contains(value)) {
            self.0.push(Difference { key: key.to_owned(), from: String::new(), to: added.clone() });
        }
        if self.0.len() == before && from != to {
            // The same values in another order, which means something to nspawn.
            self.value(key, from.join(" "), to.join(" "));
        }
    }

    fn gpu(&mut self, old: Option<&GpuShare>, new: Option<&GpuShare>) {
        let (Some(old), Some(new)) = (old, new) else {
            let text = |share: Option<&GpuShare>| share.map_or_else(String::new, |share| share.devices.to_string());
            self.value("gpu", text(old), text(new));
            return;
        };
        // Taken apart, so that a new key does not compile until it is compared.
        let GpuShare { vendor, devices, vram, vram_min, priority } = old;
        let size = |size: Option<Bytes>| size.map_or_else(String::new, |size| size.to_string());
        let vendor_word = |vendor: Option<Vendor>| vendor.map_or("", Word::as_word);
        self.value("gpu.devices", devices, &new.devices);
        self.value("gpu.vendor", vendor_word(*vendor), vendor_word(new.vendor));
        self.value("gpu.vram", size(*vram), size(new.vram));
        self.value("gpu.vram_min", size(*vram_min), size(new.vram_min));
        self.value("gpu.priority", priority, new.priority);
    }

    fn offload(&mut self, old: Option<&Offload>, new: Option<&Offload>) {
        let (Some(old), Some(new)) = (old, new) else {
            let text = |offload: Option<&Offload>| offload.map_or("", |offload| offload.engine.as_word());
            self.value("offload", text(old), text(new));
            return;
        };
        // Taken apart, so that a new key does not compile until it is compared.
        let Offload { engine, url, keep, idle_unload, context, request_grace, cpu_fallback } = old;
        let time = |time: Option<Duration>| time.map_or_else(String::new, |time| Time(time).to_string());
        let tokens = |tokens: Option<u32>| tokens.map_or_else(String::new, |tokens| tokens.to_string());
        self.word("offload.engine", *engine, new.engine);
        self.value("offload.url", url, &new.url);
        self.list("offload.keep", keep, &new.keep);
        self.value("offload.idle_unload", time(*idle_unload), time(new.idle_unload));
        self.value("offload.context", tokens(*context), tokens(new.context));
        self.value("offload.request_grace", time(*request_grace), time(new.request_grace));
        self.word("offload.cpu_fallback", *cpu_fallback, new.cpu_fallback);
    }

    fn environment(&mut self, from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) {
        let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (from, to) = (from.get(name), to.get(name));
            let text = |value: Option<&String>, word: &str| value.map_or(String::new(), |_| word.to_owned());
            if from != to {
                let (from, to) =
                    (text(from, "a value"), text(to, if from.is_some() { "another" } else { "a value" }));
                self.0.push(Difference { key: format!("environment.{name}"), from, to });
            }
        }
    }

    fn health(&mut self, from: Option<&HealthCheck>, to: Option<&HealthCheck>) {
        let probe = |check: Option<&HealthCheck>| check.map(|check| probe_text(&check.probe)).unwrap_or_default();
        self.value("health", probe(from), probe(to));
        let (Some(from), Some(to)) = (from, to) else { return };
        let HealthCheck { probe: _, pressure, interval, timeout, retries, start_period, on_unhealthy } = from;
        self.value("health.pressure", pressure, to.pressure);
        self.value("health.interval", Time(*interval), Time(to.interval));
        self.value("health.timeout", Time(*timeout), Time(to.timeout));
        self.value("health.retries", retries, to.retries);
        self.value("health.start_period", Time(*start_period), Time(to.start_period));
        self.word("health.on_unhealthy", *on_unhealthy, to.on_unhealthy);
    }

    fn restart(&mut self, from: &Restart, to: &Restart) {
        let Restart { policy, delay, delay_max, attempts_max } = from;
        let most = |attempts: Option<u32>| attempts.map(|most| most.to_string()).unwrap_or_default();
        self.word("restart.policy", *policy, to.policy);
        self.value("restart.delay", Time(*delay), Time(to.delay));
        self.value("restart.delay_max", Time(*delay_max), Time(to.delay_max));
        self.value("restart.attempts_max", most(*attempts_max), most(to.attempts_max));
    }
}

fn texts<T>(values: &[T], text: fn(&T) -> String) -> Vec<String> {
    values.iter().map(text).collect()
}

fn system_text(system: &System) -> String {
    match system {
        System::Store(path) => path.to_string(),
        System::Adopted => "adopted".to_owned(),
    }
}

fn dependencies(service: &Service) -> Vec<String> {
    let text = |(name, condition): (&ContainerName, &Condition)| {
        let stack = service.dependency_stacks.get(name).map(|stack| format!("{stack}/"));
        format!("{}{name}: {}", stack.unwrap_or_default(), condition.as_word())
    };
    service.depends_on.iter().map(text).collect()
}

fn probe_text(probe: &Probe) -> String {
    match probe {
        Probe::Http(url) => url.clone(),
        Probe::Tcp(port) => format!("tcp {port}"),
        Probe::Unit(unit) => unit.clone(),
        Probe::Exec(command) => command.join(" "),
        Probe::Ready => "ready".to_owned(),
    }
}

fn network_text(network: &Network) -> String {
    match network {
        Network::Private { address: None } => "private".to_owned(),
        Network::Private { address: Some(address) } => format!("private {address}"),
        Network::Bridge(bridge) => format!("bridge {bridge}"),
        Network::Host => "host".to_owned(),
    }
}

fn mount_text(mount: &Mount) -> String {
    let Mount { source, target, read_only, create, must_be_mountpoint } = mount;
    let options = [(*read_only, "ro"), (*create, "create"), (*must_be_mountpoint, "must_be_mountpoint")];
    let options: Vec<&str> = options.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect();
    let options = if options.is_empty() { String::new() } else { format!(" ({})", options.join(", ")) };
    format!("{}:{}{options}", source.display(), target.display())
}

fn tmpfs_text(tmpfs: &Tmpfs) -> String {
    let size = tmpfs.size.map(|size| format!(":{size}")).unwrap_or_default();
    format!("{}{size}", tmpfs.target.display())
}

fn credentials_text(credentials: &BTreeMap<String, PathBuf>) -> Vec<String> {
    credentials.iter().map(|(name, path)| format!("{name}={}", path.display())).collect()
}

fn device_text(device: &Device) -> String {
    format!("{}:{}", device.path.display(), device.access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{name, service, store_path};
    use crate::model::{Bytes, CpuFallback, Engine, Limits, OnUnhealthy, Origin, PressureMax, Protocol};

    fn lines(old: &Service, new: &Service) -> Vec<String> {
        let line = |Difference { key, from, to }: Difference| format!("{key}: {from} -> {to}");
        compare(old, new).into_iter().map(line).collect()
    }

    #[test]
    fn where_it_is_declared_is_no_difference() {
        let old = service("web");
        let origin = Origin { file: "elsewhere.toml".to_owned(), line: 7, health_line: 0 };
        let new = Service { origin, ..old.clone() };
        assert_eq!(lines(&old, &new), Vec::<String>::new());
        assert!(is_same(&old, &new));
        assert!(!is_same(&old, &Service { ephemeral: true, ..new }));
    }

    #[test]
    fn every_difference_is_told_in_the_words_of_the_manifest() {
        let check = |probe| HealthCheck {
            probe,
            pressure: PressureMax::default(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            retries: 3,
            start_period: Duration::from_mins(5),
            on_unhealthy: OnUnhealthy::Report,
        };
        let mount = |source: &str| Mount {
            source: source.into(),
            target: "/data".into(),
            read_only: false,
            create: true,
            must_be_mountpoint: false,
        };
        let port = |host_port| Port { host_address: None, host_port, container_port: 80, protocol: Protocol::Tcp };
        let old = Service {
            health: Some(check(Probe::Tcp(80))),
            ports: vec![port(80), port(81)],
            mounts: vec![mount("/srv/old")],
            environment: [("A", "1"), ("B", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            depends_on: [(name("db"), Condition::Started)].into(),
            ..service("web")
        };
        let pressure = PressureMax { memory: "20%".parse().ok(), ..PressureMax::default() };
        let new = Service {
            system: System::Store(store_path('b', "web")),
            health: Some(HealthCheck { start_period: Duration::from_mins(1), pressure, ..check(Probe::Tcp(81)) }),
            limits: Limits { memory_max: Some(Bytes(1 << 30)), ..Limits::default() },
            ports: vec![port(80), port(82)],
            mounts: vec![mount("/srv/new")],
            environment: [("B", "hunter2"), ("C", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            depends_on: [(name("db"), Condition::Healthy)].into(),
            ..old.clone()
        };
        let a = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-web";
        let b = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-web";
        assert_eq!(
            lines(&old, &new),
            [
                &format!("system: {a} -> {b}"),
                "depends_on: db: started -> ",
                "depends_on:  -> db: healthy",
                "health: tcp 80 -> tcp 81",
                "health.pressure:  -> memory 20%",
                "health.start_period: 5min -> 1min",
                "limits.memory_max:  -> 1G",
                "network.ports: 81:80 -> ",
                "network.ports:  -> 82:80",
                "mounts: /srv/old:/data (create) -> ",
                "mounts:  -> /srv/new:/data (create)",
                "environment.A: a value -> ",
                "environment.B: a value -> another",
                "environment.C:  -> a value",
            ]
        );
    }

    #[test]
    fn what_is_asked_of_engines_is_told_key_by_key() {
        let offload = Offload {
            engine: Engine::Ollama,
            url: Engine::Ollama.default_url().to_owned(),
            keep: vec!["llama3:8b".to_owned(), "nomic-embed-text".to_owned()],
            idle_unload: None,
            context: Some(8192),
            request_grace: Some(Duration::from_secs(30)),
            cpu_fallback: CpuFallback::Refuse,
        };
        let old = Service { offload: Some(offload.clone()), ..service("ollama") };
        let other = Offload {
            engine: Engine::LlamaServer,
            url: Engine::LlamaServer.default_url().to_owned(),
            keep: vec!["llama3:8b".to_owned(), "qwen3:4b".to_owned()],
            idle_unload: Some(Duration::from_mins(10)),
            context: None,
            request_grace: None,
            cpu_fallback: CpuFallback::Warn,
        };
        let new = Service { offload: Some(other), ..old.clone() };
        assert_eq!(
            lines(&old, &new),
            [
                "offload.engine: ollama -> llama-server",
                "offload.url: http://localhost:11434 -> http://localhost:8080",
                "offload.keep: nomic-embed-text -> ",
                "offload.keep:  -> qwen3:4b",
                "offload.idle_unload:  -> 10min",
                "offload.context: 8192 -> ",
                "offload.request_grace: 30s -> ",
                "offload.cpu_fallback: refuse -> warn",
            ]
        );
        assert_eq!(lines(&service("ollama"), &old), ["offload:  -> ollama"]);
        assert_eq!(lines(&old, &old), Vec::<String>::new());
    }

    #[test]
    fn another_order_of_the_same_is_told() {
        let old = Service { nspawn_flags: vec!["--a".to_owned(), "--b".to_owned()], ..service("web") };
        let new = Service { nspawn_flags: vec!["--b".to_owned(), "--a".to_owned()], ..old.clone() };
        assert_eq!(lines(&old, &new), ["nspawn_flags: --a --b -> --b --a"]);
        assert!(!is_same(&old, &new));
    }
}

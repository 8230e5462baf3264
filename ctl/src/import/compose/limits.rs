//! Limits of Compose's, old (`mem_limit`) and new (`deploy.resources`), as systemd has them.

use super::quantity::{bytes, scaled, size};
use super::shape::{Log, pairs};
use crate::import::toml::Toml;
use crate::import::yaml::Node;

/// Below this nothing starts, and the manifest refuses it.
const MEMORY_LEAST: u64 = 1 << 20;

/// Limits by the manifest's key, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::import) struct Limits {
    memory_low: Option<u64>,
    memory_max: Option<u64>,
    /// Memory and swap together.
    memory_and_swap: Option<u64>,
    cpu_percent: Option<u64>,
    cpu_weight: Option<u64>,
    allowed_cpus: Option<String>,
    tasks_max: Option<u64>,
    io_weight: Option<u64>,
    /// A share of GPUs was asked for.
    pub(in crate::import) gpu: Option<Toml>,
}

impl Limits {
    /// Takes a key of a service, if it is one about limits.
    pub(super) fn read(&mut self, key: &str, node: &Node, log: &mut Log<'_>) -> bool {
        match key {
            "mem_limit" => self.memory_max = memory(key, node, log).or(self.memory_max),
            "mem_reservation" => self.memory_low = memory(key, node, log).or(self.memory_low),
            // -1 is no limit, which is what there is anyway.
            "memswap_limit" | "pids_limit" if node.text() == Some("-1") => {}
            "memswap_limit" => self.memory_and_swap = memory(key, node, log).or(self.memory_and_swap),
            "cpus" => self.cpu_percent = cpus(key, node, log).or(self.cpu_percent),
            "cpuset" => self.allowed_cpus = cpu_set(key, node, log),
            // 1024 is the default there, 100 here.
            "cpu_shares" => {
                self.cpu_weight =
                    number(key, node, log).map(|shares| (shares.saturating_mul(100) / 1024).clamp(1, 10_000));
            }
            "pids_limit" => self.tasks_max = number(key, node, log).filter(|tasks| *tasks > 0).or(self.tasks_max),
            "gpus" => self.read_gpus(node),
            "deploy" => self.read_deploy(node, log),
            "blkio_config" => self.read_blkio(node, log),
            _ => return false,
        }
        true
    }

    fn read_deploy(&mut self, node: &Node, log: &mut Log<'_>) {
        for (key, node) in node.entries() {
            match key.text.as_str() {
                "resources" => self.read_resources(node, log),
                "replicas" if node.text().is_some_and(|text| matches!(text, "0" | "1")) => {}
                "replicas" => {
                    let way_out = "copy its folder under another name: each service is one container";
                    log.not_mapped("deploy.replicas", key.line, "a service is one container", way_out);
                }
                "restart_policy" => {
                    let way_out = "write `restart` in service.toml";
                    log.not_mapped(
                        "deploy.restart_policy",
                        key.line,
                        "only `restart` of the service itself is read",
                        way_out,
                    );
                }
                // What a swarm does with it.
                "mode" | "placement" | "labels" | "update_config" | "rollback_config" | "endpoint_mode" => {
                    let key_name = format!("deploy.{}", key.text);
                    log.not_mapped(&key_name, key.line, "it is about several machines; there is one", "");
                }
                _ => log.not_mapped("deploy", key.line, "the manifest has nothing like it", ""),
            }
        }
    }

    fn read_resources(&mut self, node: &Node, log: &mut Log<'_>) {
        let limits = node.get("limits").map(Node::entries).unwrap_or_default();
        for (key, node) in limits {
            let name = format!("deploy.resources.limits.{}", key.text);
            match key.text.as_str() {
                "memory" => self.memory_max = memory(&name, node, log).or(self.memory_max),
                "cpus" => self.cpu_percent = cpus(&name, node, log).or(self.cpu_percent),
                "pids" => self.tasks_max = number(&name, node, log).filter(|tasks| *tasks > 0).or(self.tasks_max),
                _ => log.not_mapped("deploy.resources.limits", key.line, "the manifest has nothing like it", ""),
            }
        }
        let reservations = node.get("reservations").map(Node::entries).unwrap_or_default();
        for (key, node) in reservations {
            let name = format!("deploy.resources.reservations.{}", key.text);
            match key.text.as_str() {
                "memory" => self.memory_low = memory(&name, node, log).or(self.memory_low),
                "devices" => node.items().iter().for_each(|device| self.read_device(device, log)),
                "cpus" => {
                    let way_out = "limits.cpu_weight says who goes first when there is not enough";
                    log.not_mapped(&name, key.line, "CPU time is shared, not reserved", way_out);
                }
                _ => log.not_mapped(
                    "deploy.resources.reservations",
                    key.line,
                    "the manifest has nothing like it",
                    "",
                ),
            }
        }
    }

    fn read_device(&mut self, node: &Node, log: &mut Log<'_>) {
        let capabilities = node.get("capabilities").map(Node::items).unwrap_or_default();
        if capabilities.iter().any(|capability| capability.text() == Some("gpu")) {
            self.set_gpus(node.get("count").and_then(Node::text), node.get("driver").and_then(Node::text));
        } else {
            let way_out = "write `devices` in service.toml";
            log.not_mapped("deploy.resources.reservations.devices", node.line, "only GPUs are known", way_out);
        }
    }

    fn read_gpus(&mut self, node: &Node) {
        match node.items().first() {
            Some(first) => {
                self.set_gpus(first.get("count").and_then(Node::text), first.get("driver").and_then(Node::text));
            }
            None => self.set_gpus(node.text(), None),
        }
    }

    fn set_gpus(&mut self, count: Option<&str>, driver: Option<&str>) {
        let count = count.and_then(|count| count.parse::<u64>().ok()).filter(|count| *count > 0);
        let mut gpu = vec![("devices".to_owned(), count.map_or_else(|| "all".into(), Toml::Int))];
        if let Some(vendor @ ("nvidia" | "amd" | "intel")) = driver {
            gpu.push(("vendor".to_owned(), vendor.into()));
        }
        self.gpu = Some(Toml::Table(gpu));
    }

    fn read_blkio(&mut self, node: &Node, log: &mut Log<'_>) {
        for (key, node) in node.entries() {
            if key.text == "weight" {
                let weight = number("blkio_config.weight", node, log);
                self.io_weight = weight.map(|weight| weight.clamp(1, 10_000));
            } else {
                let way_out = "write limits.io_read_bandwidth_max and io_write_bandwidth_max in service.toml";
                log.not_mapped("blkio_config", key.line, "limits of single disks are not read", way_out);
            }
        }
    }

    /// Returns the table of the manifest; absent without limits.
    pub(in crate::import) fn table(&self) -> Option<Toml> {
        let mut table: Vec<(String, Toml)> = Vec::new();
        let mut add = |key: &str, value: Option<Toml>| table.extend(value.map(|value| (key.to_owned(), value)));
        let memory_max = self.memory_max;
        let below_max = |low: &u64| memory_max.is_none_or(|max| *low <= max);
        add("memory_low", self.memory_low.filter(below_max).map(size));
        add("memory_max", memory_max.map(size));
        let swap = self.memory_and_swap.zip(memory_max).map(|(all, memory)| all.saturating_sub(memory));
        add("memory_swap_max", swap.map(size));
        add("cpu_quota", self.cpu_percent.map(|percent| format!("{percent}%").into()));
        add("cpu_weight", self.cpu_weight.map(Toml::Int));
        add("allowed_cpus", self.allowed_cpus.clone().map(Into::into));
        add("tasks_max", self.tasks_max.map(Toml::Int));
        add("io_weight", self.io_weight.map(Toml::Int));
        (!table.is_empty()).then_some(Toml::Table(table))
    }
}

/// Returns the limits of open files and the like as flags of systemd-nspawn.
pub(super) fn ulimits(node: &Node, log: &mut Log<'_>) -> Vec<String> {
    let known =
        ["nofile", "nproc", "memlock", "core", "stack", "rtprio", "nice", "msgqueue", "sigpending", "fsize"];
    let mut flags = Vec::new();
    for (key, node) in node.entries() {
        let (soft, hard) = match node.text() {
            Some(both) => (Some(both), Some(both)),
            None => (node.get("soft").and_then(Node::text), node.get("hard").and_then(Node::text)),
        };
        let limit = |text: Option<&str>| match text? {
            "-1" | "unlimited" => Some("infinity".to_owned()),
            number => number.parse::<u64>().ok().map(|number| number.to_string()),
        };
        match (known.contains(&key.text.as_str()), limit(soft), limit(hard)) {
            (true, Some(soft), Some(hard)) => {
                flags.push(format!("--rlimit={}={soft}:{hard}", key.text.to_ascii_uppercase()));
            }
            (true | false, _, _) => {
                log.not_mapped(
                    "ulimits",
                    key.line,
                    "this is not a limit that systemd-nspawn knows",
                    "systemd-nspawn(1), --rlimit=",
                );
            }
        }
    }
    flags
}

/// Tells which kernel settings there are no places for.
pub(super) fn sysctls(node: &Node, log: &mut Log<'_>) {
    for pair in pairs("sysctls", node, log) {
        let way_out = "boot.kernel.sysctl in service.nix, for those below `net.`; the others are the host's";
        log.not_mapped("sysctls", pair.line, "kernel settings are the system's to make", way_out);
    }
}

fn memory(key: &str, node: &Node, log: &mut Log<'_>) -> Option<u64> {
    match node.text().and_then(bytes) {
        // 0 is no limit.
        Some(0) => None,
        Some(bytes) if bytes < MEMORY_LEAST => {
            log.not_mapped(key, node.line, "nothing starts with so little memory", "");
            None
        }
        Some(bytes) => Some(bytes),
        None => {
            log.not_mapped(
                key,
                node.line,
                "this is not a size",
                "limits = { memory_max = \"512M\" } in service.toml",
            );
            None
        }
    }
}

fn cpus(key: &str, node: &Node, log: &mut Log<'_>) -> Option<u64> {
    match node.text().and_then(|text| scaled(text, 100)) {
        Some(0) => None,
        Some(percent) => Some(percent),
        None => {
            log.not_mapped(
                key,
                node.line,
                "this is not a number of CPUs",
                "limits = { cpu_quota = \"150%\" } in service.toml",
            );
            None
        }
    }
}

fn cpu_set(key: &str, node: &Node, log: &mut Log<'_>) -> Option<String> {
    let text = node.text().unwrap_or_default();
    let is_set = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || ",-".contains(c));
    if !is_set {
        log.not_mapped(
            key,
            node.line,
            "this is not a set of CPUs",
            "limits = { allowed_cpus = \"0-3,8\" } in service.toml",
        );
    }
    is_set.then(|| text.to_owned())
}

fn number(key: &str, node: &Node, log: &mut Log<'_>) -> Option<u64> {
    let number = node.text().and_then(|text| text.parse().ok());
    if number.is_none() {
        log.not_mapped(key, node.line, "this is not a number", "");
    }
    number
}

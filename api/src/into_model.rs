//! From the wire to the model: everything from outside is checked here, and every fault is named.
//!
//! A value that passes is what the model promises of its types: in range, in order, without duplicates. A list
//! whose order means nothing is sorted rather than refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use nixmox_core::model::Word;
use nixmox_core::{container, model};

use crate::offload_into_model;
use crate::rule::{self, quoted, shown};
use crate::{GpuShare, HealthCheck, IoLimit, Limits, Mount, Network, Port, PressureMax, Restart, Service, Tmpfs};

/// The shortest time between two questions of a health check, in milliseconds.
const INTERVAL_MIN_MS: u64 = 100;
/// The highest priority.
const GPU_PRIORITY_MAX: u8 = 100;
/// The longest name of a file in `Origin`, and the most problems that one service reports.
const ORIGIN_LENGTH_MAX: usize = 4096;
const PROBLEMS_MAX: usize = 50;

impl Service {
    /// Checks a service from outside and returns it as the model has it.
    ///
    /// # Errors
    ///
    /// Every fault, as `service: key: what is wrong`, at most 50 of them.
    pub fn into_model(self, stack: &model::StackName) -> Result<model::Service, Vec<String>> {
        let mut faults = Faults { service: shown(&self.name), list: Vec::new() };
        let service = convert(self, stack, &mut faults);
        match service {
            Some(service) if faults.list.is_empty() => Ok(service),
            Some(_) | None => Err(faults.list),
        }
    }
}

impl Limits {
    /// Checks the limits of a stack from outside, or of one on disk, and returns them as the model has them.
    ///
    /// # Errors
    ///
    /// Every fault, as `stack: key: what is wrong`, at most 50 of them.
    pub fn into_model(self) -> Result<model::Limits, Vec<String>> {
        let mut faults = Faults { service: "stack".to_owned(), list: Vec::new() };
        match limits(self, &mut faults) {
            Some(limits) if faults.list.is_empty() => Ok(limits),
            Some(_) | None => Err(faults.list),
        }
    }
}

/// What was found wrong with one service.
pub(crate) struct Faults {
    service: String,
    list: Vec<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, key: impl Display, what: impl Display) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(format!("{}: {key}: {what}", self.service));
        }
    }

    pub(crate) fn keep<T>(&mut self, key: impl Display, read: Result<T, impl Display>) -> Option<T> {
        read.map_err(|what| self.add(key, what)).ok()
    }

    /// Reads every item of a list, whatever is wrong with others.
    pub(crate) fn each<W, T>(
        &mut self,
        key: &str,
        items: Vec<W>,
        mut read: impl FnMut(&mut Self, &str, W) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = items.len();
        let read: Vec<T> = items
            .into_iter()
            .enumerate()
            .filter_map(|(index, item)| read(self, &format!("{key}[{index}]"), item))
            .collect();
        (read.len() == count).then_some(read)
    }

    pub(crate) fn unique<T: Ord + Display>(&mut self, key: &str, items: impl IntoIterator<Item = T>) {
        let mut seen = BTreeSet::new();
        for item in items {
            if let Some(twice) = seen.replace(item) {
                self.add(key, format!("{} is there twice", quoted(&twice.to_string())));
            }
        }
    }
}

/// Converts every field, so that every fault is found, and only then puts them together.
fn convert(wire: Service, stack: &model::StackName, faults: &mut Faults) -> Option<model::Service> {
    let name = faults.keep("name", rule::container(&wire.name));
    let system = match &wire.system {
        None => Some(model::System::Adopted),
        Some(path) => faults.keep("system", rule::store_path(path)).map(model::System::Store),
    };
    if wire.origin.file.len() > ORIGIN_LENGTH_MAX || wire.origin.file.contains(char::is_control) {
        faults.add("origin.file", "it is not the name of a file");
    }
    if let Some(model::System::Adopted) = system {
        refuse_own_files(&wire, faults);
    } else if name.as_ref().is_some_and(|name| !is_host_name(name.as_str())) {
        faults.add("name", "only lower-case letters, digits and `-` are allowed: it becomes a host name");
    }

    let kind = faults.keep("kind", model::Kind::from_word(&wire.kind));
    let dependencies = dependencies(&wire, faults);
    let health = match wire.health {
        None => Some(None),
        Some(health) => health_check(health, faults).map(Some),
    };
    let limits = limits(wire.limits, faults);
    let network = network(wire.network, faults);
    let ports = faults.each("ports", wire.ports, |faults, key, port| port_from(&port, key, faults));
    let mounts = faults.each("mounts", wire.mounts, |faults, key, mount| mount_from(&mount, key, faults));
    let tmpfs = faults.each("tmpfs", wire.tmpfs, |faults, key, tmpfs| tmpfs_from(&tmpfs, key, faults));
    let credentials = credentials(wire.credentials, faults);
    check_environment(&wire.environment, faults);
    let devices = faults.each("devices", wire.devices, |faults, key, device| {
        let path = faults.keep(format!("{key}.path"), rule::device(&device.path));
        let access = faults.keep(format!("{key}.access"), rule::device_access(device.access));
        Some(model::Device { path: path?, access: access? })
    });
    let gpu = match wire.gpu {
        None => Some(None),
        Some(share) => gpu_share(share, faults).map(Some),
    };
    let offload = match wire.offload {
        None => Some(None),
        Some(offload) => offload_into_model::offload(offload, faults).map(Some),
    };
    let capabilities = faults.each("capabilities", wire.capabilities, |faults, key, capability| {
        faults.keep(key, rule::capability(capability))
    });
    let private_users = faults.keep("private_users", model::PrivateUsers::from_word(&wire.private_users));
    let nspawn_flags = faults
        .each("nspawn_flags", wire.nspawn_flags, |faults, key, flag| faults.keep(key, rule::nspawn_flag(flag)));
    let restart = restart(&wire.restart, faults);

    let Dependencies { conditions: depends_on, stacks: dependency_stacks } = dependencies?;
    let mut service = model::Service {
        name: name?,
        stack: stack.clone(),
        origin: model::Origin {
            file: wire.origin.file,
            line: wire.origin.line,
            health_line: wire.origin.health_line,
        },
        kind: kind?,
        system: system?,
        depends_on,
        dependency_stacks,
        health: health?,
        limits: limits?,
        network: network?,
        ports: ports?,
        mounts: mounts?,
        tmpfs: tmpfs?,
        credentials: credentials?,
        environment: wire.environment,
        devices: devices?,
        gpu: gpu?,
        offload: offload?,
        capabilities: capabilities?,
        ephemeral: wire.ephemeral,
        private_users: private_users?,
        nspawn_flags: nspawn_flags?,
        restart: restart?,
    };
    service.capabilities.sort();
    service.capabilities.dedup();
    check_together(&service, faults);
    // Its messages show values, secrets among them if the checks above did not stop those first.
    if faults.list.is_empty() {
        check_carriable(&service, faults);
    }
    Some(service)
}

impl GpuShare {
    /// Checks a share from outside and returns it as the model has it.
    ///
    /// # Errors
    ///
    /// Every fault, as `gpu: key: what is wrong`.
    pub fn into_model(self) -> Result<model::GpuShare, Vec<String>> {
        let mut faults = Faults { service: "gpu".to_owned(), list: Vec::new() };
        match gpu_share(self, &mut faults) {
            Some(share) if faults.list.is_empty() => Ok(share),
            Some(_) | None => Err(faults.list),
        }
    }
}

fn gpu_share(wire: GpuShare, faults: &mut Faults) -> Option<model::GpuShare> {
    let GpuShare { vendor, all, count, ids, vram, vram_min, priority } = wire;
    let vendor = match vendor {
        None => Some(None),
        Some(word) => faults.keep("gpu.vendor", model::Vendor::from_word(&word)).map(Some),
    };
    let ids: Vec<model::GpuId> =
        faults.each("gpu.ids", ids, |faults, key, id| faults.keep(key, id.parse::<model::GpuId>()))?;
    faults.unique("gpu.ids", &ids);
    let devices = match (all, count, ids.is_empty()) {
        (true, None, true) => Some(model::GpuDevices::All),
        (false, Some(count @ 1..), true) => Some(model::GpuDevices::Count(count)),
        (false, None, false) => Some(model::GpuDevices::Ids(ids)),
        _ => {
            faults.add("gpu", "exactly one of `all`, `count` (at least 1) and `ids` says which GPUs");
            None
        }
    };
    if vram_min.is_some_and(|min| vram.is_none_or(|max| min > max)) {
        faults.add("gpu.vram_min", "it is more than `vram`");
    }
    if priority > GPU_PRIORITY_MAX {
        faults.add("gpu.priority", "it is more than 100");
    }
    let [vram, vram_min] = [vram, vram_min].map(|size| size.map(model::Bytes));
    Some(model::GpuShare { vendor: vendor?, devices: devices?, vram, vram_min, priority })
}

/// Refuses what only a container that NixMox makes can have: the files of an adopted one are never written.
fn refuse_own_files(wire: &Service, faults: &mut Faults) {
    for (key, used) in [
        ("ports", !wire.ports.is_empty()),
        ("mounts", !wire.mounts.is_empty()),
        ("tmpfs", !wire.tmpfs.is_empty()),
        ("credentials", !wire.credentials.is_empty()),
        ("environment", !wire.environment.is_empty()),
        ("capabilities", !wire.capabilities.is_empty()),
        ("ephemeral", wire.ephemeral),
        ("nspawn_flags", !wire.nspawn_flags.is_empty()),
    ] {
        if used {
            faults.add(key, "an adopted container keeps what its owner declared");
        }
    }
}

/// Checks what one field says about another.
fn check_together(service: &model::Service, faults: &mut Faults) {
    if let Some(offload) = &service.offload {
        let address = match service.network {
            model::Network::Private { address } => address,
            model::Network::Bridge(_) | model::Network::Host => None,
        };
        if !model::Offload::is_inside(&offload.url, service.name.as_str(), address) {
            let url = quoted(&offload.url);
            faults.add(
                "offload.url",
                format_args!("{url} is not the container itself, from inside: http://localhost:PORT is"),
            );
        }
        if service.gpu.as_ref().is_none_or(|gpu| gpu.vram.is_none()) {
            faults.add("offload", "it needs `gpu.vram`, which its models may take");
        }
        if service.kind == model::Kind::Job {
            faults.add("offload", "a job runs no models");
        }
    }
    if service.depends_on.contains_key(&service.name) {
        faults.add("depends_on", "a service cannot wait for itself");
    }
    let private = matches!(service.network, model::Network::Private { address: _ });
    if !service.ports.is_empty() && !private {
        faults.add("ports", "only a private network has published ports");
    }
    faults.unique("ports", service.ports.iter().map(published));
    let targets = service.mounts.iter().map(|mount| &mount.target);
    let targets = targets.chain(service.tmpfs.iter().map(|tmpfs| &tmpfs.target));
    faults.unique("mounts", targets.map(|target| target.display().to_string()));
    faults.unique("devices", service.devices.iter().map(|device| device.path.display().to_string()));
}

/// Checks that the files of a container can carry its values, by writing them.
fn check_carriable(service: &model::Service, faults: &mut Faults) {
    // What the host adds is not the service's fault, so it does not matter here.
    let layout = container::Layout { agent: PathBuf::from("/"), conf_in_run: true, copy_resolv_conf: false };
    let assigned = model::Assigned { service: service.clone(), addresses: None, gpu: model::GpuStanding::None };
    if let Err(uncarriable) = container::files(&assigned, &layout) {
        let container::Uncarriable { what, value, why } = uncarriable;
        faults.add(what, format_args!("{}: {why}", quoted(&value)));
    }
}

/// Returns what two published ports may not share.
fn published(port: &model::Port) -> String {
    let address = port.host_address.map(|address| format!("{address}:")).unwrap_or_default();
    format!("{address}{}/{}", port.host_port, port.protocol.as_word())
}

/// Returns whether a container's name can be its host name too (hostname(7)).
fn is_host_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') && !name.ends_with('-')
}

/// What a service waits for.
#[derive(Default)]
struct Dependencies {
    conditions: BTreeMap<model::ContainerName, model::Condition>,
    stacks: BTreeMap<model::ContainerName, model::StackName>,
}

fn dependencies(wire: &Service, faults: &mut Faults) -> Option<Dependencies> {
    faults.unique("depends_on", wire.depends_on.iter().map(|dependency| dependency.name.as_str()));
    let dependencies = faults.each("depends_on", wire.depends_on.iter().collect(), |faults, key, dependency| {
        let name = faults.keep(key, rule::container(&dependency.name));
        let condition = faults.keep(key, model::Condition::from_word(&dependency.condition));
        let stack = match &dependency.stack {
            None => Some(None),
            Some(stack) => faults.keep(key, rule::stack(stack)).map(Some),
        };
        Some((name?, condition?, stack?))
    });
    let mut read = Dependencies::default();
    for (name, condition, stack) in dependencies? {
        read.stacks.extend(stack.map(|stack| (name.clone(), stack)));
        read.conditions.insert(name, condition);
    }
    Some(read)
}

fn health_check(wire: HealthCheck, faults: &mut Faults) -> Option<model::HealthCheck> {
    let probe = match (wire.http, wire.tcp, wire.unit, wire.exec) {
        (Some(url), None, None, None) => faults.keep("health.http", rule::url(url)).map(model::Probe::Http),
        (None, Some(port), None, None) => faults.keep("health.tcp", rule::port(port)).map(model::Probe::Tcp),
        (None, None, Some(unit), None) => faults.keep("health.unit", rule::unit(unit)).map(model::Probe::Unit),
        (None, None, None, Some(words)) => faults.keep("health.exec", rule::command(words)).map(model::Probe::Exec),
        (None, None, None, None) if wire.pressure.is_some_and(|most| most != PressureMax::default()) => {
            Some(model::Probe::Ready)
        }
        (_, _, _, _) => {
            faults.add("health", "one of `http`, `tcp`, `unit` and `exec` is needed, or `pressure`");
            None
        }
    };
    let pressure =
        wire.pressure.map_or_else(|| Some(model::PressureMax::default()), |most| pressure_max(most, faults));
    let interval = faults.keep("health.interval", rule::duration(wire.interval_ms, INTERVAL_MIN_MS));
    let timeout = faults.keep("health.timeout", rule::duration(wire.timeout_ms, 1));
    let retries = faults.keep("health.retries", rule::count(wire.retries));
    let start_period = faults.keep("health.start_period", rule::duration(wire.start_period_ms, 0));
    let on_unhealthy = faults.keep("health.on_unhealthy", model::OnUnhealthy::from_word(&wire.on_unhealthy));
    Some(model::HealthCheck {
        probe: probe?,
        pressure: pressure?,
        interval: interval?,
        timeout: timeout?,
        retries: retries?,
        start_period: start_period?,
        on_unhealthy: on_unhealthy?,
    })
}

fn pressure_max(wire: PressureMax, faults: &mut Faults) -> Option<model::PressureMax> {
    let mut share = |key: &str, share: Option<u8>| match share {
        None => Some(None),
        Some(share) => faults.keep(key, model::Percent::try_from(u64::from(share))).map(Some),
    };
    let cpu = share("health.pressure.cpu", wire.cpu);
    let memory = share("health.pressure.memory", wire.memory);
    let io = share("health.pressure.io", wire.io);
    Some(model::PressureMax { cpu: cpu?, memory: memory?, io: io? })
}

fn limits(wire: Limits, faults: &mut Faults) -> Option<model::Limits> {
    let mut bytes = |key: &str, size: Option<u64>| match size {
        None => Some(None),
        // What systemd has for "no limit", which the wire says by leaving the key out.
        Some(u64::MAX) => {
            faults.add(format_args!("limits.{key}"), "the size is too large");
            None
        }
        Some(size) => Some(Some(model::Bytes(size))),
    };
    // To protect nothing is what the kernel does by itself.
    let memory_min = bytes("memory_min", wire.memory_min.filter(|size| *size > 0));
    let memory_low = bytes("memory_low", wire.memory_low.filter(|size| *size > 0));
    let memory_high = bytes("memory_high", wire.memory_high);
    let memory_max = bytes("memory_max", wire.memory_max);
    let memory_swap_max = bytes("memory_swap_max", wire.memory_swap_max);
    let zswap_max = bytes("memory_zswap_max", wire.memory_zswap_max);
    let cpu_quota = match wire.cpu_quota {
        None => Some(None),
        Some(usec) => {
            let quota = model::CpuQuota::from_usec_per_sec(usec).ok_or("it must be at least 1 %");
            faults.keep("limits.cpu_quota", quota).map(Some)
        }
    };
    let mut weight = |key: &str, weight: Option<u16>| match weight {
        None => Some(None),
        Some(weight) => {
            faults.keep(format_args!("limits.{key}"), model::Weight::try_from(u64::from(weight))).map(Some)
        }
    };
    let cpu_weight = weight("cpu_weight", wire.cpu_weight);
    let io_weight = weight("io_weight", wire.io_weight);
    if wire.tasks_max == Some(0) {
        faults.add("limits.tasks_max", "it must be at least 1");
    }
    let mut allowed_cpus = wire.allowed_cpus;
    allowed_cpus.sort_unstable();
    allowed_cpus.dedup();
    let read = rates("limits.io_read_bandwidth_max", wire.io_read_bandwidth_max, faults);
    let write = rates("limits.io_write_bandwidth_max", wire.io_write_bandwidth_max, faults);
    Some(model::Limits {
        memory_min: memory_min?,
        memory_low: memory_low?,
        memory_high: memory_high?,
        memory_max: memory_max?,
        memory_swap_max: memory_swap_max?,
        memory_zswap_max: zswap_max?,
        cpu_quota: cpu_quota?,
        cpu_weight: cpu_weight?,
        allowed_cpus,
        tasks_max: wire.tasks_max,
        io_weight: io_weight?,
        io_read_bandwidth_max: read?,
        io_write_bandwidth_max: write?,
    })
}

fn rates(key: &str, wire: Vec<IoLimit>, faults: &mut Faults) -> Option<Vec<model::IoLimit>> {
    let mut rates = faults.each(key, wire, |faults, key, limit| {
        let path = faults.keep(key, rule::path(&limit.path));
        // systemd takes a rate of 0 for "no limit".
        let rate = if limit.bytes_per_second == 0 { Err("the rate is 0") } else { Ok(limit.bytes_per_second) };
        let bytes_per_second = model::Bytes(faults.keep(key, rate)?);
        Some(model::IoLimit { path: path?, bytes_per_second })
    })?;
    rates.sort();
    faults.unique(key, rates.iter().map(|rate| rate.path.display().to_string()));
    Some(rates)
}

fn network(wire: Network, faults: &mut Faults) -> Option<model::Network> {
    match (wire.mode.as_str(), wire.address, wire.bridge) {
        ("private", None, None) => Some(model::Network::Private { address: None }),
        ("private", Some(address), None) => {
            let address = address.parse().map_err(|_| format!("{} is not an IPv4 address", quoted(&address)));
            let address = faults.keep("network.address", address)?;
            Some(model::Network::Private { address: Some(address) })
        }
        ("bridge", None, Some(bridge)) => {
            faults.keep("network.bridge", rule::interface(bridge)).map(model::Network::Bridge)
        }
        ("host", None, None) => Some(model::Network::Host),
        (mode, _, _) => {
            let rule = "`private` with an `address` or none, `bridge` with a `bridge`, or `host`";
            faults.add("network", format_args!("{} with what else is said is none of: {rule}", quoted(mode)));
            None
        }
    }
}

fn port_from(wire: &Port, key: &str, faults: &mut Faults) -> Option<model::Port> {
    let host_address = match &wire.host_address {
        None => Some(None),
        Some(text) => {
            let address = text.parse().map_err(|_| format!("{} is not an IP address", quoted(text)));
            faults.keep(key, address).map(Some)
        }
    };
    let host_port = faults.keep(key, rule::port(wire.host_port));
    let container_port = faults.keep(key, rule::port(wire.container_port));
    let protocol = faults.keep(key, model::Protocol::from_word(&wire.protocol));
    Some(model::Port {
        host_address: host_address?,
        host_port: host_port?,
        container_port: container_port?,
        protocol: protocol?,
    })
}

fn mount_from(wire: &Mount, key: &str, faults: &mut Faults) -> Option<model::Mount> {
    let source = faults.keep(format!("{key}.source"), rule::path(&wire.source));
    let target = faults.keep(format!("{key}.target"), rule::target(&wire.target));
    Some(model::Mount {
        source: source?,
        target: target?,
        read_only: wire.read_only,
        create: wire.create,
        must_be_mountpoint: wire.must_be_mountpoint,
    })
}

fn tmpfs_from(wire: &Tmpfs, key: &str, faults: &mut Faults) -> Option<model::Tmpfs> {
    // tmpfs(5): a size of 0 is no limit at all.
    if wire.size == Some(0) {
        faults.add(key, "the size is 0");
    }
    let target = faults.keep(format!("{key}.target"), rule::target(&wire.target))?;
    Some(model::Tmpfs { target, size: wire.size.map(model::Bytes) })
}

fn credentials(wire: BTreeMap<String, String>, faults: &mut Faults) -> Option<BTreeMap<String, PathBuf>> {
    let credentials = faults.each("credentials", wire.into_iter().collect(), |faults, key, (name, source)| {
        let named = faults.keep(key, rule::credential_name(&name));
        let source = faults.keep(key, rule::path(&source));
        named?;
        Some((name, source?))
    });
    Some(credentials?.into_iter().collect())
}

fn check_environment(wire: &BTreeMap<String, String>, faults: &mut Faults) {
    for (name, value) in wire {
        let checked = rule::variable_name(name).and_then(|()| rule::variable_value(value));
        faults.keep(format_args!("environment.{}", shown(name)), checked);
    }
}

fn restart(wire: &Restart, faults: &mut Faults) -> Option<model::Restart> {
    let policy = faults.keep("restart.policy", model::RestartPolicy::from_word(&wire.policy));
    let delay = faults.keep("restart.delay", rule::duration(wire.delay_ms, 1));
    let delay_max = faults.keep("restart.delay_max", rule::duration(wire.delay_max_ms, wire.delay_ms));
    let attempts_max = match wire.attempts_max {
        None => Some(None),
        Some(count) => faults.keep("restart.attempts_max", rule::count(count)).map(Some),
    };
    Some(model::Restart { policy: policy?, delay: delay?, delay_max: delay_max?, attempts_max: attempts_max? })
}

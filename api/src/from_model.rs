//! From the model to the wire: what the agent writes down and tells.
//!
//! Loses nothing but the stack of a service, which the message around it names. The way back, with its checks, is
//! `into_model`.

use nixmox_core::model::{self, Word};

use crate::{
    Dependency, Device, GpuShare, HealthCheck, IoLimit, Limits, Mount, Network, Offload, Origin, Port, PressureMax,
    Restart, Service, Tmpfs,
};

impl From<&model::Service> for Service {
    fn from(service: &model::Service) -> Self {
        Self {
            name: service.name.to_string(),
            origin: (&service.origin).into(),
            kind: service.kind.as_word().to_owned(),
            system: match &service.system {
                model::System::Store(path) => Some(path.to_string()),
                model::System::Adopted => None,
            },
            depends_on: Dependency::of(service),
            health: service.health.as_ref().map(HealthCheck::from),
            limits: (&service.limits).into(),
            network: (&service.network).into(),
            ports: service.ports.iter().map(Port::from).collect(),
            mounts: service.mounts.iter().map(Mount::from).collect(),
            tmpfs: service.tmpfs.iter().map(Tmpfs::from).collect(),
            credentials: service.credentials.iter().map(|(name, path)| (name.clone(), text(path))).collect(),
            environment: service.environment.clone(),
            devices: service.devices.iter().map(Device::from).collect(),
            gpu: service.gpu.as_ref().map(GpuShare::from),
            offload: service.offload.as_ref().map(Offload::from),
            capabilities: service.capabilities.clone(),
            ephemeral: service.ephemeral,
            private_users: service.private_users.as_word().to_owned(),
            nspawn_flags: service.nspawn_flags.clone(),
            restart: (&service.restart).into(),
        }
    }
}

impl From<&model::GpuShare> for GpuShare {
    fn from(share: &model::GpuShare) -> Self {
        let (all, count, ids) = match &share.devices {
            model::GpuDevices::All => (true, None, Vec::new()),
            model::GpuDevices::Count(count) => (false, Some(*count), Vec::new()),
            model::GpuDevices::Ids(ids) => (false, None, ids.iter().map(ToString::to_string).collect()),
        };
        Self {
            vendor: share.vendor.map(|vendor| vendor.as_word().to_owned()),
            all,
            count,
            ids,
            vram: share.vram.map(|size| size.0),
            vram_min: share.vram_min.map(|size| size.0),
            priority: share.priority,
        }
    }
}

impl Dependency {
    /// Returns what must hold of others before a service is started, by name.
    #[must_use]
    pub fn of(service: &model::Service) -> Vec<Self> {
        let dependency = |(name, condition): (&model::ContainerName, &model::Condition)| Self {
            name: name.to_string(),
            stack: service.dependency_stacks.get(name).map(ToString::to_string),
            condition: condition.as_word().to_owned(),
        };
        service.depends_on.iter().map(dependency).collect()
    }
}

impl From<&model::Origin> for Origin {
    fn from(origin: &model::Origin) -> Self {
        Self { file: origin.file.clone(), line: origin.line, health_line: origin.health_line }
    }
}

impl From<&model::HealthCheck> for HealthCheck {
    fn from(health: &model::HealthCheck) -> Self {
        let mut wire = Self {
            http: None,
            tcp: None,
            unit: None,
            exec: None,
            pressure: (!health.pressure.is_empty()).then(|| {
                let model::PressureMax { cpu, memory, io } = health.pressure;
                let [cpu, memory, io] = [cpu, memory, io].map(|share| share.map(model::Percent::get));
                PressureMax { cpu, memory, io }
            }),
            interval_ms: milliseconds(health.interval),
            timeout_ms: milliseconds(health.timeout),
            retries: health.retries,
            start_period_ms: milliseconds(health.start_period),
            on_unhealthy: health.on_unhealthy.as_word().to_owned(),
        };
        match &health.probe {
            model::Probe::Http(url) => wire.http = Some(url.clone()),
            model::Probe::Tcp(port) => wire.tcp = Some(*port),
            model::Probe::Unit(unit) => wire.unit = Some(unit.clone()),
            model::Probe::Exec(command) => wire.exec = Some(command.clone()),
            model::Probe::Ready => {}
        }
        wire
    }
}

impl From<&model::Limits> for Limits {
    fn from(limits: &model::Limits) -> Self {
        let bytes = |size: Option<model::Bytes>| size.map(|size| size.0);
        Self {
            memory_min: bytes(limits.memory_min),
            memory_low: bytes(limits.memory_low),
            memory_high: bytes(limits.memory_high),
            memory_max: bytes(limits.memory_max),
            memory_swap_max: bytes(limits.memory_swap_max),
            memory_zswap_max: bytes(limits.memory_zswap_max),
            cpu_quota: limits.cpu_quota.map(model::CpuQuota::usec_per_sec),
            cpu_weight: limits.cpu_weight.map(model::Weight::get),
            allowed_cpus: limits.allowed_cpus.clone(),
            tasks_max: limits.tasks_max,
            io_weight: limits.io_weight.map(model::Weight::get),
            io_read_bandwidth_max: limits.io_read_bandwidth_max.iter().map(IoLimit::from).collect(),
            io_write_bandwidth_max: limits.io_write_bandwidth_max.iter().map(IoLimit::from).collect(),
        }
    }
}

impl From<&model::IoLimit> for IoLimit {
    fn from(limit: &model::IoLimit) -> Self {
        Self { path: text(&limit.path), bytes_per_second: limit.bytes_per_second.0 }
    }
}

impl From<&model::Network> for Network {
    fn from(network: &model::Network) -> Self {
        let (mode, address, bridge) = match network {
            model::Network::Private { address } => ("private", address.map(|address| address.to_string()), None),
            model::Network::Bridge(bridge) => ("bridge", None, Some(bridge.clone())),
            model::Network::Host => ("host", None, None),
        };
        Self { mode: mode.to_owned(), address, bridge }
    }
}

impl From<&model::Port> for Port {
    fn from(port: &model::Port) -> Self {
        Self {
            host_address: port.host_address.map(|address| address.to_string()),
            host_port: port.host_port,
            container_port: port.container_port,
            protocol: port.protocol.as_word().to_owned(),
        }
    }
}

impl From<&model::Mount> for Mount {
    fn from(mount: &model::Mount) -> Self {
        Self {
            source: text(&mount.source),
            target: text(&mount.target),
            read_only: mount.read_only,
            create: mount.create,
            must_be_mountpoint: mount.must_be_mountpoint,
        }
    }
}

impl From<&model::Tmpfs> for Tmpfs {
    fn from(tmpfs: &model::Tmpfs) -> Self {
        Self { target: text(&tmpfs.target), size: tmpfs.size.map(|size| size.0) }
    }
}

impl From<&model::Device> for Device {
    fn from(device: &model::Device) -> Self {
        Self { path: text(&device.path), access: device.access.clone() }
    }
}

impl From<&model::Restart> for Restart {
    fn from(restart: &model::Restart) -> Self {
        Self {
            policy: restart.policy.as_word().to_owned(),
            delay_ms: milliseconds(restart.delay),
            delay_max_ms: milliseconds(restart.delay_max),
            attempts_max: restart.attempts_max,
        }
    }
}

/// Returns a path as text. Paths of the model come from text (a manifest, the wire), so nothing is lost.
fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns whole milliseconds; the manifest and `into_model` make no others, and none that do not fit.
pub(crate) fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! A service as TOML: the way back from the model, for the property that what is written reads back.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::manifest::{SystemRef, v1};
use crate::model::{
    Device, GpuDevices, GpuShare, HealthCheck, IoLimit, Kind, Limits, Mount, Network, Offload, OnUnhealthy, Port,
    PrivateUsers, Probe, Protocol, RestartPolicy, Service, Tmpfs, Word,
};

/// Returns the keys of a service whose system is `.#web` and which needs `db` and `migrate`.
pub(super) fn written(service: &Service<SystemRef>) -> String {
    let mut writer =
        Writer("system = \".#web\"\ndepends_on = { db = \"healthy\", migrate = \"completed\", \"infra/proxy\" = \"started\" }\n".to_owned());
    writer.plain(service);
    writer.network(&service.network, &service.ports);
    if let Some(health) = &service.health {
        writer.health(health);
    }
    writer.limits(&service.limits);
    writer.storage(service);
    writer.0
}

fn text(text: &dyn Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn path(path: &Path) -> String {
    text(&path.display())
}

fn time(time: Duration) -> String {
    text(&v1::Time(time))
}

fn list<T>(items: &[T], written: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
}

struct Writer(String);

impl Writer {
    fn key(&mut self, key: &str, value: impl Display) {
        writeln!(self.0, "{key} = {value}").unwrap();
    }

    fn maybe<T>(&mut self, key: &str, value: Option<T>, written: impl Fn(&T) -> String) {
        if let Some(value) = value {
            self.key(key, written(&value));
        }
    }

    fn plain(&mut self, service: &Service<SystemRef>) {
        self.key(
            "kind",
            text(&match service.kind {
                Kind::Service => "service",
                Kind::Job => "job",
            }),
        );
        let policy = match service.restart.policy {
            RestartPolicy::No => "no",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Always => "always",
        };
        self.key("restart.policy", text(&policy));
        self.key("restart.delay", time(service.restart.delay));
        self.key("restart.delay_max", time(service.restart.delay_max));
        self.maybe("restart.attempts_max", service.restart.attempts_max, u32::to_string);
        self.key("capabilities", list(&service.capabilities, |name| text(name)));
        self.key("nspawn_flags", list(&service.nspawn_flags, |flag| text(flag)));
        self.key("ephemeral", service.ephemeral);
        let users = match service.private_users {
            PrivateUsers::No => "no",
            PrivateUsers::Pick => "pick",
        };
        self.key("private_users", text(&users));
        for (name, value) in &service.environment {
            self.key(&format!("environment.{name}"), text(value));
        }
    }

    fn network(&mut self, network: &Network, ports: &[Port]) {
        match network {
            Network::Private { address } => self.maybe("network.address", *address, |address| text(address)),
            Network::Bridge(bridge) => {
                self.key("network.mode", text(&"bridge"));
                self.key("network.bridge", text(bridge));
            }
            Network::Host => self.key("network.mode", text(&"host")),
        }
        let port = |port: &Port| {
            let address = match port.host_address {
                None => String::new(),
                Some(IpAddr::V4(address)) => format!("{address}:"),
                Some(IpAddr::V6(address)) => format!("[{address}]:"),
            };
            let protocol = match port.protocol {
                Protocol::Tcp => "",
                Protocol::Udp => "/udp",
            };
            text(&format!("{address}{}:{}{protocol}", port.host_port, port.container_port))
        };
        // An empty list has no meaning beside another mode.
        if !ports.is_empty() {
            self.key("network.ports", list(ports, port));
        }
    }

    fn health(&mut self, health: &HealthCheck) {
        match &health.probe {
            Probe::Http(url) => self.key("health.http", text(url)),
            Probe::Tcp(port) => self.key("health.tcp", port),
            Probe::Unit(unit) => self.key("health.unit", text(unit)),
            Probe::Exec(words) => self.key("health.exec", list(words, |word| text(word))),
            Probe::Ready => {}
        }
        self.maybe("health.pressure.cpu", health.pressure.cpu, |share| text(share));
        self.maybe("health.pressure.memory", health.pressure.memory, |share| text(share));
        self.maybe("health.pressure.io", health.pressure.io, |share| text(share));
        self.key("health.interval", time(health.interval));
        self.key("health.timeout", time(health.timeout));
        self.key("health.start_period", time(health.start_period));
        self.key("health.retries", health.retries);
        let then = match health.on_unhealthy {
            OnUnhealthy::Report => "report",
            OnUnhealthy::Restart => "restart",
        };
        self.key("health.on_unhealthy", text(&then));
    }

    fn limits(&mut self, limits: &Limits) {
        self.maybe("limits.memory_min", limits.memory_min, |size| text(size));
        self.maybe("limits.memory_low", limits.memory_low, |size| text(size));
        self.maybe("limits.memory_high", limits.memory_high, |size| text(size));
        self.maybe("limits.memory_max", limits.memory_max, |size| text(size));
        self.maybe("limits.memory_swap_max", limits.memory_swap_max, |size| text(size));
        self.maybe("limits.memory_zswap_max", limits.memory_zswap_max, |size| text(size));
        self.maybe("limits.cpu_quota", limits.cpu_quota, |quota| text(quota));
        self.maybe("limits.cpu_weight", limits.cpu_weight, ToString::to_string);
        self.maybe("limits.io_weight", limits.io_weight, ToString::to_string);
        self.maybe("limits.tasks_max", limits.tasks_max, u64::to_string);
        self.key("limits.allowed_cpus", list(&limits.allowed_cpus, u16::to_string));
        self.rates("limits.io_read_bandwidth_max", &limits.io_read_bandwidth_max);
        self.rates("limits.io_write_bandwidth_max", &limits.io_write_bandwidth_max);
    }

    fn rates(&mut self, key: &str, rates: &[IoLimit]) {
        // Against the order that the model has.
        for rate in rates.iter().rev() {
            self.key(&format!("{key}.{}", path(&rate.path)), rate.bytes_per_second.0);
        }
    }

    fn gpu(&mut self, gpu: &GpuShare) {
        self.maybe("gpu.vendor", gpu.vendor, |vendor| text(&vendor.as_word()));
        let devices = match &gpu.devices {
            GpuDevices::All => text(&"all"),
            GpuDevices::Count(count) => count.to_string(),
            GpuDevices::Ids(ids) => list(ids, |id| text(id)),
        };
        self.key("gpu.devices", devices);
        self.maybe("gpu.vram", gpu.vram, |size| text(size));
        self.maybe("gpu.vram_min", gpu.vram_min, |size| text(size));
        self.key("gpu.priority", gpu.priority);
    }

    fn offload(&mut self, offload: &Offload) {
        self.key("offload.engine", text(&offload.engine.as_word()));
        self.key("offload.url", text(&offload.url));
        self.key("offload.keep", list(&offload.keep, |model| text(model)));
        self.maybe("offload.idle_unload", offload.idle_unload, |idle| time(*idle));
        self.maybe("offload.context", offload.context, u32::to_string);
        self.maybe("offload.request_grace", offload.request_grace, |grace| time(*grace));
        self.key("offload.cpu_fallback", text(&offload.cpu_fallback.as_word()));
    }

    fn storage(&mut self, service: &Service<SystemRef>) {
        let mount = |mount: &Mount| {
            let (source, target) = (path(&mount.source), path(&mount.target));
            let Mount { read_only, create, must_be_mountpoint, .. } = mount;
            format!(
                "{{ source = {source}, target = {target}, read_only = {read_only}, create = {create}, \
                 must_be_mountpoint = {must_be_mountpoint} }}"
            )
        };
        self.key("mounts", list(&service.mounts, mount));
        let tmpfs = |tmpfs: &Tmpfs| match tmpfs.size {
            None => format!("{{ target = {} }}", path(&tmpfs.target)),
            Some(size) => format!("{{ target = {}, size = {} }}", path(&tmpfs.target), size.0),
        };
        self.key("tmpfs", list(&service.tmpfs, tmpfs));
        for (name, file) in &service.credentials {
            self.key(&format!("credentials.{name}"), path(file));
        }
        let device = |device: &Device| text(&format!("{}:{}", device.path.display(), device.access));
        self.key("devices", list(&service.devices, device));
        if let Some(gpu) = &service.gpu {
            self.gpu(gpu);
        }
        if let Some(offload) = &service.offload {
            self.offload(offload);
        }
    }
}

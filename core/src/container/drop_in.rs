//! Our drop-in of a container's unit: order, timeouts, limits and device rules for the next start, exit records; and that
//! of a slice, which has limits alone.
//!
//! The order lives in the units, not only in the agent, so that the host's own shutdown keeps it without us
//! (systemd.unit(5): a stop happens in the reverse order of `After=`). There is deliberately no
//! `After=nixmox-agent.service`: it would hold every start back while the agent's own start job runs.

use std::fmt::Write as _;
use std::time::Duration;

use super::value::{path, unit_path};
use super::{CONF_FOLDER_RUN, Layout, Uncarriable};
use crate::model::{Assigned, ContainerName, IoLimit, Kind, Limits, Service, StackName, System};

/// The first line of every drop-in.
const OWNER: &str = "# Written by nixmox-agent, which overwrites changes; the manifest is the source.";
/// The shortest time given to a guest's whole boot; NixOS's template gives 1 min.
const START_TIMEOUT_MIN: Duration = Duration::from_mins(3);
/// Time beyond the start period after which a start is given up.
const START_MARGIN: Duration = Duration::from_mins(2);
/// What NixOS's template gives a start, unless its owner says otherwise.
const TEMPLATE_START_TIMEOUT: Duration = Duration::from_mins(1);

/// Returns the text of the drop-in.
///
/// An adopted container gets only what its owner does not decide: order, limits, device rules, exit records.
///
/// # Errors
///
/// When a value cannot be carried.
pub fn drop_in(assigned: &Assigned, layout: &Layout) -> Result<String, Uncarriable> {
    let service = &assigned.service;
    let adopted = match service.system {
        System::Adopted => true,
        System::Store(_) => false,
    };
    let mut lines = Lines(format!("{OWNER}\n[Unit]\n"));
    // Not after systemd-machined.service: the bus starts it when nspawn calls it, also at the end, to take its name off. Had systemd
    // to stop this unit before it starts that one, a stop would wait for its own end until that call is given up.
    lines.set("After", "network.target dbus.service");
    for name in service.depends_on.keys() {
        lines.set("After", &name.unit());
    }
    if !adopted {
        for mount in &service.mounts {
            lines.set("RequiresMountsFor", &unit_path("a mount source", &mount.source)?);
        }
        lines.set("StartLimitIntervalSec", "0");
    }
    lines.0.push_str("\n[Service]\n");
    // One restarter, the agent, which also holds the gates, waits longer each time, and gives up.
    lines.set("Restart", "no");
    if !adopted {
        // The template starts a guest that reboots again whatever `Restart=` says, without any of that.
        lines.set("RestartForceExitStatus", "");
    }
    if let Some(timeout) = start_timeout(service, adopted) {
        lines.set("TimeoutStartSec", &timeout);
    }
    if !adopted {
        lines.set("TimeoutStopSec", "3min");
        lines.set("Slice", &slice(&service.stack));
        if layout.conf_in_run {
            // The template's own is left out: an old file in `/etc` would say things that ours does not.
            lines.set("EnvironmentFile", "");
            lines.set("EnvironmentFile", &format!("-{CONF_FOLDER_RUN}/%i.conf"));
        }
        if service.ephemeral {
            // As NixOS does it: the root lies on a tmpfs that systemd removes when the unit stops.
            lines.set("RuntimeDirectory", "nixos-containers/%i");
            lines.set("Environment", "root=/run/nixos-containers/%i");
        }
    }
    let agent = unit_path("the path of the agent", &layout.agent)?.replace('$', "$$");
    lines.set("ExecStartPost", &format!("-{agent} exit-record --started %i"));
    lines.set("ExecStop", &format!("-{agent} exit-record --stop %i"));
    lines.set("ExecStopPost", &format!("-{agent} exit-record %i"));
    lines.limits(&service.limits)?;
    for device in &assigned.device_rules() {
        if device.access.is_empty() || !device.access.chars().all(|c| "rwm".contains(c)) {
            return Err(Uncarriable::new("the access to a device", &device.access, "only `rwm` is allowed"));
        }
        lines.set("DeviceAllow", &format!("{} {}", unit_path("a device", &device.path)?, device.access));
    }
    Ok(lines.0)
}

/// Returns the text of the drop-in of a slice.
///
/// # Errors
///
/// When a value cannot be carried.
pub fn slice_drop_in(limits: &Limits) -> Result<String, Uncarriable> {
    let mut lines = Lines(format!("{OWNER}\n[Slice]\n"));
    lines.limits(limits)?;
    Ok(lines.0)
}

/// Returns the slice in which a stack's containers run, below `machine.slice`.
///
/// A `-` in a slice's name is a step down the tree (systemd.slice(5)), so the stack's are written `_`, which no
/// stack's name has.
#[must_use]
pub fn slice(stack: &StackName) -> String {
    format!("machine-nixmox-{}.slice", stack.as_str().replace('-', "_"))
}

/// Returns the containers after which a drop-in of ours orders its own, in the order in which it names them.
///
/// What runs was started with the order of its drop-in, so this orders the stop of services that nothing
/// declares any more.
#[must_use]
pub fn dependencies(drop_in: &str) -> Vec<ContainerName> {
    drop_in.lines().filter_map(|line| ContainerName::from_unit(line.strip_prefix("After=")?)).collect()
}

/// Returns `TimeoutStartSec=`; `None` leaves the template's.
fn start_timeout(service: &Service, adopted: bool) -> Option<String> {
    let start_period = service.health.as_ref().map_or(Duration::ZERO, |health| health.start_period);
    match service.kind {
        // READY=1 comes with the end of the guest's boot, and the work of a job is often part of that.
        Kind::Job => Some("infinity".to_owned()),
        Kind::Service if adopted && start_period <= TEMPLATE_START_TIMEOUT => None,
        Kind::Service => {
            let timeout = START_TIMEOUT_MIN.max(start_period.saturating_add(START_MARGIN));
            Some(format!("{}s", timeout.as_secs()))
        }
    }
}

/// The lines of a unit file.
struct Lines(String);

impl Lines {
    fn set(&mut self, key: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{key}={value}");
    }

    fn limits(&mut self, limits: &Limits) -> Result<(), Uncarriable> {
        // Taken apart, so that a new limit does not compile until it is written.
        let Limits {
            memory_min,
            memory_low,
            memory_high,
            memory_max,
            memory_swap_max,
            memory_zswap_max,
            cpu_quota,
            cpu_weight,
            allowed_cpus,
            tasks_max,
            io_weight,
            io_read_bandwidth_max,
            io_write_bandwidth_max,
        } = limits;
        for (key, value) in [
            ("MemoryMin", memory_min),
            ("MemoryLow", memory_low),
            ("MemoryHigh", memory_high),
            ("MemoryMax", memory_max),
            ("MemorySwapMax", memory_swap_max),
            ("MemoryZSwapMax", memory_zswap_max),
        ] {
            if let Some(bytes) = value {
                self.set(key, &bytes.0.to_string());
            }
        }
        if let Some(quota) = cpu_quota {
            self.set("CPUQuota", &quota.to_string());
        }
        if let Some(weight) = cpu_weight {
            self.set("CPUWeight", &weight.to_string());
        }
        if !allowed_cpus.is_empty() {
            let cpus: Vec<String> = allowed_cpus.iter().map(u16::to_string).collect();
            self.set("AllowedCPUs", &cpus.join(" "));
        }
        if let Some(tasks) = tasks_max {
            self.set("TasksMax", &tasks.to_string());
        }
        if let Some(weight) = io_weight {
            self.set("IOWeight", &weight.to_string());
        }
        for (key, rates) in
            [("IOReadBandwidthMax", io_read_bandwidth_max), ("IOWriteBandwidthMax", io_write_bandwidth_max)]
        {
            for IoLimit { path: device, bytes_per_second } in rates {
                let device = path("a block device", device)?.replace('%', "%%");
                self.set(key, &format!("{device} {}", bytes_per_second.0));
            }
        }
        Ok(())
    }
}

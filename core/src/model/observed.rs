//! What was read back from systemd, machined, files and probes, at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::{Bytes, ContainerName, Device, Limits, Spec};
use crate::network::FirewallTable;

/// Everything a plan depends on, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What systemd as a whole is doing.
    pub system: SystemState,
    /// Every container that has a unit, a conf file or a drop-in; a service that has none of them is absent.
    pub containers: BTreeMap<ContainerName, Container>,
    /// The published ports as the kernel has them; `None`: the table is missing or not readable as ours.
    pub firewall: Option<FirewallTable>,
    /// What of others keeps forwarded packets, and with them published ports, from passing: a sentence each, with the
    /// way out.
    pub obstacles: Vec<String>,
    /// The text of the hosts file that guests share; `None`: it is missing.
    pub hosts: Option<String>,
    /// Who is asked for all other names.
    pub servers: Servers,
    /// The slices that may carry limits of ours, each once; one that has none and no drop-in may be absent.
    pub slices: Vec<Slice>,
    /// What files of the host's own make `machine.slice` protect.
    pub protection_of_host: Protection,
}

/// Texts of files that name servers of names (resolv.conf(5)); `None`: there is no such file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    /// Of the host's own programs.
    pub own: Option<String>,
    /// Of the servers behind the stub of systemd-resolved(8).
    pub behind_stub: Option<String>,
    /// Of guests, which share it.
    pub guests: Option<String>,
}

/// A slice in which containers run, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The name of its unit.
    pub name: String,
    /// Limits as systemd has them now, or would have them as soon as something runs in it, without those of the host's own
    /// files; of `machine.slice` and `machine-nixmox.slice` only what they protect.
    pub limits: Limits,
    /// Our drop-in of it.
    pub drop_in: DropIn,
    /// Whether files of it changed since systemd read them (`NeedDaemonReload`).
    pub reload_pending: bool,
    /// A file of the host's that systemd reads after ours and that says something of what ours says: that counts; `None`:
    /// ours has the last word.
    pub overridden_by: Option<PathBuf>,
}

/// Memory that is not reclaimed, in bytes; `None`: nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// Never (`MemoryMin=`).
    pub min: Option<Bytes>,
    /// Only when nothing unprotected is left (`MemoryLow=`).
    pub low: Option<Bytes>,
}

/// What systemd as a whole is doing (`SystemState` of org.freedesktop.systemd1(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemState {
    /// Booting, running or degraded: changes are allowed.
    #[default]
    Up,
    /// Shutting down: nothing may be corrected any more.
    Stopping,
}

/// One container as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "facts that are read one by one, each independent of the others")]
pub struct Container {
    /// The state of its unit.
    pub active: ActiveState,
    /// The unit's current or last invocation; `None` when systemd knows none.
    pub invocation: Option<InvocationId>,
    /// When the running instance became active, in seconds since 1970; `None` when it is not active.
    pub active_since: Option<u64>,
    /// Whether a job that is not the agent's is queued or running on the unit.
    pub foreign_job: bool,
    /// Whether a machine of this name is registered that another unit runs.
    pub foreign_machine: bool,
    /// What the running instance was started with, from its environment, and switched to since; `None` when it does not
    /// run, or was not started by NixMox.
    pub started_with: Option<Spec>,
    /// Whether it can take the declared system while it runs.
    pub can_switch: bool,
    /// Whether the running instance has another system than its conf file names, where that is its owner's and not ours.
    pub outdated: bool,
    /// Its conf file.
    pub conf: ConfFile,
    /// Who starts it at boot.
    pub boot_start: BootStart,
    /// Our drop-in of its unit.
    pub drop_in: DropIn,
    /// Whether files of its unit changed since systemd read them (`NeedDaemonReload`) while it runs: what they say
    /// does not count before a reload.
    pub reload_pending: bool,
    /// Limits as systemd has them now.
    pub limits: Limits,
    /// Device rules as systemd has them now, without those of the template, sorted.
    pub devices: Vec<Device>,
    /// Nodes of its GPUs that its processes cannot use, though they are granted; empty: none, or nobody looked.
    pub lost_nodes: Vec<PathBuf>,
    /// Processes of the running instance that the kernel killed for want of memory so far (`oom_kill` of `memory.events`);
    /// `None`: it does not run, or the kernel does not count.
    pub oom_kills: Option<u64>,
    /// How its last instance ended, with what it was started; `None`: nothing is recorded.
    pub exit: Option<ExitRecord>,
    /// Whether the agent asked for the stop by which its last instance ended; `false`: somebody else did, or nobody.
    pub stopped_by_agent: bool,
    /// What its health check says.
    pub health: Health,
    /// Whether it may be started again now.
    pub retry: Retry,
}

impl Default for Container {
    /// A container of which nothing is there.
    fn default() -> Self {
        Self {
            active: ActiveState::Inactive,
            invocation: None,
            active_since: None,
            foreign_job: false,
            foreign_machine: false,
            started_with: None,
            can_switch: false,
            outdated: false,
            conf: ConfFile::Absent,
            boot_start: BootStart::Agent,
            drop_in: DropIn::Absent,
            reload_pending: false,
            limits: Limits::default(),
            devices: Vec::new(),
            lost_nodes: Vec::new(),
            oom_kills: None,
            exit: None,
            stopped_by_agent: false,
            health: Health::Unknown,
            retry: Retry::Now,
        }
    }
}

/// `ActiveState` of a unit, as systemd spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActiveState {
    /// Not running.
    #[default]
    Inactive,
    /// Starting: nspawn runs, its guest has not said READY=1.
    Activating,
    /// Running.
    Active,
    /// Stopping.
    Deactivating,
    /// Ended with an error.
    Failed,
}

impl ActiveState {
    /// Returns whether processes of the unit may exist.
    #[must_use]
    pub fn has_processes(self) -> bool {
        matches!(self, Self::Activating | Self::Active | Self::Deactivating)
    }
}

/// Names one run of a unit (`InvocationID`, systemd.exec(5)): 128 bits, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId(pub u128);

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `/etc/nixos-containers/NAME.conf`, or where it lives when `/etc` is read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfFile {
    /// There is none.
    Absent,
    /// NixMox wrote it; the text as it is.
    Ours(String),
    /// `nixos-container` wrote it.
    Foreign,
    /// A link: the host's own declaration.
    Link,
}

/// Who starts a container at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootStart {
    /// The agent, in its turn; or nobody, if nothing declares it.
    #[default]
    Agent,
    /// The host: its owner's conf file says `AUTO_START=1`. Ours never does.
    Host,
}

/// `/run/systemd/system/UNIT.d/10-nixmox.conf`, of a container's unit or a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropIn {
    /// There is none.
    Absent,
    /// The text as it is.
    Ours(String),
}

/// How an instance ended, as `ExecStopPost=` wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Which run it was.
    pub invocation: InvocationId,
    /// What it was started with; `None` when NixMox did not start it.
    pub spec: Option<Spec>,
    /// `$SERVICE_RESULT`: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, ... (systemd.exec(5)).
    pub result: String,
    /// `$EXIT_STATUS`: a number, or the name of a signal; empty when nothing was started.
    pub status: String,
    /// Whether it was stopped while it ran: the guest then ends with 0 too, and that says nothing about its work.
    pub stopped: bool,
    /// Processes of it that the kernel killed for want of memory, in all its life; of what the reconcile task has seen, only
    /// those that nobody had taken note of when it ended. 0: none, or nobody knows.
    pub oom_kills: u64,
}

impl ExitRecord {
    /// Returns whether it ran to its own end, with 0.
    ///
    /// `protocol` is systemd's word for a guest that ended before it said READY=1: a job whose work is part of
    /// its boot. `exit-code` beside 0 is that of a command around it: where one behind READY=1 fails, systemd shuts the guest
    /// down, which ends with 0 whatever it was at. 133 also counts as `success` there, but is a reboot (`SuccessExitStatus=` of the template).
    #[must_use]
    pub fn succeeded(&self) -> bool {
        !self.stopped && self.status == "0" && matches!(self.result.as_str(), "success" | "protocol")
    }

    /// Returns whether its guest asked for a reboot, which nspawn tells by 133.
    #[must_use]
    pub fn rebooted(&self) -> bool {
        !self.stopped && self.status == "133"
    }

    /// Returns whether it failed while the kernel killed processes of it for want of memory. systemd does not say so of a
    /// container, whose cgroup is delegated (`OOMPolicy=`, systemd.service(5)), and nspawn ends with 1 whatever its guest died of.
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.oom_kills > 0 && !self.stopped && !self.rebooted() && !self.succeeded()
    }

    /// Returns how it ended, to follow "ended with": `stopped`, `a reboot`, or systemd's words such as `exit-code 1`.
    #[must_use]
    pub fn how(&self) -> String {
        if self.out_of_memory() {
            "an out of memory kill".to_owned()
        } else if self.stopped {
            "stopped".to_owned()
        } else if self.rebooted() {
            "a reboot".to_owned()
        } else {
            format!("{} {}", self.result, self.status).trim_end().to_owned()
        }
    }
}

/// What the health check says about the current instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody asked yet, or it does not run.
    #[default]
    Unknown,
    /// It runs and has not answered well yet, within its start period.
    Starting,
    /// It answered well.
    Healthy,
    /// It failed too often, or did not answer well within its start period.
    Unhealthy,
}

/// Whether a container that ended may be started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// At once.
    #[default]
    Now,
    /// Later: the back-off runs, or the time in which a person may undo what they did behind our back.
    Later,
    /// Not by itself: its policy says no, or the cap is reached.
    Never,
}

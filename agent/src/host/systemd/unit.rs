//! Units as systemd reports them.
//!
//! Owns the reading of `ListUnitsByPatterns` and of a unit's properties. One `GetAll` over all interfaces is one
//! round trip; only the properties named here are kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_core::model::{ActiveState, ContainerName, InvocationId};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use zbus::{Connection, ObjectPath, OwnedObjectPath, Type, as_variant};

use super::{DESTINATION, JobEnd};

/// The row of `ListUnitsByPatterns`: name, description, load state, active state, sub state, followed unit,
/// object path, job id (0: none), job type, job path.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A loaded unit, as its properties say it is.
#[derive(Debug)]
pub(in crate::host) struct ListedUnit {
    /// Its container.
    pub(in crate::host) name: ContainerName,
    /// Its state.
    pub(in crate::host) active: ActiveState,
    /// The job that is queued or running on it.
    pub(super) job: Option<u32>,
}

/// A row of the list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: ContainerName,
    pub(super) path: OwnedObjectPath,
    active: ActiveState,
    job: Option<u32>,
}

impl Listed {
    /// Returns whether properties that were read before still say what the list says.
    pub(super) fn agrees_with(&self, properties: &UnitProperties) -> bool {
        self.active == properties.active_state() && self.job == properties.job_id()
    }
}

/// Reads a row; `None` for an instance whose name is not a container's, or whose template is missing.
pub(super) fn from_row(row: Row) -> Option<Listed> {
    let (unit, _description, load, active, _sub, _following, path, job, _job_type, _job_path) = row;
    let active = active_state(&active);
    // Stubs that other units only refer to are listed too.
    if load == "not-found" && !active.has_processes() {
        return None;
    }
    Some(Listed { name: ContainerName::from_unit(&unit)?, path, active, job: (job != 0).then_some(job) })
}

/// Reads `ActiveState`.
fn active_state(text: &str) -> ActiveState {
    match text {
        "active" | "reloading" | "refreshing" => ActiveState::Active,
        "activating" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        "failed" => ActiveState::Failed,
        // `inactive`, `maintenance`: nothing runs.
        _ => ActiveState::Inactive,
    }
}

/// `ExecMainStatus` is an exit status, not a signal: `CLD_EXITED` of waitid(2).
const CLD_EXITED: i32 = 1;

/// The properties of a service unit that containers need; absent ones are `None`.
///
/// Names, units and "not set" values: org.freedesktop.systemd1(5). Sizes and times of `u64::MAX` are "infinity".
#[derive(Clone, Debug, Default, Type)]
#[zbus(signature = "a{sv}")]
pub(in crate::host) struct UnitProperties {
    pub(super) active_state: Option<String>,
    pub(super) invocation_id: Option<Vec<u8>>,
    /// The job that is queued or running on it; id 0: none.
    pub(super) job: Option<(u32, OwnedObjectPath)>,
    pub(super) inactive_exit_timestamp: Option<u64>,
    pub(super) active_enter_timestamp: Option<u64>,
    pub(super) need_daemon_reload: Option<bool>,
    pub(super) fragment_path: Option<String>,
    pub(super) drop_in_paths: Option<Vec<String>>,
    pub(super) result: Option<String>,
    pub(super) exec_main_code: Option<i32>,
    pub(super) exec_main_status: Option<i32>,
    pub(super) main_pid: Option<u32>,
    pub(super) control_group: Option<String>,
    pub(super) timeout_start: Option<u64>,
    pub(super) timeout_stop: Option<u64>,
    pub(super) memory_min: Option<u64>,
    pub(super) memory_low: Option<u64>,
    pub(super) memory_high: Option<u64>,
    pub(super) memory_max: Option<u64>,
    pub(super) memory_swap_max: Option<u64>,
    pub(super) memory_zswap_max: Option<u64>,
    pub(super) cpu_quota: Option<u64>,
    pub(super) cpu_weight: Option<u64>,
    pub(super) allowed_cpus: Option<Vec<u8>>,
    pub(super) tasks_max: Option<u64>,
    pub(super) io_weight: Option<u64>,
    pub(super) io_read: Option<Vec<(String, u64)>>,
    pub(super) io_write: Option<Vec<(String, u64)>>,
    pub(super) device_allow: Option<Vec<(String, String)>>,
}

/// Read by hand: what is derived for it reads sequences, too, and takes 0.05 MiB of the program for that.
impl<'de> Deserialize<'de> for UnitProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Named)
    }
}

/// Reads properties by their names.
struct Named;

impl<'de> Visitor<'de> for Named {
    type Value = UnitProperties;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the properties of a unit")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UnitProperties, A::Error> {
        let mut found = UnitProperties::default();
        while let Some(name) = map.next_key::<&str>()? {
            match name {
                "ActiveState" => found.active_state = value(&mut map)?,
                "InvocationID" => found.invocation_id = value(&mut map)?,
                "Job" => found.job = value(&mut map)?,
                "InactiveExitTimestamp" => found.inactive_exit_timestamp = value(&mut map)?,
                "ActiveEnterTimestamp" => found.active_enter_timestamp = value(&mut map)?,
                "NeedDaemonReload" => found.need_daemon_reload = value(&mut map)?,
                "FragmentPath" => found.fragment_path = value(&mut map)?,
                "DropInPaths" => found.drop_in_paths = value(&mut map)?,
                "Result" => found.result = value(&mut map)?,
                "ExecMainCode" => found.exec_main_code = value(&mut map)?,
                "ExecMainStatus" => found.exec_main_status = value(&mut map)?,
                "MainPID" => found.main_pid = value(&mut map)?,
                "ControlGroup" => found.control_group = value(&mut map)?,
                "TimeoutStartUSec" => found.timeout_start = value(&mut map)?,
                "TimeoutStopUSec" => found.timeout_stop = value(&mut map)?,
                "MemoryMin" => found.memory_min = value(&mut map)?,
                "MemoryLow" => found.memory_low = value(&mut map)?,
                "MemoryHigh" => found.memory_high = value(&mut map)?,
                "MemoryMax" => found.memory_max = value(&mut map)?,
                "MemorySwapMax" => found.memory_swap_max = value(&mut map)?,
                "MemoryZSwapMax" => found.memory_zswap_max = value(&mut map)?,
                "CPUQuotaPerSecUSec" => found.cpu_quota = value(&mut map)?,
                "CPUWeight" => found.cpu_weight = value(&mut map)?,
                "AllowedCPUs" => found.allowed_cpus = value(&mut map)?,
                "TasksMax" => found.tasks_max = value(&mut map)?,
                "IOWeight" => found.io_weight = value(&mut map)?,
                "IOReadBandwidthMax" => found.io_read = value(&mut map)?,
                "IOWriteBandwidthMax" => found.io_write = value(&mut map)?,
                "DeviceAllow" => found.device_allow = value(&mut map)?,
                _ => {
                    let IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads the value of a property, which is a variant of this type.
fn value<'de, A: MapAccess<'de>, T: Type + Deserialize<'de> + 'de>(map: &mut A) -> Result<Option<T>, A::Error> {
    Ok(Some(map.next_value::<as_variant::Deserialize<'de, T>>()?.0))
}

impl UnitProperties {
    /// Returns its state.
    pub(in crate::host) fn active_state(&self) -> ActiveState {
        self.active_state.as_deref().map_or(ActiveState::Inactive, active_state)
    }

    /// Returns the job that is queued or running on it.
    pub(super) fn job_id(&self) -> Option<u32> {
        self.job.as_ref().map(|(id, _)| *id).filter(|id| *id != 0)
    }

    /// Returns whether it is active.
    pub(in crate::host) fn is_active(&self) -> bool {
        self.active_state() == ActiveState::Active
    }

    /// Returns whether a file describes it; without one it is a mere name, or was made by what it stands for.
    pub(super) fn has_file(&self) -> bool {
        self.fragment_path.as_deref().is_some_and(|path| !path.is_empty())
    }

    /// Returns its current or last invocation.
    pub(in crate::host) fn invocation(&self) -> Option<InvocationId> {
        let bytes = <[u8; 16]>::try_from(self.invocation_id.as_deref()?).ok()?;
        Some(InvocationId(u128::from_be_bytes(bytes))).filter(|id| id.0 != 0)
    }

    /// Returns the main process: nspawn.
    pub(in crate::host) fn main_pid(&self) -> Option<u32> {
        self.main_pid.filter(|pid| *pid != 0)
    }

    /// Returns its cgroup, relative to the root of the hierarchy; `None` when it has none.
    pub(in crate::host) fn control_group(&self) -> Option<&str> {
        self.control_group.as_deref().filter(|path| !path.is_empty())
    }

    /// Returns when it became active, in microseconds since 1970.
    pub(in crate::host) fn active_since_usec(&self) -> Option<u64> {
        self.active_enter_timestamp.filter(|usec| *usec != 0 && self.is_active())
    }

    /// Returns when its last start began, in microseconds since 1970.
    pub(in crate::host) fn start_began_usec(&self) -> Option<u64> {
        self.inactive_exit_timestamp.filter(|usec| *usec != 0)
    }

    /// Returns whether its files changed since systemd read them.
    pub(in crate::host) fn needs_reload(&self) -> bool {
        self.need_daemon_reload == Some(true)
    }

    /// Returns a file that `systemctl set-property` wrote for good: it wins over every drop-in of ours.
    pub(in crate::host) fn overriding_file(&self) -> Option<PathBuf> {
        let mut paths = self.drop_in_paths.iter().flatten();
        paths.find(|path| path.starts_with("/etc/systemd/system.control/")).map(PathBuf::from)
    }

    /// Returns its drop-ins, that which is read last, and wins, at the end.
    pub(in crate::host) fn drop_ins(&self) -> impl Iterator<Item = &Path> {
        self.drop_in_paths.iter().flatten().map(Path::new)
    }

    /// Returns the time that its limits allow a job; `None`: without limit.
    ///
    /// A start runs three kinds of commands, each within `TimeoutStartSec=`, and where it fails a
    /// stop (systemd.service(5)).
    pub(super) fn job_time(&self) -> Option<Duration> {
        let start = self.timeout_start.filter(|usec| *usec != u64::MAX)?;
        let stop = self.timeout_stop.filter(|usec| *usec != u64::MAX)?;
        Some(Duration::from_micros(start.saturating_mul(3).saturating_add(stop.saturating_mul(2))))
    }

    /// Returns the time that a start is given when the last one took longer.
    pub(super) fn start_timed_out(&self) -> Option<Duration> {
        let limit = self.timeout_start.filter(|usec| *usec != u64::MAX).map(Duration::from_micros)?;
        (self.result.as_deref() == Some("timeout")).then_some(limit)
    }

    /// Returns how its last instance ended, in systemd's words, such as `exit-code 1`.
    pub(super) fn failure(&self, job: &JobEnd) -> String {
        match (self.result.as_deref(), self.exec_main_code, self.exec_main_status) {
            (None | Some("success"), ..) => job.to_string(),
            (Some(result @ ("exit-code" | "protocol")), Some(CLD_EXITED), Some(status)) => {
                format!("{result} {status}")
            }
            (Some(result @ ("signal" | "core-dump")), _, Some(status)) => format!("{result} {status}"),
            (Some(result), ..) => result.to_owned(),
        }
    }

    /// Returns whether the last instance's guest ended with 0 before it said that it was ready (`protocol`).
    pub(in crate::host) fn ended_well_before_ready(&self) -> bool {
        self.result.as_deref() == Some("protocol")
            && self.exec_main_code == Some(CLD_EXITED)
            && self.exec_main_status == Some(0)
    }
}

/// Reads a unit's properties.
pub(super) async fn properties(connection: &Connection, path: &ObjectPath<'_>) -> zbus::Result<UnitProperties> {
    // The empty name means all interfaces of the object, in one reply (org.freedesktop.DBus.Properties).
    let reply = connection
        .call_method(Some(DESTINATION), path, Some("org.freedesktop.DBus.Properties"), "GetAll", &"")
        .await?;
    reply.body().deserialize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_is_told_in_systemds_words() {
        let mut unit = UnitProperties {
            result: Some("exit-code".to_owned()),
            exec_main_code: Some(1),
            exec_main_status: Some(3),
            ..UnitProperties::default()
        };
        assert_eq!(unit.failure(&JobEnd::Other("failed".to_owned())), "exit-code 3");
        unit.result = Some("timeout".to_owned());
        assert_eq!(unit.failure(&JobEnd::Other("failed".to_owned())), "timeout");
        unit.result = Some("success".to_owned());
        assert_eq!(unit.failure(&JobEnd::Other("canceled".to_owned())), "canceled");
    }

    #[test]
    fn an_invocation_of_zeros_is_none() {
        let id = |bytes| UnitProperties { invocation_id: Some(bytes), ..UnitProperties::default() }.invocation();
        assert_eq!(id(vec![0; 16]), None);
        assert_eq!(id(Vec::new()), None);
        assert_eq!(id([vec![0; 15], vec![7]].concat()), Some(InvocationId(7)));
    }
}

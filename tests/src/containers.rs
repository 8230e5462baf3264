//! What systemd, the kernel and the exit records say of containers, without asking the agent.

use std::collections::BTreeMap;

use anyhow::Result;
use nixmox_testbed::Testbed;

/// A bash command that prints what [`parse`] reads. Quick: three processes, whatever the number of containers.
pub const LOOK: &str = r#"{
    units=$(systemctl show 'container@*.service' --property=Id,ActiveState,InvocationID,MainPID,Job,MemoryMax,ActiveEnterTimestampMonotonic)
    printf '%s\n\n' "$units"
    grep -azsHE '^(NIXMOX_SPEC|SYSTEM_PATH)=' $(sed -n 's|^MainPID=\([1-9].*\)|/proc/\1/environ|p' <<< "$units") /dev/null | tr '\0' '\n'
    grep -sH . /run/nixmox/exit/*
    true
}"#;

/// All containers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Containers {
    /// The loaded units of containers, by name; a container that ended well may have none.
    pub units: BTreeMap<String, Unit>,
    /// How the last instance of each container ended, by name.
    pub ended: BTreeMap<String, Ended>,
}

/// The unit of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `ActiveState`.
    pub active: String,
    /// `InvocationID`; empty when it never ran.
    pub invocation: String,
    /// Whether a job is queued or running on it.
    pub job: bool,
    /// `MemoryMax` in bytes; `None`: `infinity`.
    pub memory_max: Option<u64>,
    /// `ActiveEnterTimestampMonotonic`, in microseconds since the host's boot; 0: never.
    pub active_since: u64,
    /// `SYSTEM_PATH` of the running nspawn; empty when none runs.
    pub system: String,
    /// `NIXMOX_SPEC` of the running nspawn; empty when none runs.
    pub spec: String,
}

/// An exit record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Which run it was.
    pub invocation: String,
    /// What it was started with.
    pub spec: String,
    /// `$SERVICE_RESULT`.
    pub result: String,
    /// Whether somebody stopped it.
    pub stopped: bool,
}

impl Containers {
    /// Returns the units that are active, with their invocation IDs.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, String> {
        let active = self.units.iter().filter(|(_, unit)| unit.active == "active");
        active.map(|(name, unit)| (name.clone(), unit.invocation.clone())).collect()
    }

    /// Returns the active units in the order in which they became active.
    #[must_use]
    pub fn start_order(&self) -> Vec<String> {
        let mut active: Vec<(u64, &String)> = self
            .units
            .iter()
            .filter(|(_, unit)| unit.active == "active")
            .map(|(name, unit)| (unit.active_since, name))
            .collect();
        active.sort();
        active.into_iter().map(|(_, name)| name.clone()).collect()
    }
}

/// Looks at all containers of a host.
///
/// # Errors
/// When the command cannot be run.
pub fn look(bed: &Testbed) -> Result<Containers> {
    bed.succeed(LOOK).map(|text| parse(&text))
}

/// Fails unless the start of a container's unit began when a static guest of another one listened: before that nobody can have
/// found it well.
///
/// # Errors
/// When it began earlier, or when either of the two is not known.
pub fn started_when_it_listened(bed: &Testbed, second: &str, first: &str) -> Result<()> {
    let script = format!(
        "began=$(date -d \"$(systemctl show -P InactiveExitTimestamp --timestamp=us+utc container@{second})\" +%s%6N) &&
         listens=$(date -r /var/lib/nixos-containers/{first}/var/lib/guest/listens +%s%6N) &&
         echo \"{second} began at $began, {first} listens since $listens\" && ((began >= listens))"
    );
    bed.succeed(&script).map(drop)
}

/// Reads what [`LOOK`] printed.
#[must_use]
pub fn parse(text: &str) -> Containers {
    let mut containers = Containers::default();
    let mut of_pid: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next_if(|line| !line.starts_with('/')) {
        if line.is_empty() {
            continue;
        }
        // One block a unit, ended by an empty line.
        let mut block: BTreeMap<&str, &str> = line.split_once('=').into_iter().collect();
        while let Some(line) = lines.next_if(|line| !line.is_empty() && !line.starts_with('/')) {
            block.extend(line.split_once('='));
        }
        let value = |key: &str| block.get(key).copied().unwrap_or_default();
        let Some(name) = value("Id").strip_prefix("container@").and_then(|id| id.strip_suffix(".service")) else {
            continue;
        };
        of_pid.insert(value("MainPID"), name.to_owned());
        let unit = Unit {
            active: value("ActiveState").to_owned(),
            invocation: value("InvocationID").to_owned(),
            job: !matches!(value("Job"), "" | "0"),
            memory_max: value("MemoryMax").parse().ok(),
            active_since: value("ActiveEnterTimestampMonotonic").parse().unwrap_or_default(),
            ..Unit::default()
        };
        containers.units.insert(name.to_owned(), unit);
    }
    for line in lines {
        let Some((path, (key, value))) =
            line.split_once(':').and_then(|(path, text)| Some((path, text.split_once('=')?)))
        else {
            continue;
        };
        if let Some(name) = path.strip_prefix("/run/nixmox/exit/") {
            // The note beside the record is the unit's own business.
            if !name.contains('.') {
                let ended = containers.ended.entry(name.to_owned()).or_default();
                match key {
                    "invocation" => value.clone_into(&mut ended.invocation),
                    "spec" => value.clone_into(&mut ended.spec),
                    "result" => value.clone_into(&mut ended.result),
                    "stopped" => ended.stopped = value == "yes",
                    _ => {}
                }
            }
            continue;
        }
        let pid = path.strip_prefix("/proc/").and_then(|path| path.strip_suffix("/environ"));
        let Some(unit) = pid.and_then(|pid| of_pid.get(pid)).and_then(|name| containers.units.get_mut(name)) else {
            continue;
        };
        match key {
            "NIXMOX_SPEC" => value.clone_into(&mut unit.spec),
            "SYSTEM_PATH" => value.clone_into(&mut unit.system),
            _ => {}
        }
    }
    containers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let text = "Id=container@a.service\nActiveState=active\nInvocationID=12\nMainPID=7\nJob=\nMemoryMax=1024\n\
                    ActiveEnterTimestampMonotonic=5\n\nMainPID=0\nId=container@b.service\nActiveState=inactive\nJob=33\n\
                    MemoryMax=infinity\n\n/proc/7/environ:SYSTEM_PATH=/nix/store/x\n/proc/7/environ:NIXMOX_SPEC=system:1\n\
                    /run/nixmox/exit/b:invocation=99\n/run/nixmox/exit/b:stopped=yes\n/run/nixmox/exit/b.note:note=started\n";
        let seen = parse(text);
        let a = &seen.units["a"];
        assert_eq!(
            (a.active.as_str(), a.invocation.as_str(), a.memory_max, a.job),
            ("active", "12", Some(1024), false)
        );
        assert_eq!((a.system.as_str(), a.spec.as_str(), a.active_since), ("/nix/store/x", "system:1", 5));
        assert_eq!((seen.units["b"].active.as_str(), seen.units["b"].job), ("inactive", true));
        assert_eq!((seen.ended["b"].invocation.as_str(), seen.ended["b"].stopped), ("99", true));
        assert_eq!(seen.running().len(), 1);
    }
}

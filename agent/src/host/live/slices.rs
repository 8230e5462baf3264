//! Slices: what they carry, as systemd has it, and what they should.
//!
//! Of `machine.slice` and `machine-nixmox.slice` only the protection of memory is looked at and changed: all else of them
//! is the host's to set.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nixmox_core::model::{DropIn, Facts, Limits, Protection, Slice};
use nixmox_core::slice::{self, Slices};

use super::Live;
use crate::host::files::{self, Durability};
use crate::host::paths::Paths;
use crate::host::systemd::{Context, Settings, UnitProperties, limit_changes};
use crate::host::{StepError, facts};

/// Limits are no secret.
const MODE: u32 = 0o644;
/// How long disks are looked for, in all.
const FACTS_LIMIT: Duration = Duration::from_secs(2);

/// A slice as its files have it.
struct OnDisk {
    drop_in: DropIn,
    ours: Settings,
    others: Settings,
    /// Files of the host's that systemd reads after ours, in its order.
    later: Vec<PathBuf>,
}

impl OnDisk {
    fn read(paths: &Paths, name: &str, unit: &UnitProperties) -> Self {
        let drop_in = files::read(&paths.slice_drop_in(name)).map_or(DropIn::Absent, DropIn::Ours);
        let others = Settings::files_of_others(unit, paths);
        let path = paths.slice_drop_in(name);
        let after_ours = unit.drop_ins().skip_while(|drop_in| paths.host_path(drop_in) != path).skip(1);
        let later = after_ours.map(|drop_in| paths.host_path(drop_in)).filter(|path| others.contains(path));
        let later = later.collect();
        let ours = Settings::of(&drop_in);
        Self { drop_in, ours, others: Settings::read(&others), later }
    }

    /// Returns the limits in effect that could be ours.
    fn limits(&self, name: &str, unit: &UnitProperties) -> Limits {
        // A slice has no default of tasks (systemd-system.conf(5), `DefaultTasksMax=`).
        let context = Context { others: &self.others, ours: &self.ours, default_tasks_max: None };
        slice::ours(name, unit.limits(&context))
    }

    /// Returns the file of the host's that has the last word on something that our drop-in says.
    fn overridden_by(&self) -> Option<&PathBuf> {
        self.later.iter().rev().find(|path| self.ours.meets(path))
    }
}

impl Live {
    /// Returns the slices that carry something of ours, and what the host's own files make `machine.slice` protect.
    pub(super) async fn slices(&self) -> Result<(Vec<Slice>, Protection), StepError> {
        let mut names = self.blocking(|paths| Ok(with_drop_in(paths))).await?;
        names.insert(slice::MACHINES.to_owned());
        let mut units = Vec::new();
        for name in names {
            let unit = self.systemd.slice(&name).await?;
            units.push((name, unit));
        }
        self.blocking(move |paths| {
            let mut protection = Protection::default();
            let mut slices = Vec::new();
            for (name, unit) in units {
                let on_disk = OnDisk::read(paths, &name, &unit);
                if name == slice::MACHINES {
                    protection = unit.protection(&on_disk.others);
                }
                let limits = on_disk.limits(&name, &unit);
                let reload_pending = unit.needs_reload();
                let overridden_by = on_disk.overridden_by().cloned();
                slices.push(Slice { name, limits, drop_in: on_disk.drop_in, reload_pending, overridden_by });
            }
            Ok((slices, protection))
        })
        .await
    }

    /// Gives every slice its limits, and takes ours away from those that are to have none.
    ///
    /// The order within one is that of a container (`update`); systemd reads its files again once, for all of them.
    pub(super) async fn set_all_slices(&self, wanted: &Slices) -> Result<(), StepError> {
        let mut names = self.blocking(|paths| Ok(with_drop_in(paths))).await?;
        names.extend(wanted.iter().map(|(name, _)| name.clone()));
        let none = Limits::default();
        let mut failure = None;
        for name in &names {
            let done = self.set_slice(name, wanted.get(name).unwrap_or(&none)).await;
            failure = failure.or(done.err());
        }
        let mut reload = false;
        for name in &names {
            self.systemd.forget(name);
            // One that nothing runs in is read from its files as soon as something does.
            reload |= self.systemd.properties_if_loaded(name).await?.is_some_and(|unit| unit.needs_reload());
        }
        if reload {
            self.systemd.reload().await?;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn set_slice(&self, name: &str, limits: &Limits) -> Result<(), StepError> {
        if let Some(unit) = self.systemd.properties_if_loaded(name).await? {
            let (owner, read) = (name.to_owned(), unit.clone());
            let (in_effect, is_ours) = self
                .blocking(move |paths| {
                    let on_disk = OnDisk::read(paths, &owner, &read);
                    Ok((on_disk.limits(&owner, &read), on_disk.overridden_by().is_none()))
                })
                .await?;
            let properties = limit_changes(&in_effect, limits, None);
            // What a file of the host's says would be back as soon as systemd reads its files.
            if is_ours && unit.is_active() && !properties.is_empty() {
                self.set_live(name, &in_effect, limits, &properties).await?;
            }
        }
        let (owner, limits) = (name.to_owned(), limits.clone());
        self.blocking(move |paths| write(paths, &owner, &limits)).await
    }

    /// Reads what limits depend on of the machine.
    pub(super) async fn read_facts(&self, asked: &[PathBuf]) -> Facts {
        let mut without_device = Vec::new();
        let look = async {
            for path in asked {
                let place = path.clone();
                let seen = self.on(&self.unhurried, path, move |paths| Ok(facts::has_device(paths, &place))).await;
                if let Ok(false) = seen {
                    without_device.push(path.clone());
                }
            }
        };
        // What does not answer says nothing.
        let _ = tokio::time::timeout(FACTS_LIMIT, look).await;
        // Fails only when the runtime shuts down.
        let read = self.blocking(|paths| Ok(facts::read(paths))).await.unwrap_or_default();
        Facts { without_device, ..read }
    }
}

/// Returns the slices that have a drop-in of ours.
fn with_drop_in(paths: &Paths) -> BTreeSet<String> {
    let entries = std::fs::read_dir(paths.runtime_units()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".d").map(str::to_owned));
    names.filter(|name| slice::is_known(name) && paths.slice_drop_in(name).exists()).collect()
}

/// Makes the drop-in say what the slice carries, and removes what a live change left, which would win over it for ever.
fn write(paths: &Paths, name: &str, limits: &Limits) -> Result<(), StepError> {
    let (path, control) = (paths.slice_drop_in(name), paths.slice_control(name));
    if *limits == Limits::default() {
        files::remove(&path)?;
        if let Some(directory) = path.parent() {
            // Stays when somebody else has a drop-in there.
            let _ = std::fs::remove_dir(directory);
        }
    } else {
        files::replace(&path, &slice::text(limits), MODE, Durability::Runtime)?;
    }
    if slice::ours(name, Limits { tasks_max: Some(1), ..Limits::default() }).tasks_max.is_some() {
        return files::remove_directory(&control);
    }
    for key in ["MemoryMin", "MemoryLow"] {
        files::remove(&control.join(format!("50-{key}.conf")))?;
    }
    let _ = std::fs::remove_dir(&control);
    Ok(())
}

#[cfg(test)]
mod tests {
    use nixmox_core::model::Bytes;

    use super::*;

    #[test]
    fn what_is_written_for_a_slice_is_found_and_removed_whole_and_what_the_host_set_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let stack = "machine-nixmox-cloud.slice";
        let limits = Limits { memory_min: Some(Bytes(7)), ..Limits::default() };
        for name in [stack, slice::MACHINES] {
            for key in ["CPUWeight", "MemoryMin"] {
                let left = paths.slice_control(name).join(format!("50-{key}.conf"));
                files::replace(&left, "[Slice]\n", MODE, Durability::Runtime).unwrap();
            }
            write(&paths, name, &limits).unwrap();
        }
        assert_eq!(with_drop_in(&paths), BTreeSet::from([stack.to_owned(), slice::MACHINES.to_owned()]));
        let text = std::fs::read_to_string(paths.slice_drop_in(stack)).unwrap();
        assert!(text.ends_with("[Slice]\nMemoryMin=7\n"), "{text}");
        // The stack's is ours whole, the host's only in what we set.
        assert!(!paths.slice_control(stack).exists());
        let left: Vec<_> = std::fs::read_dir(paths.slice_control(slice::MACHINES)).unwrap().flatten().collect();
        assert_eq!(left.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["50-CPUWeight.conf"]);
        for name in [stack, slice::MACHINES] {
            write(&paths, name, &Limits::default()).unwrap();
        }
        assert_eq!(with_drop_in(&paths), BTreeSet::new());
        assert_eq!(std::fs::read_dir(paths.runtime_units()).unwrap().count(), 0);
    }
}

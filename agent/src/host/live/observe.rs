//! One look at everything a plan depends on.
//!
//! Two round trips to systemd: the list of loaded units, then the properties of all of them, pipelined. Files and
//! `/proc` are read on the blocking pool in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nixmox_core::container::parse_exit_record;
use nixmox_core::model::{ActiveState, ConfFile, Container, ContainerName, DropIn, ExitRecord, Observed};

use super::Live;
use crate::host::nspawn::Start;
use crate::host::paths::Paths;
use crate::host::systemd::{Context, ListedUnit, Settings, UnitProperties};
use crate::host::{StepError, Usage};
use crate::host::{files, nspawn};

/// A loaded unit, and what its files and its process say.
type Unit = (ListedUnit, UnitProperties);

/// What lies on disk of one container.
struct OnDisk {
    conf: ConfFile,
    drop_in: DropIn,
    exit: Option<ExitRecord>,
}

/// What is read of a container's process and of the files of its unit.
struct OfUnit {
    start: Start,
    /// Limits and devices that the host's own files set.
    others: Settings,
}

impl Live {
    pub(super) async fn observe_all(&self, declared: &BTreeSet<ContainerName>) -> Result<Observed, StepError> {
        let firewall = async { Ok(self.firewall.read().await) };
        let (firewall, system, units, machines, default_tasks_max) = futures_util::try_join!(
            firewall,
            self.systemd.system_state(),
            self.systemd.units(),
            self.machined.names(),
            self.systemd.default_tasks_max(),
        )?;
        let declared = declared.clone();
        let (units, on_disk, of_units, hosts) = self
            .blocking(move |paths| {
                let names: BTreeSet<_> = declared.into_iter().chain(nspawn::names_with_files(paths)).collect();
                let on_disk: BTreeMap<_, _> = names
                    .into_iter()
                    .chain(units.iter().map(|(unit, _)| unit.name.clone()))
                    .map(|name| {
                        let read = read_disk(paths, &name);
                        (name, read)
                    })
                    .collect();
                let of_units = read_units(paths, &units);
                Ok((units, on_disk, of_units, files::read(&paths.hosts())))
            })
            .await?;
        let mut containers: BTreeMap<ContainerName, Container> = on_disk
            .into_iter()
            .map(|(name, OnDisk { conf, drop_in, exit })| {
                (name, Container { conf, drop_in, exit, ..Container::default() })
            })
            .collect();
        for ((listed, unit), of_unit) in units.iter().zip(of_units) {
            let container = containers.entry(listed.name.clone()).or_default();
            let mut ours = Settings::default();
            if let DropIn::Ours(text) = &container.drop_in {
                ours.add(text);
            }
            let others = &of_unit.others;
            let context = Context { others, ours: &ours, default_tasks_max: Some(default_tasks_max) };
            container.active = listed.active;
            container.invocation = unit.invocation();
            container.foreign_job = self.systemd.is_foreign_job(listed);
            container.started_with = match of_unit.start {
                Start::With(spec) => Some(spec),
                Start::Outside => None,
                Start::Gone => {
                    // It ended by itself, and systemd has not yet got round to saying so.
                    if listed.active == ActiveState::Active {
                        container.active = ActiveState::Deactivating;
                    }
                    None
                }
            };
            if listed.active.has_processes() {
                container.limits = unit.limits(&context);
                container.devices = unit.devices(others);
            }
        }
        // A machine of a container that runs is its own: machined refuses a second one of the same name.
        let doubtful = machines
            .into_keys()
            .filter(|name| containers.get(name).is_some_and(|container| !container.active.has_processes()));
        for name in doubtful.collect::<Vec<_>>() {
            let foreign = self.machined.machine(&name).await?.is_some_and(|m| m.unit != name.unit());
            if let Some(container) = containers.get_mut(&name) {
                container.foreign_machine = foreign;
            }
        }
        containers.retain(|_, container| *container != Container::default());
        Ok(Observed { system, containers, firewall, hosts })
    }

    pub(super) async fn usage_of(&self, names: &BTreeSet<ContainerName>) -> BTreeMap<ContainerName, Usage> {
        let units = match self.systemd.units().await {
            Ok(units) => units,
            Err(error) => {
                tracing::debug!(%error, "cannot read what containers use");
                return BTreeMap::new();
            }
        };
        let units: Vec<Unit> = units
            .into_iter()
            .filter(|(unit, _)| names.contains(&unit.name) && unit.active.has_processes())
            .collect();
        let read = self.blocking(move |_| Ok(units.iter().map(usage).collect()));
        read.await.unwrap_or_default()
    }
}

fn read_disk(paths: &Paths, name: &ContainerName) -> OnDisk {
    OnDisk {
        conf: nspawn::read_conf(paths, name),
        drop_in: nspawn::read_drop_in(paths, name),
        exit: files::read(&paths.exit_record(name)).and_then(|text| parse_exit_record(&text)),
    }
}

fn read_units(paths: &Paths, units: &[Unit]) -> Vec<OfUnit> {
    // Most units have the same files: the template and nothing else.
    let mut seen: BTreeMap<Vec<PathBuf>, Settings> = BTreeMap::new();
    let mut read = |unit: &UnitProperties| {
        let files = Settings::files_of_others(unit, paths);
        seen.entry(files).or_insert_with_key(|files| Settings::read(files)).clone()
    };
    units
        .iter()
        .map(|(listed, unit)| OfUnit {
            start: match listed.active {
                ActiveState::Active | ActiveState::Activating | ActiveState::Deactivating => {
                    nspawn::started_with(unit.main_pid())
                }
                ActiveState::Inactive | ActiveState::Failed => Start::Gone,
            },
            others: read(unit),
        })
        .collect()
}

fn usage((listed, unit): &Unit) -> (ContainerName, Usage) {
    let cgroup = unit.control_group().map(crate::host::cgroup::read).unwrap_or_default();
    let usage = Usage {
        invocation: unit.invocation(),
        active_since_usec: unit.active_since_usec(),
        memory_current: cgroup.memory_current,
        cpu_usec: cgroup.cpu_usec,
        tasks_current: cgroup.tasks_current,
    };
    (listed.name.clone(), usage)
}

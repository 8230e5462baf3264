//! One look at everything a plan depends on.
//!
//! Two round trips to systemd: the list of loaded units, then the properties of all of them, pipelined. Files and
//! `/proc` are read on the blocking pool in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use nixmox_core::container::{parse_exit_record, system_of_conf};
use nixmox_core::model::{
    ActiveState, BootStart, ConfFile, Container, ContainerName, DropIn, ExitRecord, InvocationId, Observed,
    StorePath,
};

use super::Live;
use super::loopback::{self, Loopback};
use super::switch;
use crate::host::cgroup::Cgroup;
use crate::host::firewall;
use crate::host::nspawn::Start;
use crate::host::paths::Paths;
use crate::host::servers;
use crate::host::systemd::{Context, ListedUnit, Settings, UnitProperties};
use crate::host::{Figures, StepError, Usage, netlink};
use crate::host::{files, nix, nspawn};

/// A loaded unit, and what its files and its process say.
type Unit = (ListedUnit, UnitProperties);

/// What lies on disk of one container.
struct OnDisk {
    conf: ConfFile,
    boot_start: BootStart,
    drop_in: DropIn,
    exit: Option<ExitRecord>,
    stopped_by_agent: bool,
    can_switch: bool,
}

impl From<OnDisk> for Container {
    fn from(found: OnDisk) -> Self {
        let OnDisk { conf, boot_start, drop_in, exit, stopped_by_agent, can_switch } = found;
        Self { conf, boot_start, drop_in, exit, stopped_by_agent, can_switch, ..Self::default() }
    }
}

/// What is read of a container's process and of the files of its unit.
struct OfUnit {
    start: Start,
    /// The system that a conf file names which is not ours.
    system: Option<StorePath>,
    /// Limits and devices that the host's own files set.
    others: Settings,
}

impl Live {
    pub(super) async fn observe_all(&self, declared: &BTreeSet<ContainerName>) -> Result<Observed, StepError> {
        let firewall = async { Ok(self.firewall.read().await) };
        let (mut firewall, system, units, machines, default_tasks_max, slices) = futures_util::try_join!(
            firewall,
            self.systemd.system_state(),
            self.systemd.units(),
            self.machined.names(),
            self.systemd.default_tasks_max(),
            self.slices(),
        )?;
        let declared = declared.clone();
        let before = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let oom = Arc::clone(&self.oom);
        let (running, units, on_disk, of_units, (hosts, servers), firewall) = self
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
                let mut running: BTreeMap<_, _> =
                    units.iter().filter_map(|unit| Running::of(unit, &before)).collect();
                let groups = running.values().map(|running| (running.control_group.clone(), running.invocation));
                let kills = oom.follow(groups.collect());
                for (running, kills) in running.values_mut().zip(kills) {
                    running.oom_kills = kills;
                }
                loopback::follow(firewall.table.as_ref(), |name| Some(&on_disk.get(name)?.conf), &mut running);
                firewall.obstacles.extend(firewall.table.iter().flat_map(firewall::on_ipv6));
                firewall.obstacles.extend(firewall::of_kernel());
                let shared = (files::read(&paths.hosts()), servers::read(paths));
                Ok((running, units, on_disk, of_units, shared, firewall))
            })
            .await?;
        let mut containers: BTreeMap<ContainerName, Container> =
            on_disk.into_iter().map(|(name, on_disk)| (name, on_disk.into())).collect();
        for ((listed, unit), of_unit) in units.iter().zip(of_units) {
            let container = containers.entry(listed.name.clone()).or_default();
            let ours = Settings::of(&container.drop_in);
            let others = &of_unit.others;
            let context = Context { others, ours: &ours, default_tasks_max: Some(default_tasks_max) };
            container.active = listed.active;
            container.invocation = unit.invocation();
            container.oom_kills = running.get(&listed.name).and_then(|running| running.oom_kills);
            container.active_since = unit.active_since_usec().map(|usec| usec / 1_000_000);
            container.foreign_job = self.systemd.is_foreign_job(listed);
            container.started_with = match of_unit.start {
                Start::With(spec) => Some(spec),
                Start::Outside(runs) => {
                    container.outdated = runs.is_some() && of_unit.system.is_some() && runs != of_unit.system;
                    None
                }
                Start::Gone => {
                    // It ended by itself, and systemd has not yet got round to saying so.
                    if listed.active == ActiveState::Active {
                        container.active = ActiveState::Deactivating;
                    }
                    None
                }
            };
            if listed.active.has_processes() {
                container.reload_pending = unit.needs_reload();
                container.limits = unit.limits(&context);
                container.devices = unit.devices(others);
            }
        }
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
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
        let firewall::Seen { table: firewall, obstacles } = firewall;
        let (slices, protection_of_host) = slices;
        Ok(Observed { system, containers, firewall, obstacles, hosts, servers, slices, protection_of_host })
    }

    /// Reads what containers use that ran at the last look. No call to systemd: status asks often.
    pub(super) async fn usage_of(&self, names: &BTreeSet<ContainerName>) -> BTreeMap<ContainerName, Usage> {
        self.of_running(names, |_, running| Some(running.usage(&running.cgroup()?))).await
    }

    /// Reads all that is told of what those use.
    pub(super) async fn figures_of(
        &self,
        names: &BTreeSet<ContainerName>,
    ) -> BTreeMap<ContainerName, (Usage, Figures)> {
        self.of_running(names, Running::figures).await
    }

    async fn of_running<T: Send + 'static>(
        &self,
        names: &BTreeSet<ContainerName>,
        read: impl Fn(&ContainerName, &Running) -> Option<T> + Send + 'static,
    ) -> BTreeMap<ContainerName, T> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let names = names.clone();
        let read = self.blocking(move |_| {
            let asked = running.into_iter().filter(|(name, _)| names.contains(name));
            Ok(asked.filter_map(|(name, running)| read(&name, &running).map(|read| (name, read))).collect())
        });
        // Fails only when the runtime shuts down.
        read.await.unwrap_or_default()
    }
}

/// A container that runs, from one look to the next.
#[derive(Clone, Debug)]
pub(super) struct Running {
    control_group: String,
    invocation: Option<InvocationId>,
    began_usec: Option<u64>,
    active_since_usec: Option<u64>,
    /// `oom_kill` of `memory.events` at the last look; `None`: the kernel does not count.
    oom_kills: Option<u64>,
    /// Whether its guest is up.
    pub(super) is_active: bool,
    pub(super) loopback: Loopback,
}

impl Running {
    fn of((listed, unit): &Unit, before: &BTreeMap<ContainerName, Self>) -> Option<(ContainerName, Self)> {
        let name = listed.name.clone();
        let control_group = unit.control_group().filter(|_| listed.active.has_processes())?.to_owned();
        let (invocation, began_usec, active_since_usec) =
            (unit.invocation(), unit.start_began_usec(), unit.active_since_usec());
        let known = before.get(&name).filter(|known| known.invocation == invocation);
        let loopback = known.map(|known| known.loopback).unwrap_or_default();
        let is_active = listed.active == ActiveState::Active;
        let oom_kills = None;
        Some((
            name,
            Self { control_group, invocation, began_usec, active_since_usec, oom_kills, is_active, loopback },
        ))
    }

    /// Returns its cgroup; `None` when it is gone, and the container with it.
    fn cgroup(&self) -> Option<Cgroup> {
        Cgroup::open(&self.control_group)
    }

    fn usage(&self, cgroup: &Cgroup) -> Usage {
        Usage {
            invocation: self.invocation,
            began_usec: self.began_usec,
            active_since_usec: self.active_since_usec,
            memory_current: cgroup.memory_current(),
            cpu_usec: cgroup.cpu_usec(),
            tasks_current: cgroup.tasks_current(),
        }
    }

    fn figures(name: &ContainerName, running: &Self) -> Option<(Usage, Figures)> {
        let cgroup = running.cgroup()?;
        // The host's end of its veth pair: what the host receives there, the container sent. On a bridge nspawn
        // calls it otherwise (systemd-nspawn(1), `--network-veth`, `--network-bridge=`).
        let link = ["ve", "vb"].iter().find_map(|kind| netlink::link(&format!("{kind}-{name}")).ok().flatten());
        let traffic = link.and_then(|link| link.traffic);
        let figures = Figures {
            network_receive_bytes: traffic.map(|traffic| traffic.transmitted),
            network_transmit_bytes: traffic.map(|traffic| traffic.received),
            ..cgroup.figures()
        };
        Some((running.usage(&cgroup), figures))
    }
}

fn read_disk(paths: &Paths, name: &ContainerName) -> OnDisk {
    let conf = nspawn::read_conf(paths, name);
    let exit = files::read(&paths.exit_record(name)).and_then(|text| parse_exit_record(&text));
    // Of use for one that was stopped alone.
    let stopped = exit.as_ref().filter(|exit| exit.stopped);
    let system = match &conf {
        ConfFile::Ours(text) => system_of_conf(text),
        ConfFile::Absent | ConfFile::Foreign | ConfFile::Link => None,
    };
    OnDisk {
        can_switch: system.is_some_and(|system| nix::takes_another(&paths.store_path(&system))),
        boot_start: nspawn::boot_start(paths, name, &conf),
        conf,
        drop_in: nspawn::read_drop_in(paths, name),
        stopped_by_agent: stopped
            .is_some_and(|exit| files::read(&paths.stop_mark(name)) == Some(exit.invocation.to_string())),
        exit,
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
        .map(|(listed, unit)| {
            let start = match listed.active {
                ActiveState::Active | ActiveState::Activating | ActiveState::Deactivating => {
                    switch::runs(paths, &listed.name, unit)
                }
                ActiveState::Inactive | ActiveState::Failed => Start::Gone,
            };
            let system = match start {
                Start::Outside(_) => nspawn::system_of_owner(paths, &listed.name),
                Start::Gone | Start::With(_) => None,
            };
            OfUnit { start, system, others: read(unit) }
        })
        .collect()
}

//! Start, stop and removal of one container.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use nixmox_core::container::{self, Files};
use nixmox_core::model::{ActiveState, Assigned, ContainerName, Kind, Service, StorePath, System};
use tokio::time::{Instant, sleep};

use super::Live;
use crate::host::files::Durability;
use crate::host::firewall::check_ports_free;
use crate::host::paths::Paths;
use crate::host::systemd::{UnitProperties, unthrottled};
use crate::host::{StepError, devices, files, nix, nspawn};

/// How long what a start would lack is looked for before a change is accepted.
const NEEDS_LIMIT: Duration = Duration::from_secs(2);
/// How long what a killed container left mounted may take to go.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(2);
/// The wait until it is looked at again.
const UNMOUNT_PAUSE: Duration = Duration::from_millis(20);
/// How often a guest that boots is asked to halt.
const HALT_INTERVAL: Duration = Duration::from_secs(1);
/// A mark names an invocation, no secret.
const MARK_MODE: u32 = 0o644;

impl Live {
    pub(super) async fn start_container(&self, assigned: &Assigned, texts: &Files) -> Result<(), StepError> {
        let service = &assigned.service;
        let name = &service.name;
        let loaded = self.systemd.loaded_properties(name).await?;
        let state = loaded.as_ref().map_or(ActiveState::Inactive, UnitProperties::active_state);
        match state {
            ActiveState::Active => return Ok(()),
            // Nothing may be cleared or written under a start that runs; asking again joins its job.
            ActiveState::Activating => return self.start_unit(assigned).await,
            // A stop of somebody else: asking for a start now would be refused, so its end is awaited.
            ActiveState::Deactivating => self.systemd.stop(name).await?,
            ActiveState::Failed | ActiveState::Inactive => {}
        }
        self.prepare(assigned).await?;
        self.prepare_gpu(assigned).await?;
        let ports = service.ports.clone();
        self.blocking(move |_| check_ports_free(&ports, &BTreeSet::new())).await?;
        self.clear_leftovers(name).await?;
        if loaded.is_some() {
            self.systemd.reset_failed(name).await?;
        }
        let (owner, texts, system) = (name.clone(), texts.clone(), service.system.clone());
        let keeps_journal = container::keeps_journal(service);
        self.blocking(move |paths| {
            if let System::Store(system) = &system {
                set_profile(paths, &owner, system);
            }
            // Live properties of an earlier instance outlive its stop and would win over the drop-in.
            files::remove_directory(&paths.runtime_control(&owner))?;
            if keeps_journal {
                nspawn::prepare_journal(paths, &owner)?;
            }
            nspawn::write(paths, &owner, &texts)
        })
        .await?;
        // A unit that nothing refers to is read from its files by the start itself. One that another unit names
        // (`After=`) may be loaded already, with files of before.
        if self.systemd.loaded_properties(name).await?.is_some_and(|unit| unit.needs_reload()) {
            self.systemd.reload().await?;
        }
        self.start_unit(assigned).await?;
        match (&service.system, assigned.gpu.grant()) {
            // Its owner's conf file has none of it.
            (System::Adopted, Some(grant)) => self.bind_nodes(assigned, grant).await,
            (System::Adopted | System::Store(_), _) => Ok(()),
        }
    }

    /// Says what a start would lack, as far as that is seen at once. What does not answer, or would be mounted first, is
    /// for the start to find out.
    pub(super) async fn look_at_needs(&self, service: &Service) -> Result<(), StepError> {
        let look = async {
            self.check_system(service).await?;
            for source in nspawn::Source::all(service) {
                let path = source.path().to_owned();
                // The start makes it, or waits for it, when it is given.
                if service.gpu.is_some() && devices::is_made(&path) {
                    continue;
                }
                // As the start does it: what else lies on a disk has to be there already.
                let is_mount = matches!(source, nspawn::Source::Mount(_));
                let seen = self.on(&self.unhurried, &path, move |paths| source.check(paths)).await;
                if let Err(error) = seen
                    && !(is_mount && self.is_to_be_mounted(&path).await?)
                {
                    return Err(error);
                }
            }
            Ok(())
        };
        match tokio::time::timeout(NEEDS_LIMIT, look).await {
            Ok(Err(StepError::NoAnswer { .. } | StepError::Bus { .. })) | Err(_) => Ok(()),
            Ok(seen) => seen,
        }
    }

    /// Returns whether the host would mount something where this lies that is not mounted now.
    async fn is_to_be_mounted(&self, path: &Path) -> Result<bool, StepError> {
        for place in path.ancestors().filter(|path| path.parent().is_some()) {
            if self.systemd.can_mount(&nspawn::mount_unit(place)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn check_system(&self, service: &Service) -> Result<(), StepError> {
        let System::Store(system) = &service.system else { return Ok(()) };
        let checked = system.clone();
        let path = Path::new(system.as_str());
        self.on(&self.unhurried_own, path, move |paths| nspawn::check_system(paths, &checked)).await
    }

    /// Checks that what a service needs of the host is there, and makes what may be made.
    async fn prepare(&self, assigned: &Assigned) -> Result<(), StepError> {
        let service = &assigned.service;
        // Those are made, or waited for.
        let is_gpus = |path: &PathBuf| assigned.gpu.grant().is_some_and(|grant| grant.nodes.contains(path));
        self.check_system(service).await?;
        self.mount(service.mounts.iter().map(|mount| mount.source.as_path())).await?;
        for source in nspawn::Source::all(service) {
            let path = source.path().to_owned();
            if is_gpus(&path) {
                continue;
            }
            self.on(&self.unhurried, &path, move |paths| source.prepare(paths)).await?;
        }
        Ok(())
    }

    async fn start_unit(&self, assigned: &Assigned) -> Result<(), StepError> {
        let name = &assigned.service.name;
        match self.systemd.start(name).await {
            Ok(()) => {}
            Err(error) => {
                // The whole work of a job may be part of its boot.
                let ended =
                    self.systemd.loaded_properties(name).await?.is_some_and(|u| u.ended_well_before_ready());
                if assigned.service.kind == Kind::Job && ended {
                    return Ok(());
                }
                // The start script says so too, in a log that says much else.
                let owner = name.clone();
                let root = self.paths.state(name);
                let look = move |paths: &Paths| Ok(nspawn::full_root(paths, &owner));
                let full = self.on(&self.unhurried_own, &root, look).await?;
                return Err(full.map_or(error, |path| StepError::RootFull { path }));
            }
        }
        Ok(())
    }

    /// Stops a container, and marks the instance first: the next agent must not take it for one that a person stopped.
    pub(super) async fn stop_container(&self, name: &ContainerName) -> Result<(), StepError> {
        let unit = self.systemd.loaded_properties(name).await?;
        if let Some(invocation) = unit.as_ref().and_then(UnitProperties::invocation) {
            let (owner, text) = (name.clone(), invocation.to_string());
            let mark = move |paths: &Paths| {
                files::replace(&paths.stop_mark(&owner), &text, MARK_MODE, Durability::Runtime).map(drop)
            };
            if let Err(error) = self.blocking(mark).await {
                // What is full or read-only is no reason to let it run.
                tracing::warn!(container = %name, %error, "cannot mark who stops it");
            }
        }
        // Who is held at `memory.high` is slowed down until nothing moves, nspawn and whoever writes the guest's data too.
        let throttle = unit.as_ref().map(unthrottled).unwrap_or_default();
        let lifted = !throttle.is_empty() && self.systemd.set_properties(&name.unit(), &throttle).await.is_ok();
        let boots = unit.as_ref().is_some_and(|unit| unit.active_state() == ActiveState::Activating);
        let stopped = if boots { self.stop_booting(name).await } else { self.systemd.stop(name).await };
        if lifted && let Err(error) = self.forget_lifted(name).await {
            // It would win over what is declared, until the next start removes it.
            tracing::warn!(container = %name, %error, "cannot forget that MemoryHigh= was lifted");
        }
        stopped
    }

    /// Stops a container whose guest boots. Until its init has said what it does with a signal, the kernel drops all that PID 1 is sent
    /// (`pid_namespaces(7)`), and nspawn asks once: the guest would boot on until it is killed.
    async fn stop_booting(&self, name: &ContainerName) -> Result<(), StepError> {
        let mut stop = pin!(self.systemd.stop(name));
        loop {
            if let Ok(stopped) = tokio::time::timeout(HALT_INTERVAL, &mut stop).await {
                return stopped;
            }
            if let Err(error) = self.machined.ask_to_halt(name).await {
                // The unit's own time limit is left.
                tracing::warn!(container = %name, %error, "cannot ask the guest to halt");
            }
        }
    }

    async fn forget_lifted(&self, name: &ContainerName) -> Result<(), StepError> {
        let owner = name.clone();
        let remove = move |paths: &Paths| {
            let control = paths.runtime_control(&owner);
            files::remove(&control.join("50-MemoryHigh.conf"))?;
            // Stays where somebody else set something.
            let _ = std::fs::remove_dir(&control);
            Ok(())
        };
        self.blocking(remove).await?;
        self.systemd.reload().await
    }

    /// Lets systemd mount what sources lie on, as `RequiresMountsFor=` will at the start of the unit: before they are
    /// looked at, or made below the place where a disk belongs. Folders come before what is in them, each once.
    async fn mount<'a>(&self, sources: impl Iterator<Item = &'a Path>) -> Result<(), StepError> {
        let places = sources.flat_map(Path::ancestors).filter(|path| path.parent().is_some());
        for path in places.collect::<BTreeSet<_>>() {
            self.systemd.start_mount(&nspawn::mount_unit(path)).await?;
        }
        Ok(())
    }

    async fn clear_leftovers(&self, name: &ContainerName) -> Result<(), StepError> {
        self.machined.clear(name).await?;
        let owner = name.clone();
        self.blocking(move |_| nspawn::delete_links(&owner)).await?;
        let end = Instant::now() + UNMOUNT_LIMIT;
        loop {
            let owner = name.clone();
            let export = self.blocking(move |paths| Ok(nspawn::mounted_export(paths, &owner))).await?;
            let Some(unit) = export.filter(|_| Instant::now() < end) else { return Ok(()) };
            tracing::warn!(container = %name, %unit, "unmounting what a killed container left");
            self.systemd.stop_mount(&unit).await?;
            // systemd knows no unit of a mount before it has read of it, and then has nothing to stop.
            sleep(UNMOUNT_PAUSE).await;
        }
    }

    pub(super) async fn remove_container(&self, name: &ContainerName) -> Result<(), StepError> {
        let loaded = self.systemd.loaded_properties(name).await?;
        if loaded.is_some_and(|unit| unit.active_state().has_processes()) {
            return Err(StepError::StillRunning { name: name.clone() });
        }
        let owner = name.clone();
        self.blocking(move |paths| nspawn::remove_all(paths, &owner)).await?;
        // Lets systemd forget the unit; a drop-in that is gone counts from the next load on.
        self.systemd.reset_failed(name).await?;
        // One that another unit names (`After=`) stays loaded, and a container of somebody else of this name would begin with
        // limits that are ours.
        if self.systemd.loaded_properties(name).await?.is_some_and(|unit| unit.needs_reload()) {
            self.systemd.reload().await?;
        }
        Ok(())
    }
}

/// Makes a container's profile lead to its system. Only `nixos-container` looks at it, so that it fails is told and no more.
pub(super) fn set_profile(paths: &Paths, name: &ContainerName, system: &StorePath) {
    if let Err(error) = nix::set_profile(&paths.profile(name), system) {
        tracing::warn!(container = %name, %error, "cannot set the profile");
    }
}

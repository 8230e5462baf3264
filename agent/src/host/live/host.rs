//! The seam: `Host` for the real host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_api::{CopyReply, CopyRequest, ExecReply, ExecRequest};
use nixmox_core::container::{Files, Layout};
use nixmox_core::gpu::{GuestView, Inventory};
use nixmox_core::model::Offload;
use nixmox_core::model::{
    Assigned, ConfFile, ContainerName, Facts, Grant, Observed, Port, Probe, Service, StorePath,
};
use nixmox_core::network::FirewallTable;
use nixmox_core::offload::arbiter::Step;
use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::seen::EngineSeen;
use nixmox_core::oom::OomKill;
use nixmox_core::slice::Slices;
use tokio::sync::watch;

use super::Live;
use crate::guest_helper::session::Work;
use crate::host::cgroup::counts_pressure;
use crate::host::files::{self, Durability};
use crate::host::firewall::check_ports_free;
use crate::host::paths::Paths;
use crate::host::{
    EventQuery, Figures, Host, LogQuery, OtherRoots, ProbeResult, Readers, Session, SessionError, StepError, Usage,
    journal, nix, nspawn, oom,
};

/// The hosts file is for every user of every guest.
const HOSTS_MODE: u32 = 0o644;

impl Host for Live {
    async fn observe(&self, declared: &BTreeSet<ContainerName>) -> Result<Observed, StepError> {
        Self::patiently(|| self.observe_all(declared)).await
    }

    fn layout(&self) -> Layout {
        self.layout.clone()
    }

    async fn foreign_containers(&self) -> BTreeMap<ContainerName, Vec<Ipv4Addr>> {
        // Fails only when the runtime shuts down.
        self.blocking(|paths| Ok(nspawn::foreign_containers(paths))).await.unwrap_or_default()
    }

    fn distrust(&self) {
        self.systemd.distrust();
    }

    async fn check_ports(&self, ports: &[Port], ending: &BTreeSet<ContainerName>) -> Result<(), StepError> {
        let (ports, ending) = (ports.to_vec(), ending.clone());
        self.blocking(move |_| check_ports_free(&ports, &ending)).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn start(&self, assigned: &Assigned, files: &Files) -> Result<(), StepError> {
        Self::patiently(|| self.start_container(assigned, files)).await
    }

    async fn check_needs(&self, service: &Service) -> Result<(), StepError> {
        self.look_at_needs(service).await
    }

    async fn stop(&self, name: &ContainerName) -> Result<(), StepError> {
        Self::patiently(|| self.stop_container(name)).await
    }

    async fn update(&self, assigned: &Assigned, files: &Files) -> Result<(), StepError> {
        Self::patiently(|| self.update_container(assigned, files)).await
    }

    async fn invalid(&self, systems: &BTreeSet<StorePath>) -> BTreeSet<StorePath> {
        let mut systems = systems.clone();
        let ask = move |paths: &Paths| {
            // What is not there at all is told by the start, with whose it is.
            systems.retain(|system| paths.store_path(system).exists());
            Ok(nix::invalid(&paths.nix_daemon(), &systems))
        };
        // Fails only when the runtime shuts down.
        let asked = self.blocking(ask).await;
        asked.ok().flatten().unwrap_or_default()
    }

    fn is_switchable(&self, system: &StorePath) -> bool {
        let system = self.paths.store_path(system);
        // One that is not built yet will be like the one before it.
        nix::takes_another(&system) || !system.exists()
    }

    async fn remove(&self, name: &ContainerName) -> Result<(), StepError> {
        Self::patiently(|| self.remove_container(name)).await
    }

    async fn publish_ports(&self, table: &FirewallTable) -> Result<(), StepError> {
        self.shut_loopback_out(table).await?;
        self.firewall.replace(table).await
    }

    async fn publish_names(&self, hosts: &str, resolv_conf: Option<&str>) -> Result<(), StepError> {
        let (hosts, resolv_conf) = (hosts.to_owned(), resolv_conf.map(str::to_owned));
        self.blocking(move |paths| {
            let replace = |path: &Path, text: &str| files::replace(path, text, HOSTS_MODE, Durability::Runtime);
            replace(&paths.hosts(), &hosts)?;
            resolv_conf.map_or(Ok(false), |text| replace(&paths.resolv_conf(), &text))
        })
        .await
        .map(drop)
    }

    async fn set_slices(&self, slices: &Slices) -> Result<(), StepError> {
        Self::patiently(|| self.set_all_slices(slices)).await
    }

    async fn facts(&self, paths: &[PathBuf]) -> Facts {
        self.read_facts(paths).await
    }

    async fn root(&self, kept: &BTreeSet<StorePath>, others: OtherRoots) -> Result<(), StepError> {
        let kept = kept.clone();
        self.blocking(move |paths| nix::set_roots(&paths.gc_roots(), &kept, others)).await
    }

    async fn gpus(&self) -> Inventory {
        self.gpus.look().await
    }

    async fn look_at_engine(&self, name: &ContainerName, offload: &Offload) -> EngineSeen {
        self.look_at_engine_of(name, offload).await
    }

    async fn show_model(&self, name: &ContainerName, offload: &Offload, model: &str) -> Result<Header, StepError> {
        self.show_model_of(name, offload, model).await
    }

    async fn change_model(&self, name: &ContainerName, offload: &Offload, step: &Step) -> Result<(), StepError> {
        self.change_model_of(name, offload, step).await
    }

    async fn look_into(&self, name: &ContainerName, grant: &Grant) -> GuestView {
        self.look_into_container(name, grant).await
    }

    async fn probe(&self, name: &ContainerName, probe: Option<&Probe>, timeout: Duration) -> ProbeResult {
        self.probe_container(name, probe, timeout).await
    }

    async fn usage(&self, names: &BTreeSet<ContainerName>) -> BTreeMap<ContainerName, Usage> {
        self.usage_of(names).await
    }

    async fn figures(&self, names: &BTreeSet<ContainerName>) -> BTreeMap<ContainerName, (Usage, Figures)> {
        self.figures_of(names).await
    }

    fn counts_pressure(&self) -> bool {
        counts_pressure()
    }

    async fn log_tail(&self, name: &ContainerName, count: usize) -> Vec<String> {
        // A unit that was forgotten is one that ended well, or was never there: then any line may help.
        let unit = self.systemd.loaded_properties(name).await.ok().flatten();
        journal::tail(&self.paths, name, unit.and_then(|unit| unit.start_began_usec()), count).await
    }

    async fn oom_kills(&self, name: &ContainerName, since_usec: u64) -> Vec<OomKill> {
        oom::kills(name, since_usec).await
    }

    async fn read_logs(&self, query: &LogQuery) -> std::io::Result<Readers> {
        self.start_readers(query).await
    }

    fn read_events(&self, query: &EventQuery) -> std::io::Result<Readers> {
        self.start_event_reader(query)
    }

    async fn remove_data(&self, name: &ContainerName) -> Result<(), StepError> {
        let loaded = self.systemd.loaded_properties(name).await?;
        if loaded.is_some_and(|unit| unit.active_state().has_processes()) {
            return Err(StepError::StillRunning { name: name.clone() });
        }
        // machined forgets a container a moment after its unit has ended, and a killed one perhaps never.
        self.machined.clear(name).await?;
        let owner = name.clone();
        self.blocking(move |paths| match nspawn::read_conf(paths, &owner) {
            ConfFile::Absent | ConfFile::Ours(_) => nspawn::remove_data(paths, &owner),
            ConfFile::Foreign | ConfFile::Link => {
                Err(StepError::ForeignData { path: paths.conf(&owner), name: owner })
            }
        })
        .await
    }

    async fn exec(&self, name: &ContainerName, request: ExecRequest) -> Result<Session<ExecReply>, SessionError> {
        self.begin(name, Work::Exec(request)).await
    }

    async fn copy(&self, name: &ContainerName, request: CopyRequest) -> Result<Session<CopyReply>, SessionError> {
        self.begin(name, Work::Copy(request)).await
    }
}

//! Changes of a container that runs: files and live properties.

use nixmox_core::container::Files;
use nixmox_core::gpu::SeenNode;
use nixmox_core::model::{Assigned, ContainerName, Grant, Limits};

use super::Live;
use crate::host::systemd::{Context, Properties, Settings, all_cpus, device_rules, limit_changes};
use crate::host::{StepError, facts, files, nspawn};

impl Live {
    /// Sets what differs, then makes the drop-in say the same.
    ///
    /// Order: the live call first, since a reload applies the drop-in; then the drop-in; then the files that the
    /// live call made, which would win over the drop-in for ever; then one reload, so that systemd's view of the
    /// files is the files. What else may differ of one that runs is its system, which the guest is switched to.
    pub(super) async fn update_container(&self, assigned: &Assigned, texts: &Files) -> Result<(), StepError> {
        let name = &assigned.service.name;
        let unit = self.systemd.properties(name).await?;
        let default_tasks_max = self.systemd.default_tasks_max().await.ok();
        let (read, owner) = (unit.clone(), name.clone());
        let (others, ours) = self
            .blocking(move |paths| {
                let ours = Settings::of(&nspawn::read_drop_in(paths, &owner));
                Ok((Settings::read(&Settings::files_of_others(&read, paths)), ours))
            })
            .await?;
        let context = Context { others: &others, ours: &ours, default_tasks_max };
        let limits = &assigned.service.limits;
        let in_effect = unit.limits(&context);
        let mut properties = limit_changes(&in_effect, limits, default_tasks_max);
        let rules = assigned.device_rules();
        let mut devices = rules.clone();
        devices.sort();
        // What is wrong with a GPU is no reason to leave limits as they are.
        let grant = assigned.gpu.grant().filter(|_| unit.is_active());
        let ready = self.ready_for_rules(name, grant).await;
        let lost = ready.as_ref().is_ok_and(|lost| !lost.is_empty());
        // Rules name paths, and systemd takes the numbers that those have when the rules are set: it may list one that lets nothing through.
        if unit.devices(&others) != devices || lost {
            properties.extend(device_rules(&others, &rules));
        }
        if let Some(path) = unit.overriding_file().filter(|_| !properties.is_empty()) {
            return Err(StepError::Overridden { unit: name.unit(), path });
        }
        if unit.is_active() && !properties.is_empty() {
            self.set_live(&name.unit(), &in_effect, limits, &properties).await?;
        }
        let (owner, spec, texts) = (name.clone(), &texts.spec, texts.clone());
        let written = self
            .blocking(move |paths| {
                let control = paths.runtime_control(&owner);
                let mut written = nspawn::write(paths, &owner, &texts)?;
                written.drop_in |= control.exists();
                files::remove_directory(&control)?;
                Ok(written)
            })
            .await?;
        if written.drop_in || unit.needs_reload() {
            self.systemd.reload().await?;
        }
        // Last: what the container starts with next is written, whatever comes of this.
        let switched = self.switch_guest(assigned, spec, &unit).await;
        let bound = match (ready, grant) {
            (Ok(_), Some(grant)) => self.bind_nodes(assigned, grant).await,
            (ready, _) => ready.map(drop),
        };
        switched.and(bound)
    }

    /// Makes nodes of GPUs as they must be before device rules are set that name them, and returns those that the container cannot use.
    async fn ready_for_rules(
        &self,
        name: &ContainerName,
        grant: Option<&Grant>,
    ) -> Result<Vec<SeenNode>, StepError> {
        let Some(grant) = grant else { return Ok(Vec::new()) };
        self.prepare_nodes(grant).await?;
        self.lost_nodes(name, grant).await
    }

    /// Sets properties of an active unit that lead from the limits in effect to these.
    pub(super) async fn set_live(
        &self,
        unit: &str,
        in_effect: &Limits,
        limits: &Limits,
        properties: &Properties,
    ) -> Result<(), StepError> {
        if !in_effect.allowed_cpus.is_empty() && limits.allowed_cpus.is_empty() {
            // The kernel does not let a cpuset with processes in it become empty, and systemd tries nothing else: what was
            // allowed last would stay (`cpuset.cpus`, Documentation/admin-guide/cgroup-v2.rst).
            let possible = self.blocking(|paths| Ok(facts::possible_cpus(paths))).await?;
            self.systemd.set_properties(unit, &all_cpus(&possible)).await?;
        }
        self.systemd.set_properties(unit, properties).await
    }
}

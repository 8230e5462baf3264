//! Changes of a container that runs: files and live properties.

use nixmox_core::container::Files;
use nixmox_core::model::Assigned;

use super::Live;
use crate::host::systemd::{Context, Settings, all_cpus, device_rules, limit_changes};
use crate::host::{StepError, files, nspawn};

/// The CPUs that may ever be there, as a list (Documentation/admin-guide/cputopology.rst).
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

impl Live {
    /// Sets what differs, then makes the drop-in say the same.
    ///
    /// Order: the live call first, since a reload applies the drop-in; then the drop-in; then the files that the
    /// live call made, which would win over the drop-in for ever; then one reload, so that systemd's view of the
    /// files is the files.
    pub(super) async fn update_container(&self, assigned: &Assigned, texts: &Files) -> Result<(), StepError> {
        let name = &assigned.service.name;
        let unit = self.systemd.properties(name).await?;
        let default_tasks_max = self.systemd.default_tasks_max().await.ok();
        let (read, owner) = (unit.clone(), name.clone());
        let (others, ours, possible) = self
            .blocking(move |paths| {
                let mut ours = Settings::default();
                if let nixmox_core::model::DropIn::Ours(text) = nspawn::read_drop_in(paths, &owner) {
                    ours.add(&text);
                }
                let possible = std::fs::read_to_string(POSSIBLE_CPUS).unwrap_or_default();
                Ok((Settings::read(&Settings::files_of_others(&read, paths)), ours, possible))
            })
            .await?;
        let context = Context { others: &others, ours: &ours, default_tasks_max };
        let limits = &assigned.service.limits;
        let in_effect = unit.limits(&context);
        let mut properties = limit_changes(&in_effect, limits, default_tasks_max);
        let mut devices = assigned.service.devices.clone();
        devices.sort();
        if unit.devices(&others) != devices {
            properties.extend(device_rules(&others, &assigned.service.devices));
        }
        if let Some(path) = unit.overriding_file().filter(|_| !properties.is_empty()) {
            return Err(StepError::Overridden { unit: name.unit(), path });
        }
        if unit.is_active() && !properties.is_empty() {
            let first = all_cpus(&in_effect, limits, &possible);
            if !first.is_empty() {
                self.systemd.set_properties(&name.unit(), &first).await?;
            }
            self.systemd.set_properties(&name.unit(), &properties).await?;
        }
        let (owner, texts) = (name.clone(), texts.clone());
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
        Ok(())
    }
}

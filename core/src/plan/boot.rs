//! What the host does by itself at boot, which no plan orders.

use crate::container::CONF_FOLDER;
use crate::model::{Assigned, BootStart, ContainerName, Desired, Observed, Subject, System};

/// Returns a warning for each adopted container that depends on something and that the host starts at boot, in the order of
/// names.
///
/// The drop-in with its order lies below `/run`: at boot, systemd knows no order yet, and waits for no gate.
#[must_use]
pub fn boot_warnings(desired: &Desired, observed: &Observed) -> Vec<(Subject, String)> {
    let warning = |(name, assigned): (&ContainerName, &Assigned)| {
        let service = &assigned.service;
        let adopted = match service.system {
            System::Adopted => true,
            System::Store(_) => false,
        };
        let at_boot =
            observed.containers.get(name).is_some_and(|container| container.boot_start == BootStart::Host);
        (adopted && at_boot && !service.depends_on.is_empty()).then(|| {
            let text = format!(
                "the host starts it at boot, before what it depends on is ready ({CONF_FOLDER}/{name}.conf has AUTO_START=1); \
                 without autoStart, NixMox starts it in its turn"
            );
            (Subject::Service(name.clone()), text)
        })
    };
    desired.services.iter().filter_map(warning).collect()
}

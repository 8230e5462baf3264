//! What is wrong between a GPU and a process: every layer in order, what was found there, and the remedy.
//!
//! Pure: what was looked at comes in as a [`Checkup`]. `host` judges the machine, `guest` a service on it. A layer that cannot be judged
//! because an earlier one failed is skipped, so the first that failed is the one to look at:
//!
//! ```text
//! host   module ▶ node ▶ number ▶ user_space ▶ version ▶ nvml ▶ cdi                      (once per vendor that matters)
//! guest  grant ▶ device_rule ▶ bound ▶ number ▶ open ▶ user_space ▶ version ▶ process ▶ models    (once per service)
//! ```
//!
//! The last one is there only where a service says what runs models in it, and is judged by that program's word: whatever fails before it.

mod guest;
mod host;
mod models;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::admission::meant;
use super::{GuestView, Inventory};
use crate::model::{ContainerName, CpuFallback, Device, GpuShare, GpuStanding, Vendor};
use crate::offload::seen::EngineSeen;
use crate::offload::watchdog::Incident;

/// What was looked at.
#[derive(Clone, Debug)]
pub struct Checkup<'a> {
    /// The GPUs of the machine.
    pub inventory: &'a Inventory,
    /// Whether the machine is asked about as a whole: then every vendor's layers are judged, and else only those of the vendors whose GPUs
    /// the services have or mean.
    pub whole: bool,
    /// The services that are asked about, in the order in which they are told of; may be empty.
    pub services: Vec<ServiceCheckup<'a>>,
}

/// What was looked at of a service.
#[derive(Clone, Debug)]
pub struct ServiceCheckup<'a> {
    /// Its name.
    pub name: &'a ContainerName,
    /// What it asks for; `None`: nothing.
    pub share: Option<&'a GpuShare>,
    /// How it stands.
    pub standing: &'a GpuStanding,
    /// Whether it runs.
    pub runs: bool,
    /// Whether it has a user namespace of its own: its root is not the host's then.
    pub private_users: bool,
    /// Device rules as systemd has them, without those of the template.
    pub devices: &'a [Device],
    /// What its processes see; `None`: nobody could look.
    pub view: Option<&'a GuestView>,
    /// What runs models in it; `None`: nothing that anybody knows of.
    pub models: Option<ModelsCheckup<'a>>,
}

/// What was looked at of a program that runs models.
#[derive(Clone, Copy, Debug)]
pub struct ModelsCheckup<'a> {
    /// What it said last; `None`: it was not asked yet.
    pub engine: Option<&'a EngineSeen>,
    /// Which models are not where they should be, and have not been for a while.
    pub incidents: &'a [Incident],
    /// What that means.
    pub cpu_fallback: CpuFallback,
}

/// One layer between a GPU and a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The service whose it is; `None`: the host's.
    pub service: Option<ContainerName>,
    /// Which.
    pub kind: LayerKind,
    /// How it is.
    pub outcome: LayerOutcome,
    /// What was found, in one line.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// Which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// The kernel's module is loaded.
    Module,
    /// The device nodes are there.
    Node,
    /// They have the numbers that the kernel has.
    Number,
    /// The driver's user space is there.
    UserSpace,
    /// It is of the module's version.
    Version,
    /// The driver's library answers.
    Nvml,
    /// A CDI specification agrees with the machine.
    Cdi,
    /// GPUs were given to the service.
    Grant,
    /// systemd has rules for their nodes.
    DeviceRule,
    /// The nodes are in the container.
    Bound,
    /// They can be opened there.
    Open,
    /// A process of the service uses a GPU.
    Process,
    /// Its models are where they should be.
    Models,
}

/// How a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerOutcome {
    /// As it should.
    Ok,
    /// Not, and nothing works for it.
    Failed,
    /// Something works less well for it.
    Warning,
    /// It cannot be judged, or does not apply.
    Skipped,
}

impl LayerKind {
    /// Returns the word that the wire has for it.
    #[must_use]
    pub fn as_word(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Node => "node",
            Self::Number => "number",
            Self::UserSpace => "user_space",
            Self::Version => "version",
            Self::Nvml => "nvml",
            Self::Cdi => "cdi",
            Self::Grant => "grant",
            Self::DeviceRule => "device_rule",
            Self::Bound => "bound",
            Self::Open => "open",
            Self::Process => "process",
            Self::Models => "models",
        }
    }
}

impl LayerOutcome {
    /// Returns the word that the wire has for it.
    #[must_use]
    pub fn as_word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
        }
    }
}

/// Returns every layer, host before guests.
#[must_use]
pub fn diagnose(checkup: &Checkup<'_>) -> Vec<Layer> {
    let mut layers = host::layers(checkup.inventory, vendors(checkup).as_ref());
    for service in &checkup.services {
        layers.extend(guest::layers(checkup.inventory, service));
    }
    layers
}

/// Returns the vendors on whom the services depend that are asked about; `None`: on any, or nobody knows.
fn vendors(checkup: &Checkup<'_>) -> Option<BTreeSet<Vendor>> {
    let vendor = |service: &ServiceCheckup<'_>| match (service.standing.grant(), service.share) {
        (Some(grant), _) => Some(grant.vendor),
        (None, Some(share)) => meant(checkup.inventory, share),
        (None, None) => None,
    };
    let vendors = || checkup.services.iter().map(vendor).collect();
    if checkup.whole { None } else { vendors() }
}

/// Returns the layer to look at first: the first that failed.
#[must_use]
pub fn first_failed(layers: &[Layer]) -> Option<&Layer> {
    layers.iter().find(|layer| layer.outcome == LayerOutcome::Failed)
}

/// What a layer is judged to be.
struct Judged {
    outcome: LayerOutcome,
    found: String,
    remedy: String,
}

impl Judged {
    fn ok(found: impl Into<String>) -> Self {
        Self { outcome: LayerOutcome::Ok, found: found.into(), remedy: String::new() }
    }

    fn failed(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: LayerOutcome::Failed, found: found.into(), remedy: remedy.into() }
    }

    fn warning(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: LayerOutcome::Warning, found: found.into(), remedy: remedy.into() }
    }

    fn skipped(found: impl Into<String>) -> Self {
        Self { outcome: LayerOutcome::Skipped, found: found.into(), remedy: String::new() }
    }

    fn layer(self, service: Option<&ContainerName>, kind: LayerKind) -> Layer {
        let Self { outcome, found, remedy } = self;
        Layer { service: service.cloned(), kind, outcome, found, remedy }
    }
}

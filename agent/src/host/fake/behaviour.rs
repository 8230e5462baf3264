//! How a simulated container behaves, and what a test lets go wrong.

use std::time::Duration;

use nixmox_core::model::{Condition, ContainerName};

use crate::host::StepError;

/// How a container behaves. The default is active at once, healthy at once, and runs until it is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Time from the start to being active.
    pub start_time: Duration,
    /// Starts that fail with `exit-code 1`, after the start time, before one succeeds.
    pub failing_starts: u32,
    /// When its probes answer well, counted from being active.
    pub health: HealthBehaviour,
    /// Whether and how it ends by itself; `None`: it runs on.
    pub ends: Option<End>,
    /// Time from the stop to being inactive.
    pub stop_time: Duration,
    /// Time from a question about its health to the answer.
    pub probe_time: Duration,
    /// Whether its guest can be switched to another system while it runs; it takes the start time.
    pub switches: bool,
}

/// When probes of a container answer well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthBehaviour {
    /// From this time after it became active on.
    After(Duration),
    /// Never.
    Never,
}

impl Default for HealthBehaviour {
    fn default() -> Self {
        Self::After(Duration::ZERO)
    }
}

/// How a container ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When, counted from being active.
    pub after: Duration,
    /// The exit status of its init.
    pub status: u8,
}

/// One call of `Host` that acts, as the trace has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `start` of a container.
    Start(ContainerName),
    /// `stop` of a container.
    Stop(ContainerName),
    /// `update` of a container.
    Update(ContainerName),
    /// `remove` of a container.
    Remove(ContainerName),
    /// `publish_ports`.
    PublishPorts,
    /// `publish_names`.
    PublishNames,
    /// `set_slices`.
    SetSlices,
    /// `root`.
    Root,
    /// `remove_data` of a container.
    RemoveData(ContainerName),
}

/// A start that began although something that the service depends on was not as far as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenGate {
    /// What was started.
    pub started: ContainerName,
    /// What it depends on.
    pub dependency: ContainerName,
    /// How far that should have been.
    pub condition: Condition,
}

/// What an operation does instead of its work, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and it fails as a full disk does.
    Before,
    /// Nothing is done, and it fails as a guest does that is not switched to another system.
    Refused,
    /// The work is done, and it fails as a lost reply does.
    After,
    /// Nothing is done, and it never returns.
    Hang,
}

impl Fault {
    pub(super) fn error(self, operation: &Operation) -> StepError {
        match self {
            Self::Before => StepError::File {
                action: "write",
                path: format!("/run/nixmox/{operation:?}").into(),
                source: std::io::ErrorKind::StorageFull.into(),
            },
            Self::Refused => {
                StepError::SwitchFailed { unit: format!("{operation:?}"), result: "exit 4".to_owned() }
            }
            Self::After | Self::Hang => StepError::Bus {
                call: "simulated",
                subject: format!("{operation:?}"),
                source: "the reply was lost".into(),
            },
        }
    }
}

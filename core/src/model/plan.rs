//! What a plan says: a change with its reasons per service, and the steps that bring it about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Condition, ContainerName, SpecField};

/// What leads from an observation to what is desired.
///
/// Made anew from every observation: a step that is done does not appear in the next plan, so a plan is never
/// resumed and cannot go stale halfway. Steps whose `after` is empty can be taken at once, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What happens to each service, unchanged ones included.
    pub changes: BTreeMap<ContainerName, Change>,
    /// The steps; a step's id is its index, and `after` names smaller and larger ids alike.
    pub steps: Vec<Step>,
    /// What a person should know though nothing is changed for it, each with the service it is about.
    pub warnings: Vec<(Subject, String)>,
}

/// The index of a step in its plan.
pub type StepId = usize;

/// What happens to one service, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happens.
    pub kind: ChangeKind,
    /// Why; empty when unchanged.
    pub reasons: Vec<Reason>,
}

/// What happens to one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// `=` Nothing.
    Unchanged,
    /// `+` It is started; nothing of it runs.
    Create,
    /// `~` It is changed while it runs.
    Live,
    /// `!` It is stopped and started.
    Restart,
    /// `-` It is stopped; its files but not its data are removed.
    Remove,
    /// `○` It is stopped because it is held, or gives way to another one.
    Hold,
    /// `…` It should run and will not be started now: see the reasons.
    Blocked,
}

/// Why something happens to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing of it is there yet.
    New,
    /// It does not run, though it is declared; with how it ended where that is known.
    NotRunning {
        /// `$SERVICE_RESULT` and `$EXIT_STATUS`, such as `exit-code 1`; `None`: unknown or never started.
        ended: Option<String>,
    },
    /// It runs, but NixMox did not start it.
    StartedOutside,
    /// A field that only a restart can change is another.
    Field(SpecField),
    /// A limit is another; the texts are as in the manifest, `unset` for none.
    Limit {
        /// The manifest's key.
        key: &'static str,
        /// What systemd has.
        from: String,
        /// What is declared.
        to: String,
    },
    /// The device rules are others.
    DeviceRules,
    /// Our drop-in or conf file is missing or was changed, or systemd has not read what was.
    Files,
    /// `restart` was asked for.
    Requested,
    /// It is unhealthy, and declared to be restarted then.
    Unhealthy,
    /// It is held by `stop`.
    Held,
    /// No stack declares it any more.
    Undeclared,
    /// The back-off after a failure runs, or a change made by somebody else is given time.
    BackOff,
    /// Its restart policy or cap forbids a further start.
    GaveUp,
    /// A job of somebody else is queued on its unit.
    ForeignJob,
    /// A machine of the same name runs that is not ours.
    ForeignMachine,
    /// A conf file of the same name is there that NixMox did not write.
    ForeignConf,
    /// The host shuts down.
    Stopping,
    /// It is not to be started before it can be given its share of the GPUs: why, with the numbers.
    GpuWaits(String),
    /// It gives its share of the GPUs up for one that goes first.
    GpuYields {
        /// For whom.
        to: ContainerName,
        /// Why, with the numbers.
        why: String,
    },
    /// Its processes cannot use these nodes of its GPUs, though they are granted.
    GpuLost(Vec<PathBuf>),
    /// A value of it cannot be carried to systemd-nspawn: which, and why.
    Uncarriable(String),
}

/// What a step or a warning is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The host as a whole.
    Host,
    /// A service.
    Service(ContainerName),
}

/// One action, or one thing to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is about.
    pub subject: Subject,
    /// What is done.
    pub action: Action,
    /// The steps that must be done before. Acyclic over the plan.
    pub after: BTreeSet<StepId>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Replaces the host's table of published ports.
    PublishPorts,
    /// Rewrites the hosts file that guests share, and their resolv.conf.
    PublishNames,
    /// Gives the slices their limits.
    SetSlices,
    /// Stops the unit and waits for the end of the job.
    Stop,
    /// Removes what NixMox wrote for a stopped container: conf file, drop-in, live properties, roots.
    Remove,
    /// Clears leftovers, writes the files, starts the unit and waits for the end of the job.
    Start,
    /// Rewrites the files of a running container and sets its live properties.
    Update,
    /// Waits until the subject has reached the condition; nothing is done.
    Await(Condition),
}

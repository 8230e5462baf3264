//! What should happen to one service, seen alone.

use super::difference;
use super::{Entry, Host};
use crate::container::Files;
use crate::model::{
    ActiveState, Assigned, Change, ChangeKind, Condition, ConfFile, Container, ContainerName, DropIn, ExitRecord,
    GpuStanding, Health, Kind, OnUnhealthy, Reason, Retry, SpecField, System, SystemState,
};

/// What happens to one service.
pub(super) struct Verdict {
    /// What the plan says about it; `None`: it is none of our business.
    pub(super) change: Option<Change>,
    /// What the plan does about it.
    pub(super) work: Work,
    /// What would be done about it, were it not blocked.
    pub(super) wanted: Work,
}

/// The steps that one service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// None.
    Nothing,
    /// `Start`, after its gates.
    Start,
    /// `Start` of what is activating as declared: its job is waited for, so no gate can hold it back.
    AwaitJob,
    /// `Stop`, then `Start` after its gates.
    StopStart,
    /// `Stop`.
    Stop,
    /// `Stop`, then `Remove`.
    StopRemove,
    /// `Remove`.
    Remove,
    /// `Update`.
    Update,
}

impl Work {
    /// Returns whether the instance that is there now will be gone.
    pub(super) fn stops(self) -> bool {
        match self {
            Self::StopStart | Self::Stop | Self::StopRemove => true,
            Self::Nothing | Self::Start | Self::AwaitJob | Self::Remove | Self::Update => false,
        }
    }

    /// Returns whether an instance starts or is starting.
    pub(super) fn starts(self) -> bool {
        match self {
            Self::Start | Self::AwaitJob | Self::StopStart => true,
            Self::Nothing | Self::Stop | Self::StopRemove | Self::Remove | Self::Update => false,
        }
    }
}

/// Decides about one service.
pub(super) fn judge(host: &Host<'_>, entry: &Entry<'_>) -> Verdict {
    let absent = Container::default();
    let container = entry.container.unwrap_or(&absent);
    let Some(assigned) = entry.assigned else {
        return match undeclared(container) {
            Some(proposal) => block(host, entry, container, proposal),
            None => Verdict { change: None, work: Work::Nothing, wanted: Work::Nothing },
        };
    };
    let proposal = if host.desired.holds.contains_key(entry.name) {
        held(container)
    } else if let GpuStanding::Yielding { to, why, .. } = &assigned.gpu {
        yielding(container, to, why)
    } else {
        match entry.files {
            Some(Ok(files)) => {
                let last_invocation = container.invocation.or(container.exit.as_ref().map(|exit| exit.invocation));
                let asked = host.desired.restarts.get(entry.name).copied();
                declared(assigned, files, container, asked.is_some() && asked == last_invocation)
            }
            Some(Err(error)) => blocked(vec![Reason::Uncarriable(error.to_string())]),
            None => blocked(vec![Reason::Uncarriable("its files were not made".to_owned())]),
        }
    };
    block(host, entry, container, proposal)
}

/// What is proposed for a service before anything that forbids it is looked at.
type Proposal = (ChangeKind, Vec<Reason>, Work);

fn unchanged() -> Proposal {
    (ChangeKind::Unchanged, Vec::new(), Work::Nothing)
}

fn blocked(reasons: Vec<Reason>) -> Proposal {
    (ChangeKind::Blocked, reasons, Work::Nothing)
}

/// Decides about what nothing declares; `None`: it is not ours.
fn undeclared(container: &Container) -> Option<Proposal> {
    // What runs tells who started it, even when somebody took its files away.
    let by_us = container.started_with.is_some() && container.conf == ConfFile::Absent;
    let ours = by_us || matches!(container.drop_in, DropIn::Ours(_)) || matches!(container.conf, ConfFile::Ours(_));
    if !ours {
        return None;
    }
    let work = if container.active.has_processes() { Work::StopRemove } else { Work::Remove };
    Some((ChangeKind::Remove, vec![Reason::Undeclared], work))
}

/// Decides about one that is to make room on a GPU.
fn yielding(container: &Container, to: &ContainerName, why: &str) -> Proposal {
    let reasons = vec![Reason::GpuYields { to: to.clone(), why: why.to_owned() }];
    if container.active.has_processes() { (ChangeKind::Hold, reasons, Work::Stop) } else { blocked(reasons) }
}

fn held(container: &Container) -> Proposal {
    if container.active.has_processes() { (ChangeKind::Hold, vec![Reason::Held], Work::Stop) } else { unchanged() }
}

fn declared(assigned: &Assigned, files: &Files, container: &Container, requested: bool) -> Proposal {
    let requested_reason = || requested.then_some(Reason::Requested);
    match container.active {
        ActiveState::Inactive | ActiveState::Failed => {
            if is_completed(assigned, files, container) && !requested {
                return unchanged();
            }
            let reasons = vec![requested_reason().unwrap_or_else(|| not_running(container))];
            (ChangeKind::Create, reasons, Work::Start)
        }
        ActiveState::Deactivating => {
            // How it ends decides what follows, and its leftovers are only cleared when it is gone: the next
            // plan sees to both.
            let reasons = vec![requested_reason().unwrap_or_else(|| not_running(container))];
            (ChangeKind::Create, reasons, Work::Nothing)
        }
        ActiveState::Activating => {
            // Before nspawn runs there is no environment to read, so an instance that tells nothing yet is not
            // taken for one that was started outside.
            let right = container.started_with.is_none() || is_right(assigned, files, container);
            if right && !requested {
                let reasons = vec![Reason::NotRunning { ended: None }];
                return (ChangeKind::Create, reasons, Work::AwaitJob);
            }
            let reasons = requested_reason().into_iter().chain(wrong(assigned, files, container)).collect();
            (ChangeKind::Restart, reasons, Work::StopStart)
        }
        ActiveState::Active => {
            let reasons: Vec<_> = requested_reason().into_iter().chain(wrong(assigned, files, container)).collect();
            if container.can_switch && is_of_system_alone(&reasons) {
                return (ChangeKind::Live, reasons, Work::Update);
            }
            if !reasons.is_empty() {
                return (ChangeKind::Restart, reasons, Work::StopStart);
            }
            running_right(assigned, files, container)
        }
    }
}

/// Decides about an active instance that was started as declared and that nobody asked to restart.
fn running_right(assigned: &Assigned, files: &Files, container: &Container) -> Proposal {
    let unhealthy = container.health == Health::Unhealthy
        && assigned.service.health.as_ref().is_some_and(|check| match check.on_unhealthy {
            OnUnhealthy::Restart => true,
            OnUnhealthy::Report => false,
        });
    if unhealthy && container.retry == Retry::Now {
        return (ChangeKind::Restart, vec![Reason::Unhealthy], Work::StopStart);
    }
    let mut differences = difference::live(assigned, files, container);
    if !container.lost_nodes.is_empty() && assigned.gpu.grant().is_some() {
        differences.push(Reason::GpuLost(container.lost_nodes.clone()));
    }
    if !differences.is_empty() {
        return (ChangeKind::Live, differences, Work::Update);
    }
    match container.retry {
        Retry::Later if unhealthy => blocked(vec![Reason::Unhealthy, Reason::BackOff]),
        Retry::Never if unhealthy => blocked(vec![Reason::Unhealthy, Reason::GaveUp]),
        Retry::Now | Retry::Later | Retry::Never => unchanged(),
    }
}

/// Returns why a running instance is not the declared one; empty when it is.
fn wrong(assigned: &Assigned, files: &Files, container: &Container) -> Vec<Reason> {
    if is_right(assigned, files, container) {
        return Vec::new();
    }
    let mut reasons: Vec<_> = match &container.started_with {
        _ if is_adopted(assigned) => vec![Reason::Field(SpecField::System)],
        Some(spec) => spec.differences(&files.spec).into_iter().map(Reason::Field).collect(),
        None => vec![Reason::StartedOutside],
    };
    reasons.extend(difference::limits(&container.limits, &assigned.service.limits));
    reasons
}

/// Returns whether another system is all that needs more than what is changed live anyway.
fn is_of_system_alone(reasons: &[Reason]) -> bool {
    let is_live = |reason: &Reason| matches!(reason, Reason::Field(SpecField::System) | Reason::Limit { .. });
    reasons.contains(&Reason::Field(SpecField::System)) && reasons.iter().all(is_live)
}

fn not_running(container: &Container) -> Reason {
    let nothing = container.exit.is_none()
        && container.invocation.is_none()
        && matches!(container.conf, ConfFile::Absent)
        && matches!(container.drop_in, DropIn::Absent);
    if nothing { Reason::New } else { Reason::NotRunning { ended: container.exit.as_ref().map(ExitRecord::how) } }
}

/// Turns a proposal into a blocked one when something forbids it.
fn block(host: &Host<'_>, entry: &Entry<'_>, container: &Container, proposal: Proposal) -> Verdict {
    let (kind, mut reasons, wanted) = proposal;
    let blocker = match wanted {
        Work::Nothing => None,
        Work::Start
        | Work::AwaitJob
        | Work::StopStart
        | Work::Stop
        | Work::StopRemove
        | Work::Remove
        | Work::Update => {
            let requested = reasons.contains(&Reason::Requested);
            blocker(host, entry, container, wanted, requested)
        }
    };
    let (kind, work) = match blocker {
        Some(blocker) => {
            reasons.push(blocker);
            (ChangeKind::Blocked, Work::Nothing)
        }
        None => (kind, wanted),
    };
    Verdict { change: Some(Change { kind, reasons }), work, wanted }
}

fn blocker(
    host: &Host<'_>,
    entry: &Entry<'_>,
    container: &Container,
    work: Work,
    requested: bool,
) -> Option<Reason> {
    match host.observed.system {
        SystemState::Stopping => return Some(Reason::Stopping),
        SystemState::Up => {}
    }
    if container.foreign_job {
        return Some(Reason::ForeignJob);
    }
    // What is only stopped or waited for needs neither a name of its own nor a file.
    let (starts, writes) = match work {
        Work::Start | Work::StopStart => (true, true),
        Work::Update => (false, true),
        Work::Nothing | Work::AwaitJob | Work::Stop | Work::StopRemove | Work::Remove => (false, false),
    };
    if starts
        && let Some(GpuStanding::Waiting { why, .. } | GpuStanding::Kept { why, .. }) =
            entry.assigned.map(|assigned| &assigned.gpu)
    {
        return Some(Reason::GpuWaits(why.clone()));
    }
    if starts && container.foreign_machine {
        return Some(Reason::ForeignMachine);
    }
    let managed = entry.assigned.is_some_and(|assigned| !is_adopted(assigned));
    if writes && managed && matches!(container.conf, ConfFile::Foreign | ConfFile::Link) {
        return Some(Reason::ForeignConf);
    }
    match container.retry {
        Retry::Now => None,
        // Somebody asked: a person's word goes before any policy.
        Retry::Later | Retry::Never if requested => None,
        Retry::Later => writes.then_some(Reason::BackOff),
        Retry::Never => starts.then_some(Reason::GaveUp),
    }
}

fn is_adopted(assigned: &Assigned) -> bool {
    match assigned.service.system {
        System::Adopted => true,
        System::Store(_) => false,
    }
}

/// Returns whether the running instance was started as declared. What an adopted one is started with is its
/// owner's business; once that is another system, what runs is out of date.
fn is_right(assigned: &Assigned, files: &Files, container: &Container) -> bool {
    if is_adopted(assigned) {
        return !container.outdated;
    }
    container.started_with.as_ref() == Some(&files.spec)
}

/// Returns whether it is a job and this specification of it succeeded.
pub(super) fn is_completed(assigned: &Assigned, files: &Files, container: &Container) -> bool {
    let job = match assigned.service.kind {
        Kind::Job => true,
        Kind::Service => false,
    };
    let this_one = |exit: &ExitRecord| is_adopted(assigned) || exit.spec.as_ref() == Some(&files.spec);
    job && container.exit.as_ref().is_some_and(|exit| exit.succeeded() && this_one(exit))
}

/// Returns whether a service has reached a condition, whatever a plan is about to do with it.
pub(super) fn satisfies(assigned: &Assigned, files: &Files, container: &Container, condition: Condition) -> bool {
    let runs = container.active == ActiveState::Active && is_right(assigned, files, container);
    is_completed(assigned, files, container)
        || match condition {
            Condition::Started => runs,
            Condition::Healthy => runs && container.health == Health::Healthy,
            Condition::Completed => false,
        }
}

//! How the last instance of a container came to its end, in one line for people.
//!
//! Kept in memory alone. An agent that finds a container running knows of the instance before it what its exit record
//! says: how it ended, not when, and not who asked.

use nixmox_api::LastEnd;
use nixmox_core::model::{Container, ExitRecord, Reason};
use nixmox_core::restart::End;

use super::handle::now_usec;
use super::words::reason_text;

/// What is known of the ends of one container.
#[derive(Debug, Default)]
pub(super) struct Ends {
    last: Option<LastEnd>,
    /// The end that a step of the agent leads to; it counts once it is there.
    coming: Option<LastEnd>,
}

/// Why the agent stops an instance.
pub(super) struct Cause<'a> {
    pub(super) reasons: &'a [Reason],
    /// Who asked last for anything about it; empty: nobody asked this agent.
    pub(super) by: &'a str,
    /// Whether what differs was changed behind the agent's back.
    pub(super) drifts: bool,
    /// What the last probe was told.
    pub(super) probe: &'a str,
}

impl Ends {
    /// Returns how the last instance ended.
    pub(super) fn last(&self) -> Option<&LastEnd> {
        self.last.as_ref()
    }

    /// Takes note that it ended by itself, or by somebody else.
    pub(super) fn ended(&mut self, end: End, exit: Option<&ExitRecord>) {
        self.coming = None;
        let how = exit.map_or_else(|| "was killed too hard to leave a record".to_owned(), how);
        self.last = Some(match end {
            End::Failed => now("crashed", how),
            End::Exited => now("exited", how),
            End::Rebooted => now("rebooted", how),
            End::StoppedByOthers => now("stopped_outside", "stopped by somebody, not through NixMox".to_owned()),
        });
    }

    /// Takes note of a start that did not come to a run.
    pub(super) fn not_started(&mut self, message: &str) {
        self.last = Some(now("not_started", message.to_owned()));
    }

    /// Takes note that the last instance, which failed, did so for want of memory.
    pub(super) fn out_of_memory(&mut self, why: String) {
        if let Some(end) = self.last.as_mut().filter(|end| matches!(end.kind.as_str(), "crashed" | "not_started")) {
            end.why = why;
        }
    }

    /// Takes what a young agent finds of the instance before the one that runs.
    pub(super) fn found(&mut self, container: &Container) {
        let before = container.exit.as_ref().filter(|exit| container.invocation != Some(exit.invocation));
        let Some(exit) = before.filter(|_| container.active.has_processes()) else { return };
        let (kind, why) = match (exit.stopped, container.stopped_by_agent) {
            (true, true) => ("asked", "stopped through NixMox, before this agent's time".to_owned()),
            (true, false) => ("stopped_outside", "stopped by somebody, not through NixMox".to_owned()),
            (false, _) if exit.rebooted() => ("rebooted", how(exit)),
            (false, _) if exit.succeeded() => ("exited", how(exit)),
            (false, _) => ("crashed", how(exit)),
        };
        self.last = Some(LastEnd { at: None, kind: kind.to_owned(), why });
    }

    /// Takes note that the agent begins to stop it.
    pub(super) fn begun(&mut self, cause: &Cause<'_>) {
        self.coming = coming(cause);
    }

    /// Takes note that the agent has stopped it.
    pub(super) fn came(&mut self) {
        if let Some(end) = self.coming.take() {
            self.last = Some(LastEnd { at: Some(seconds()), ..end });
        }
    }
}

/// Returns the end that a stop leads to; `None`: its reasons are those of no stop.
fn coming(cause: &Cause<'_>) -> Option<LastEnd> {
    let Cause { reasons, by, drifts, probe } = *cause;
    let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
    let texts = || reasons.iter().map(reason_text).collect::<Vec<_>>().join("; ");
    let (kind, why) = reasons.iter().find_map(|reason| {
        Some(match reason {
            Reason::Requested => ("asked", format!("a restart was asked for{by}")),
            Reason::Held => ("asked", format!("stopped{by}")),
            Reason::Unhealthy if probe.is_empty() => ("unhealthy", "it was unhealthy".to_owned()),
            Reason::Unhealthy => ("unhealthy", format!("it was unhealthy: {probe}")),
            Reason::StartedOutside => ("drift", texts()),
            Reason::Field(_) | Reason::Limit { .. } | Reason::DeviceRules | Reason::Files if drifts => {
                ("drift", format!("changed behind NixMox's back: {}", texts()))
            }
            Reason::Field(_) | Reason::Limit { .. } | Reason::DeviceRules | Reason::Files => {
                ("changed", format!("declared anew{by}: {}", texts()))
            }
            Reason::New
            | Reason::NotRunning { .. }
            | Reason::Undeclared
            | Reason::BackOff
            | Reason::GaveUp
            | Reason::ForeignJob
            | Reason::ForeignMachine
            | Reason::ForeignConf
            | Reason::Stopping
            | Reason::GpuWaits(_)
            | Reason::GpuYields { .. }
            | Reason::GpuLost(_)
            | Reason::Uncarriable(_) => return None,
        })
    })?;
    Some(LastEnd { at: None, kind: kind.to_owned(), why })
}

fn how(exit: &ExitRecord) -> String {
    format!("ended with {}", exit.how())
}

fn now(kind: &str, why: String) -> LastEnd {
    LastEnd { at: Some(seconds()), kind: kind.to_owned(), why }
}

fn seconds() -> u64 {
    now_usec() / 1_000_000
}

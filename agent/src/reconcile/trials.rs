//! Deployments that are on trial: judged after each round, and rolled back where they fail.
//!
//! Level-triggered like everything here: what a stack has to prove is in its generation, whether it has is in the notes,
//! and the verdict comes of what is seen now. Owns no memory but when a rollback that could not be written is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nixmox_api::{AgentError, Caller, RolledBack};
use nixmox_core::model::{Action, Change, ChangeKind, Container, ContainerName, StackName, SystemState};
use nixmox_core::restart;
use nixmox_core::status;
use nixmox_core::trial::{self, Sight, Standing, Verdict};
use tracing::{info, warn};

use super::change::{Asked, Taken};
use super::rollback::Back;
use super::supervise::{Doubted, Watched, back_off};
use super::{Reconciler, Round, chain, handle, report};
use crate::host::Host;

/// The name by which the agent makes generations of its own.
pub(super) const AGENT: &str = "nixmox-agent";

/// A rollback that could not be made.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    /// When it is tried again.
    pub(super) retry: restart::Tracker,
    /// Why it could not, for a person.
    pub(super) why: String,
}

impl<H: Host> Reconciler<H> {
    /// Judges every stack that is to prove itself. Returns whether that made a new generation.
    pub(super) async fn judge(&mut self) -> bool {
        let now = self.now();
        let judged = match &self.round {
            // On the way down everything ends, and nothing of that is a failure.
            Some(round) if self.hands_off.is_none() && round.observed.system == SystemState::Up => {
                self.verdicts(now, round)
            }
            Some(_) | None => return false,
        };
        let (mut passed, mut failed) = (false, Vec::new());
        for (stack, generation, verdict) in judged {
            match verdict {
                Verdict::Pending => {}
                Verdict::Passed => {
                    // It does not fail later because it could not be written down; the next round tries again.
                    self.ledger.notes.prove(&stack, generation);
                    info!(event = "good", generation, stack = %stack, "all that changed is well");
                    passed = true;
                }
                Verdict::Failed(services) => failed.push((stack, generation, services)),
            }
        }
        if passed {
            self.note(self.ledger.notes.clone());
            self.publish();
        }
        let is_failed = |stack: &StackName| failed.iter().any(|(failed, ..)| failed == stack);
        self.stuck.retain(|stack, _| is_failed(stack));
        for (stack, generation, services) in failed {
            if self.fail(&stack, generation, &services).await {
                // The others are judged anew.
                return true;
            }
        }
        false
    }

    /// Returns how each stack stands that is to prove itself, with the generation in which it was changed.
    fn verdicts(&self, now: Duration, round: &Round) -> Vec<(StackName, u64, Verdict)> {
        let stacks = self.ledger.generation.stacks.iter();
        let open = stacks.filter(|(stack, _)| self.ledger.is_on_trial(stack));
        // None waits for those that could not be set: that is told of the host.
        let in_old_slices = round.plan.steps.iter().any(|step| step.action == Action::SetSlices);
        let judge = |(stack, record)| {
            let services = self.ledger.on_trial(stack, record).map(|assigned| assigned.service.name.clone());
            let mut standings: BTreeMap<ContainerName, Standing> =
                services.map(|name| (name.clone(), self.standing(now, round, &name))).collect();
            if in_old_slices {
                // What is well in what was has not proven anything yet.
                let passed = standings.values_mut().filter(|standing| **standing == Standing::Passed);
                passed.for_each(|standing| *standing = Standing::Pending);
            }
            let pending = |standing: &Standing| *standing == Standing::Pending;
            let late: BTreeSet<ContainerName> =
                standings.iter().filter(|(_, standing)| pending(standing)).map(|(name, _)| name.clone()).collect();
            // What needs something that still has its time is not to blame for being unwell without it.
            for (name, standing) in &mut standings {
                let needed = || self.ledger.needed_by(&BTreeSet::from([name.clone()]));
                if *standing == Standing::Failed && !late.is_empty() && !needed().is_disjoint(&late) {
                    *standing = Standing::Pending;
                }
            }
            (StackName::clone(stack), record.changed_in, trial::verdict(standings))
        };
        open.map(judge).collect()
    }

    fn standing(&self, now: Duration, round: &Round, name: &ContainerName) -> Standing {
        let Round { desired, observed, plan, .. } = round;
        let absent = (Container::default(), Watched::default());
        let container = observed.containers.get(name).unwrap_or(&absent.0);
        let watched = self.supervisor.of(name).unwrap_or(&absent.1);
        let (change, reasons) = match plan.changes.get(name) {
            Some(Change { kind, reasons }) => (*kind, reasons.as_slice()),
            None => (ChangeKind::Unchanged, [].as_slice()),
        };
        let waits_for = status::waits_for(name, plan);
        let state = report::told(status::state(name, desired, observed, plan), &waits_for, Some(watched));
        let Doubted { answer, tried, is_given_time } = watched.doubted(now);
        trial::standing(&Sight {
            state,
            change,
            reasons,
            retry: container.retry,
            attempts: watched.retry.attempts(),
            tried,
            answer,
            is_given_time,
            was_stopped: container.exit.as_ref().is_some_and(|exit| exit.stopped),
            refusals: watched.refusals(),
        })
    }

    /// Goes back to the last good generation of a stack, if there is one and somebody wants that. Returns whether it did.
    async fn fail(&mut self, stack: &StackName, generation: u64, services: &[ContainerName]) -> bool {
        let trial = self.ledger.generation.stacks.get(stack).map(|record| &record.trial);
        let Some(to) = trial.filter(|trial| trial.goes_back).and_then(|trial| trial.good_before) else {
            return false;
        };
        // What it logged is part of what is told of it, and goes with it.
        let is_due = self.stuck.get(stack).is_none_or(|stuck| stuck.retry.due(self.now()).is_none());
        if services.iter().any(|name| self.reading.contains(name)) || !is_due {
            return false;
        }
        let reason = |name: &ContainerName| match self.reporter.reason_of(name) {
            Some(reason) if !reason.is_empty() => format!("{name}: {reason}"),
            Some(_) | None => format!("{name}: it did not become healthy"),
        };
        let failed = RolledBack {
            from: generation,
            to,
            services: services.iter().map(ToString::to_string).collect(),
            reasons: services.iter().map(reason).collect(),
        };
        warn!(event = "trial", generation, to, stack = %stack, "not healthy: {}", failed.reasons.join("; "));
        match self.go_back(stack, to, failed).await {
            Ok(()) => {
                self.stuck.remove(stack);
                true
            }
            Err(why) => {
                warn!(event = "trial", generation, to, stack = %stack, "cannot go back: {why}");
                let now = self.now();
                let waiting = self.stuck.entry(stack.clone()).or_default();
                waiting.why = format!(
                    "generation {generation} of the stack {stack} is not healthy and cannot be rolled back to {to}: {why}"
                );
                back_off(&mut waiting.retry, now);
                self.publish();
                false
            }
        }
    }

    async fn go_back(&mut self, stack: &StackName, to: u64, failed: RolledBack) -> Result<(), String> {
        let generations = self.generations.clone();
        let read = tokio::task::spawn_blocking(move || generations.read(to)).await;
        let target = match read {
            Ok(Ok(Some(target))) => target,
            Ok(Ok(None)) => return Err(format!("generation {to} is not kept any more")),
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_stopping) => return Err("the agent stops".to_owned()),
        };
        let asked = Asked { by: Caller { uid: 0, name: AGENT.to_owned() }, at: handle::now_usec() / 1_000_000 };
        let taken = self.taken().await;
        let names = BTreeSet::new();
        let back = Back { stack, target: &target, names: &names, failed: Some(failed) };
        let next = self.ledger.back(&back, &taken, &asked).map_err(|error| said(&error))?;
        self.not_removing(&next.scope).map_err(|error| said(&error))?;
        let plan = self.planned(&next).map_err(|error| said(&error))?;
        self.check_replacements(&next, &plan).await.map_err(|error| said(&error))?;
        self.take_over(next, plan, &asked, "rollback").await.map(drop).map_err(|error| said(&error))
    }

    /// Returns what of others is on the host.
    pub(super) async fn taken(&self) -> Taken {
        let containers = self.host.foreign_containers().await;
        let observed = self.round.iter().flat_map(|round| &round.observed.containers);
        let machines = observed.filter(|(_, container)| container.foreign_machine).map(|(name, _)| name.clone());
        Taken { containers, machines: machines.collect() }
    }
}

/// Returns an error of a request in one line, since nobody asked.
fn said(error: &AgentError) -> String {
    match error {
        AgentError::Invalid { problems, .. } => problems.join("; "),
        AgentError::HasDependents { dependents, .. } => {
            format!("{} would lose what they need", dependents.join(", "))
        }
        AgentError::Refused { reason, .. } => reason.clone(),
        AgentError::UnknownService { name, .. } | AgentError::UnknownStack { name, .. } => {
            format!("there is no `{name}`")
        }
        AgentError::UnknownGeneration { number, .. } => format!("there is no generation {number}"),
        AgentError::Stale { .. } | AgentError::NotPermitted { .. } => "the host has moved on".to_owned(),
    }
}

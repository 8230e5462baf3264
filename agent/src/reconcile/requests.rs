//! Requests of clients, answered by the task: checked, planned, written down, and only then worked from.
//!
//! Owns the way from a wire request to a reply. What a request means for what is desired is `change`'s; that it
//! then happens is the next round's.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::join_all;
use nixmox_api::{
    AgentError, Applied, Caller, Done, PlanReply, Planned, Reason, Request, ServiceState, Warning, change_word,
};
use nixmox_core::compare;
use nixmox_core::container;
use nixmox_core::model::{
    Action, Assigned, Change, ChangeKind, ContainerName, Desired, InvalidName, Kind, Limits, Plan, Port, Retry,
    SpecField, StackName, StorePath, Subject, Word,
};
use nixmox_core::status;
use nixmox_core::{model, plan};
use tracing::{error, info};

use super::change::{Asked, Ledger, Next, invalid};
use super::handle::{self, Answer, Answering, Ask};
use super::rollback::{self, Back};
use super::{GpuLook, Reconciler, chain, gpus, inside, instance, report};
use crate::host::{Host, StepError};
use crate::state::{Generation, Notes, PreparedNotes, StateError};

/// What a ledger would lead to.
struct Outlook {
    desired: Desired,
    plan: Plan,
    /// What the host and the ledger are now, in short; a plan that is made for another base is refused.
    base: String,
}

impl<H: Host> Reconciler<H> {
    /// Takes a request, and returns what gives its answer; it is given when the status shows what came of it.
    pub(super) async fn asked(&mut self, ask: Ask) -> Option<Answering> {
        Some(match ask {
            Ask::Plan(request, answer) => {
                drop(answer.send(self.plan_request(request).await));
                return None;
            }
            Ask::RemoveData(name, caller, answer) => {
                self.remove_data(&name, &caller, answer);
                return None;
            }
            Ask::Look(answer) => {
                self.host.distrust();
                let now = self.now();
                self.gpus.views().doubt(now);
                answering(answer, Ok(()))
            }
            Ask::SeenGpus(inventory) => {
                self.seen_gpus(GpuLook::Machine(inventory));
                return None;
            }
            Ask::Apply(request, caller, answer) => answering(answer, self.apply(request, caller).await),
            Ask::Down(stack, names, caller, answer) => answering(answer, self.down(&stack, &names, caller).await),
            Ask::Rollback(stack, to, names, caller, answer) => {
                answering(answer, self.rollback(&stack, to, &names, caller).await)
            }
            Ask::Start(names, caller, answer) => answering(answer, self.start(&names, &caller)),
            Ask::Stop(names, with_dependents, caller, answer) => {
                answering(answer, self.stop(&names, with_dependents, caller).await)
            }
            Ask::Restart(names, caller, answer) => answering(answer, self.restart(&names, &caller).await),
        })
    }

    /// Returns what `up` of this request would lead to, on the host as it is now.
    async fn next(&mut self, request: Request, asked: &Asked) -> Result<(Next, PlanReply), AgentError> {
        self.hands_on()?;
        let request = request.into_model().map_err(invalid)?;
        self.not_removing(request.services.keys())?;
        let base = request.base.clone();
        // Machines of others are only looked for under names that matter.
        self.look(request.services.keys().cloned().collect()).await.map_err(|error| refused(&error))?;
        let taken = self.taken().await;
        let stack = request.name.clone();
        let mut next = self.ledger.up(request, &taken, asked)?;
        if next.ledger.generation.number != self.ledger.generation.number {
            let is_well = |name: &ContainerName| self.reporter.state_of(name) == Some(ServiceState::Healthy);
            next.ledger.widen_trial(&stack, is_well);
        }
        let mut outlook = self.outlook(&next)?;
        self.check_new_shares(&next, &outlook.desired)?;
        self.check_new_ports(&next, &outlook.plan).await?;
        self.look_at_machine(&next, &mut outlook).await;
        let reply = self.reply(&next, &outlook);
        match base {
            Some(expected) if expected != reply.base => Err(AgentError::Stale { expected, actual: reply.base }),
            _ => Ok((next, reply)),
        }
    }

    /// Refuses a share of the GPUs that this machine can never give: what waits for it would wait for ever. One that was declared before
    /// was refused to nobody, and a machine without GPUs may only lack their driver.
    fn check_new_shares(&self, next: &Next, desired: &Desired) -> Result<(), AgentError> {
        let Some(observed) = self.round.as_ref().map(|round| &round.observed) else { return Ok(()) };
        let is_new = |name: &&ContainerName| {
            let share = |ledger: &Ledger| ledger.generation.services.get(*name).map(|it| it.service.gpu.clone());
            share(&self.ledger) != share(&next.ledger)
        };
        for name in next.scope.iter().filter(is_new) {
            if let Some((reason, hint)) = self.gpus.never_fits(name, desired, observed) {
                return Err(AgentError::Refused { reason: format!("{name}: {reason}; nothing was changed"), hint });
            }
        }
        Ok(())
    }

    /// Refuses to publish a port that another program listens on: the table would take its packets away, whether or not
    /// the container then starts. A port that is published already has been refused to nobody, and what this plan stops
    /// is in nobody's way.
    async fn check_new_ports(&self, next: &Next, plan: &Plan) -> Result<(), AgentError> {
        let ending = plan.steps.iter().filter_map(|step| match (&step.subject, step.action) {
            (Subject::Service(name), Action::Stop) => Some(name.clone()),
            (Subject::Service(_) | Subject::Host, _) => None,
        });
        let ending: BTreeSet<ContainerName> = ending.collect();
        // Who asks for what, and what is asked for in one look at the listeners of the host.
        let mut askers: Vec<(&ContainerName, Vec<Port>)> = Vec::new();
        for name in &next.scope {
            let Some(assigned) = next.ledger.generation.services.get(name) else { continue };
            let before = self.ledger.generation.services.get(name).map(|before| before.service.ports.as_slice());
            let mut new = assigned.service.ports.clone();
            new.retain(|port| !before.unwrap_or_default().contains(port));
            askers.push((name, new));
        }
        let ports: Vec<Port> = askers.iter().flat_map(|(_, ports)| ports).cloned().collect();
        self.host.check_ports(&ports, &ending).await.map_err(|error| {
            let of_it = |(_, ports): &&(&ContainerName, Vec<Port>)| {
                matches!(&error, StepError::PortTaken { port, protocol, .. }
                    if ports.iter().any(|asked| asked.host_port == *port && asked.protocol == *protocol))
            };
            let asker = askers.iter().find(of_it).map(|(name, _)| format!("{name}: ")).unwrap_or_default();
            AgentError::Refused {
                reason: format!("{asker}{}; nothing was changed", chain(&error)),
                hint: error.hint().unwrap_or_default(),
            }
        })
    }

    /// Refuses to stop what runs for what could not be started in its place, since it was declared anew.
    pub(super) async fn check_replacements(&self, next: &Next, plan: &PlanReply) -> Result<(), AgentError> {
        self.check_systems(next).await?;
        let comes = |name: &ContainerName| {
            let planned = plan.services.iter().find(|planned| planned.name == name.as_str());
            planned.is_some_and(|planned| planned.change == change_word(ChangeKind::Create))
        };
        let is_replaced = |name: &&ContainerName| {
            let services = [&self.ledger, &next.ledger].map(|ledger| ledger.generation.services.get(*name));
            let [Some(old), Some(new)] = services else { return false };
            // What comes before it may make what is not there yet.
            let needed = || next.ledger.needed_by(&BTreeSet::from([(*name).clone()]));
            container::spec(old) != container::spec(new) && self.stays_up(name) && !needed().iter().any(comes)
        };
        self.check_needs(next.scope.iter().filter(is_replaced), &next.ledger).await
    }

    /// Refuses systems that are new and that Nix does not know: it would take them away under a container that runs.
    async fn check_systems(&self, next: &Next) -> Result<(), AgentError> {
        let [old, new] = [&self.ledger, &next.ledger]
            .map(|ledger| ledger.generation.systems().cloned().collect::<BTreeSet<StorePath>>());
        let new: BTreeSet<StorePath> = new.difference(&old).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let invalid: Vec<String> = self.host.invalid(&new).await.iter().map(ToString::to_string).collect();
        if invalid.is_empty() {
            return Ok(());
        }
        Err(AgentError::Refused {
            reason: format!("not valid in the Nix store of this host: {}; nothing was changed", invalid.join(", ")),
            hint: "build or copy it again (`nix build`, `nix copy`); what is there of it was left by one that did not end"
                .to_owned(),
        })
    }

    /// Returns whether a container runs, and nobody asked for anything else.
    fn stays_up(&self, name: &ContainerName) -> bool {
        self.runs(name) && !self.ledger.notes.holds.contains_key(name)
    }

    /// Returns whether a container ran at the last look.
    fn runs(&self, name: &ContainerName) -> bool {
        let containers = self.round.as_ref().map(|round| &round.observed.containers);
        containers.and_then(|all| all.get(name)).is_some_and(|container| container.active.has_processes())
    }

    /// Refuses to stop services that lack what their start needs of the host, each with its way out.
    async fn check_needs<'a>(
        &self,
        names: impl Iterator<Item = &'a ContainerName>,
        ledger: &Ledger,
    ) -> Result<(), AgentError> {
        let services = names.filter_map(|name| ledger.generation.services.get(name));
        let look = async |assigned: &Assigned| {
            let error = self.host.check_needs(&assigned.service).await.err()?;
            let name = &assigned.service.name;
            Some((format!("{name} could not be started again: {}", chain(&error)), error.hint()))
        };
        let (lacks, hints): (Vec<String>, Vec<Option<String>>) =
            join_all(services.map(look)).await.into_iter().flatten().unzip();
        if lacks.is_empty() {
            return Ok(());
        }
        let hints: Vec<String> = hints.into_iter().flatten().collect();
        Err(AgentError::Refused {
            reason: format!("{}; nothing was changed", lacks.join("; ")),
            hint: hints.join("; "),
        })
    }

    async fn plan_request(&mut self, request: Request) -> Result<PlanReply, AgentError> {
        let asked = Asked { by: Caller::default(), at: now_seconds() };
        self.next(request, &asked).await.map(|(_, reply)| reply)
    }

    async fn apply(&mut self, request: Request, caller: Caller) -> Result<Applied, AgentError> {
        let asked = Asked { by: caller, at: now_seconds() };
        self.host.distrust();
        let (next, plan) = self.next(request, &asked).await?;
        self.check_replacements(&next, &plan).await?;
        self.take_over(next, plan, &asked, "up").await
    }

    async fn down(&mut self, stack: &str, names: &[String], caller: Caller) -> Result<Applied, AgentError> {
        self.hands_on()?;
        let asked = Asked { by: caller, at: now_seconds() };
        self.look(BTreeSet::new()).await.map_err(|error| refused(&error))?;
        let next = self.ledger.down(stack, names, &asked)?;
        let plan = self.planned(&next)?;
        self.take_over(next, plan, &asked, "down").await
    }

    /// Returns the plan of a ledger, as a client is told.
    pub(super) fn planned(&self, next: &Next) -> Result<PlanReply, AgentError> {
        Ok(self.reply(next, &self.outlook(next)?))
    }

    async fn rollback(
        &mut self,
        stack: &str,
        to: Option<u64>,
        names: &[String],
        caller: Caller,
    ) -> Result<Applied, AgentError> {
        self.hands_on()?;
        let stack: StackName = stack.parse().map_err(|error: InvalidName| invalid(vec![error.to_string()]))?;
        let names: Result<BTreeSet<ContainerName>, InvalidName> = names.iter().map(|name| name.parse()).collect();
        let names = names.map_err(|error| invalid(vec![error.to_string()]))?;
        let target = self.target(&stack, to, &names).await?;
        let asked = Asked { by: caller, at: now_seconds() };
        let besides = target.services.keys().cloned().collect();
        self.host.distrust();
        self.look(besides).await.map_err(|error| refused(&error))?;
        let taken = self.taken().await;
        let back = Back { stack: &stack, target: &target, names: &names, failed: None };
        let next = self.ledger.back(&back, &taken, &asked)?;
        self.not_removing(&next.scope)?;
        let outlook = self.outlook(&next)?;
        self.check_new_ports(&next, &outlook.plan).await?;
        let plan = self.reply(&next, &outlook);
        self.check_replacements(&next, &plan).await?;
        self.take_over(next, plan, &asked, "rollback").await
    }

    /// Returns the generation that a rollback brings back: the one that is named, else the last one before in which the
    /// stack, or these services of it, were others and not bad.
    async fn target(
        &self,
        stack: &StackName,
        to: Option<u64>,
        names: &BTreeSet<ContainerName>,
    ) -> Result<Generation, AgentError> {
        let (generations, notes) = (self.generations.clone(), self.ledger.notes.clone());
        let (now, stack, names) = (self.ledger.generation.clone(), stack.clone(), names.clone());
        let search = move || match to {
            Some(number) => rollback::named(&generations, number),
            None => rollback::last_before(&generations, &notes, &now, &stack, &names),
        };
        // Fails only when the runtime shuts down.
        tokio::task::spawn_blocking(search).await.unwrap_or_else(|_| Err(handle::stopping()))
    }

    /// Writes the next ledger down, then works from it.
    ///
    /// The generation comes first, and the notes are ready by then: should the agent die in between, a hold that is
    /// lifted too late is seen, and one that is lifted too early starts what a person had stopped.
    pub(super) async fn take_over(
        &mut self,
        next: Next,
        plan: PlanReply,
        asked: &Asked,
        verb: &'static str,
    ) -> Result<Applied, AgentError> {
        let Next { mut ledger, scope, .. } = next;
        let differ = ledger.notes != self.ledger.notes;
        let notes = differ.then(|| self.notes_file.prepare(&ledger.notes)).transpose();
        let notes = notes.map_err(|error| not_written(&error))?;
        let changed = ledger.generation != self.ledger.generation;
        if changed {
            self.write_generation(&mut ledger).map_err(|error| not_written(&error))?;
            // What was damaged is not current any more.
            self.warnings.clear();
        }
        match notes.map_or(Ok(()), PreparedNotes::commit) {
            Ok(()) if differ => {
                self.on_disk.clone_from(&ledger.notes);
                self.outdated = None;
            }
            Ok(()) => {}
            Err(error) if changed => {
                error!(event = "notes", "{}", chain(&error));
                let hold = "the next agent holds again what was released now";
                self.outdated = Some(format!("{}; {hold}", chain(&error)));
            }
            Err(error) => return Err(not_written(&error)),
        }
        let number = self.reporter.number();
        self.ledger = ledger;
        self.supervisor.asked(self.now(), &scope, &asked.by.name);
        self.reporter.asked(&scope, &asked.by, verb);
        if changed {
            self.doubt();
        }
        let generation = self.ledger.generation.number;
        info!(event = "generation", generation, changed, uid = asked.by.uid, services = scope.len(), "applies");
        if changed {
            self.keep_roots().await;
        }
        Ok(Applied { generation, number, plan: PlanReply { generation, ..plan } })
    }

    /// Lets what is on trial prove itself from now on.
    fn doubt(&mut self) {
        let stacks = self.ledger.generation.stacks.iter();
        let stacks = stacks.filter(|(_, record)| record.changed_in == self.ledger.generation.number);
        let names = stacks.flat_map(|(stack, record)| self.ledger.on_trial(stack, record));
        let names: Vec<ContainerName> = names.map(|assigned| assigned.service.name.clone()).collect();
        self.supervisor.doubt(self.now(), names);
    }

    fn write_generation(&self, ledger: &mut Ledger) -> Result<(), StateError> {
        // Whatever became of the file of this one.
        let next = self.ledger.generation.number.saturating_add(1);
        ledger.renumber(self.generations.next_number()?.max(next));
        self.generations.write(&ledger.generation)
    }

    fn start(&mut self, names: &[String], caller: &Caller) -> Result<Done, AgentError> {
        self.hands_on()?;
        let (notes, scope) = self.ledger.start(names)?;
        self.write_notes(notes)?;
        Ok(self.done("start", &scope, caller))
    }

    async fn stop(&mut self, names: &[String], with_dependents: bool, caller: Caller) -> Result<Done, AgentError> {
        self.hands_on()?;
        self.look(BTreeSet::new()).await.map_err(|error| refused(&error))?;
        let asked = Asked { by: caller, at: now_seconds() };
        let (notes, scope) = self.ledger.stop(names, with_dependents, |name| self.runs(name), &asked)?;
        self.write_notes(notes)?;
        Ok(self.done("stop", &scope, &asked.by))
    }

    async fn restart(&mut self, names: &[String], caller: &Caller) -> Result<Done, AgentError> {
        self.hands_on()?;
        self.look(BTreeSet::new()).await.map_err(|error| refused(&error))?;
        let mut scope = BTreeSet::new();
        for name in names {
            let name = self.ledger.declared(name)?.service.name.clone();
            if self.ledger.notes.holds.contains_key(&name) {
                return Err(AgentError::Refused {
                    reason: format!("`{name}` is held by `stop`"),
                    hint: format!("nixmoxctl start {name}"),
                });
            }
            scope.insert(name);
        }
        let containers = self.round.as_ref().map(|round| &round.observed.containers);
        // A job that is to run again may make what a service needs that is restarted with it.
        let is_job = |name: &ContainerName| {
            self.ledger.generation.services.get(name).is_some_and(|assigned| assigned.service.kind == Kind::Job)
        };
        if !scope.iter().any(is_job) {
            self.check_needs(scope.iter().filter(|name| self.stays_up(name)), &self.ledger).await?;
        }
        let mut notes = self.ledger.notes.clone();
        for name in &scope {
            // Of what does not run, the last instance: a job that is completed runs again.
            if let Some(last) = containers.and_then(|all| all.get(name)).and_then(instance) {
                notes.restarts.insert(name.clone(), last);
            }
        }
        self.write_notes(notes)?;
        Ok(self.done("restart", &scope, caller))
    }

    /// Removes the data of a container beside everything else: that can take minutes.
    fn remove_data(&mut self, name: &str, caller: &Caller, answer: Answer<()>) {
        let name = match self.removable(name) {
            Ok(name) => name,
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.removing.insert(name.clone());
        let (host, uid) = (Arc::clone(&self.host), caller.uid);
        self.removals.spawn(async move {
            let result = host.remove_data(&name).await;
            info!(event = "remove-data", service = %name, uid, ok = result.is_ok(), "removes data");
            // A client that left does not want to know.
            drop(answer.send(result.map_err(|error| refused(&error))));
            name
        });
    }

    /// Returns the name of a container whose data may be removed.
    fn removable(&self, name: &str) -> Result<ContainerName, AgentError> {
        self.hands_on()?;
        let name: ContainerName = name.parse().map_err(|error: InvalidName| invalid(vec![error.to_string()]))?;
        if self.ledger.generation.services.contains_key(&name) {
            return Err(AgentError::Refused {
                reason: format!("`{name}` is declared, so its data is in use"),
                hint: format!("take it down first: nixmoxctl down {name}"),
            });
        }
        if self.executor.acting_on().contains(&name) {
            return Err(AgentError::Refused {
                reason: format!("`{name}` is being started or stopped"),
                hint: "try again when that is done".to_owned(),
            });
        }
        self.not_removing(std::slice::from_ref(&name))?;
        Ok(name)
    }

    /// Refuses what is about containers whose data is being removed.
    pub(super) fn not_removing<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ContainerName>,
    ) -> Result<(), AgentError> {
        match names.into_iter().find(|name| self.removing.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(AgentError::Refused {
                reason: format!("the data of `{name}` is being removed"),
                hint: "try again when that is done".to_owned(),
            }),
        }
    }

    fn done(&mut self, verb: &'static str, scope: &BTreeSet<ContainerName>, caller: &Caller) -> Done {
        self.supervisor.asked(self.now(), scope, &caller.name);
        self.reporter.asked(scope, caller, verb);
        let services: Vec<String> = scope.iter().map(ToString::to_string).collect();
        info!(event = verb, uid = caller.uid, "{verb} {}", services.join(" "));
        Done { number: self.reporter.number(), services }
    }

    fn write_notes(&mut self, notes: Notes) -> Result<(), AgentError> {
        self.keep(notes).map_err(|error| not_written(&error))
    }

    /// Refuses changes while what is on disk belongs to a newer version.
    fn hands_on(&self) -> Result<(), AgentError> {
        match &self.hands_off {
            None => Ok(()),
            Some(reason) => Err(AgentError::Refused {
                reason: reason.clone(),
                hint: "nothing is touched until then".to_owned(),
            }),
        }
    }

    /// Plans a ledger on the last observation.
    fn outlook(&self, next: &Next) -> Result<Outlook, AgentError> {
        let Some(round) = &self.round else {
            return Err(AgentError::Refused {
                reason: "systemd cannot be asked".to_owned(),
                hint: "try again in a moment".to_owned(),
            });
        };
        let generation = &next.ledger.generation;
        let mut desired = Desired { holds: next.ledger.notes.holds.clone(), ..self.desired(generation) };
        // Asking anew ends every back-off.
        let gave_up =
            |name: &ContainerName| !next.scope.contains(name) && self.supervisor.gave_up(self.now(), name);
        let gates = gpus::all_gates(&desired, Some(&round.observed));
        self.gpus.preview(self.now(), &mut desired, &round.observed, &gates, gave_up);
        let files = container::all_files(&desired, &self.layout);
        let mut uncarriable: Vec<String> =
            files.iter().filter_map(|(name, files)| Some(format!("{name}: {}", files.as_ref().err()?))).collect();
        let budgets = desired.budgets.iter().filter_map(|(stack, limits)| {
            Some(format!("stack {stack}: {}", container::slice_drop_in(limits).err()?))
        });
        uncarriable.extend(budgets);
        if !uncarriable.is_empty() {
            return Err(invalid(uncarriable));
        }
        let mut observed = round.observed.clone();
        for name in &next.scope {
            if let Some(container) = observed.containers.get_mut(name) {
                // Asking anew ends every back-off.
                container.retry = Retry::Now;
            }
        }
        self.allow_switches(&desired, &mut observed, &files);
        let mut plan = plan::plan(&desired, &observed, &files);
        let mut besides = plan::boot_warnings(&desired, &observed);
        if !self.host.counts_pressure() {
            besides.extend(super::usage::not_counted(&desired));
        }
        plan.warnings.extend(besides.into_iter().filter(|(subject, _)| match subject {
            Subject::Service(name) => next.scope.contains(name),
            Subject::Host => true,
        }));
        if next.keeps_budget {
            let text = "the limits of the stack stay as they are: they are those of services that were not named, too; \
                        `nixmoxctl up` without names changes them";
            plan.warnings.push((Subject::Host, text.to_owned()));
        }
        let base = plan::fingerprint(&self.desired(&self.ledger.generation), &round.observed).to_string();
        Ok(Outlook { desired, plan, base })
    }

    /// Adds to a plan what its limits would not do on this machine.
    async fn look_at_machine(&self, next: &Next, outlook: &mut Outlook) {
        let services = outlook.desired.services.values().map(|assigned| &assigned.service.limits);
        let rates = services.chain(outlook.desired.budgets.iter().map(|(_, limits)| limits));
        let rates =
            rates.flat_map(|limits| limits.io_read_bandwidth_max.iter().chain(&limits.io_write_bandwidth_max));
        let paths: Vec<PathBuf> = rates.map(|rate| rate.path.clone()).collect();
        let facts = self.host.facts(&paths).await;
        outlook.plan.warnings.extend(plan::machine_warnings(&outlook.desired, &next.scope, &facts));
    }

    /// Returns what becomes different of the limits of the stacks that a request is about.
    fn own_limits(&self, next: &Next) -> Option<Vec<Reason>> {
        let budgets = [&self.ledger, &next.ledger].map(|ledger| ledger.generation.budgets());
        let [old, new] = &budgets;
        let none = Limits::default();
        let stacks: BTreeSet<&StackName> = old.iter().chain(new).map(|(stack, _)| stack).collect();
        let reasons = stacks.into_iter().flat_map(|stack| {
            let [old, new] =
                [old, new].map(|of| of.iter().find(|(name, _)| name == stack).map_or(&none, |(_, of)| of));
            plan::limit_differences(old, new)
        });
        let reasons: Vec<Reason> = reasons.map(|reason| Reason::from(&reason)).collect();
        (!reasons.is_empty()).then_some(reasons)
    }

    /// Returns what is declared anew and takes no step on the host: the agent itself is to do otherwise.
    fn declared_anew(&self, next: &Next, name: &ContainerName) -> Vec<Reason> {
        let services = [&self.ledger, &next.ledger].map(|ledger| ledger.generation.services.get(name));
        let [Some(old), Some(new)] = services else { return Vec::new() };
        let is_of_the_agent = |difference: &compare::Difference| {
            let table = difference.key.split('.').next().unwrap_or_default();
            matches!(table, "health" | "depends_on" | "restart") || difference.key == "network.ports"
        };
        let reason = |compare::Difference { key, from, to }: compare::Difference| Reason {
            kind: "declared".to_owned(),
            text: match (from.as_str(), to.as_str()) {
                ("", to) => format!("{key} + {to}"),
                (from, "") => format!("{key} - {from}"),
                (from, to) => format!("{key} {from} -> {to}"),
            },
        };
        compare::compare(&old.service, &new.service).into_iter().filter(is_of_the_agent).map(reason).collect()
    }

    /// Says a change of a service for a client.
    fn planned_service(&self, next: &Next, plan: &Plan, name: &ContainerName, change: &Change) -> Planned {
        let declared = self.declared_anew(next, name);
        let kind = match change.kind {
            // What only the agent does otherwise is a live change, too.
            ChangeKind::Unchanged if !declared.is_empty() => ChangeKind::Live,
            kind => kind,
        };
        let reason = |reason: &model::Reason| match (change.kind, reason) {
            (ChangeKind::Live, model::Reason::Field(SpecField::System)) => {
                let text = "system changed, switched to while it runs".to_owned();
                Reason { kind: inside::SWITCH.to_owned(), text }
            }
            _ => Reason::from(reason),
        };
        let after = status::waits_for(name, plan).into_iter();
        Planned {
            name: name.to_string(),
            change: change_word(kind).to_owned(),
            reasons: change.reasons.iter().map(reason).chain(declared).collect(),
            after: after.map(|(name, condition)| format!("{name}: {}", condition.as_word())).collect(),
            state: self.reporter.state_of(name),
        }
    }

    /// Says a plan for a client.
    fn reply(&self, next: &Next, outlook: &Outlook) -> PlanReply {
        let Outlook { desired, plan, base } = outlook;
        let order = report::start_order(desired);
        // What happens to other stacks meanwhile is nothing that this request leads to.
        let stack_of = |name: &ContainerName| desired.services.get(name).map(|assigned| &assigned.service.stack);
        let stacks: BTreeSet<&StackName> = next.scope.iter().filter_map(stack_of).collect();
        let concerned = |name: &ContainerName| {
            next.scope.contains(name)
                || stack_of(name).is_some_and(|stack| stacks.contains(stack))
                    && plan.changes.get(name).is_some_and(|change| !change.reasons.is_empty())
        };
        let mut services: Vec<Planned> = plan
            .changes
            .iter()
            .filter(|(name, _)| concerned(name))
            .map(|(name, change)| self.planned_service(next, plan, name, change))
            .collect();
        let last = services.len();
        services.sort_by_key(|planned| order.get(planned.name.as_str()).copied().unwrap_or(last));
        let warnings = plan.warnings.iter().map(|(subject, text)| Warning {
            service: match subject {
                Subject::Host => String::new(),
                Subject::Service(name) => name.to_string(),
            },
            text: text.clone(),
        });
        PlanReply {
            base: base.clone(),
            generation: next.ledger.generation.number,
            services,
            orphans: next.orphans.iter().map(ToString::to_string).collect(),
            warnings: warnings.collect(),
            limits: self.own_limits(next),
        }
    }
}

fn answering<T: Send + 'static>(answer: Answer<T>, result: Result<T, AgentError>) -> Answering {
    // A closed channel is a client that left; what it asked for is done all the same.
    Box::new(move || drop(answer.send(result)))
}

fn now_seconds() -> u64 {
    handle::now_usec() / 1_000_000
}

fn refused(error: &StepError) -> AgentError {
    AgentError::Refused { reason: chain(error), hint: error.hint().unwrap_or_default() }
}

fn not_written(error: &StateError) -> AgentError {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let hint = match cause.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
            "free space on the file system of /var/lib/nixmox (df -h)"
        }
        Some(std::io::ErrorKind::ReadOnlyFilesystem) => "the file system of /var/lib/nixmox is read-only",
        Some(_) | None => "the agent keeps its state in /var/lib/nixmox: look at what is there",
    };
    AgentError::Refused { reason: format!("{}; nothing was changed", chain(error)), hint: hint.to_owned() }
}

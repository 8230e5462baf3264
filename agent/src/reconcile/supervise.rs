//! What the reconcile task remembers of each container between two looks: health, back-off, drift, failures.
//!
//! Owns the memory that may be lost: after a restart of the agent it is built anew from observation, and the
//! outcome is the same, a little later. Decides with `core::health` and `core::restart`; asks and starts nothing
//! itself. Times are durations since the task began.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nixmox_core::container;
use nixmox_core::health::{self, Timing};
use nixmox_core::model::{
    Action, ActiveState, ChangeKind, Container, ContainerName, Desired, ExitRecord, Grant, Health, HealthCheck,
    InvocationId, Kind, Observed, OnUnhealthy, Plan, PressureMax, Probe, Reason, Restart, Retry, Service, Spec,
    Subject,
};
use nixmox_core::oom::OomKill;
use nixmox_core::restart::{self, End, GOOD_RUN, GRACE};

use super::ends::{Cause, Ends};
use super::oom::{Look, Oom};
use super::tables::Tables;
use crate::host::ProbeResult;
use crate::settings::DriftPolicy;

/// The time after which it shows what a service is without a process that the kernel killed: a unit ends a moment later.
const AFTER_KILL: Duration = Duration::from_secs(1);

/// The time limit of a question to a guest that has no health check of its own.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// What is remembered of every container.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    containers: BTreeMap<ContainerName, Watched>,
    /// The host's tables.
    pub(super) tables: Tables,
}

/// What is remembered of one container.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "facts that are read one by one, each independent of the others")]
pub(super) struct Watched {
    last: Option<Sight>,
    spec: Option<Spec>,
    grant: Option<Grant>,
    health: Option<health::Tracker>,
    /// When it is started again.
    pub(super) retry: restart::Tracker,
    /// When a stop, an update or a removal that failed is tried again.
    steps: restart::Tracker,
    /// How often in a row its guest refused to be switched to another system.
    pub(super) unswitched: u32,
    probing: bool,
    /// Its health changed, and nothing has proven since that it works.
    is_unproven: bool,
    /// The instance that the agent stops or has stopped: how it ends says nothing.
    stopped: Option<InvocationId>,
    /// The end of the instance that comes to rest next was counted already: its start failed.
    counted: bool,
    /// It rests because somebody stopped its unit, not the agent.
    stopped_by_others: bool,
    accord: Accord,
    doubt: Doubt,
    pub(super) failure: Option<Failure>,
    /// The last lines it logged when it last ceased to be well.
    pub(super) log: Vec<String>,
    /// How its last instance ended.
    pub(super) ends: Ends,
    /// Processes of it that were killed for want of memory.
    pub(super) oom: Oom,
    /// Who last asked for anything about it; empty: nobody asked this agent.
    asked_by: String,
}

/// What was answered since somebody wanted to know whether it is well.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// When that was.
    since: Duration,
    /// The last answer to a question of after that, about the instance that runs.
    answer: Option<bool>,
    /// Whether that instance was unhealthy then.
    was_unhealthy: bool,
    /// When it was first started since then.
    started: Option<Duration>,
}

/// What came of a doubt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubted {
    /// The last answer about its health since then.
    pub(super) answer: Option<bool>,
    /// The time since its first start since then.
    pub(super) tried: Duration,
    /// It was unhealthy then and has not had its start period since.
    pub(super) is_given_time: bool,
}

/// How what is there goes with what is desired.
#[derive(Clone, Copy, Debug, Default)]
enum Accord {
    /// It was not exactly as desired since somebody last asked for it.
    #[default]
    Open,
    /// It was: what differs from now on is drift.
    Settled,
    /// It drifts, since then.
    Drifts(Duration),
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    active: ActiveState,
    /// As systemd has it, which forgets it of what ended well.
    invocation: Option<InvocationId>,
    /// The instance that runs, or the last one that did.
    instance: Option<InvocationId>,
    /// When this instance was first seen active.
    active_since: Option<Duration>,
}

/// A step that failed, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) hint: String,
}

/// A question that is due.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: ContainerName,
    pub(super) invocation: Option<InvocationId>,
    /// When it was asked.
    at: Duration,
    pub(super) probe: Option<Probe>,
    /// Asked as well where it is not empty.
    pub(super) pressure: PressureMax,
    pub(super) timeout: Duration,
}

/// What drift is done about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// It is no drift, or its time has come.
    Now,
    /// In this time.
    In(Duration),
    /// Not by itself.
    Never,
}

impl Supervisor {
    /// Takes in an observation: notes ends and new instances, and fills in health and retry.
    ///
    /// `acting_on` are the containers that the agent itself is stopping, starting or changing right now. Returns those
    /// that were found to have ended badly.
    pub(super) fn take_in(
        &mut self,
        now: Duration,
        desired: &Desired,
        observed: &mut Observed,
        acting_on: &BTreeSet<ContainerName>,
        policy: DriftPolicy,
    ) -> Vec<ContainerName> {
        let mut dead = Vec::new();
        let declared = desired.services.keys();
        self.containers
            .retain(|name, _| desired.services.contains_key(name) || observed.containers.contains_key(name));
        for name in declared {
            observed.containers.entry(name.clone()).or_default();
        }
        for (name, container) in &mut observed.containers {
            let Some(assigned) = desired.services.get(name) else {
                // Nobody asks any more how it is, and what comes of it later is another one's life.
                if let Some(watched) = self.containers.get_mut(name) {
                    let Watched { steps, failure, .. } = std::mem::take(watched);
                    *watched = Watched { steps, failure, ..Watched::default() };
                }
                continue;
            };
            let watched = self.containers.entry(name.clone()).or_default();
            let spec = container::spec(assigned);
            if watched.spec.as_ref() != Some(&spec) {
                // Another specification deserves another try.
                if watched.spec.is_some() {
                    watched.retry.reset();
                    (watched.failure, watched.unswitched) = (None, 0);
                }
                watched.spec = Some(spec);
            }
            if watched.grant.as_ref() != assigned.gpu.grant() {
                // What its texts say of nodes follows the machine: nobody changed them behind our back.
                watched.grant = assigned.gpu.grant().cloned();
                watched.accord = Accord::Open;
            }
            if watched.oom.see(now, container) && watched.doubt.since <= now {
                watched.changed(now.saturating_add(AFTER_KILL));
            }
            if watched.see(now, &assigned.service, container, acting_on.contains(name)) {
                dead.push(name.clone());
            }
            if let Some(cause) = watched.oom.cause_of_end(container, assigned.service.limits.memory_max) {
                watched.ends.out_of_memory(cause);
            }
            container.health = watched.health.as_ref().map_or(Health::Unknown, health::Tracker::health);
            container.retry = match policy {
                // A stop is a change like any other.
                DriftPolicy::Report if watched.stopped_by_others => Retry::Never,
                DriftPolicy::Report | DriftPolicy::Correct => watched.retry.retry(now),
            };
        }
        self.tables.take_in(now, desired, observed, policy);
        dead
    }

    /// Takes in the plan that was made of it: notes what is settled, and since when it drifts.
    pub(super) fn take_in_plan(&mut self, now: Duration, plan: &Plan) {
        for (name, change) in &plan.changes {
            let Some(watched) = self.containers.get_mut(name) else { continue };
            let differs = match change.kind {
                ChangeKind::Unchanged => {
                    watched.accord = Accord::Settled;
                    // Whatever a failed step was to bring about is there.
                    if watched.steps.attempts() > 0 {
                        watched.steps.reset();
                        watched.failure = None;
                    }
                    false
                }
                ChangeKind::Hold => {
                    watched.accord = Accord::Settled;
                    false
                }
                ChangeKind::Live | ChangeKind::Restart => !asked_for(&change.reasons),
                // What died is no drift; what was stopped is.
                ChangeKind::Create | ChangeKind::Blocked => watched.stopped_by_others,
                ChangeKind::Remove => false,
            };
            watched.accord = match (watched.accord, differs) {
                (Accord::Open, _) => Accord::Open,
                (Accord::Settled, true) => Accord::Drifts(now),
                (Accord::Drifts(since), true) => Accord::Drifts(since),
                (Accord::Settled | Accord::Drifts(_), false) => Accord::Settled,
            };
        }
    }

    /// Returns whether a step may be taken now: what failed waits, and what drifts is given time.
    pub(super) fn may_begin(&self, now: Duration, subject: &Subject, action: Action, policy: DriftPolicy) -> bool {
        let waits = match (subject, action) {
            (Subject::Service(name), Action::Stop | Action::Update | Action::Remove) => {
                self.containers.get(name).is_some_and(|watched| watched.steps.due(now).is_some())
            }
            // The plan knows which start waits, and what is said above of the host's tables.
            (
                Subject::Service(_),
                Action::Start | Action::PublishPorts | Action::PublishNames | Action::SetSlices | Action::Await(_),
            )
            | (Subject::Host, _) => false,
        };
        !waits && self.correction(now, subject, policy) == Correction::Now
    }

    /// Returns whether a step on this subject may be taken now, as far as drift is concerned.
    pub(super) fn correction(&self, now: Duration, subject: &Subject, policy: DriftPolicy) -> Correction {
        let Subject::Service(name) = subject else { return Correction::Now };
        let Some((watched, Accord::Drifts(since))) =
            self.containers.get(name).map(|watched| (watched, watched.accord))
        else {
            return Correction::Now;
        };
        // A stopped one that its own policy does not start again is left alone, too.
        let for_good = watched.stopped_by_others && watched.retry.retry(now) == Retry::Never;
        match policy {
            DriftPolicy::Report => Correction::Never,
            DriftPolicy::Correct if for_good => Correction::Never,
            DriftPolicy::Correct => match since.saturating_add(GRACE).checked_sub(now) {
                Some(left) if !left.is_zero() => Correction::In(left),
                _ => Correction::Now,
            },
        }
    }

    /// Forgets back-off, failures and drift of these, and asks for their health at once: somebody asked for them.
    pub(super) fn asked(&mut self, now: Duration, names: &BTreeSet<ContainerName>, by: &str) {
        if !names.is_empty() {
            self.tables.asked();
        }
        for name in names {
            let watched = self.containers.entry(name.clone()).or_default();
            watched.retry.reset();
            watched.steps.reset();
            (watched.failure, watched.unswitched) = (None, 0);
            watched.stopped_by_others = false;
            watched.accord = Accord::Open;
            by.clone_into(&mut watched.asked_by);
            if let Some(tracker) = &mut watched.health {
                tracker.ask_by(now);
            }
        }
    }

    /// Counts what was answered so far as nothing, and asks at once: these are on trial from now on.
    pub(super) fn doubt(&mut self, now: Duration, names: impl IntoIterator<Item = ContainerName>) {
        for name in names {
            let watched = self.containers.entry(name).or_default();
            let was_unhealthy =
                watched.health.as_ref().is_some_and(|tracker| tracker.health() == Health::Unhealthy);
            watched.doubt = Doubt { since: now, was_unhealthy, ..Doubt::default() };
            if let Some(tracker) = &mut watched.health {
                tracker.ask_by(now);
            }
        }
    }

    /// Returns the questions that are due, each once until it is answered.
    pub(super) fn due(&mut self, now: Duration, desired: &Desired) -> Vec<Question> {
        let mut questions = Vec::new();
        for (name, watched) in &mut self.containers {
            let Some(assigned) = desired.services.get(name) else { continue };
            let Some(tracker) = watched.health.as_ref().filter(|tracker| tracker.next() <= now) else { continue };
            if watched.probing || tracker.health() == Health::Unknown {
                continue;
            }
            watched.probing = true;
            let check = assigned.service.health.as_ref();
            questions.push(Question {
                name: name.clone(),
                invocation: watched.last.and_then(|last| last.invocation),
                at: now,
                probe: check.map(|check| check.probe.clone()),
                pressure: check.map(|check| check.pressure).unwrap_or_default(),
                timeout: check.map_or(READY_TIMEOUT, |check| check.timeout),
            });
        }
        questions
    }

    /// Takes in the answer to a question. Returns whether the health changed with it. Without `is_proof` a good answer does not tell yet that
    /// it works: its back-off goes on until one does.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        question: &Question,
        result: ProbeResult,
        (service, is_proof): (Option<&Service>, bool),
    ) -> bool {
        let Some(watched) = self.containers.get_mut(&question.name) else { return false };
        watched.probing = false;
        // An answer of an earlier instance says nothing about this one.
        let same = watched.last.is_some_and(|last| last.invocation == question.invocation);
        let Some(tracker) = watched.health.as_mut().filter(|_| same) else { return false };
        let changed = tracker.record(now, result.healthy, result.output);
        if question.at >= watched.doubt.since {
            watched.doubt.answer = Some(result.healthy);
        } else {
            // It was on its way when the doubt came, and settles nothing.
            tracker.ask_by(now.max(watched.doubt.since));
        }
        watched.is_unproven |= changed;
        let is_healthy = tracker.health() == Health::Healthy;
        // That a guest is up is no proof: what dies young would be started for ever, each second.
        if is_healthy && watched.is_unproven && is_proof && service.is_some_and(|service| service.health.is_some())
        {
            watched.retry.reset();
            watched.is_unproven = false;
        }
        match (changed, tracker.health()) {
            (true, Health::Healthy) => {
                watched.failure = None;
                watched.log.clear();
            }
            (true, Health::Unhealthy) => {
                let restarts = service.filter(|service| {
                    service.health.as_ref().is_some_and(|check| check.on_unhealthy == OnUnhealthy::Restart)
                });
                if let Some(service) = restarts {
                    // Its health alone says whether it was well; a long wait for it does not.
                    watched.retry.ended(now, End::Failed, Duration::ZERO, service.kind, &service.restart);
                }
            }
            (_, Health::Unknown | Health::Starting | Health::Healthy | Health::Unhealthy) => {}
        }
        changed
    }

    /// Takes note of a step that begins.
    pub(super) fn begun(&mut self, now: Duration, subject: &Subject, action: Action, reasons: &[Reason]) {
        if let (Subject::Service(name), Action::Start) = (subject, action) {
            self.containers.entry(name.clone()).or_default().doubt.started.get_or_insert(now);
        }
        if let (Subject::Service(name), Action::Stop) = (subject, action)
            && let Some(watched) = self.containers.get_mut(name)
        {
            watched.stopped = watched.last.and_then(|last| last.invocation);
            let probe = watched.health.as_ref().map_or("", health::Tracker::last_output);
            let drifts = matches!(watched.accord, Accord::Drifts(_));
            watched.ends.begun(&Cause { reasons, by: &watched.asked_by, drifts, probe });
        }
    }

    /// Takes note of a step that failed. A start that failed counts against the back-off.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        (subject, action): (&Subject, Action),
        start_of: Option<&Service>,
        failure: Failure,
    ) {
        match subject {
            Subject::Host => self.tables.failed(now, action, failure),
            Subject::Service(name) => {
                let watched = self.containers.entry(name.clone()).or_default();
                if start_of.is_some() {
                    watched.ends.not_started(&failure.message);
                }
                watched.failure = Some(failure);
                match start_of {
                    Some(service) => {
                        // Of an earlier instance; whoever ran into it asks for the newest.
                        watched.log.clear();
                        watched.counted = true;
                        watched.retry.ended(now, End::Failed, Duration::ZERO, service.kind, &service.restart);
                    }
                    // A stop or an update is tried again for as long as it is desired.
                    None => back_off(&mut watched.steps, now),
                }
            }
        }
    }

    /// Takes note that a guest refused to be switched to another system.
    pub(super) fn refused_switch(&mut self, name: &ContainerName) {
        let watched = self.containers.entry(name.clone()).or_default();
        watched.unswitched = watched.unswitched.saturating_add(1);
    }

    /// Takes note of a step that succeeded.
    pub(super) fn succeeded(&mut self, now: Duration, subject: &Subject, action: Action) {
        match subject {
            Subject::Host => self.tables.succeeded(action),
            Subject::Service(name) => {
                if let Some(watched) = self.containers.get_mut(name) {
                    (watched.failure, watched.unswitched) = (None, 0);
                    watched.steps.reset();
                    if action == Action::Stop {
                        watched.ends.came();
                    }
                    if action == Action::Update {
                        watched.changed(now);
                    }
                }
            }
        }
    }

    /// Takes note that what these live in was changed.
    pub(super) fn changed(&mut self, now: Duration, names: &BTreeSet<ContainerName>) {
        for (name, watched) in &mut self.containers {
            if names.contains(name) {
                watched.changed(now);
            }
        }
    }

    /// Keeps the last lines that a container logged.
    pub(super) fn logged(&mut self, name: &ContainerName, lines: Vec<String>) {
        if let Some(watched) = self.containers.get_mut(name) {
            watched.log = lines;
        }
    }

    /// Returns the looks at the kernel's log that are due, each once until it is answered.
    pub(super) fn kills_due(&mut self, now: Duration) -> Vec<(ContainerName, Look)> {
        let due = |(name, watched): (&ContainerName, &mut Watched)| Some((name.clone(), watched.oom.due(now)?));
        self.containers.iter_mut().filter_map(due).collect()
    }

    /// Takes in what the kernel's log says. Returns the event that is to be told.
    pub(super) fn killed(
        &mut self,
        now: Duration,
        (name, look): (&ContainerName, Look),
        kills: Vec<OomKill>,
        service: Option<&Service>,
    ) -> Option<String> {
        let watched = self.containers.get_mut(name)?;
        watched.oom.read(now, look, kills, service?.limits.memory_max)
    }

    /// Returns when to look again though nothing else happens; `None`: never.
    pub(super) fn next_due(&self, now: Duration, policy: DriftPolicy) -> Option<Duration> {
        let of = |(name, watched): (&ContainerName, &Watched)| {
            let probe = watched.health.as_ref().filter(|_| !watched.probing).map(health::Tracker::next);
            let drift = match self.correction(now, &Subject::Service(name.clone()), policy) {
                Correction::In(left) => Some(now.saturating_add(left)),
                Correction::Now | Correction::Never => None,
            };
            let kills = watched.oom.next_due();
            [probe, watched.retry.due(now), watched.steps.due(now), drift, kills].into_iter().flatten().min()
        };
        self.containers.iter().filter_map(of).chain(self.tables.next_due(now)).min()
    }

    /// Returns whether a container is not started again by itself.
    pub(super) fn gave_up(&self, now: Duration, name: &ContainerName) -> bool {
        self.containers.get(name).is_some_and(|watched| watched.retry.retry(now) == Retry::Never)
    }

    /// Returns what is remembered of a container.
    pub(super) fn of(&self, name: &ContainerName) -> Option<&Watched> {
        self.containers.get(name)
    }
}

/// Lets a step of the agent's own that failed be tried again, a little later each time and for ever.
pub(super) fn back_off(retry: &mut restart::Tracker, now: Duration) {
    retry.ended(now, End::Failed, Duration::ZERO, Kind::Service, &PATIENT);
}

/// How often such a step is tried again.
const PATIENT: Restart = Restart {
    policy: nixmox_core::model::RestartPolicy::Always,
    delay: Duration::from_secs(2),
    delay_max: Duration::from_mins(5),
    attempts_max: None,
};

impl Watched {
    /// Takes in how it is now. Returns whether it was found to have ended badly.
    fn see(&mut self, now: Duration, service: &Service, container: &Container, acting: bool) -> bool {
        let runs = container.active.has_processes();
        let running = container.active == ActiveState::Active;
        let instance = container.invocation.or(container.exit.as_ref().map(|exit| exit.invocation));
        // A whole life can pass between two looks: then only its name is new.
        let lived = self
            .last
            .is_none_or(|last| last.active.has_processes() || (instance.is_some() && last.instance != instance));
        if self.last.is_none() {
            self.ends.found(container);
        }
        if lived && !runs && acting {
            self.ends.came();
            // Whether that was the step's doing is known when the step has ended.
            self.health = None;
            return false;
        }
        if runs {
            self.stopped_by_others = false;
        }
        if running {
            if self.counted {
                // The start that failed came to its goal all the same.
                (self.counted, self.failure) = (false, None);
            }
            if !acting {
                self.stopped = None;
            }
        }
        let mut died = false;
        if !runs {
            let counted = std::mem::take(&mut self.counted);
            if lived
                && !counted
                && let Some(end) = self.end_of(container, service)
            {
                let ran = self.ran(now);
                self.ends.ended(end, container.exit.as_ref());
                self.retry.ended(now, end, ran, service.kind, &service.restart);
                self.stopped_by_others = end == End::StoppedByOthers;
                if self.stopped_by_others && self.last.is_none() {
                    // Nobody asked this agent for anything yet: it was as desired before.
                    self.accord = Accord::Settled;
                }
                died = match end {
                    End::Failed => true,
                    // A loop of them is no better.
                    End::Rebooted => self.retry.retry(now) != Retry::Now,
                    End::Exited | End::StoppedByOthers => false,
                };
            }
            if lived && container.exit.as_ref().is_some_and(|exit| succeeded_job(exit, service)) {
                self.failure = None;
            }
        }
        let same_instance = self.last.is_some_and(|last| last.invocation == container.invocation);
        let active_since = match self.last.filter(|_| same_instance && running).and_then(|last| last.active_since) {
            Some(since) => Some(since),
            None => running.then_some(now),
        };
        match service.kind {
            Kind::Service if running => {
                let timing = service.health.as_ref().map_or(Timing::WITHOUT_CHECK, Timing::from);
                match &mut self.health {
                    Some(tracker) if same_instance => tracker.set_timing(timing, now),
                    _ => {
                        self.health = Some(health::Tracker::new(timing, now));
                        (self.doubt.answer, self.doubt.was_unhealthy) = (None, false);
                    }
                }
            }
            Kind::Service | Kind::Job => self.health = None,
        }
        self.last =
            Some(Sight { active: container.active, invocation: container.invocation, instance, active_since });
        died
    }

    /// Returns how the last instance ended; `None` when that says nothing about the next.
    fn end_of(&self, container: &Container, service: &Service) -> Option<End> {
        let before = self.last.and_then(|last| last.invocation);
        let record = container.exit.as_ref();
        let record = record.filter(|exit| container.invocation.is_none_or(|this| this == exit.invocation));
        let Some(exit) = record else {
            return match (self.last, container.active) {
                // A young agent: at boot it never ran.
                (None, _) => None,
                (Some(_), _) if self.stopped.is_some() && self.stopped == before => None,
                // It was killed too hard to leave a record.
                (Some(_), ActiveState::Failed) => Some(End::Failed),
                // Or it is one of those that leave none; such a thing rarely ends by itself with 0.
                (Some(_), _) => Some(End::StoppedByOthers),
            };
        };
        if self.stopped == Some(exit.invocation) {
            return None;
        }
        if exit.spec.is_some() && exit.spec != self.spec {
            // What was declared before: history.
            return None;
        }
        if self.last.is_none() {
            // What a young agent finds is judged as if it had been seen, so that a job that failed is not run again and
            // again by an agent that is restarted; but not what the one before it stopped, on its way to something.
            return (exit.spec.is_some() && !container.stopped_by_agent && !succeeded_job(exit, service))
                .then(|| kind_of_end(exit));
        }
        Some(kind_of_end(exit))
    }

    fn ran(&self, now: Duration) -> Duration {
        self.last.and_then(|last| last.active_since).map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Returns how often it was started again since it was last well; a long run counts as that.
    pub(super) fn restarts(&self, now: Duration) -> u32 {
        if self.ran(now) >= GOOD_RUN { 0 } else { self.retry.attempts() }
    }

    /// Returns the health's last answer, the failures since it was well, and since when it is as it is.
    pub(super) fn health(&self) -> Option<&health::Tracker> {
        self.health.as_ref()
    }

    /// Asks again at this time: what was answered before says nothing about what was changed while it runs.
    fn changed(&mut self, at: Duration) {
        (self.doubt.since, self.doubt.answer) = (at, None);
        if let Some(tracker) = &mut self.health {
            tracker.ask_by(at);
        }
    }

    /// Returns what came of the last doubt.
    pub(super) fn doubted(&self, now: Duration) -> Doubted {
        let Doubt { since, answer, was_unhealthy, started } = self.doubt;
        let start_period = self.health.as_ref().map_or(Duration::ZERO, health::Tracker::start_period);
        Doubted {
            answer,
            tried: started.map_or(Duration::ZERO, |started| now.saturating_sub(started)),
            is_given_time: was_unhealthy && now.saturating_sub(since) < start_period,
        }
    }

    /// Returns how often in a row a stop or a live change of it failed.
    pub(super) fn refusals(&self) -> u32 {
        self.steps.attempts()
    }

    /// Returns whether it drifts.
    pub(super) fn drifts(&self) -> bool {
        matches!(self.accord, Accord::Drifts(_))
    }
}

fn kind_of_end(exit: &ExitRecord) -> End {
    if exit.stopped {
        End::StoppedByOthers
    } else if exit.rebooted() {
        End::Rebooted
    } else if exit.succeeded() {
        End::Exited
    } else {
        End::Failed
    }
}

fn succeeded_job(exit: &ExitRecord, service: &Service) -> bool {
    service.kind == Kind::Job && exit.succeeded()
}

/// Returns whether a change follows from what somebody asked for or declared, rather than from what changed
/// behind the agent's back.
fn asked_for(reasons: &[Reason]) -> bool {
    // What a driver or a daemon-reload took away is nobody's wish.
    let at_once = |reason: &Reason| matches!(reason, Reason::Requested | Reason::Unhealthy | Reason::GpuLost(_));
    reasons.iter().any(at_once)
}

/// Returns the timing of a health check, or of the question that stands in for one.
pub(super) fn start_period(check: Option<&HealthCheck>) -> Duration {
    check.map_or(Timing::WITHOUT_CHECK, Timing::from).start_period
}

//! Properties: plans are carried out on a model host, with faults in between, and the end is compared with what
//! was asked. Then mistakes are planted in the plans, and each must be noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::model_host::{Fault, ModelHost, Rule, Violation, check_shape};
use super::{AllFiles, plan, ready};
use crate::container::{self, Layout};
use crate::model::fixture::{assigned, name, store_path};
use crate::model::{
    Action, ActiveState, Assigned, Bytes, Condition, ConfFile, Container, ContainerName, Desired, Device,
    GpuStanding, Grant, HealthCheck, Hold, InvocationId, Kind, Limits, Mount, Network, Observed, OnUnhealthy, Plan,
    PressureMax, Probe, Retry, Step, Subject, System, Vendor,
};
use crate::network::{Request, allocate};

/// How many services there can be.
const NAMES: usize = 6;
/// Rounds in which everything must have settled: a chain of all services, each booting and getting healthy.
const ROUNDS_MAX: usize = 120;

/// Rounds after which nothing more happens by itself: back-off, jobs of others, boot and health take fewer.
const QUIET_ROUNDS: usize = 8;

/// One service as a test draws it.
#[allow(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
#[derive(Clone, Debug)]
struct Draw {
    system: char,
    memory: Option<u64>,
    job: bool,
    adopted: bool,
    private: bool,
    /// The path it mounts, and whether read-only.
    mount: Option<(u8, bool)>,
    /// The condition on each service before it in this generation's order.
    depends: [Option<Condition>; NAMES],
    restarts_unhealthy: bool,
    device: bool,
    held: bool,
    protected: bool,
}

/// One generation: services in an order in which each may depend on those before it.
#[derive(Clone, Debug)]
struct Generation {
    order: Vec<usize>,
    services: Vec<Option<Draw>>,
    /// What the stack as a whole may use, in GiB.
    budget: Option<u64>,
}

/// What happens between two rounds.
#[derive(Clone, Debug)]
enum Event {
    Fault(Fault, usize),
    Restart(usize),
    /// The next generation.
    Apply,
}

#[derive(Clone, Debug)]
struct Story {
    generations: Vec<Generation>,
    /// What happens before each round.
    events: Vec<Vec<Event>>,
    /// Which containers `nixos-container` made.
    foreign: BTreeSet<usize>,
    /// Which ready steps are taken.
    choices: u64,
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![Just(Condition::Started), Just(Condition::Healthy), Just(Condition::Completed)]
}

prop_compose! {
    fn draw()(
        system in prop::sample::select(vec!['a', 'b']),
        memory in prop::option::of(1_u64..3),
        job in prop::bool::weighted(0.15),
        adopted in prop::bool::weighted(0.1),
        private in prop::bool::weighted(0.8),
        mount in prop::option::weighted(0.3, (0_u8..3, any::<bool>())),
        depends in prop::array::uniform6(prop::option::weighted(0.3, condition())),
        restarts_unhealthy in any::<bool>(),
        device in prop::bool::weighted(0.2),
        held in prop::bool::weighted(0.1),
        protected in prop::bool::weighted(0.2),
    ) -> Draw {
        Draw { system, memory, job, adopted, private, mount, depends, restarts_unhealthy, device, held, protected }
    }
}

fn generation() -> impl Strategy<Value = Generation> {
    let order = Just((0..NAMES).collect::<Vec<_>>()).prop_shuffle();
    let services = prop::collection::vec(prop::option::weighted(0.75, draw()), NAMES);
    let budget = prop::option::weighted(0.3, 8_u64..10);
    (order, services, budget).prop_map(|(order, services, budget)| Generation { order, services, budget })
}

fn event() -> impl Strategy<Value = Event> {
    let fault = prop::sample::select(vec![
        Fault::Dies,
        Fault::NextStartFails,
        Fault::LimitSet,
        Fault::DropInLost,
        Fault::DropInUnread,
        Fault::ConfEdited,
        Fault::StartedOutside,
        Fault::StoppedBehindBack,
        Fault::Unhealthy,
        Fault::ForeignJob,
        Fault::FirewallFlushed,
        Fault::HostsLost,
        Fault::ServersChanged(Ipv4Addr::new(192, 0, 2, 1).into()),
        Fault::ServersChanged(Ipv4Addr::LOCALHOST.into()),
        Fault::SliceChanged,
        Fault::AgentForgets,
        Fault::Reboot,
    ]);
    prop_oneof![
        6 => (fault, 0..NAMES).prop_map(|(fault, index)| Event::Fault(fault, index)),
        1 => (0..NAMES).prop_map(Event::Restart),
        2 => Just(Event::Apply),
    ]
}

prop_compose! {
    fn story()(
        generations in prop::collection::vec(generation(), 1..4),
        events in prop::collection::vec(prop::collection::vec(event(), 0..3), 0..25),
        foreign in prop::collection::btree_set(0..NAMES, 0..2),
        choices in any::<u64>(),
    ) -> Story {
        Story { generations, events, foreign, choices }
    }
}

fn named(index: usize) -> ContainerName {
    name(&format!("s{index}"))
}

fn layout() -> Layout {
    Layout { agent: "/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: false }
}

impl Generation {
    /// Returns what this generation asks for; addresses stay with their services.
    fn desired(&self, number: u64, previous: &Desired, foreign: &BTreeSet<usize>) -> Desired {
        let mut services = BTreeMap::new();
        let mut holds = BTreeMap::new();
        let is_job = |index: usize| {
            let adopted = |draw: &Draw| draw.adopted && foreign.contains(&index);
            self.services[index].as_ref().is_some_and(|draw| draw.job && !adopted(draw))
        };
        for (place, index) in self.order.iter().enumerate() {
            let Some(draw) = &self.services[*index] else { continue };
            let mut assigned = draw.assigned(*index, foreign.contains(index));
            for (before, condition) in self.order[..place].iter().zip(draw.depends) {
                let Some(condition) = condition.filter(|_| self.services[*before].is_some()) else { continue };
                // The manifest refuses to wait for the completion of what does not complete.
                let condition = if is_job(*before) { Condition::Completed } else { condition };
                if condition != Condition::Completed || is_job(*before) {
                    assigned.service.depends_on.insert(named(*before), condition);
                }
            }
            if draw.held {
                holds.insert(named(*index), Hold { by: "anna".into(), at: 0 });
            }
            services.insert(named(*index), assigned);
        }
        let request = Request { pool: "10.233.0.0/24".parse().unwrap(), fixed: None };
        let private = |assigned: &Assigned| matches!(assigned.service.network, Network::Private { .. });
        let requests =
            services.iter().filter(|(_, a)| private(a)).map(|(name, _)| (name.clone(), request)).collect();
        let before = previous.services.iter().filter_map(|(name, a)| Some((name.clone(), a.addresses?))).collect();
        for (name, addresses) in allocate(&requests, &before, &BTreeSet::new()).unwrap() {
            services.get_mut(&name).unwrap().addresses = Some(addresses);
        }
        let limits = |budget| Limits { memory_max: Some(Bytes(budget << 30)), ..Limits::default() };
        let budgets = self.budget.map(|budget| ("cloud".parse().unwrap(), limits(budget))).into_iter().collect();
        Desired { generation: number, services, budgets, holds, restarts: BTreeMap::new() }
    }
}

impl Draw {
    fn assigned(&self, index: usize, foreign: bool) -> Assigned {
        let mut assigned = assigned(&format!("s{index}"), 0);
        assigned.addresses = None;
        let service = &mut assigned.service;
        // What a system does is in the system: the same one cannot be a job today and a service tomorrow.
        service.system = System::Store(store_path(self.system, if self.job { "job" } else { "x" }));
        service.limits.memory_max = self.memory.map(|gigabytes| Bytes(gigabytes << 30));
        service.limits.memory_min = self.protected.then_some(Bytes(1 << 20));
        // What nixos-container started runs on: the model has no jobs among these.
        if self.adopted && foreign {
            service.system = System::Adopted;
        } else if self.job {
            service.kind = Kind::Job;
        }
        if !self.private || service.system == System::Adopted {
            service.network = Network::Host;
        }
        // The manifest refuses what an adopted container's owner decides.
        if let Some((path, read_only)) = self.mount.filter(|_| service.system != System::Adopted) {
            service.mounts.push(Mount {
                // One of the paths lies below another.
                source: PathBuf::from(["/srv/a", "/srv/a/b", "/srv/c"][usize::from(path)]),
                target: "/data".into(),
                read_only,
                create: false,
                must_be_mountpoint: false,
            });
        }
        if self.device {
            service.devices.push(Device { path: "/dev/fuse".into(), access: "rw".into() });
            // Whose nodes are allowed by rules as well.
            assigned.gpu = if self.protected { GpuStanding::Granted(grant()) } else { GpuStanding::None };
        }
        let service = &mut assigned.service;
        service.health = Some(HealthCheck {
            probe: Probe::Tcp(80),
            pressure: PressureMax::default(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retries: 1,
            start_period: Duration::from_secs(1),
            on_unhealthy: if self.restarts_unhealthy { OnUnhealthy::Restart } else { OnUnhealthy::Report },
        });
        assigned
    }
}

fn grant() -> Grant {
    Grant {
        vendor: Vendor::Nvidia,
        gpus: vec!["GPU-0".parse().unwrap()],
        budget: None,
        nodes: vec!["/dev/nvidia0".into(), "/dev/nvidiactl".into()],
        mounts: Vec::new(),
        environment: BTreeMap::new(),
    }
}

/// Carries a story out with this planner.
fn carry_out(story: &Story, planner: impl Fn(&Desired, &Observed, &AllFiles) -> Plan) -> Result<(), Violation> {
    let mut host = ModelHost::default();
    for index in &story.foreign {
        let container = Container {
            conf: ConfFile::Foreign,
            active: ActiveState::Active,
            invocation: Some(InvocationId(1 << 100)),
            ..Container::default()
        };
        host.guests.entry(named(*index)).or_default().container = container;
    }
    let mut random = TestRng::from_seed(proptest::test_runner::RngAlgorithm::XorShift, &{
        let mut seed = [7; 16];
        seed[..8].copy_from_slice(&story.choices.to_le_bytes());
        seed
    });
    let mut generations = story.generations.iter().enumerate();
    let mut desired = Desired::default();
    let mut apply = |desired: &mut Desired| {
        if let Some((number, generation)) = generations.next() {
            *desired = generation.desired(number as u64 + 1, desired, &story.foreign);
        }
    };
    apply(&mut desired);
    let mut files = container::all_files(&desired, &layout());
    let mut events = story.events.iter();
    // Rounds in which nothing was left to do, though guests may still boot.
    let mut quiet = 0;
    for _round in 0..story.events.len() + ROUNDS_MAX {
        let happening = events.next();
        for event in happening.into_iter().flatten() {
            match event {
                Event::Fault(fault, index) => host.befall(*fault, &named(*index), &desired, &files),
                Event::Restart(index) => {
                    let invocation = host.guests.get(&named(*index)).and_then(|guest| guest.container.invocation);
                    if let Some(invocation) = invocation.filter(|_| desired.services.contains_key(&named(*index))) {
                        desired.restarts.insert(named(*index), invocation);
                    }
                }
                Event::Apply => apply(&mut desired),
            }
            files = container::all_files(&desired, &layout());
        }
        let plan = planner(&desired, &host.observed(), &files);
        check_shape(&plan)?;
        let ready: Vec<_> = ready(&plan).collect();
        let idle = ready.is_empty();
        for id in ready {
            // Three of four at a time, all once nothing happens any more.
            if happening.is_none() || !random.next_u32().is_multiple_of(4) {
                host.take(&plan.steps[id], &plan, &desired, &files)?;
            }
        }
        host.tick();
        quiet = if happening.is_none() && idle { quiet + 1 } else { 0 };
        if quiet > QUIET_ROUNDS {
            break;
        }
    }
    host.check_end(&desired, &files).map_err(|violation| {
        let plan = planner(&desired, &host.observed(), &files);
        Violation { text: format!("{}\nleft: {plan:#?}\n{:#?}", violation.text, host.guests), ..violation }
    })?;
    // What is left is what waits for a gate that will not open.
    let plan = planner(&desired, &host.observed(), &files);
    match super::ready(&plan).next() {
        Some(id) => Err(Violation { rule: Rule::EndState, text: format!("never settles: {:?}", plan.steps[id]) }),
        None => Ok(()),
    }
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha))
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

#[test]
fn every_plan_keeps_the_rules_and_leads_to_what_was_asked() {
    let result = runner(cases()).run(&story(), |story| {
        carry_out(&story, plan).map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// A mistake that a planner could make, planted in its plans.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    /// Gates are forgotten.
    NoGates,
    /// A gate for health opens as soon as the dependency has started.
    HealthIsStart,
    /// A start does not wait for the stop of the same container.
    StartBesideStop,
    /// A start does not wait for what another container must let go.
    StartBesideOthersStop,
    /// Stops happen in no order.
    StopsUnordered,
    /// Stops happen in the order of starts.
    StopsReversed,
    /// Nothing is ever stopped.
    NeverStops,
    /// A dependent is restarted with its dependency.
    RestartsDependents,
    /// What is activating is stopped and started again.
    RestartsActivating,
    /// Nothing is removed.
    NeverRemoves,
    /// Live differences stay.
    NeverUpdates,
    /// Everything that runs is updated in every round.
    AlwaysUpdates,
    /// The host's tables are not repaired.
    NeverPublishes,
    /// Held services are started.
    ForgetsHolds,
    /// Somebody's job is not respected.
    IgnoresForeignJobs,
    /// What `nixos-container` made is taken over.
    IgnoresForeignFiles,
    /// A removal does not wait for the stop.
    RemovesRunning,
    /// The back-off is not respected.
    IgnoresBackOff,
    /// Requests to restart are forgotten.
    ForgetsRequests,
    /// A start waits for its own gate's dependents.
    Cycle,
}

const MISTAKES: [(Mistake, &[Rule]); 20] = [
    (Mistake::NoGates, &[Rule::Gates]),
    (Mistake::HealthIsStart, &[Rule::Gates]),
    (Mistake::StartBesideStop, &[Rule::Effect]),
    (Mistake::StartBesideOthersStop, &[Rule::Exclusive]),
    (Mistake::StopsUnordered, &[Rule::StopOrder]),
    (Mistake::StopsReversed, &[Rule::StopOrder]),
    (Mistake::NeverStops, &[Rule::EndState, Rule::StopOrder, Rule::Effect]),
    (Mistake::RestartsDependents, &[Rule::LeaveAlone, Rule::StopOrder]),
    (Mistake::RestartsActivating, &[Rule::LeaveAlone]),
    (Mistake::NeverRemoves, &[Rule::EndState]),
    (Mistake::NeverUpdates, &[Rule::EndState]),
    (Mistake::AlwaysUpdates, &[Rule::Effect, Rule::Foreign]),
    (Mistake::NeverPublishes, &[Rule::EndState]),
    (Mistake::ForgetsHolds, &[Rule::LeaveAlone, Rule::EndState]),
    (Mistake::IgnoresForeignJobs, &[Rule::Foreign]),
    (Mistake::IgnoresForeignFiles, &[Rule::Foreign]),
    (Mistake::RemovesRunning, &[Rule::StopOrder]),
    (Mistake::IgnoresBackOff, &[Rule::Effect]),
    (Mistake::ForgetsRequests, &[Rule::EndState]),
    (Mistake::Cycle, &[Rule::Acyclic]),
];

#[test]
fn every_planted_mistake_is_noticed_by_its_rule() {
    for (mistake, rules) in MISTAKES {
        let noticed = (0..).zip(samples(3000)).find_map(|(count, story)| {
            let violation =
                carry_out(&story, |desired, observed, files| mistaken(mistake, desired, observed, files));
            violation.err().map(|violation| (count, violation))
        });
        let Some((count, violation)) = noticed else { panic!("{mistake:?} is not noticed") };
        assert!(rules.contains(&violation.rule), "{mistake:?} is noticed by {violation}");
        println!("{mistake:?}: {:?} after {count} stories", violation.rule);
    }
}

fn samples(count: usize) -> impl Iterator<Item = Story> {
    let mut runner = runner(1);
    std::iter::repeat_with(move || story().new_tree(&mut runner).unwrap().current()).take(count)
}

fn mistaken(mistake: Mistake, desired: &Desired, observed: &Observed, files: &AllFiles) -> Plan {
    let (mut desired, mut observed) = (desired.clone(), observed.clone());
    // Mistakes in what is looked at.
    match mistake {
        Mistake::ForgetsHolds => desired.holds.clear(),
        Mistake::ForgetsRequests => desired.restarts.clear(),
        Mistake::IgnoresForeignJobs => observed.containers.values_mut().for_each(|c| c.foreign_job = false),
        Mistake::IgnoresBackOff => {
            observed.containers.values_mut().for_each(|c| c.retry = Retry::Now);
        }
        Mistake::IgnoresForeignFiles => {
            for container in observed.containers.values_mut().filter(|c| c.conf == ConfFile::Foreign) {
                container.conf = ConfFile::Ours(String::new());
            }
        }
        Mistake::HealthIsStart => {
            for assigned in desired.services.values_mut() {
                for condition in assigned.service.depends_on.values_mut().filter(|c| **c == Condition::Healthy) {
                    *condition = Condition::Started;
                }
            }
        }
        _in_the_plan => {}
    }
    let mut plan = plan(&desired, &observed, files);
    // Mistakes in what is planned.
    let actions: Vec<_> = plan.steps.iter().map(|step| (step.subject.clone(), step.action)).collect();
    let is = |id: usize, action: Action| actions[id].1 == action;
    let runs = |name: &ContainerName, state| observed.containers.get(name).is_some_and(|c| c.active == state);
    match mistake {
        Mistake::NoGates => {
            plan.steps.iter_mut().for_each(|s| s.after.retain(|id| !matches!(actions[*id].1, Action::Await(_))));
        }
        Mistake::StartBesideStop | Mistake::StartBesideOthersStop => {
            let own = matches!(mistake, Mistake::StartBesideStop);
            for step in plan.steps.iter_mut().filter(|step| step.action == Action::Start) {
                step.after.retain(|id| !is(*id, Action::Stop) || (actions[*id].0 == step.subject) != own);
            }
        }
        Mistake::StopsUnordered | Mistake::StopsReversed => {
            let mut reversed = Vec::new();
            for (id, step) in plan.steps.iter_mut().enumerate().filter(|(_, step)| step.action == Action::Stop) {
                reversed.extend(step.after.iter().filter(|before| is(**before, Action::Stop)).map(|b| (*b, id)));
                step.after.retain(|before| !is(*before, Action::Stop));
            }
            if matches!(mistake, Mistake::StopsReversed) {
                for (id, before) in reversed {
                    plan.steps[id].after.insert(before);
                }
            }
        }
        Mistake::NeverStops => disable(&mut plan, |step| step.action == Action::Stop),
        Mistake::NeverRemoves => disable(&mut plan, |step| step.action == Action::Remove),
        Mistake::NeverUpdates => disable(&mut plan, |step| step.action == Action::Update),
        Mistake::NeverPublishes => disable(&mut plan, |step| step.subject == Subject::Host),
        Mistake::RestartsDependents => {
            let stopped = |name: &ContainerName| actions.contains(&(Subject::Service(name.clone()), Action::Stop));
            for (name, assigned) in &desired.services {
                if assigned.service.depends_on.keys().any(stopped)
                    && runs(name, ActiveState::Active)
                    && !stopped(name)
                {
                    plan.steps.push(step(name, Action::Stop));
                }
            }
        }
        Mistake::RestartsActivating => {
            for step in plan.steps.iter_mut().filter(|step| step.action == Action::Start) {
                if let Subject::Service(name) = &step.subject
                    && runs(name, ActiveState::Activating)
                    && step.after.is_empty()
                {
                    step.action = Action::Stop;
                }
            }
        }
        Mistake::AlwaysUpdates => {
            let running = desired.services.keys().filter(|name| runs(name, ActiveState::Active));
            let updated = |name: &ContainerName| actions.iter().any(|(s, _)| *s == Subject::Service(name.clone()));
            plan.steps.extend(running.filter(|name| !updated(name)).map(|name| step(name, Action::Update)));
        }
        Mistake::RemovesRunning => {
            plan.steps.iter_mut().filter(|step| step.action == Action::Remove).for_each(|step| step.after.clear());
        }
        Mistake::Cycle => {
            let start = actions.iter().position(|(_, action)| *action == Action::Start);
            let gate = actions.iter().position(|(_, action)| matches!(action, Action::Await(_)));
            if let (Some(start), Some(gate)) = (start, gate) {
                plan.steps[start].after.insert(gate);
                plan.steps[gate].after.insert(start);
            }
        }
        _in_the_view => {}
    }
    plan
}

fn step(name: &ContainerName, action: Action) -> Step {
    Step { subject: Subject::Service(name.clone()), action, after: BTreeSet::new() }
}

/// Takes steps away, as if they were done.
fn disable(plan: &mut Plan, which: impl Fn(&Step) -> bool) {
    let kept: Vec<usize> = (0..plan.steps.len()).filter(|id| !which(&plan.steps[*id])).collect();
    let ids: BTreeMap<usize, usize> = kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    plan.steps = kept.iter().map(|id| plan.steps[*id].clone()).collect();
    for step in &mut plan.steps {
        step.after = step.after.iter().filter_map(|id| ids.get(id).copied()).collect();
    }
}

//! Examples: each reason once, and the edges that a reader would ask about.

use std::collections::BTreeSet;

use super::*;
use crate::container::{self, Layout};
use crate::model::fixture::{assigned, name, store_path};
use crate::model::{
    ActiveState, Assigned, BootStart, Bytes, Change, ConfFile, DropIn, ExitRecord, Health, HealthCheck, Hold,
    InvocationId, Kind, Limits, Mount, OnUnhealthy, PressureMax, Probe, Protection, Reason, Retry, Servers,
    SpecField, Step, Subject, System, SystemState,
};
use crate::network::{FirewallTable, hosts_file};
use crate::slice;

mod gpus;

/// A host on which everything declared runs as declared.
struct World {
    desired: Desired,
    observed: Observed,
    files: AllFiles,
}

fn layout() -> Layout {
    Layout { agent: "/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: false }
}

impl World {
    /// Every service depends on the one before it, which must be healthy.
    fn chain(names: &[&str]) -> Self {
        let mut desired = Desired { generation: 1, ..Desired::default() };
        for (number, text) in (1..).zip(names) {
            let mut service = assigned(text, number);
            let before = names.iter().take_while(|other| *other != text).last();
            service.service.depends_on =
                before.map(|before| (name(before), Condition::Healthy)).into_iter().collect();
            desired.services.insert(name(text), service);
        }
        let mut world = Self { desired, observed: Observed::default(), files: AllFiles::new() };
        world.declare();
        for (number, text) in (1..).zip(names) {
            world.run(text, number);
        }
        world.observed.firewall = Some(FirewallTable::of(&world.desired));
        world.observed.hosts = Some(hosts_file(&world.desired));
        world
    }

    /// Makes the files anew, after a change of what is desired.
    fn declare(&mut self) {
        self.files = container::all_files(&self.desired, &layout());
    }

    fn run(&mut self, text: &str, invocation: u128) {
        let files = self.files[&name(text)].as_ref().unwrap();
        let container = Container {
            active: ActiveState::Active,
            invocation: Some(InvocationId(invocation)),
            started_with: Some(files.spec.clone()),
            conf: ConfFile::Ours(files.conf.clone().unwrap()),
            drop_in: DropIn::Ours(files.drop_in.clone()),
            health: Health::Healthy,
            ..Container::default()
        };
        self.observed.containers.insert(name(text), container);
    }

    fn edit(&mut self, text: &str, edit: impl FnOnce(&mut Assigned)) {
        edit(self.desired.services.get_mut(text).unwrap());
        self.declare();
    }

    fn seen(&mut self, text: &str) -> &mut Container {
        self.observed.containers.get_mut(text).unwrap()
    }

    fn plan(&self) -> Plan {
        plan(&self.desired, &self.observed, &self.files)
    }

    /// Returns what happens to one service.
    fn change(&self, text: &str) -> (ChangeKind, Vec<Reason>) {
        let Change { kind, reasons } = self.plan().changes[text].clone();
        (kind, reasons)
    }

    /// Returns the plan as lines such as `start web < await db healthy, stop web`.
    fn steps(&self) -> Vec<String> {
        let plan = self.plan();
        let show = |step: &Step| match &step.subject {
            Subject::Host => format!("{:?}", step.action),
            Subject::Service(name) => format!("{:?} {name}", step.action),
        };
        let line = |step: &Step| {
            let after: Vec<_> = step.after.iter().map(|id| show(&plan.steps[*id])).collect();
            if after.is_empty() { show(step) } else { format!("{} < {}", show(step), after.join(", ")) }
        };
        plan.steps.iter().map(line).collect()
    }
}

fn ended(result: &str, status: &str, spec: Option<crate::model::Spec>) -> ExitRecord {
    let (result, status) = (result.to_owned(), status.to_owned());
    ExitRecord { invocation: InvocationId(9), spec, result, status, stopped: false, oom_kills: 0 }
}

#[test]
fn what_is_as_declared_is_left_alone() {
    let world = World::chain(&["db", "app", "web"]);
    assert!(is_empty(&world.plan()));
    assert_eq!(world.change("app"), (ChangeKind::Unchanged, vec![]));
}

#[test]
fn an_empty_host_starts_everything_behind_its_gates() {
    let mut world = World::chain(&["db", "app", "web"]);
    world.observed = Observed::default();
    assert_eq!(
        world.steps(),
        [
            "PublishPorts",
            "PublishNames",
            "Start db < PublishPorts, PublishNames",
            "Await(Healthy) db < Start db",
            "Start app < PublishPorts, PublishNames, Await(Healthy) db",
            "Await(Healthy) app < Start app",
            "Start web < PublishPorts, PublishNames, Await(Healthy) app",
        ]
    );
    assert_eq!(world.change("db"), (ChangeKind::Create, vec![Reason::New]));
    assert_eq!(ready(&world.plan()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_new_system_restarts_it_and_leaves_its_dependents_alone() {
    let mut world = World::chain(&["db", "app"]);
    world.edit("db", |db| db.service.system = System::Store(store_path('b', "db")));
    assert_eq!(world.change("db"), (ChangeKind::Restart, vec![Reason::Field(SpecField::System)]));
    assert_eq!(world.steps(), ["Stop db", "Start db < Stop db"]);
}

#[test]
fn restarts_stop_in_the_reverse_order_of_their_starts() {
    let mut world = World::chain(&["db", "app"]);
    for text in ["db", "app"] {
        world.edit(text, |service| service.service.ephemeral = true);
    }
    assert_eq!(
        world.steps(),
        [
            "Stop app",
            "Stop db < Stop app",
            "Start db < Stop db",
            "Await(Healthy) db < Start db",
            "Start app < Stop app, Await(Healthy) db",
        ]
    );
}

#[test]
fn what_nothing_declares_any_more_stops_in_the_order_it_was_started_with() {
    let mut world = World::chain(&["a-db", "b-app", "c-web"]);
    world.desired = Desired { generation: 2, ..Desired::default() };
    world.files.clear();
    let steps = world.steps();
    assert_eq!(steps[..3], ["Stop c-web", "Stop b-app < Stop c-web", "Stop a-db < Stop b-app"]);
    assert_eq!(steps[3..6], ["Remove a-db < Stop a-db", "Remove b-app < Stop b-app", "Remove c-web < Stop c-web"]);
    assert_eq!(world.change("b-app"), (ChangeKind::Remove, vec![Reason::Undeclared]));
}

#[test]
fn what_nothing_declares_any_more_stops_though_somebody_took_its_files_away() {
    let mut world = World::chain(&["db"]);
    world.desired = Desired { generation: 2, ..Desired::default() };
    world.files.clear();
    world.seen("db").drop_in = DropIn::Absent;
    world.seen("db").conf = ConfFile::Absent;
    assert_eq!(world.change("db"), (ChangeKind::Remove, vec![Reason::Undeclared]));
    // Another owner's conf file says that it is theirs now, and what NixMox did not start is none of its business.
    world.seen("db").conf = ConfFile::Foreign;
    assert!(!world.plan().changes.contains_key("db"));
    world.seen("db").conf = ConfFile::Absent;
    world.seen("db").started_with = None;
    assert!(!world.plan().changes.contains_key("db"));
}

#[test]
fn a_restart_behind_a_closed_gate_keeps_running_until_it_opens() {
    let mut world = World::chain(&["db", "app"]);
    world.seen("db").health = Health::Unhealthy;
    world.edit("app", |app| app.service.ephemeral = true);
    let steps = ["Stop app < Await(Healthy) db", "Await(Healthy) db", "Start app < Stop app, Await(Healthy) db"];
    assert_eq!(world.steps(), steps);
    // Who asks for it gets it now.
    world.desired.restarts.insert(name("app"), InvocationId(2));
    assert_eq!(world.steps()[0], "Stop app");
}

#[test]
fn limits_change_live_and_name_both_values() {
    let mut world = World::chain(&["db"]);
    world.edit("db", |db| db.service.limits.memory_max = Some(Bytes(1 << 30)));
    let limit = |from: &str| Reason::Limit { key: "memory_max", from: from.to_owned(), to: "1G".to_owned() };
    assert_eq!(world.change("db"), (ChangeKind::Live, vec![limit("unset")]));
    assert_eq!(world.steps(), ["Update db"]);
    // Set behind our back: time for second thoughts.
    world.seen("db").limits.memory_max = Some(Bytes(6 << 30));
    world.seen("db").retry = Retry::Later;
    assert_eq!(world.change("db"), (ChangeKind::Blocked, vec![limit("6G"), Reason::BackOff]));
    assert!(world.steps().is_empty());
}

#[test]
fn files_that_systemd_has_not_read_are_a_live_change_of_what_runs() {
    let mut world = World::chain(&["db"]);
    world.seen("db").reload_pending = true;
    assert_eq!(world.change("db"), (ChangeKind::Live, vec![Reason::Files]));
    assert_eq!(world.steps().len(), 1);
}

#[test]
fn files_that_were_changed_are_written_again() {
    let mut world = World::chain(&["db"]);
    world.seen("db").drop_in = DropIn::Absent;
    assert_eq!(world.change("db"), (ChangeKind::Live, vec![Reason::Files]));
    world.seen("db").active = ActiveState::Inactive;
    assert_eq!(world.change("db"), (ChangeKind::Create, vec![Reason::NotRunning { ended: None }]));
}

#[test]
fn devices_are_compared_whatever_their_order() {
    let device = |path: &str| crate::model::Device { path: path.into(), access: "rw".to_owned() };
    let mut world = World::chain(&["db"]);
    world.edit("db", |db| db.service.devices = vec![device("/dev/fuse"), device("/dev/dri/card0")]);
    world.run("db", 1);
    world.seen("db").devices = vec![device("/dev/dri/card0"), device("/dev/fuse")];
    assert!(is_empty(&world.plan()));
    world.seen("db").devices.pop();
    assert_eq!(world.change("db"), (ChangeKind::Live, vec![Reason::DeviceRules]));
}

#[test]
fn what_died_is_started_again_when_it_may() {
    let mut world = World::chain(&["db"]);
    world.seen("db").active = ActiveState::Failed;
    world.seen("db").exit = Some(ended("signal", "KILL", None));
    let reason = Reason::NotRunning { ended: Some("signal KILL".to_owned()) };
    assert_eq!(world.change("db"), (ChangeKind::Create, vec![reason.clone()]));
    world.seen("db").retry = Retry::Later;
    assert_eq!(world.change("db"), (ChangeKind::Blocked, vec![reason.clone(), Reason::BackOff]));
    world.seen("db").retry = Retry::Never;
    assert_eq!(world.change("db"), (ChangeKind::Blocked, vec![reason, Reason::GaveUp]));
    assert!(world.steps().is_empty());
}

#[test]
fn what_is_starting_as_declared_is_waited_for_whatever_its_gates() {
    let mut world = World::chain(&["db", "app"]);
    world.seen("db").active = ActiveState::Inactive;
    for started_with in [None, world.seen("app").started_with.clone()] {
        world.seen("app").active = ActiveState::Activating;
        world.seen("app").started_with = started_with;
        assert_eq!(world.steps(), ["Start db", "Start app"]);
    }
    // With something else it is started anew.
    world.edit("app", |app| app.service.ephemeral = true);
    assert_eq!(world.steps()[0], "Stop app");
}

#[test]
fn what_is_stopping_is_left_to_end() {
    let mut world = World::chain(&["db"]);
    world.seen("db").active = ActiveState::Deactivating;
    assert_eq!(world.steps(), [] as [&str; 0]);
}

#[test]
fn what_somebody_else_started_is_started_anew() {
    let mut world = World::chain(&["db"]);
    world.seen("db").started_with = None;
    assert_eq!(world.change("db"), (ChangeKind::Restart, vec![Reason::StartedOutside]));
}

#[test]
fn a_requested_restart_is_done_when_the_invocation_is_another() {
    let mut world = World::chain(&["db"]);
    world.desired.restarts.insert(name("db"), InvocationId(1));
    world.seen("db").retry = Retry::Never;
    assert_eq!(world.change("db"), (ChangeKind::Restart, vec![Reason::Requested]));
    world.seen("db").invocation = Some(InvocationId(2));
    assert!(is_empty(&world.plan()));
}

#[test]
fn the_unhealthy_are_restarted_where_that_is_declared() {
    let mut world = World::chain(&["db"]);
    world.seen("db").health = Health::Unhealthy;
    assert!(is_empty(&world.plan()));
    let second = std::time::Duration::from_secs(1);
    world.edit("db", |db| {
        db.service.health = Some(HealthCheck {
            probe: Probe::Tcp(1),
            pressure: PressureMax::default(),
            interval: second,
            timeout: second,
            retries: 1,
            start_period: second,
            on_unhealthy: OnUnhealthy::Restart,
        });
    });
    assert_eq!(world.change("db"), (ChangeKind::Restart, vec![Reason::Unhealthy]));
    world.seen("db").retry = Retry::Later;
    assert_eq!(world.change("db"), (ChangeKind::Blocked, vec![Reason::Unhealthy, Reason::BackOff]));
}

#[test]
fn what_stands_in_the_way_of_packets_is_said_where_there_are_any() {
    let mut world = World::chain(&["db"]);
    world.observed.obstacles = vec!["the kernel forwards no packets".to_owned()];
    assert_eq!(world.plan().warnings, [(Subject::Host, "the kernel forwards no packets".to_owned())]);
    world.edit("db", |db| db.addresses = None);
    assert_eq!(world.plan().warnings, []);
}

#[test]
fn a_held_service_stops_and_its_dependents_wait_for_it_by_name() {
    let mut world = World::chain(&["db", "app"]);
    world.desired.holds.insert(name("db"), Hold { by: "anna".to_owned(), at: 0 });
    assert_eq!(world.change("db"), (ChangeKind::Hold, vec![Reason::Held]));
    assert_eq!(world.steps(), ["Stop db"]);
    for text in ["db", "app"] {
        world.seen(text).active = ActiveState::Inactive;
    }
    assert_eq!(world.steps(), ["Await(Healthy) db", "Start app < Await(Healthy) db"]);
    let warning = (Subject::Service(name("app")), "waits for `db`, which is held by anna".to_owned());
    assert_eq!(world.plan().warnings, [warning]);
}

#[test]
fn a_job_runs_once_per_specification() {
    let mut world = World::chain(&["job", "app"]);
    world.edit("job", |job| job.service.kind = Kind::Job);
    world.edit("app", |app| app.service.depends_on = [(name("job"), Condition::Completed)].into());
    let spec = world.files["job"].as_ref().unwrap().spec.clone();
    world.observed.containers.clear();
    assert_eq!(world.steps()[1], "Await(Completed) job < Start job");

    world.observed.containers.insert(name("job"), Container::default());
    world.seen("job").exit = Some(ended("success", "0", Some(spec.clone())));
    assert_eq!(world.change("job"), (ChangeKind::Unchanged, vec![]));
    assert_eq!(world.steps(), ["Start app"]);

    // Again, when somebody asks for this end of it to be followed by another.
    world.desired.restarts.insert(name("job"), InvocationId(9));
    assert_eq!(world.change("job"), (ChangeKind::Create, vec![Reason::Requested]));
    world.desired.restarts.clear();

    // Its failure says nothing of the kind, nor does the success of another specification, nor a stop.
    world.seen("job").exit = Some(ended("exit-code", "1", Some(spec.clone())));
    assert_eq!(world.change("job").0, ChangeKind::Create);
    world.seen("job").exit = Some(ended("success", "0", None));
    assert_eq!(world.change("job").0, ChangeKind::Create);
    world.seen("job").exit = Some(ExitRecord { stopped: true, ..ended("success", "0", Some(spec)) });
    assert_eq!(world.change("job").0, ChangeKind::Create);
}

#[test]
fn an_adopted_container_is_ordered_and_limited_but_never_rewritten() {
    let mut world = World::chain(&["db"]);
    world.edit("db", |db| db.service.system = System::Adopted);
    *world.seen("db") = Container { active: ActiveState::Active, conf: ConfFile::Foreign, ..Container::default() };
    assert_eq!(world.change("db"), (ChangeKind::Live, vec![Reason::Files]));
    world.seen("db").drop_in = DropIn::Ours(world.files["db"].as_ref().unwrap().drop_in.clone());
    assert_eq!(world.change("db"), (ChangeKind::Unchanged, vec![]));
    // Its owner's configuration has another system: NixOS restarts it only where it starts it, too.
    world.seen("db").outdated = true;
    assert_eq!(world.change("db"), (ChangeKind::Restart, vec![Reason::Field(SpecField::System)]));
    assert_eq!(world.steps(), ["Stop db", "Start db < Stop db"]);
}

#[test]
fn what_is_not_ours_blocks_and_is_not_touched() {
    let blocked = |edit: fn(&mut World), reason: Reason| {
        let mut world = World::chain(&["db"]);
        world.seen("db").active = ActiveState::Failed;
        edit(&mut world);
        let (kind, reasons) = world.change("db");
        assert_eq!((kind, reasons.last()), (ChangeKind::Blocked, Some(&reason)));
        assert!(world.steps().is_empty());
    };
    blocked(|world| world.seen("db").foreign_job = true, Reason::ForeignJob);
    blocked(|world| world.seen("db").foreign_machine = true, Reason::ForeignMachine);
    blocked(|world| world.seen("db").conf = ConfFile::Foreign, Reason::ForeignConf);
    blocked(|world| world.seen("db").conf = ConfFile::Link, Reason::ForeignConf);
    blocked(|world| world.observed.system = SystemState::Stopping, Reason::Stopping);
}

#[test]
fn a_container_of_somebody_else_is_not_mentioned() {
    let mut world = World::chain(&["db"]);
    let foreign = Container { active: ActiveState::Active, conf: ConfFile::Foreign, ..Container::default() };
    world.observed.containers.insert(name("theirs"), foreign);
    assert!(is_empty(&world.plan()));
    assert!(!world.plan().changes.contains_key("theirs"));
}

#[test]
fn a_value_that_cannot_be_carried_blocks_its_service_alone() {
    let mut world = World::chain(&["app", "db"]);
    world.edit("db", |db| db.service.nspawn_flags = vec!["two words".to_owned()]);
    let (kind, reasons) = world.change("db");
    assert_eq!(kind, ChangeKind::Blocked);
    assert!(matches!(&reasons[..], [Reason::Uncarriable(why)] if why.contains("two words")), "{reasons:?}");
    assert_eq!(world.change("app").0, ChangeKind::Unchanged);
}

/// A service under another name, with data at this path instead of `/srv/data`.
fn renamed(now: &str) -> World {
    let mount = |source: &str| Mount {
        source: source.into(),
        target: "/data".into(),
        read_only: false,
        create: false,
        must_be_mountpoint: false,
    };
    let mut world = World::chain(&["old"]);
    world.edit("old", |old| old.service.mounts = vec![mount("/srv/data")]);
    world.run("old", 1);
    let mut new = assigned("new", 2);
    new.service.mounts = vec![mount(now)];
    world.desired.services = [(name("new"), new)].into();
    world.declare();
    world
}

#[test]
fn data_passes_on_only_when_the_old_container_has_stopped() {
    let start = |now| renamed(now).steps().into_iter().find(|step| step.starts_with("Start new"));
    for now in ["/srv/data", "/srv/data/sub", "/srv"] {
        assert_eq!(start(now).as_deref(), Some("Start new < Stop old, PublishPorts, PublishNames"), "{now}");
    }
    assert_eq!(start("/srv/data-2").as_deref(), Some("Start new < PublishPorts, PublishNames"));
}

#[test]
fn data_does_not_pass_on_while_the_old_container_cannot_be_stopped() {
    let mut world = renamed("/srv/data");
    world.seen("old").foreign_job = true;
    assert_eq!(world.change("new"), (ChangeKind::Blocked, vec![Reason::New, Reason::ForeignJob]));
    assert!(!world.steps().iter().any(|step| step.starts_with("Start")));
}

#[test]
fn tables_are_repaired_without_touching_a_container() {
    let mut world = World::chain(&["db"]);
    (world.observed.firewall, world.observed.hosts) = (None, None);
    assert_eq!(world.steps(), ["PublishPorts", "PublishNames"]);
    world.observed.system = SystemState::Stopping;
    assert!(world.steps().is_empty());
}

#[test]
fn guests_follow_the_hosts_servers_of_names() {
    let mut world = World::chain(&["db"]);
    let text = |server: &str| Some(format!("nameserver {server}\n"));
    world.observed.servers.guests = text("192.0.2.1");
    assert!(world.steps().is_empty(), "the host has none, or none yet: they keep theirs");
    world.observed.servers.own = text("192.0.2.1");
    assert!(world.steps().is_empty());
    world.observed.servers.own = text("192.0.2.2");
    assert_eq!(world.steps(), ["PublishNames"]);
    world.observed.servers = Servers { own: text("127.0.0.1"), ..Servers::default() };
    let warnings = world.plan().warnings;
    assert!(warnings.iter().any(|(_, text)| text.contains("have nobody to ask for names")), "{warnings:?}");
    world.desired.services.clear();
    world.observed.hosts = None;
    assert!(!world.steps().contains(&"PublishNames".to_owned()), "nobody reads them");
}

#[test]
fn another_system_is_switched_to_where_the_guest_can_and_nothing_else_needs_a_restart() {
    let mut world = World::chain(&["db"]);
    let another = System::Store(format!("/nix/store/{}-new", "b".repeat(32)).parse().unwrap());
    world.edit("db", |db| {
        db.service.system = another;
        db.service.limits.tasks_max = Some(9);
    });
    assert_eq!(world.change("db").0, ChangeKind::Restart);
    world.seen("db").can_switch = true;
    let (kind, reasons) = world.change("db");
    assert_eq!((kind, &reasons[0]), (ChangeKind::Live, &Reason::Field(SpecField::System)));
    assert!(matches!(reasons[1..], [Reason::Limit { key: "tasks_max", .. }]), "{reasons:?}");
    assert_eq!(world.steps(), ["Update db"]);
    world.edit("db", |db| db.service.ephemeral = true);
    assert_eq!(world.change("db").0, ChangeKind::Restart);
}

#[test]
fn slices_are_set_before_a_start_and_changed_without_one() {
    let mut world = World::chain(&["db"]);
    let budget = Limits { tasks_max: Some(9), ..Limits::default() };
    world.desired.budgets = vec![("cloud".parse().unwrap(), budget.clone())];
    assert_eq!(world.steps(), ["SetSlices"]);
    world.observed.containers.clear();
    assert_eq!(world.steps(), ["SetSlices", "Start db < SetSlices"]);
    world.observed.slices = slice::done(&slice::slices(&world.desired, Protection::default()));
    assert_eq!(world.steps(), ["Start db"]);
    world.desired.budgets.clear();
    assert_eq!(world.steps(), ["SetSlices", "Start db < SetSlices"], "what nobody declares any more is taken away");
    world.observed.system = SystemState::Stopping;
    assert!(world.steps().is_empty());
}

#[test]
fn a_circle_of_dependencies_starts_nothing_and_says_so() {
    let mut world = World::chain(&["db", "app"]);
    world.edit("db", |db| db.service.depends_on = [(name("app"), Condition::Started)].into());
    world.observed.containers.clear();
    let plan = world.plan();
    assert_eq!(ready(&plan).count(), 0);
    assert!(plan.warnings.iter().any(|(_, text)| text.contains("in a circle")), "{:?}", plan.warnings);
}

#[test]
fn dependents_are_found_over_any_distance_while_they_run() {
    let mut world = World::chain(&["db", "app", "web"]);
    let of = |world: &World, text: &str| running_dependents(&world.desired, &world.observed, &[name(text)].into());
    assert_eq!(of(&world, "db"), BTreeSet::from([name("app"), name("web")]));
    world.seen("web").active = ActiveState::Inactive;
    assert_eq!(of(&world, "db"), BTreeSet::from([name("app")]));
}

#[test]
fn a_condition_holds_for_the_declared_instance_only() {
    let mut world = World::chain(&["db"]);
    let holds = |world: &World, condition| holds(&world.desired, &world.observed, &world.files, "db", condition);
    assert!(holds(&world, Condition::Healthy) && holds(&world, Condition::Started));
    world.edit("db", |db| db.service.ephemeral = true);
    assert!(!holds(&world, Condition::Started));
}

#[test]
fn a_fingerprint_moves_with_the_host_but_not_with_time() {
    let original = World::chain(&["db"]);
    let print = |world: &World| fingerprint(&world.desired, &world.observed);
    let moved = |edit: fn(&mut World)| {
        let mut world = World::chain(&["db"]);
        edit(&mut world);
        print(&world) != print(&original)
    };
    assert!(!moved(|world| world.seen("db").health = Health::Unhealthy));
    assert!(!moved(|world| world.seen("db").invocation = None));
    assert!(!moved(|world| world.seen("db").retry = Retry::Later));
    assert!(moved(|world| world.seen("db").active = ActiveState::Failed));
    assert!(moved(|world| world.seen("db").limits.tasks_max = Some(1)));
    assert!(moved(|world| world.seen("db").drop_in = DropIn::Absent));
    assert!(moved(|world| world.seen("db").reload_pending = true));
    assert!(moved(|world| world.desired.generation = 2));
    assert!(moved(|world| drop(world.desired.holds.insert(name("db"), Hold { by: String::new(), at: 0 }))));
    assert_eq!(print(&original).to_string().parse(), Ok(print(&original)));
    assert!("xyz".parse::<Fingerprint>().is_err());
}

#[test]
fn an_adopted_container_that_the_host_starts_at_boot_is_warned_of_when_it_has_gates() {
    let mut world = World::chain(&["db", "app"]);
    for text in ["db", "app"] {
        world.edit(text, |service| service.service.system = System::Adopted);
        *world.seen(text) =
            Container { conf: ConfFile::Foreign, boot_start: BootStart::Host, ..Container::default() };
    }
    let warned = |world: &World| {
        let warnings = boot_warnings(&world.desired, &world.observed);
        warnings.into_iter().map(|(subject, _)| subject).collect::<Vec<_>>()
    };
    // `db` waits for nothing, so nothing is lost.
    assert_eq!(warned(&world), [Subject::Service(name("app"))]);
    world.seen("app").boot_start = BootStart::Agent;
    assert_eq!(warned(&world), []);
}

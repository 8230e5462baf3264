//! New generations on trial: what does not become healthy goes back by itself, whenever the agent dies on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Fault, HealthBehaviour, Operation};
use nixmox_agent::server::Control;
use nixmox_api::{AgentError, Applied, GenerationVerdict, Request, ServiceState, Status};
use nixmox_core::model::{Condition, OnUnhealthy, Service, System};

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{Machine, anna, is_well, name, of, on_a_machine, request};

const SECOND: Duration = Duration::from_secs(1);

/// web needs db; other beside them.
fn good() -> Vec<Service> {
    vec![
        service("db").checked(OnUnhealthy::Report),
        service("web").checked(OnUnhealthy::Report).needs("db", Condition::Healthy),
        service("other"),
    ]
}

/// The same with another web.
fn bad() -> Vec<Service> {
    let mut services = good();
    services[1] = services[1].clone().built_anew('b');
    services
}

/// Lets a system of a service answer well, or never.
fn behave(machine: &Machine, service: &Service, health: HealthBehaviour) {
    let System::Store(system) = &service.system else { panic!("it has a system") };
    let behaviour = Behaviour { start_time: SECOND, stop_time: SECOND, health, ..Behaviour::default() };
    machine.host.behave_with(&service.name, system, behaviour);
}

/// Brings the good stack up, and lets the bad web be bad.
async fn with_a_good_generation(machine: &Machine) {
    for service in good() {
        behave(machine, &service, HealthBehaviour::After(SECOND));
    }
    behave(machine, &bad()[1], HealthBehaviour::Never);
    machine.up(&good()).await;
    machine.until("generation 1 is good", |status| is_well(status) && status.stacks[0].good).await;
}

fn is_back(status: &Status) -> bool {
    is_well(status) && status.stacks.first().is_some_and(|stack| stack.good && stack.rolled_back.is_some())
}

async fn verdicts(machine: &Machine) -> Vec<GenerationVerdict> {
    let list = machine.agent().generations().await.unwrap();
    list.generations.iter().map(|generation| generation.verdict).collect()
}

async fn rollback(machine: &Machine, to: Option<u64>, names: &[&str]) -> Result<Applied, AgentError> {
    let names = names.iter().map(ToString::to_string).collect();
    let applied = machine.agent().rollback("cloud".to_owned(), to, names, anna()).await;
    machine.catch_up().await;
    applied
}

#[test]
fn a_question_that_was_on_its_way_when_a_generation_came_does_not_make_it_wait_for_the_next_of_its_turn() {
    on_a_machine(async |machine| {
        let mut services = vec![service("other")];
        let System::Store(system) = &services[0].system else { panic!("it has a system") };
        let slow = Behaviour { probe_time: 3 * SECOND, ..Behaviour::default() };
        machine.host.behave_with(&services[0].name, system, slow);
        machine.up(&services).await;
        machine.until("generation 1 is good", |status| is_well(status) && status.stacks[0].good).await;
        for limit in [100, 200] {
            services[0].limits.tasks_max = Some(limit);
            machine.up(&services).await;
            machine.pass(SECOND).await;
        }
        let begin = tokio::time::Instant::now();
        machine.until("generation 3 is good", |status| status.host.generation == 3 && status.stacks[0].good).await;
        // Asked every 30 s else.
        assert!(begin.elapsed() < 10 * SECOND, "{:?}", begin.elapsed());
    });
}

#[test]
fn what_never_becomes_healthy_goes_back_by_itself_and_is_marked() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let before = machine.invocations().await;
        machine.up(&bad()).await;
        let trial = machine.status().await;
        assert!(trial.stacks[0].on_trial && !trial.stacks[0].good, "{:?}", trial.stacks);
        let status = machine.until("it is back", is_back).await;
        assert_eq!(status.host.generation, 3);
        assert_eq!(status.host.generation_by.name, "nixmox-agent");
        let back = status.stacks[0].rolled_back.clone().unwrap();
        assert_eq!((back.from, back.to, back.services.as_slice()), (2, 1, ["web".to_owned()].as_slice()));
        assert_eq!(back.reasons, ["web: simulated -> 503"]);
        machine.assert_as_declared("rolled back");
        let after = machine.invocations().await;
        assert_eq!((after["db"], after["other"]), (before["db"], before["other"]), "others were left alone");
        assert_eq!(
            verdicts(machine).await,
            [GenerationVerdict::Good, GenerationVerdict::Bad, GenerationVerdict::Good]
        );
        // Not by itself again, and not by another agent.
        let settled = machine.right();
        machine.pass(Duration::from_hours(2)).await;
        machine.reboot().await;
        machine.until_well().await;
        assert_eq!(machine.status().await.host.generation, 3);
        assert_eq!(settled.len(), 3);
    });
}

#[test]
fn what_fails_to_start_goes_back_too_and_a_slow_start_does_not() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let broken = good()[1].clone().built_anew('c');
        let System::Store(system) = &broken.system else { panic!() };
        machine.host.behave_with(&broken.name, system, Behaviour { failing_starts: 1000, ..Behaviour::default() });
        machine.up(&[good()[0].clone(), broken, good()[2].clone()]).await;
        let status = machine.until("it is back", is_back).await;
        assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().services, ["web"]);
        // Another one is a moment late: its first starts fail, then it is well.
        let late = good()[1].clone().built_anew('d');
        let System::Store(system) = &late.system else { panic!() };
        machine.host.behave_with(&late.name, system, Behaviour { failing_starts: 2, ..Behaviour::default() });
        let late = [good()[0].clone(), late, good()[2].clone()];
        machine.up(&late).await;
        let status = machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!((status.host.generation, &status.stacks[0].rolled_back), (4, &None));
    });
}

#[test]
fn who_asks_for_it_keeps_what_fails() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.apply(Request { no_rollback: Some(true), ..request(&bad()) }).await.unwrap();
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.pass(Duration::from_hours(2)).await;
        let status = machine.status().await;
        assert_eq!((status.host.generation, of(&status, "web").state), (2, ServiceState::Unhealthy));
        // What comes next goes back to what was good, not to this.
        machine.up(&[good()[0].clone(), bad()[1].clone().memory_max(1), good()[2].clone()]).await;
        let back = machine.until("it is back", is_back).await.stacks[0].rolled_back.clone().unwrap();
        assert_eq!((back.from, back.to), (3, 1));
    });
}

#[test]
fn a_trial_can_be_called_off() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.up(&bad()).await;
        machine.apply(Request { no_rollback: Some(true), ..request(&bad()) }).await.unwrap();
        machine.pass(Duration::from_hours(1)).await;
        let status = machine.status().await;
        assert_eq!((status.host.generation, of(&status, "web").state), (3, ServiceState::Unhealthy));
    });
}

#[test]
fn a_first_generation_has_nothing_to_go_back_to() {
    on_a_machine(async |machine| {
        behave(machine, &bad()[1], HealthBehaviour::Never);
        machine.up(&bad()).await;
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.pass(Duration::from_hours(1)).await;
        let status = machine.status().await;
        assert_eq!((status.host.generation, status.stacks[0].good, status.stacks[0].on_trial), (1, false, false));
    });
}

#[test]
fn what_was_good_once_is_not_judged_again() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let next = [good()[0].clone(), good()[1].clone().built_anew('c'), good()[2].clone()];
        machine.up(&next).await;
        machine.until("generation 2 is good", |status| is_well(status) && status.stacks[0].good).await;
        machine.host.behave(&name("web"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.restart_agent().await;
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.status().await.host.generation, 2);
    });
}

#[test]
fn a_limit_that_is_refused_goes_back() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let before = machine.invocations().await;
        for _ in 0..5 {
            machine.host.fail_next(Operation::Update(name("web")), Fault::Before);
        }
        machine.up(&[good()[0].clone(), good()[1].clone().memory_max(1), good()[2].clone()]).await;
        machine.until("it is back", is_back).await;
        machine.assert_as_declared("rolled back");
        assert_eq!(machine.invocations().await, before);
    });
}

#[test]
fn what_is_new_goes_and_what_was_pruned_comes_back() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let wiki = service("wiki").checked(OnUnhealthy::Report);
        behave(machine, &wiki, HealthBehaviour::Never);
        let services = [good()[0].clone(), good()[1].clone(), wiki];
        let address = of(&machine.status().await, "other").address.clone();
        machine.apply(Request { prune: true, ..request(&services) }).await.unwrap();
        let status = machine.until("it is back", is_back).await;
        let names: BTreeSet<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["db", "other", "web"]));
        assert_eq!(of(&status, "other").address, address);
        machine.assert_as_declared("rolled back");
    });
}

#[test]
fn a_dependent_that_a_change_breaks_is_a_reason_to_go_back() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let other_db = good()[0].clone().built_anew('b');
        behave(machine, &other_db, HealthBehaviour::After(SECOND));
        machine.host.behave(&name("web"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.up(&[other_db, good()[1].clone(), good()[2].clone()]).await;
        let back = |status: &Status| status.stacks[0].rolled_back.is_some();
        let status = machine.until("it is back", back).await;
        assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().services, ["web"]);
    });
}

#[test]
fn what_was_unwell_before_is_no_reason_to_go_back() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.host.behave(&name("web"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.up(&[good()[0].clone().memory_max(1), good()[1].clone(), good()[2].clone()]).await;
        let status = machine.until("it is good", |status| status.stacks[0].good).await;
        assert_eq!((status.host.generation, of(&status, "web").state), (2, ServiceState::Unhealthy));
    });
}

#[test]
fn a_job_that_fails_takes_its_generation_along() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(SECOND, 0));
        machine.up(&[service("db"), job("migrate").policy(nixmox_core::model::RestartPolicy::No)]).await;
        machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        let next = job("migrate").policy(nixmox_core::model::RestartPolicy::No).built_anew('b');
        let System::Store(system) = &next.system else { panic!() };
        machine.host.behave_with(&next.name, system, runs_for(SECOND, 1));
        machine.up(&[service("db"), next]).await;
        let status = machine.until("it is back", |status| status.stacks[0].rolled_back.is_some()).await;
        assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().services, ["migrate"]);
    });
}

#[test]
fn somebody_who_stops_a_service_that_is_on_trial_ends_its_trial() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.up(&bad()).await;
        machine.stop(&["web"]).await.unwrap();
        let status = machine.until("it is good", |status| status.stacks[0].good).await;
        assert_eq!((status.host.generation, of(&status, "web").state), (2, ServiceState::Stopped));
    });
}

#[test]
fn another_stacks_deployment_does_not_end_a_trial() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.up(&bad()).await;
        let mut lab = service("lab");
        lab.stack = "lab".parse().unwrap();
        machine.apply(crate::machine::request_of("lab", &[lab])).await.unwrap();
        let status = machine.until("it is back", is_back).await;
        assert_eq!(status.host.generation, 4);
        assert!(status.services.iter().any(|service| service.name == "lab"));
        assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().from, 2);
    });
}

#[test]
fn a_rollback_that_cannot_be_made_is_told_and_tried_again() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let file = machine.state().join("generations/1.json");
        let kept = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        machine.up(&bad()).await;
        let told =
            |status: &Status| status.host.warnings.iter().any(|text| text.contains("cannot be rolled back to 1"));
        machine.until("it is told", told).await;
        std::fs::write(&file, kept).unwrap();
        let status = machine.until("it is back", is_back).await;
        assert!(!told(&status), "{:?}", status.host.warnings);
    });
}

#[test]
fn a_job_that_is_brought_back_does_not_run_again() {
    on_a_machine(async |machine| {
        let stack = |job_letter: char, web: &Service| {
            vec![job("migrate").built_anew(job_letter), web.clone().needs("migrate", Condition::Completed)]
        };
        machine.host.behave(&name("migrate"), runs_for(SECOND, 0));
        behave(machine, &bad()[1], HealthBehaviour::Never);
        let web = service("web").checked(OnUnhealthy::Report);
        behave(machine, &web, HealthBehaviour::After(SECOND));
        machine.up(&stack('a', &web)).await;
        machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        let runs = machine.count(&Operation::Start(name("migrate")));
        machine.up(&stack('b', &web.clone().built_anew('b'))).await;
        machine.until("it is back", is_back).await;
        machine.pass(Duration::from_mins(10)).await;
        machine.restart_agent().await;
        machine.until_well().await;
        assert_eq!(
            machine.count(&Operation::Start(name("migrate"))),
            runs + 1,
            "the new one ran, the old one not again"
        );
        machine.restart(&["migrate"]).await.unwrap();
        machine
            .until("it runs when it is asked for", |status| {
                is_well(status) && machine.count(&Operation::Start(name("migrate"))) == runs + 2
            })
            .await;
    });
}

#[test]
fn a_stack_that_stays_ill_does_not_hide_another_ones_failure() {
    on_a_machine(async |machine| {
        let mut ill = service("ill").checked(OnUnhealthy::Report);
        ill.stack = "blog".parse().unwrap();
        machine.host.behave(&name("ill"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.apply(crate::machine::request_of("blog", &[ill])).await.unwrap();
        machine.until_state("ill", ServiceState::Unhealthy).await;
        for service in good() {
            behave(machine, &service, HealthBehaviour::After(SECOND));
        }
        behave(machine, &bad()[1], HealthBehaviour::Never);
        machine.up(&good()).await;
        let of_cloud = |status: &Status| status.stacks.iter().find(|stack| stack.name == "cloud").cloned();
        machine.until("cloud is good", |status| of_cloud(status).is_some_and(|stack| stack.good)).await;
        machine.up(&bad()).await;
        let back =
            |status: &Status| of_cloud(status).is_some_and(|stack| stack.good && stack.rolled_back.is_some());
        machine.until("cloud is back", back).await;
    });
}

#[test]
fn what_pruning_leaves_is_enough_to_go_back() {
    let settings = nixmox_agent::settings::Settings { keep_generations: 1, ..Default::default() };
    crate::machine::on_a_machine_with(settings, async |machine| {
        with_a_good_generation(machine).await;
        for number in 0..3 {
            let mut lab = service("lab").memory_max(number + 1);
            lab.stack = "lab".parse().unwrap();
            machine.apply(crate::machine::request_of("lab", &[lab])).await.unwrap();
        }
        machine.up(&bad()).await;
        let status = machine.until("it is back", is_back).await;
        assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().from, 5);
        machine.assert_as_declared("rolled back");
    });
}

#[test]
fn what_needs_something_that_has_its_time_is_not_to_blame() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        // The database takes 50 s, and web is unwell for want of it.
        let late = good()[0].clone().built_anew('b');
        behave(machine, &late, HealthBehaviour::After(50 * SECOND));
        machine.up(&[late, good()[1].clone(), good()[2].clone()]).await;
        machine.host.behave(&name("web"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.pass(5 * SECOND).await;
        assert_eq!(machine.service("db").await.state, ServiceState::Starting, "it has its time");
        machine.host.behave(&name("web"), Behaviour::default());
        let status = machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(status.host.generation, 2);
    });
}

#[test]
fn a_limit_that_is_to_heal_is_given_its_time() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.host.behave(&name("web"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.until_state("web", ServiceState::Unhealthy).await;
        machine.up(&[good()[0].clone(), good()[1].clone().memory_max(8), good()[2].clone()]).await;
        machine.pass(20 * SECOND).await;
        machine.host.behave(&name("web"), Behaviour::default());
        let status = machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(status.host.generation, 2);
    });
}

#[test]
fn what_was_on_trial_with_a_bad_generation_is_bad_too() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.up(&bad()).await;
        machine.up(&[bad()[0].clone(), bad()[1].clone(), bad()[2].clone().memory_max(1)]).await;
        machine.until("it is back", is_back).await;
        assert_eq!(
            verdicts(machine).await,
            [GenerationVerdict::Good, GenerationVerdict::Bad, GenerationVerdict::Bad, GenerationVerdict::Good]
        );
        assert!(rollback(machine, None, &[]).await.is_err(), "nothing bad comes back by default");
    });
}

#[test]
fn who_stops_a_unit_by_hand_is_no_failure() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let next = [good()[0].clone(), good()[1].clone().built_anew('c'), good()[2].clone()];
        behave(machine, &next[1], HealthBehaviour::After(20 * SECOND));
        machine.up(&next).await;
        machine.pass(5 * SECOND).await;
        machine.host.stop_outside(&name("web"));
        let status = machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(status.host.generation, 2);
    });
}

/// A deployment that fails, with an agent that dies when it begins its operation after these, and another one.
fn die_at(skipped: usize, fault: Option<Fault>) -> bool {
    let mut died = true;
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let kept = machine.invocations().await;
        let trigger = machine.trigger();
        machine.host.interrupt(skipped, fault, move || trigger.abort());
        drop(machine.apply(request(&bad())).await);
        died = machine.is_dead().await;
        if !died {
            return;
        }
        machine.boot_agent();
        let context = format!("{fault:?} at operation {skipped}");
        machine.catch_up().await;
        let status = machine.until(&context, |status| !status.host.busy && is_back(status)).await;
        assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().to, 1, "{context}");
        machine.assert_as_declared(&context);
        let after = machine.invocations().await;
        assert_eq!((after["db"], after["other"]), (kept["db"], kept["other"]), "{context}");
        assert_eq!(machine.host.broken_gates(), [], "{context}");
    });
    died
}

#[test]
fn an_agent_that_dies_at_any_step_of_a_failing_deployment_goes_back_all_the_same() {
    for fault in [None, Some(Fault::Before), Some(Fault::After), Some(Fault::Hang)] {
        let deaths = (0..100).take_while(|skipped| die_at(*skipped, fault)).count();
        assert!((5..100).contains(&deaths), "{fault:?}: a stop and a start each way, and the roots: {deaths}");
    }
}

#[test]
fn an_agent_that_is_killed_at_any_time_of_a_failing_deployment_goes_back_all_the_same() {
    // The trial takes 63 s, the way back two: each moment of that, and a second kill a little later.
    for tick in 0..140 {
        on_a_machine(async |machine| {
            with_a_good_generation(machine).await;
            machine.up(&bad()).await;
            machine.pass(Duration::from_millis(tick * 503)).await;
            machine.restart_agent().await;
            machine.pass(Duration::from_millis(tick * 7)).await;
            machine.restart_agent().await;
            let context = format!("killed after {} ms", tick * 503);
            let status = machine.until(&context, is_back).await;
            assert_eq!(status.stacks[0].rolled_back.as_ref().unwrap().from, 2, "{context}");
            machine.assert_as_declared(&context);
        });
    }
}

#[test]
fn a_host_that_goes_down_during_a_trial_is_no_verdict() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let next = [good()[0].clone(), good()[1].clone().built_anew('c'), good()[2].clone()];
        behave(machine, &next[1], HealthBehaviour::After(20 * SECOND));
        machine.up(&next).await;
        machine.pass(5 * SECOND).await;
        machine.reboot().await;
        let status = machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(status.host.generation, 2);
    });
}

#[test]
fn a_person_goes_back_one_change_or_to_any_generation_and_by_name() {
    on_a_machine(async |machine| {
        let of_web = |letter, gigabytes| good()[1].clone().built_anew(letter).memory_max(gigabytes);
        let stack = |web: &Service, db: u64| vec![good()[0].clone().memory_max(db), web.clone(), good()[2].clone()];
        for (web, db) in [(of_web('c', 1), 1), (of_web('d', 1), 1), (of_web('d', 2), 2)] {
            machine.up(&stack(&web, db)).await;
            machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        }
        let limits = async || {
            let status = machine.status().await;
            let of = |name| (of(&status, name).memory_max.unwrap_or(0) >> 30, of(&status, name).system.clone());
            (of("db").0, of("web").0, of("web").1.unwrap_or_default()[11..12].to_owned())
        };
        assert_eq!(limits().await, (2, 2, "d".to_owned()));
        let applied = rollback(machine, None, &["web"]).await.unwrap();
        assert_eq!(applied.generation, 4);
        machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(limits().await, (2, 1, "d".to_owned()), "web alone went back by one");
        rollback(machine, Some(1), &[]).await.unwrap();
        machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(limits().await, (1, 1, "c".to_owned()));
        machine.assert_as_declared("as in generation 1");
        let list = machine.agent().generations().await.unwrap().generations;
        let restored: Vec<_> = list.iter().map(|generation| generation.restored).collect();
        assert_eq!(restored, [None, None, None, Some(2), Some(1)]);
        // Nothing to be done makes no generation, and what is not there is named.
        assert_eq!(rollback(machine, Some(1), &[]).await.unwrap().generation, 5);
        let unknown = rollback(machine, Some(9), &[]).await.unwrap_err();
        assert!(matches!(unknown, AgentError::UnknownGeneration { number: 9, .. }), "{unknown:?}");
        let unknown = rollback(machine, Some(1), &["wiki"]).await.unwrap_err();
        assert!(matches!(unknown, AgentError::UnknownService { .. }), "{unknown:?}");
    });
}

#[test]
fn a_rollback_ignores_what_is_held_and_a_bad_generation() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.up(&bad()).await;
        machine.until("it is back", is_back).await;
        machine.stop(&["other"]).await.unwrap();
        let refused = rollback(machine, None, &[]).await.unwrap_err();
        assert!(matches!(&refused, AgentError::Refused { reason, .. } if reason.contains("no earlier generation")));
        // Whoever names it gets it.
        rollback(machine, Some(2), &["web"]).await.unwrap();
        let status = machine.until_state("web", ServiceState::Unhealthy).await;
        assert_eq!(status.name, "web");
        machine.pass(Duration::from_hours(1)).await;
        let status = machine.status().await;
        assert_eq!((status.host.generation, of(&status, "other").state), (4, ServiceState::Stopped));
    });
}

#[test]
fn a_stack_that_was_taken_down_comes_back() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        machine.down().await;
        machine.until("it is gone", |status| status.services.is_empty()).await;
        rollback(machine, None, &[]).await.unwrap();
        machine.until_well().await;
        machine.assert_as_declared("it came back");
    });
}

#[test]
fn two_generations_are_told_apart_service_by_service() {
    on_a_machine(async |machine| {
        machine.up(&good()).await;
        machine.until_well().await;
        let services = [good()[0].clone().memory_max(2), good()[1].clone().built_anew('b'), service("wiki")];
        machine.apply(Request { prune: true, ..request(&services) }).await.unwrap();
        let diff = machine.agent().diff(1, 2).await.unwrap();
        let lines: Vec<String> = diff
            .services
            .iter()
            .map(|service| {
                let of = |d: &nixmox_api::Difference| format!(" {}", d.key);
                let differences: String = service.differences.iter().map(of).collect();
                format!("{} {}{differences}", service.change, service.name)
            })
            .collect();
        assert_eq!(lines, ["changed db limits.memory_max", "removed other", "changed web system", "added wiki"]);
        assert!(machine.agent().diff(1, 1).await.unwrap().services.is_empty());
        let unknown = machine.agent().diff(1, 7).await.unwrap_err();
        assert!(matches!(unknown, AgentError::UnknownGeneration { number: 7, .. }));
    });
}

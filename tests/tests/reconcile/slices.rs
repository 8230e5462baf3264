//! Budgets of stacks and protection of memory: set before anything starts, changed live, repaired, taken away.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Fault, Operation};
use nixmox_agent::server::Control;
use nixmox_agent::settings::{DriftPolicy, Settings};
use nixmox_api::{Request, Status};
use nixmox_core::model::{Bytes, Facts, RestartPolicy, Service, System};
use nixmox_core::slice::{MACHINES, STACKS};

use crate::declare::{Declare, service};
use crate::machine::{Machine, anna, is_well, name, on_a_machine, on_a_machine_with, request};

const CLOUD: &str = "machine-nixmox-cloud.slice";

fn protected(text: &str, mebibytes: u64) -> Service {
    let mut service = service(text);
    service.limits.memory_min = Some(Bytes(mebibytes << 20));
    service
}

fn budget(gibibytes: u64) -> nixmox_api::Limits {
    nixmox_api::Limits { memory_max: Some(gibibytes << 30), ..nixmox_api::Limits::default() }
}

/// Returns the request of two services, of which one is protected, with a budget.
fn with_budget(gibibytes: u64) -> Request {
    Request { limits: Some(budget(gibibytes)), ..request(&[service("app"), protected("db", 64)]) }
}

fn min(machine: &Machine, slice: &str) -> Option<u64> {
    machine.host.slices().get(slice).and_then(|limits| limits.memory_min).map(|bytes| bytes.0 >> 20)
}

fn max(machine: &Machine) -> Option<u64> {
    machine.host.slices().get(CLOUD).and_then(|limits| limits.memory_max).map(|bytes| bytes.0 >> 30)
}

#[test]
fn a_budget_is_there_before_the_first_start_and_changes_without_a_restart() {
    on_a_machine(async |machine| {
        machine.apply(with_budget(4)).await.unwrap();
        machine.until_well().await;
        let trace = machine.host.trace();
        let place = |wanted: &Operation| trace.iter().position(|operation| operation == wanted).unwrap();
        for text in ["app", "db"] {
            assert!(place(&Operation::SetSlices) < place(&Operation::Start(name(text))), "{trace:?}");
        }
        assert_eq!(max(machine), Some(4));
        assert_eq!([CLOUD, STACKS, MACHINES].map(|slice| min(machine, slice)), [Some(64); 3]);

        let right = machine.right();
        machine.host.clear_trace();
        let applied = machine.apply(with_budget(3)).await.unwrap();
        let reasons: Vec<String> = applied.plan.limits.unwrap().into_iter().map(|reason| reason.text).collect();
        assert_eq!(reasons, ["memory_max 4G -> 3G"]);
        machine.pass(Duration::from_millis(50)).await;
        assert!(machine.status().await.stacks[0].on_trial, "it is not in effect yet: {:?}", max(machine));
        machine.until("it is good", |status| is_well(status) && status.stacks[0].good).await;
        assert_eq!(max(machine), Some(3));
        assert_eq!(machine.trace(), [""; 0]);
        machine.assert_kept(&right, "a new budget");
        machine.assert_as_declared("a new budget");
        let same = machine.agent().plan(with_budget(3)).await.unwrap();
        assert_eq!(same.limits, None);
        let differ = machine.agent().diff(1, 2).await.unwrap().stacks.unwrap();
        let texts = differ.iter().flat_map(|stack| &stack.differences);
        let texts: Vec<_> = texts.map(|d| (d.key.as_str(), d.from.as_str(), d.to.as_str())).collect();
        assert_eq!(texts, [("limits.memory_max", "4G", "3G")]);

        // An agent that dies and one after a reboot know it still.
        machine.host.reboot();
        machine.until("it is there again", |_| max(machine) == Some(3)).await;
        machine.until_well().await;

        machine.agent().down("cloud".to_owned(), Vec::new(), anna()).await.unwrap();
        machine.until("nothing is left", |_| machine.host.slices().is_empty()).await;
    });
}

#[test]
fn a_rollback_brings_the_budget_back() {
    on_a_machine(async |machine| {
        machine.apply(with_budget(4)).await.unwrap();
        machine.until_well().await;
        machine.apply(request(&[service("app"), service("db")])).await.unwrap();
        machine.until("the limits are gone", |_| machine.host.slices().is_empty()).await;
        machine.until_well().await;
        machine.agent().rollback("cloud".to_owned(), None, Vec::new(), anna()).await.unwrap();
        machine.until("they are back", |_| max(machine) == Some(4) && min(machine, MACHINES) == Some(64)).await;
        machine.until_well().await;
    });
}

#[test]
fn a_budget_proves_itself_once_it_is_in_effect_and_goes_back_with_what_does_not_get_by_with_it() {
    on_a_machine(async |machine| {
        let System::Store(system) = &service("db").system else { panic!("it has a system") };
        let slow = Behaviour { probe_time: Duration::from_secs(1), ..Behaviour::default() };
        machine.host.behave_with(&name("db"), system, slow);
        let with = |gibibytes| Request {
            limits: Some(budget(gibibytes)),
            ..request(&[service("app"), service("db").policy(RestartPolicy::No)])
        };
        machine.apply(with(4)).await.unwrap();
        let is_good = |status: &Status, generation| {
            status.stacks.first().is_some_and(|stack| stack.good) && status.host.generation == generation
        };
        machine.until("it is good", |status| is_good(status, 1)).await;

        // systemd takes its time, and no answer from before says anything about it.
        machine.apply(with(1)).await.unwrap();
        machine.pass(Duration::from_millis(50)).await;
        assert_eq!(max(machine), Some(4));
        assert!(machine.status().await.stacks[0].on_trial);
        machine.pass(Duration::from_millis(1450)).await;
        assert_eq!(max(machine), Some(1));
        assert!(machine.status().await.stacks[0].on_trial, "asked before the budget was there");
        machine.host.kill_for_memory(&name("db"), None, true);
        machine.until("it is back", |status| is_good(status, 3)).await;
        machine.until_well().await;
        assert_eq!(max(machine), Some(4));

        // What is killed first and seen to be dead a moment later.
        machine.apply(with(2)).await.unwrap();
        machine.pass(Duration::from_millis(1900)).await;
        machine.host.kill_for_memory(&name("db"), None, false);
        machine.pass(Duration::from_millis(500)).await;
        assert!(machine.status().await.stacks[0].on_trial);
        machine.host.kill(&name("db"));
        machine.until("it is back", |status| is_good(status, 5)).await;
        assert_eq!(max(machine), Some(4));
    });
}

#[test]
fn who_names_services_changes_no_budget_and_is_told_so() {
    on_a_machine(async |machine| {
        let named = |gibibytes| Request { only: vec!["app".to_owned()], ..with_budget(gibibytes) };
        // There is none that could stay.
        machine.apply(named(4)).await.unwrap();
        machine.until_well().await;
        assert_eq!(max(machine), Some(4));
        let applied = machine.apply(named(3)).await.unwrap();
        assert_eq!((applied.plan.limits, applied.generation), (None, 1));
        let told: Vec<&str> = applied.plan.warnings.iter().map(|warning| warning.text.as_str()).collect();
        assert!(told.iter().any(|text| text.contains("without names changes them")), "{told:?}");
        assert_eq!(max(machine), Some(4));
        let applied = machine.apply(with_budget(3)).await.unwrap();
        assert!(applied.plan.limits.is_some() && applied.plan.warnings.is_empty(), "{:?}", applied.plan.warnings);
    });
}

#[test]
fn what_somebody_else_made_of_a_slice_is_put_right_and_told() {
    let change = |machine: &Machine| {
        machine.host.change_slices_outside(|slices| {
            slices.entry(CLOUD).memory_max = Some(Bytes(7));
        });
    };
    on_a_machine(async |machine| {
        machine.apply(with_budget(4)).await.unwrap();
        machine.until_well().await;
        let (_, mut events) = Control::watch(&machine.agent());
        change(machine);
        machine.until("it is right again", |_| max(machine) == Some(4)).await;
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.extend((event.event == "drift").then(|| event.message.clone()));
        }
        assert_eq!(told, ["limits of the stacks' slices were changed by somebody else"]);
    });
    let report = Settings { drift: DriftPolicy::Report, ..Settings::default() };
    on_a_machine_with(report, async |machine| {
        machine.apply(with_budget(4)).await.unwrap();
        machine.until_well().await;
        change(machine);
        machine.until("it is told", |status| status.host.warnings.len() == 1).await;
        assert_eq!(max(machine), Some(0), "7 bytes");
    });
}

#[test]
fn no_container_waits_for_a_slice_that_cannot_be_set() {
    on_a_machine(async |machine| {
        for _ in 0..3 {
            machine.host.fail_next(Operation::SetSlices, Fault::Before);
        }
        machine.apply(with_budget(4)).await.unwrap();
        machine
            .until("both run", |status| status.services.iter().all(|service| service.invocation.is_some()))
            .await;
        machine.until("it is set after all", |_| max(machine) == Some(4)).await;
        machine.until_well().await;
        assert_eq!(machine.status().await.host.warnings, [""; 0]);
    });
}

#[test]
fn a_plan_says_what_limits_do_not_do_on_this_machine() {
    on_a_machine(async |machine| {
        let memory_total = Some(Bytes(2 << 30));
        let without = Facts { memory_total, controllers: Some("memory\n".to_owned()), ..Facts::default() };
        machine.host.set_facts(without);
        let mut app = service("app").memory_max(3);
        app.limits.tasks_max = Some(9);
        let plan = machine.agent().plan(request(&[app])).await.unwrap();
        let starts: Vec<String> = plan.warnings.iter().map(|w| w.text.chars().take(50).collect()).collect();
        assert_eq!(
            starts,
            [
                "the limits allow 3G of memory together (`memory_ma",
                "`tasks_max` has no effect here: this machine's cgr"
            ]
        );
        // It is said of what is asked for, and not for ever.
        machine.apply(request(&[service("app")])).await.unwrap();
        machine.until_well().await;
        assert_eq!(machine.status().await.host.warnings, [""; 0]);
    });
}

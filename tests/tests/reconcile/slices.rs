//! Budgets of stacks and protection of memory: set before anything starts, changed live, repaired, taken away.

use nixmox_agent::host::fake::{Fault, Operation};
use nixmox_agent::server::Control;
use nixmox_agent::settings::{DriftPolicy, Settings};
use nixmox_api::Request;
use nixmox_core::model::{Bytes, Facts, Service};
use nixmox_core::slice::{MACHINES, STACKS};

use crate::declare::{Declare, service};
use crate::machine::{Machine, anna, name, on_a_machine, on_a_machine_with, request};

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
        machine.until_well().await;
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

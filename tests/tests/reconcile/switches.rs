//! Another system in a guest that can be switched while it runs: switched without a restart, back where it does not work, restarted
//! where it refuses.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Fault, Operation};
use nixmox_agent::server::Control as _;
use nixmox_api::{Request, Status};
use nixmox_core::model::Service;

use crate::declare::{Declare, service};
use crate::machine::{Machine, is_well, name, on_a_machine, request};

/// db is one of NixOS, and takes a second for a start or a switch; web needs it.
fn services(letter: char) -> Vec<Service> {
    vec![service("db").built_anew(letter), service("web")]
}

async fn with_a_good_generation(machine: &Machine) {
    let behaviour = Behaviour { switches: true, start_time: Duration::from_secs(1), ..Behaviour::default() };
    machine.host.behave(&name("db"), behaviour);
    machine.up(&services('b')).await;
    machine.until("generation 1 is good", |status| is_good(status, 1)).await;
    machine.host.clear_trace();
}

fn is_good(status: &Status, generation: u64) -> bool {
    is_well(status) && status.stacks[0].good && status.host.generation == generation
}

#[test]
fn another_system_is_switched_to_without_a_restart() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let before = machine.invocations().await;
        let planned = machine.agent().plan(request(&services('c'))).await.unwrap();
        let db = planned.services.iter().find(|planned| planned.name == "db").unwrap();
        assert_eq!(
            (db.change.as_str(), db.reasons[0].text.as_str()),
            ("live", "system changed, switched to while it runs")
        );
        machine.apply(request(&services('c'))).await.unwrap();
        machine.pass(Duration::from_millis(500)).await;
        assert!(machine.status().await.stacks[0].on_trial, "it is on its way");
        machine.until("generation 2 is good", |status| is_good(status, 2)).await;
        assert_eq!((machine.trace(), machine.invocations().await), (vec!["update db".to_owned()], before));
        machine.assert_as_declared("switched");
        // Another agent finds nothing to do.
        machine.restart_agent().await;
        machine.until_well().await;
        assert_eq!(machine.trace(), ["update db"]);
    });
}

#[test]
fn what_refuses_to_be_switched_goes_back_or_is_restarted() {
    on_a_machine(async |machine| {
        with_a_good_generation(machine).await;
        let before = machine.invocations().await;
        let refuse = || {
            for _ in 0..2 {
                machine.host.fail_next(Operation::Update(name("db")), Fault::Refused);
            }
        };
        refuse();
        machine.up(&services('c')).await;
        machine.until("it is back", |status| is_good(status, 3)).await;
        assert_eq!(machine.invocations().await, before);

        refuse();
        machine.apply(Request { no_rollback: Some(true), ..request(&services('d')) }).await.unwrap();
        machine.until("it is there all the same", |status| is_good(status, 4)).await;
        let after = machine.invocations().await;
        assert_ne!(after["db"], before["db"]);
        assert_eq!(after["web"], before["web"]);
        machine.assert_as_declared("restarted");
    });
}

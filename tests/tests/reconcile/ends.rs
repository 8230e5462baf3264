//! Why the last instance ended: who asked, what died, what was ill, what was changed.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, HealthBehaviour};
use nixmox_api::{LastEnd, ServiceState};
use nixmox_core::model::{Bytes, OnUnhealthy};

use crate::declare::{Declare, runs_for, service};
use crate::machine::{Machine, name, of, on_a_machine};

async fn last_end(machine: &Machine) -> (String, String) {
    let LastEnd { at, kind, why } = machine.service("db").await.last_end.expect("an end");
    assert!(at.is_some(), "this agent saw it");
    (kind, why)
}

/// Waits until another instance is well than the one that is now.
async fn comes_again(machine: &Machine) {
    let before = machine.service("db").await.invocation;
    machine
        .until("another instance", |status| {
            let db = of(status, "db");
            db.state == ServiceState::Healthy && db.invocation != before
        })
        .await;
}

#[test]
fn the_first_instance_of_a_service_has_none_before_it() {
    on_a_machine(async |machine| {
        machine.up(&[service("db")]).await;
        machine.until_well().await;
        assert_eq!(machine.service("db").await.last_end, None);
    });
}

#[test]
fn a_restart_names_who_asked_and_a_stop_too() {
    on_a_machine(async |machine| {
        machine.up(&[service("db")]).await;
        machine.until_well().await;
        machine.restart(&["db"]).await.unwrap();
        comes_again(machine).await;
        assert_eq!(last_end(machine).await, ("asked".to_owned(), "a restart was asked for by anna".to_owned()));
        machine.stop(&["db"]).await.unwrap();
        machine.until_state("db", ServiceState::Stopped).await;
        assert_eq!(last_end(machine).await, ("asked".to_owned(), "stopped by anna".to_owned()));
    });
}

#[test]
fn a_death_is_told_with_its_exit_code_or_signal() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), runs_for(Duration::from_mins(20), 3));
        machine.up(&[service("db")]).await;
        machine.until_well().await;
        comes_again(machine).await;
        assert_eq!(last_end(machine).await, ("crashed".to_owned(), "ended with exit-code 3".to_owned()));
        machine.host.kill(&name("db"));
        machine.until_state("db", ServiceState::Failed).await;
        assert_eq!(last_end(machine).await, ("crashed".to_owned(), "ended with signal KILL".to_owned()));
        // An agent that comes later knows how, not when.
        machine.until_state("db", ServiceState::Healthy).await;
        machine.restart_agent().await;
        machine.until_state("db", ServiceState::Healthy).await;
        let found = machine.service("db").await.last_end.unwrap();
        assert_eq!(
            (found.at, found.kind.as_str(), found.why.as_str()),
            (None, "crashed", "ended with signal KILL")
        );
    });
}

#[test]
fn what_is_ill_and_restarted_is_told_with_its_last_answer() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.up(&[service("db").checked(OnUnhealthy::Restart)]).await;
        machine.until("it is restarted", |status| of(status, "db").last_end.is_some()).await;
        assert_eq!(
            last_end(machine).await,
            ("unhealthy".to_owned(), "it was unhealthy: simulated -> 503".to_owned())
        );
    });
}

#[test]
fn another_declaration_is_told_from_what_was_changed_by_hand() {
    on_a_machine(async |machine| {
        machine.up(&[service("db")]).await;
        machine.until_well().await;
        let mut other = service("db");
        other.environment.insert("LEVEL".to_owned(), "2".to_owned());
        machine.up(&[other]).await;
        machine.until_well().await;
        assert_eq!(
            last_end(machine).await,
            ("changed".to_owned(), "declared anew by anna: environment changed".to_owned())
        );
        // What is put right live ends nothing.
        machine.host.change_outside(&name("db"), |db| db.limits.memory_max = Some(Bytes(1)));
        machine.pass(Duration::from_mins(1)).await;
        assert_eq!(last_end(machine).await.0, "changed");
        machine.host.stop_outside(&name("db"));
        machine.until("it is seen", |status| of(status, "db").state != ServiceState::Healthy).await;
        assert_eq!(last_end(machine).await.0, "stopped_outside");
    });
}

#[test]
fn when_a_probe_was_answered_is_known_and_wakes_nobody() {
    on_a_machine(async |machine| {
        machine.up(&[service("db").checked(OnUnhealthy::Report)]).await;
        machine.until_well().await;
        let db = machine.service("db").await;
        assert!(db.probe_at.is_some() && !db.probe.is_empty(), "{db:?}");
        let number = machine.status().await.sequence;
        machine.pass(Duration::from_mins(5)).await;
        assert_eq!(machine.status().await.sequence, number, "probes that find all as it was are no news");
    });
}

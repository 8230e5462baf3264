//! `stop`, `start` and `restart`: holds outlive everything but `up`, and a restart replaces one instance.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Operation};
use nixmox_agent::server::Control;
use nixmox_api::{AgentError, ServiceState};
use nixmox_core::model::{ActiveState, Condition, Service};

use crate::declare::{Declare, service};
use crate::machine::{anna, name, of, on_a_machine};

fn stack() -> [Service; 3] {
    [service("db"), service("app").needs("db", Condition::Healthy), service("site")]
}

#[test]
fn a_hold_outlives_the_agent_and_the_host_until_it_is_released() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.stop(&["site"]).await.unwrap();
        let site = machine.until_state("site", ServiceState::Stopped).await;
        assert_eq!((site.held_by.as_deref(), site.reason.as_str()), (Some("anna"), "stopped by anna"));
        assert_eq!(site.hint, "nixmoxctl start site");
        machine.restart_agent().await;
        machine.until_state("app", ServiceState::Healthy).await;
        machine.reboot().await;
        machine.until_state("app", ServiceState::Healthy).await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.service("site").await.state, ServiceState::Stopped);
        assert_eq!(machine.count(&Operation::Start(name("site"))), 1);
        machine.start(&["site"]).await.unwrap();
        machine.until_well().await;
        machine.stop(&["site"]).await.unwrap();
        machine.until_state("site", ServiceState::Stopped).await;
        machine.up(&stack()).await;
        machine.until_well().await;
    });
}

#[test]
fn a_stop_that_would_leave_others_without_what_they_need_names_them() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let before = machine.status().await;
        let error = machine.stop(&["db"]).await.unwrap_err();
        let AgentError::HasDependents { dependents, hint } = error else { panic!("{error:?}") };
        assert_eq!(dependents, ["app"]);
        assert!(hint.contains("--with-dependents"));
        assert_eq!(machine.status().await.services, before.services);
        machine.host.clear_trace();
        let done = machine.agent().stop(vec!["db".to_owned()], true, anna()).await.unwrap();
        assert_eq!(done.services, ["app", "db"]);
        machine.until_state("db", ServiceState::Stopped).await;
        assert_eq!(machine.trace(), ["stop app", "stop db"]);
        machine.start(&["app"]).await.unwrap();
        machine.until_well().await;
        assert_eq!(machine.trace()[2..], ["start db", "start app"], "what it needs is released with it");
        assert_eq!(machine.host.broken_gates(), []);
    });
}

#[test]
fn a_restart_replaces_exactly_the_instance_that_ran() {
    on_a_machine(async |machine| {
        let stop_time = Duration::from_secs(3);
        machine.host.behave(&name("db"), Behaviour { stop_time, ..Behaviour::default() });
        machine.up(&stack()).await;
        machine.until_well().await;
        let before = machine.invocations().await;
        machine.host.clear_trace();
        machine.restart(&["db"]).await.unwrap();
        machine.restart(&["db"]).await.unwrap();
        machine.until_state("db", ServiceState::Stopping).await;
        machine.restart(&["db"]).await.unwrap();
        machine.until_well().await;
        machine.pass(Duration::from_hours(1)).await;
        let after = machine.invocations().await;
        assert_eq!(machine.trace(), ["stop db", "start db"]);
        assert_ne!(after["db"], before["db"]);
        assert_eq!((after["app"], after["site"]), (before["app"], before["site"]));
    });
}

#[test]
fn a_held_service_is_not_restarted() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.stop(&["site"]).await.unwrap();
        let error = machine.restart(&["site"]).await.unwrap_err();
        let AgentError::Refused { reason, hint } = error else { panic!("{error:?}") };
        assert_eq!((reason.as_str(), hint.as_str()), ("`site` is held by `stop`", "nixmoxctl start site"));
    });
}

#[test]
fn a_restart_before_a_hold_is_not_carried_out_after_it() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.host.behave(&name("site"), Behaviour { stop_time: Duration::from_secs(5), ..Behaviour::default() });
        machine.restart(&["site"]).await.unwrap();
        machine.until_state("site", ServiceState::Stopping).await;
        machine.stop(&["site"]).await.unwrap();
        machine.until_state("site", ServiceState::Stopped).await;
        machine.pass(Duration::from_mins(5)).await;
        assert_eq!(machine.active("site"), ActiveState::Inactive);
        machine.start(&["site"]).await.unwrap();
        machine.until_well().await;
        machine.pass(Duration::from_mins(5)).await;
        assert_eq!(machine.count(&Operation::Start(name("site"))), 2);
    });
}

#[test]
fn names_that_nothing_declares_are_refused() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        for error in [
            machine.stop(&["wiki"]).await.unwrap_err(),
            machine.start(&["wiki"]).await.unwrap_err(),
            machine.restart(&["wiki"]).await.unwrap_err(),
        ] {
            let AgentError::UnknownService { name, hint } = error else { panic!("{error:?}") };
            assert_eq!((name.as_str(), hint.as_str()), ("wiki", "there are: app, db, site"));
        }
        machine.until_well().await;
    });
}

#[test]
fn what_a_person_stopped_while_its_dependency_restarts_stays_stopped() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.restart(&["db"]).await.unwrap();
        machine.stop(&["app"]).await.unwrap();
        machine
            .until("db is back", |status| {
                of(status, "db").state == ServiceState::Healthy && of(status, "app").state == ServiceState::Stopped
            })
            .await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.active("app"), ActiveState::Inactive);
    });
}

#[test]
fn what_is_held_behind_what_is_not_is_released_too() {
    on_a_machine(async |machine| {
        let needs = |text: &str, on: &str| service(text).needs(on, Condition::Started);
        machine.host.behave(&name("app"), Behaviour { failing_starts: 1000, ..Behaviour::default() });
        machine.up(&[service("db"), needs("app", "db"), needs("site", "app")]).await;
        machine.until_state("app", ServiceState::Failed).await;
        // The app rests between two attempts, so it is nobody who would have to be stopped too.
        machine.stop(&["db", "site"]).await.unwrap();
        machine.host.behave(&name("app"), Behaviour::default());
        let done = machine.start(&["site"]).await.unwrap();
        assert_eq!(done.services, ["db", "site"]);
        machine.until_well().await;
    });
}

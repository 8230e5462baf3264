//! A host that shuts down, cannot be asked, or fails in what is asked of it.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Fault, Operation};
use nixmox_agent::server::Control;
use nixmox_api::{AgentError, ServiceState};
use nixmox_core::model::{Bytes, Condition, ConfFile, OnUnhealthy, Service};

use crate::declare::{Declare, service};
use crate::machine::{anna, name, of, on_a_machine, request};

fn stack() -> [Service; 2] {
    [service("db").checked(OnUnhealthy::Report).port(5432), service("app").needs("db", Condition::Healthy)]
}

#[test]
fn nothing_is_corrected_while_the_host_shuts_down() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.host.clear_trace();
        machine.host.shut_down();
        machine.host.stop_outside(&name("app"));
        machine.host.kill(&name("db"));
        machine.host.change_firewall_outside(None);
        machine.host.change_hosts_outside(None);
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.host.trace(), []);
        assert!(!machine.status().await.host.busy);
        assert!(machine.service("db").await.reason.contains("the host shuts down"));
        machine.reboot().await;
        machine.until_well().await;
        assert_eq!(machine.host.broken_gates(), []);
    });
}

#[test]
fn an_agent_that_was_blind_for_a_while_sees_again_and_says_so() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let looks = machine.host.looks();
        machine.host.set_blind(true);
        machine.host.kill(&name("db"));
        let status = machine.until("it says so", |status| !status.host.warnings.is_empty()).await;
        assert!(status.host.warnings[0].contains("connection refused"), "{:?}", status.host);
        assert_eq!(of(&status, "db").state, ServiceState::Healthy, "as it was last seen");
        machine.pass(Duration::from_mins(1)).await;
        assert!(machine.host.looks() - looks < 40, "{} looks", machine.host.looks() - looks);
        let AgentError::Refused { reason, .. } = machine.apply(request(&stack())).await.unwrap_err() else {
            panic!("a change needs a look")
        };
        assert!(reason.contains("connection refused"), "{reason}");
        machine.host.set_blind(false);
        machine.until("it sees", |status| status.host.warnings.is_empty()).await;
        machine.until_well().await;
        assert_eq!(machine.count(&Operation::Start(name("db"))), 2);
    });
}

#[test]
fn a_young_agent_that_is_blind_waits() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let before = machine.invocations().await;
        machine.host.set_blind(true);
        machine.restart_agent().await;
        machine.pass(Duration::from_mins(1)).await;
        assert_eq!(machine.status().await.services.len(), 0);
        assert_eq!(machine.status().await.host.warnings.len(), 1);
        machine.host.set_blind(false);
        machine.until_well().await;
        assert_eq!(machine.invocations().await, before);
    });
}

#[test]
fn ports_that_cannot_be_published_hold_nobody_back() {
    on_a_machine(async |machine| {
        for _ in 0..4 {
            machine.host.fail_next(Operation::PublishPorts, Fault::Before);
        }
        machine.up(&stack()).await;
        machine.until_state("app", ServiceState::Healthy).await;
        let status = machine.status().await;
        assert!(status.host.warnings[0].contains("cannot write"), "{:?}", status.host);
        assert!(status.host.warnings[0].contains("free space"), "{:?}", status.host);
        machine.pass(Duration::from_secs(10)).await;
        let tries = machine.count(&Operation::PublishPorts);
        assert!((2..=4).contains(&tries), "{tries} tries in ten seconds");
        let status = machine.until("they are published", |status| status.host.warnings.is_empty()).await;
        assert!(!status.host.busy);
        assert!(machine.host.firewall().is_some_and(|table| !table.is_empty()));
    });
}

#[test]
fn an_update_and_a_stop_that_fail_are_tried_again() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        let before = machine.invocations().await;
        machine.host.fail_next(Operation::Update(name("db")), Fault::Before);
        machine.host.fail_next(Operation::Update(name("db")), Fault::After);
        machine.up(&[stack()[0].clone().memory_max(1), stack()[1].clone()]).await;
        machine.until("it failed", |status| of(status, "db").reason.contains("cannot write")).await;
        let memory = || machine.host.container(&name("db")).and_then(|db| db.limits.memory_max);
        machine.until("it is done", |_| memory() == Some(Bytes(1 << 30))).await;
        let status = machine.until("it is over", |status| of(status, "db").reason.is_empty()).await;
        assert_eq!(of(&status, "db").restarts, 0);
        assert_eq!(machine.invocations().await, before);

        machine.host.fail_next(Operation::Stop(name("app")), Fault::Before);
        machine.stop(&["app"]).await.unwrap();
        machine.until("it failed", |status| of(status, "app").reason.contains("cannot write")).await;
        let app = machine.until_state("app", ServiceState::Stopped).await;
        assert_eq!(app.reason, "stopped by anna");
    });
}

#[test]
fn a_client_that_leaves_does_no_harm() {
    on_a_machine(async |machine| {
        let agent = machine.agent();
        for polls in 0..6 {
            let changed = [stack()[0].clone().memory_max(polls + 1), stack()[1].clone()];
            {
                let apply = agent.apply(request(&changed), anna());
                tokio::pin!(apply);
                for _ in 0..polls {
                    if futures_util::poll!(&mut apply).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            if polls > 0 {
                let memory = Some((polls + 1) << 30);
                machine
                    .until("it is done all the same", |status| {
                        status.services.iter().any(|service| service.name == "db" && service.memory_max == memory)
                    })
                    .await;
                machine.until_well().await;
            }
        }
    });
}

#[test]
fn data_that_takes_long_to_delete_holds_nobody_up() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.host.fail_next(Operation::RemoveData(name("old")), Fault::Hang);
        let agent = machine.agent();
        let removal = tokio::task::spawn_local(async move { agent.remove_data("old".to_owned(), anna()).await });
        machine.pass(Duration::from_secs(1)).await;
        machine.host.kill(&name("db"));
        machine.until("db is back", |status| of(status, "db").state == ServiceState::Failed).await;
        machine.until_well().await;
        let refused = machine.apply(request(&[stack()[0].clone(), service("old")])).await.unwrap_err();
        let AgentError::Refused { reason, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(reason, "the data of `old` is being removed");
        assert!(!removal.is_finished());
    });
}

#[test]
fn data_of_a_container_that_somebody_else_declares_is_left_alone() {
    on_a_machine(async |machine| {
        machine.host.change_outside(&name("theirs"), |container| container.conf = ConfFile::Foreign);
        let refused = machine.agent().remove_data("theirs".to_owned(), anna()).await.unwrap_err();
        let AgentError::Refused { reason, hint } = refused else { panic!("{refused:?}") };
        assert!(reason.contains("`theirs` is somebody else's"), "{reason}");
        assert!(hint.contains("nixos-container destroy theirs"), "{hint}");
        machine.agent().remove_data("left".to_owned(), anna()).await.unwrap();
    });
}

#[test]
fn systems_that_nix_may_collect_are_told_until_they_are_safe() {
    on_a_machine(async |machine| {
        machine.host.fail_next(Operation::Root, Fault::Before);
        machine.up(&stack()).await;
        machine.until_well().await;
        let warnings = machine.agent().status().await.host.warnings;
        assert!(warnings.iter().any(|text| text.contains("Nix may collect systems")), "{warnings:?}");
        machine.down().await;
        machine.until("it is told no more", |status| status.host.warnings.is_empty()).await;
    });
}

#[test]
fn an_answer_about_an_instance_that_is_gone_is_nothing_to_the_next_one() {
    on_a_machine(async |machine| {
        let probe_time = Duration::from_secs(30);
        machine.host.behave(&name("db"), Behaviour { probe_time, ..Behaviour::default() });
        let db = [stack()[0].clone()];
        machine.up(&db).await;
        machine.until_state("db", ServiceState::Starting).await;
        machine.pass(Duration::from_secs(1)).await;
        machine.down().await;
        machine.until("it is gone", |status| status.services.is_empty() && !status.host.busy).await;
        machine.host.behave(&name("db"), Behaviour::default());
        machine.up(&db).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(1)).await;
        machine.until_well().await;
        machine.host.behave(
            &name("db"),
            Behaviour { health: nixmox_agent::host::fake::HealthBehaviour::Never, ..Behaviour::default() },
        );
        machine.until_state("db", ServiceState::Unhealthy).await;
    });
}

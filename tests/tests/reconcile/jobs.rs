//! Jobs run once per specification, whatever happens to the agent and the host.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Operation};
use nixmox_api::ServiceState;
use nixmox_core::model::{Condition, RestartPolicy, Service};

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{Machine, name, of, on_a_machine};

fn runs(machine: &Machine) -> usize {
    machine.count(&Operation::Start(name("migrate")))
}

fn stack(job: Service) -> [Service; 2] {
    [job, service("app").needs("migrate", Condition::Completed)]
}

#[test]
fn a_job_runs_once_and_not_again_after_a_restart_of_the_agent_or_the_host() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        machine.up(&stack(job("migrate"))).await;
        machine.until_well().await;
        machine.restart_agent().await;
        machine.until_well().await;
        machine.reboot().await;
        machine.until_well().await;
        machine.up(&stack(job("migrate"))).await;
        machine.pass(Duration::from_hours(1)).await;
        machine.until_well().await;
        assert_eq!(runs(machine), 1);
        assert_eq!(machine.count(&Operation::Start(name("app"))), 2, "at first and after the reboot");
        assert_eq!(machine.host.broken_gates(), []);
    });
}

#[test]
fn another_specification_runs_again_and_a_restart_does_too() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        machine.up(&stack(job("migrate"))).await;
        machine.until_well().await;
        machine.up(&stack(job("migrate").built_anew('b'))).await;
        machine.until("it runs again", |status| of(status, "migrate").state == ServiceState::Starting).await;
        machine.until_well().await;
        assert_eq!(runs(machine), 2);
        machine.restart(&["migrate"]).await.unwrap();
        machine.until("it runs again", |status| of(status, "migrate").state == ServiceState::Starting).await;
        machine.until_well().await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(runs(machine), 3);
        machine.reboot().await;
        machine.until_well().await;
        machine.restart(&["migrate"]).await.unwrap();
        machine.pass(Duration::from_mins(1)).await;
        assert_eq!(runs(machine), 4, "also when only the notes remember it");
        assert_eq!(machine.count(&Operation::Start(name("app"))), 2, "at first and after the reboot");
    });
}

#[test]
fn a_job_that_failed_is_tried_again_with_back_off_and_up_to_its_cap() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 3));
        machine.up(&stack(job("migrate").attempts(2))).await;
        assert_eq!(machine.start_times("migrate", 3).await, [0, 6, 13]);
        machine.until("it gave up", |status| of(status, "migrate").reason.contains("forbids")).await;
        assert_eq!(machine.service("app").await.reason, "waits for migrate to be completed");
        assert_eq!(machine.active("app"), nixmox_core::model::ActiveState::Inactive);
    });
}

#[test]
fn agents_that_are_restarted_do_not_run_a_failed_job_again_and_again() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 3));
        machine.up(&stack(job("migrate").policy(RestartPolicy::No))).await;
        machine.until_state("migrate", ServiceState::Failed).await;
        for _ in 0..5 {
            machine.restart_agent().await;
            let migrate = machine.until_state("migrate", ServiceState::Failed).await;
            assert!(migrate.reason.contains("exit-code 3"), "{}", migrate.reason);
        }
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(runs(machine), 1);
    });
}

#[test]
fn a_job_that_ends_just_when_another_one_is_declared_does_not_count_for_that_one() {
    for early in 0..4_u64 {
        on_a_machine(async |machine| {
            machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
            machine.up(&stack(job("migrate"))).await;
            machine.until("it runs", |status| of(status, "migrate").invocation.is_some()).await;
            machine.pass(Duration::from_millis(5000 - early)).await;
            machine.up(&stack(job("migrate").built_anew('b'))).await;
            machine.until_well().await;
            assert_eq!(runs(machine), 2);
        });
    }
}

#[test]
fn a_job_that_ends_while_no_agent_runs_is_completed_for_the_next_one() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_mins(1), 0));
        machine.up(&stack(job("migrate"))).await;
        machine.until("it runs", |status| of(status, "migrate").invocation.is_some()).await;
        machine.kill_agent().await;
        machine.pass(Duration::from_mins(5)).await;
        machine.boot_agent();
        machine.until_well().await;
        machine.reboot().await;
        machine.until_well().await;
        assert_eq!(runs(machine), 1);
    });
}

#[test]
fn a_job_that_is_taken_down_and_up_again_runs_again() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        machine.up(&[job("migrate")]).await;
        machine.until_well().await;
        machine.down().await;
        machine.until("it is gone", |status| status.services.is_empty() && !status.host.busy).await;
        machine.host.behave(&name("migrate"), Behaviour::default());
        machine.up(&[job("migrate")]).await;
        machine.until_state("migrate", ServiceState::Starting).await;
        machine.pass(Duration::from_secs(1)).await;
        assert_eq!(runs(machine), 2);
    });
}

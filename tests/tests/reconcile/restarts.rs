//! The one restarter: what ends is started again after its back-off, or not, as its policy says.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, End, Fault, HealthBehaviour, Operation};
use nixmox_agent::server::Control;
use nixmox_api::{AgentError, Request, ServiceState};
use nixmox_core::model::{Condition, OnUnhealthy, RestartPolicy};

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{anna, is_well, name, of, on_a_machine, request};

/// Runs for two seconds and never answers well.
fn dies_young() -> Behaviour {
    Behaviour { health: HealthBehaviour::Never, ..runs_for(Duration::from_secs(2), 1) }
}

#[test]
fn what_dies_is_started_again_after_a_wait_that_doubles_up_to_the_longest() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), dies_young());
        let mut db = service("db").checked(OnUnhealthy::Report);
        db.restart.delay_max = Duration::from_secs(10);
        machine.up(&[db]).await;
        // Two seconds of life, then 1, 2, 4, 8, 10 and 10 of waiting.
        assert_eq!(machine.start_times("db", 7).await, [0, 3, 7, 13, 23, 35, 47]);
        let db = machine.until_state("db", ServiceState::Failed).await;
        assert_eq!(
            (db.restarts, db.reason.as_str()),
            (7, "does not run: ended with exit-code 1; waits before the next attempt")
        );
        assert_eq!(db.log, ["db: starting", "db: simulated"], "a death is a reason to read the log");
    });
}

#[test]
fn a_start_that_fails_counts_once() {
    on_a_machine(async |machine| {
        machine.host.behave(
            &name("db"),
            Behaviour { start_time: Duration::from_secs(1), failing_starts: 3, ..Behaviour::default() },
        );
        machine.up(&[service("db").checked(OnUnhealthy::Report)]).await;
        assert_eq!(machine.start_times("db", 4).await, [0, 2, 5, 10]);
        let status = machine.until_well().await;
        assert_eq!((of(&status, "db").restarts, of(&status, "db").reason.as_str()), (0, ""));
    });
}

#[test]
fn the_cap_is_final_until_somebody_asks() {
    on_a_machine(async |machine| {
        let stack = [service("db").checked(OnUnhealthy::Report).attempts(2)];
        let gave_up = async |starts: usize| {
            machine.until("it gave up", |status| of(status, "db").reason.contains("forbids a further start")).await;
            machine.pass(Duration::from_hours(1)).await;
            assert_eq!(machine.service("db").await.state, ServiceState::Failed);
            assert_eq!(machine.count(&Operation::Start(name("db"))), starts);
        };
        machine.host.behave(&name("db"), dies_young());
        machine.up(&stack).await;
        gave_up(3).await;
        machine.up(&stack).await;
        gave_up(6).await;
        machine.start(&["db"]).await.unwrap();
        gave_up(9).await;
        machine.restart(&["db"]).await.unwrap();
        gave_up(12).await;
    });
}

#[test]
fn health_and_a_long_life_make_the_next_death_a_first_one() {
    on_a_machine(async |machine| {
        machine.host.behave(
            &name("db"),
            Behaviour {
                health: HealthBehaviour::After(Duration::from_secs(1)),
                ..runs_for(Duration::from_secs(3), 1)
            },
        );
        machine.up(&[service("db").checked(OnUnhealthy::Report)]).await;
        assert_eq!(machine.start_times("db", 4).await, [0, 4, 8, 12], "it is healthy each time");
        machine.host.behave(&name("db"), dies_young());
        machine.start_times("db", 4).await;
        let long = Behaviour { health: HealthBehaviour::Never, ..runs_for(Duration::from_mins(11), 1) };
        machine.host.behave(&name("db"), long);
        machine.start_times("db", 1).await;
        let restarts = machine.service("db").await.restarts;
        let waited = machine.start_times("db", 1).await;
        assert!((660..=661).contains(&waited[0]), "{waited:?}, with {restarts} before the good run");
    });
}

#[test]
fn being_ready_is_no_proof_of_health() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), runs_for(Duration::from_secs(2), 1));
        machine.up(&[service("db").attempts(3)]).await;
        assert_eq!(machine.start_times("db", 4).await, [0, 3, 7, 13]);
        machine.until("it gave up", |status| of(status, "db").reason.contains("forbids a further start")).await;
    });
}

#[test]
fn what_dies_in_the_moment_of_its_start_is_not_started_in_a_loop() {
    for after in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(2), Duration::from_millis(3)] {
        on_a_machine(async |machine| {
            machine.host.behave(
                &name("db"),
                Behaviour {
                    health: HealthBehaviour::Never,
                    ends: Some(End { after, status: 1 }),
                    ..Behaviour::default()
                },
            );
            machine.up(&[service("db").checked(OnUnhealthy::Report)]).await;
            assert_eq!(machine.start_times("db", 5).await, [0, 1, 3, 7, 15], "{after:?}");
        });
    }
}

#[test]
fn policies_say_which_end_is_followed_by_a_start() {
    let again = [
        (RestartPolicy::No, 0, false),
        (RestartPolicy::No, 1, false),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 1, true),
    ];
    for (policy, status, expected) in again {
        on_a_machine(async |machine| {
            machine.host.behave(&name("db"), runs_for(Duration::from_secs(9), status));
            machine.up(&[service("db").policy(policy)]).await;
            machine.until_state("db", ServiceState::Failed).await;
            machine.host.behave(&name("db"), Behaviour::default());
            machine.pass(Duration::from_mins(5)).await;
            let db = machine.service("db").await;
            let state = if expected { ServiceState::Healthy } else { ServiceState::Failed };
            assert_eq!(db.state, state, "{policy:?} after {status}: {}", db.reason);
            assert!(!machine.status().await.host.busy);
        });
    }
}

#[test]
fn an_unhealthy_service_is_restarted_with_back_off_and_a_cap_where_that_is_declared() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.up(&[service("db").checked(OnUnhealthy::Restart).attempts(2)]).await;
        // A minute of start period each time.
        assert_eq!(machine.start_times("db", 3).await, [0, 61, 123]);
        let db = machine.until("it gave up", |status| of(status, "db").state == ServiceState::Unhealthy).await;
        assert!(of(&db, "db").invocation.is_some(), "it is left to run");
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.trace().iter().filter(|step| *step == "stop db").count(), 2);
        machine.host.behave(&name("db"), Behaviour::default());
        machine.until_well().await;
    });
}

#[test]
fn a_failed_start_of_what_was_declared_before_says_nothing_about_what_is_declared_now() {
    on_a_machine(async |machine| {
        let old = service("db").policy(RestartPolicy::No);
        machine.host.behave(
            &name("db"),
            Behaviour { start_time: Duration::from_secs(30), failing_starts: 1, ..Behaviour::default() },
        );
        machine.up(std::slice::from_ref(&old)).await;
        machine.until("db starts", |status| of(status, "db").invocation.is_some()).await;
        machine.pass(Duration::from_secs(29)).await;
        machine.host.behave(&name("db"), Behaviour::default());
        machine.up(&[old.built_anew('b')]).await;
        machine.until_well().await;
    });
}

#[test]
fn a_step_that_fails_at_once_is_not_taken_in_a_loop() {
    let steps: [fn(usize) -> Operation; 4] = [
        |_| Operation::Start(name("db")),
        |_| Operation::Stop(name("db")),
        |_| Operation::Update(name("db")),
        |_| Operation::Remove(name("db")),
    ];
    for (case, step) in steps.into_iter().enumerate() {
        on_a_machine(async |machine| {
            if case > 0 {
                machine.up(&[service("db")]).await;
                machine.until_well().await;
            }
            for time in 0..5 {
                machine.host.fail_next(step(time), Fault::Before);
            }
            match case {
                0 => drop(machine.up(&[service("db")]).await),
                1 => drop(machine.stop(&["db"]).await.unwrap()),
                2 => {
                    let kept = Request { no_rollback: Some(true), ..request(&[service("db").memory_max(1)]) };
                    machine.apply(kept).await.unwrap();
                }
                _ => drop(machine.down().await),
            }
            machine.pass(Duration::from_secs(20)).await;
            let tries = machine.count(&step(0));
            assert!((3..=5).contains(&tries), "{:?}: {tries} tries in 20 s", step(0));
            machine.pass(Duration::from_mins(12)).await;
            let status = machine.status().await;
            assert!(!status.host.busy, "{:?}", status.host);
            let expected =
                [vec![ServiceState::Healthy], vec![ServiceState::Stopped], vec![ServiceState::Healthy], vec![]];
            let reached: Vec<_> = status.services.iter().map(|service| service.state).collect();
            assert_eq!(reached, expected[case]);
            assert!(status.services.iter().all(|service| service.restarts == 0), "{status:?}");
        });
    }
}

#[test]
fn a_restart_whose_start_fails_at_once_falls_back_to_the_back_off() {
    on_a_machine(async |machine| {
        machine.up(&[service("db")]).await;
        machine.until_well().await;
        for _ in 0..4 {
            machine.host.fail_next(Operation::Start(name("db")), Fault::Before);
        }
        machine.host.clear_trace();
        machine.restart(&["db"]).await.unwrap();
        assert_eq!(machine.start_times("db", 4).await, [0, 1, 3, 7]);
        // Not "waiting", as it is for what somebody stopped: whoever asked must not watch for ever.
        assert_eq!(machine.service("db").await.state, ServiceState::Failed);
        assert_eq!(machine.start_times("db", 1).await, [7]);
        machine.until_well().await;
        assert_eq!(machine.count(&Operation::Stop(name("db"))), 1);
    });
}

#[test]
fn failed_updates_do_not_use_up_the_starts() {
    on_a_machine(async |machine| {
        let db = service("db").checked(OnUnhealthy::Report).attempts(1);
        machine.up(std::slice::from_ref(&db)).await;
        machine.until_well().await;
        for _ in 0..3 {
            machine.host.fail_next(Operation::Update(name("db")), Fault::Before);
        }
        machine.up(&[db.memory_max(2)]).await;
        machine.until("the update failed", |status| of(status, "db").reason.contains("cannot write")).await;
        machine.host.kill(&name("db"));
        machine.pass(Duration::from_secs(2)).await;
        machine.until_well().await;
    });
}

#[test]
fn a_restart_that_was_accepted_survives_the_agent_and_is_done_once() {
    on_a_machine(async |machine| {
        machine.up(&[service("db"), service("app").needs("db", Condition::Healthy)]).await;
        machine.until_well().await;
        let before = machine.invocations().await;
        machine.host.clear_trace();
        machine.agent().restart(vec!["app".to_owned(), "db".to_owned()], anna()).await.unwrap();
        machine.restart_agent().await;
        machine
            .until("both were replaced", |status| {
                let replaced = |name: &str| {
                    of(status, name)
                        .invocation
                        .as_ref()
                        .is_some_and(|id| !before.values().any(|old| *id == format!("{old:032x}")))
                };
                is_well(status) && replaced("db") && replaced("app")
            })
            .await;
        assert_eq!(machine.trace(), ["stop app", "stop db", "start db", "start app"]);
        machine.restart_agent().await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.trace().len(), 4, "what is done is not done again");
    });
}

#[test]
fn a_guest_that_reboots_is_back_at_once_under_every_policy() {
    for policy in [RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always] {
        on_a_machine(async |machine| {
            machine.host.behave(&name("db"), runs_for(Duration::from_mins(3), 133));
            machine.up(&[service("db").policy(policy).attempts(1)]).await;
            assert_eq!(machine.start_times("db", 5).await, [0, 180, 360, 540, 720]);
            assert_eq!(machine.until_well().await.services[0].restarts, 0);
        });
    }
}

#[test]
fn a_guest_that_reboots_over_and_over_is_started_after_waits_and_given_up() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), runs_for(Duration::from_secs(2), 133));
        machine.up(&[service("db").attempts(4)]).await;
        assert_eq!(machine.start_times("db", 5).await, [0, 3, 7, 13, 23]);
        let gave_up = "does not run: ended with a reboot; its restart policy forbids a further start";
        let status = machine.until("it gave up", |status| of(status, "db").reason == gave_up).await;
        assert_eq!((of(&status, "db").state, of(&status, "db").restarts), (ServiceState::Failed, 4));
        machine.until("a reason to read the log", |status| of(status, "db").log.len() == 2).await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.count(&Operation::Start(name("db"))), 5);
    });
}

#[test]
fn a_guest_that_rebooted_while_no_agent_was_there_is_back_with_the_next_one() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), runs_for(Duration::from_mins(3), 133));
        machine.up(&[service("db").policy(RestartPolicy::No)]).await;
        machine.until_well().await;
        machine.kill_agent().await;
        machine.pass(Duration::from_mins(5)).await;
        machine.boot_agent();
        assert_eq!(machine.start_times("db", 1).await, [1]);
    });
}

#[test]
fn what_runs_is_not_stopped_for_what_could_not_be_started() {
    on_a_machine(async |machine| {
        machine.up(&[service("db"), service("app").needs("db", Condition::Healthy)]).await;
        machine.until_well().await;
        let before = machine.invocations().await;
        machine.host.clear_trace();
        machine.host.set_lacking(&name("db"), true);
        let changed =
            [service("db").built_anew('b'), service("app").built_anew('b').needs("db", Condition::Healthy)];
        let refused = |error: AgentError| {
            let AgentError::Refused { reason, hint } = error else { panic!("{error:?}") };
            assert!(reason.contains("db could not be started again: the mount source"), "{reason}");
            assert!(reason.ends_with("nothing was changed") && !reason.contains("app could"), "{reason}");
            assert!(hint.contains("mkdir -p /srv/db"), "{hint}");
        };
        refused(machine.apply(request(&changed)).await.unwrap_err());
        refused(machine.restart(&["app", "db"]).await.unwrap_err());
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.invocations().await, before);
        assert_eq!(machine.trace(), Vec::<String>::new());
        assert_eq!(machine.status().await.host.generation, 1);

        // What is not stopped, or does not run, is nobody's loss.
        machine.up(&[service("db").memory_max(1), service("app").needs("db", Condition::Healthy)]).await;
        machine.down().await;
        machine.apply(request(&changed)).await.unwrap();
        machine.host.set_lacking(&name("db"), false);
        machine.until_well().await;
    });
}

#[test]
fn what_something_that_comes_first_may_still_make_is_not_missed() {
    on_a_machine(async |machine| {
        machine.up(&[service("app")]).await;
        machine.until_well().await;
        machine.host.set_lacking(&name("app"), true);
        machine.host.behave(&name("setup"), runs_for(Duration::from_secs(5), 0));
        let stack = [
            job("setup"),
            service("db").needs("setup", Condition::Completed),
            service("app").built_anew('b').needs("db", Condition::Healthy),
        ];
        machine.up(&stack).await;
        machine.host.set_lacking(&name("app"), false);
        machine.until_well().await;
        machine.host.set_lacking(&name("app"), true);
        machine.restart(&["setup", "app"]).await.unwrap();
        machine.host.set_lacking(&name("app"), false);
        machine.until_well().await;
    });
}

#[test]
fn a_long_wait_for_health_is_no_good_run() {
    on_a_machine(async |machine| {
        let mut db = service("db").checked(OnUnhealthy::Restart).attempts(2);
        db.health.as_mut().unwrap().start_period = Duration::from_mins(12);
        machine.host.behave(&name("db"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.up(&[db]).await;
        machine.pass(Duration::from_hours(6)).await;
        assert_eq!(machine.count(&Operation::Start(name("db"))), 3);
    });
}

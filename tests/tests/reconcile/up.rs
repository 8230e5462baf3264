//! Bringing stacks up and down: order, gates, what is told.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, HealthBehaviour};
use nixmox_agent::server::Control as _;
use nixmox_agent::settings::Settings;
use nixmox_api::{AgentError, ServiceState};
use nixmox_core::model::{Condition, OnUnhealthy, RestartPolicy, Service, System};
use nixmox_core::network::FirewallTable;

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{name, of, on_a_machine, on_a_machine_with, request};

/// db ◀─healthy─ app ◀─started─ proxy, and a job that app waits for.
fn cloud() -> Vec<Service> {
    vec![
        service("db").checked(OnUnhealthy::Report),
        job("migrate").needs("db", Condition::Healthy),
        service("app").needs("db", Condition::Healthy).needs("migrate", Condition::Completed),
        service("proxy").needs("app", Condition::Started).port(80),
    ]
}

fn slow_db() -> Behaviour {
    Behaviour {
        start_time: Duration::from_secs(3),
        health: HealthBehaviour::After(Duration::from_secs(20)),
        ..Behaviour::default()
    }
}

#[test]
fn a_chain_starts_in_order_behind_its_gates() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), slow_db());
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(4), 0));
        let applied = machine.up(&cloud()).await;
        assert_eq!(applied.generation, 1);
        let status = machine.until_state("app", ServiceState::Waiting).await;
        assert_eq!(status.reason, "waits for db to be healthy, migrate to be completed");
        let db = machine.until_state("db", ServiceState::Starting).await;
        assert_eq!(db.start_period_ms, 60_000);
        machine.until("db runs", |status| of(status, "db").probe == "simulated -> 503").await;
        assert_eq!(machine.service("migrate").await.waits_for, ["db: healthy"]);
        machine.until_state("migrate", ServiceState::Starting).await;
        assert_eq!(machine.service("app").await.waits_for, ["migrate: completed"]);
        let status = machine.until_well().await;
        assert_eq!(of(&status, "migrate").state, ServiceState::Completed);
        assert_eq!(machine.trace(), ["start db", "start migrate", "start app", "start proxy"]);
        assert_eq!(machine.host.broken_gates(), []);
    });
}

#[test]
fn an_answer_is_given_when_the_status_shows_what_was_asked_for() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), slow_db());
        let agent = machine.agent();
        // What is asked for is taken up at once, and the status is read the moment the answer is there.
        let now = async |what| {
            let status = agent.status().await;
            assert!(status.host.busy, "{what}: {status:?}");
            (status.host.generation, of(&status, "db").state)
        };
        machine.up(&[service("db")]).await;
        assert_eq!(now("up").await, (1, ServiceState::Starting));
        machine.until_well().await;
        machine.restart(&["db"]).await.unwrap();
        now("restart").await;
        machine.until_well().await;
        machine.down().await;
        assert_eq!(now("down").await.0, 2);
    });
}

#[test]
fn a_system_that_nix_does_not_know_is_refused_before_anything_is_changed() {
    on_a_machine(async |machine| {
        machine.up(&[service("db")]).await;
        machine.until_well().await;
        let new = service("db").built_anew('n');
        let System::Store(system) = &new.system else { panic!("it has a system") };
        machine.host.invalidate(system);
        let refused = machine.apply(request(std::slice::from_ref(&new))).await.unwrap_err();
        let AgentError::Refused { reason, .. } = refused else { panic!("{refused:?}") };
        assert!(reason.starts_with("not valid in the Nix store of this host: /nix/store/nnnn"), "{reason}");
        assert_eq!((machine.trace(), machine.status().await.host.generation), (vec!["start db".to_owned()], 1));
        // One that was accepted is kept, and not asked about again.
        let System::Store(system) = &service("db").system else { panic!("it has a system") };
        machine.host.invalidate(system);
        machine.apply(request(&[service("db"), service("web")])).await.unwrap();
    });
}

#[test]
fn no_more_starts_at_a_time_than_the_settings_say() {
    let settings = Settings { parallel_starts: 3, ..Settings::default() };
    on_a_machine_with(settings, async |machine| {
        let names: Vec<String> = (0..10).map(|n| format!("web{n}")).collect();
        // However slow the machine is.
        let start_time = Duration::from_mins(3);
        for web in &names {
            machine.host.behave(&name(web), Behaviour { start_time, ..Behaviour::default() });
        }
        let begin = tokio::time::Instant::now();
        machine.up(&names.iter().map(|web| service(web)).collect::<Vec<_>>()).await;
        machine.until_well().await;
        assert_eq!(machine.host.most_activating(), 3);
        assert_eq!(begin.elapsed().as_secs(), 720, "four rounds of three minutes");
    });
}

#[test]
fn jobs_that_take_hours_do_not_keep_others_from_being_started() {
    let settings = Settings { parallel_starts: 2, ..Settings::default() };
    on_a_machine_with(settings, async |machine| {
        let hours = Behaviour { start_time: Duration::from_hours(3), ..Behaviour::default() };
        for nightly in ["night1", "night2", "night3"] {
            machine.host.behave(&name(nightly), hours.clone());
        }
        machine.up(&[service("web")]).await;
        machine.until_well().await;
        machine.up(&[service("web"), job("night1"), job("night2"), job("night3")]).await;
        machine.pass(Duration::from_secs(10)).await;
        machine.host.kill(&name("web"));
        let begin = tokio::time::Instant::now();
        machine.until_state("web", ServiceState::Healthy).await;
        assert!(begin.elapsed() <= Duration::from_secs(111), "{:?}", begin.elapsed());
        machine.restart_agent().await;
        machine.pass(Duration::from_mins(2)).await;
        machine.host.kill(&name("web"));
        let begin = tokio::time::Instant::now();
        machine.until_state("web", ServiceState::Failed).await;
        machine.until_state("web", ServiceState::Healthy).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    });
}

#[test]
fn down_stops_dependents_first_and_is_busy_until_nothing_is_left() {
    on_a_machine(async |machine| {
        let stop_time = Duration::from_secs(5);
        for service in cloud() {
            machine.host.behave(&service.name, Behaviour { stop_time, ..Behaviour::default() });
        }
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(1), 0));
        machine.up(&cloud()).await;
        machine.until_well().await;
        machine.host.clear_trace();
        let begin = tokio::time::Instant::now();
        let looks = machine.host.looks();
        machine.down().await;
        machine.until("all are gone", |status| status.services.is_empty() && !status.host.busy).await;
        let stops: Vec<String> = machine.trace().into_iter().filter(|step| step.starts_with("stop")).collect();
        assert_eq!(stops, ["stop proxy", "stop app", "stop db"]);
        assert_eq!(begin.elapsed().as_secs(), 15);
        assert!(machine.invocations().await.is_empty());
        assert_eq!(machine.host.container(&name("db")), None, "its files are gone");
        assert_eq!(machine.host.firewall(), Some(FirewallTable::default()));
        assert!(machine.host.looks() - looks < 60, "{} looks", machine.host.looks() - looks);
    });
}

#[test]
fn a_slow_stop_of_what_nobody_declares_is_waited_for_and_not_polled() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), Behaviour { stop_time: Duration::from_mins(3), ..Behaviour::default() });
        machine.up(&[service("db").checked(OnUnhealthy::Report)]).await;
        machine.until_well().await;
        machine.down().await;
        let looks = machine.host.looks();
        machine.until("it is gone", |status| status.services.is_empty() && !status.host.busy).await;
        assert!(machine.host.looks() - looks < 20, "{} looks", machine.host.looks() - looks);
    });
}

#[test]
fn a_start_that_takes_too_long_can_be_stopped() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), Behaviour { start_time: Duration::from_mins(30), ..Behaviour::default() });
        machine.up(&[service("db")]).await;
        machine.until("db starts", |status| of(status, "db").invocation.is_some()).await;
        let begin = tokio::time::Instant::now();
        machine.stop(&["db"]).await.unwrap();
        let db = machine.until_state("db", ServiceState::Stopped).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_eq!((db.reason.as_str(), db.restarts), ("stopped by anna", 0));
        machine.host.behave(&name("db"), Behaviour::default());
        machine.start(&["db"]).await.unwrap();
        machine.until_well().await;
        assert!(begin.elapsed() < Duration::from_secs(10), "no back-off of a start that was called off");
    });
}

#[test]
fn a_dependency_that_fails_holds_back_what_needs_it_and_nothing_else() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), Behaviour { failing_starts: 100, ..Behaviour::default() });
        let stack = [
            service("db").policy(RestartPolicy::No),
            service("app").needs("db", Condition::Started),
            service("site"),
        ];
        machine.up(&stack).await;
        let db = machine.until_state("db", ServiceState::Failed).await;
        assert_eq!(db.reason, "`container@db.service` did not start: exit-code 1");
        assert!(db.hint.contains("nixmoxctl logs db"), "{}", db.hint);
        machine.until("its log was read", |status| of(status, "db").log.len() == 2).await;
        machine.until_state("site", ServiceState::Healthy).await;
        let app = machine.service("app").await;
        assert_eq!((app.state, app.reason.as_str()), (ServiceState::Waiting, "waits for db to be started"));
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.trace().iter().filter(|step| *step == "start db").count(), 1);
        assert!(!machine.status().await.host.busy, "nothing is under way");
    });
}

#[test]
fn a_service_that_is_stuck_unhealthy_is_told_with_its_last_answer() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("db"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.up(&[service("db").checked(OnUnhealthy::Report)]).await;
        let begin = tokio::time::Instant::now();
        let db = machine.until_state("db", ServiceState::Unhealthy).await;
        assert_eq!(begin.elapsed().as_secs(), 60, "at the end of its start period");
        assert_eq!(db.reason, "simulated -> 503");
        machine.until("its log was read", |status| !of(status, "db").log.is_empty()).await;
        machine.host.behave(&name("db"), Behaviour::default());
        let db = machine.until_state("db", ServiceState::Healthy).await;
        assert_eq!((db.probe_failures, db.log.len()), (0, 0));
    });
}

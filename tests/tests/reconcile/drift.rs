//! What others change behind the agent's back: told, given time, corrected, or only told.

use std::time::Duration;

use nixmox_agent::host::fake::Operation;
use nixmox_agent::settings::{DriftPolicy, Settings};
use nixmox_api::{ServiceState, ServiceStatus};
use nixmox_core::model::{Bytes, Condition, ConfFile, DropIn, OnUnhealthy, Service};

use crate::declare::{Declare, service};
use crate::machine::{Machine, is_well, name, of, on_a_machine, on_a_machine_with};

const SECOND: Duration = Duration::from_secs(1);

fn stack() -> [Service; 2] {
    [
        service("db").memory_max(4).checked(OnUnhealthy::Report).port(5432),
        service("app").needs("db", Condition::Started),
    ]
}

async fn well(machine: &Machine) {
    machine.up(&stack()).await;
    machine.until_well().await;
    machine.host.clear_trace();
}

fn report() -> Settings {
    Settings { drift: DriftPolicy::Report, ..Settings::default() }
}

fn drifted(service: &ServiceStatus) -> Option<(&str, Option<u64>)> {
    service.drift.first().map(|drift| (drift.what.as_str(), drift.corrected_in))
}

#[test]
fn a_limit_that_was_changed_is_told_with_a_countdown_and_corrected_live() {
    on_a_machine(async |machine| {
        well(machine).await;
        let before = machine.invocations().await;
        machine.host.change_outside(&name("db"), |db| db.limits.memory_max = Some(Bytes(6 << 30)));
        machine.until("it drifts", |status| !of(status, "db").drift.is_empty()).await;
        let expected = "memory_max is 6G, declared 4G";
        assert_eq!(drifted(&machine.service("db").await), Some((expected, Some(20))));
        assert_eq!(machine.service("db").await.state, ServiceState::Healthy);
        machine.pass(7 * SECOND).await;
        assert_eq!(drifted(&machine.service("db").await), Some((expected, Some(13))));
        machine.pass(12 * SECOND).await;
        assert_eq!(machine.trace(), [""; 0]);
        assert_eq!(drifted(&machine.service("db").await), Some((expected, Some(1))));
        machine.pass(2 * SECOND).await;
        machine.until_well().await;
        assert_eq!(machine.trace(), ["update db"]);
        assert_eq!(machine.host.container(&name("db")).unwrap().limits.memory_max, Some(Bytes(4 << 30)));
        assert_eq!(machine.invocations().await, before);
    });
}

#[test]
fn files_that_were_removed_or_changed_are_written_again_and_nothing_restarts() {
    let changes: [fn(&mut nixmox_core::model::Container); 4] = [
        |db| db.drop_in = DropIn::Absent,
        |db| db.drop_in = DropIn::Ours("[Service]\nRestart=always\n".to_owned()),
        |db| db.conf = ConfFile::Absent,
        |db| db.conf = ConfFile::Ours("SYSTEM_PATH=/nix/store/x\n".to_owned()),
    ];
    for change in changes {
        on_a_machine(async |machine| {
            well(machine).await;
            let (before, files) = (machine.invocations().await, machine.host.container(&name("db")));
            machine.host.change_outside(&name("db"), change);
            let status = machine.until("it drifts", |status| !of(status, "db").drift.is_empty()).await;
            let expected = ("its files on the host are missing or were changed", Some(20));
            assert_eq!(drifted(of(&status, "db")), Some(expected));
            machine.until("it is corrected", is_well).await;
            assert_eq!(machine.trace(), ["update db"]);
            assert_eq!(machine.host.container(&name("db")), files);
            assert_eq!(machine.invocations().await, before);
        });
    }
}

#[test]
fn a_drop_in_that_a_dead_agent_wrote_and_systemd_never_read_is_read_by_the_next_one() {
    for settings in [Settings::default(), report()] {
        on_a_machine_with(settings, async |machine| {
            well(machine).await;
            let before = machine.invocations().await;
            machine.kill_agent().await;
            machine.host.change_outside(&name("db"), |db| db.reload_pending = true);
            machine.boot_agent();
            machine.catch_up().await;
            machine.until_well().await;
            assert_eq!(machine.trace(), ["update db"]);
            assert!(!machine.host.container(&name("db")).unwrap().reload_pending);
            assert_eq!(machine.invocations().await, before);
        });
    }
}

#[test]
fn what_was_stopped_outside_is_drift_and_started_again() {
    on_a_machine(async |machine| {
        well(machine).await;
        machine.host.stop_outside(&name("db"));
        let db = machine.until_state("db", ServiceState::Waiting).await;
        assert_eq!(drifted(&db), Some(("does not run: ended with stopped", Some(20))));
        machine.pass(19 * SECOND).await;
        assert_eq!(machine.trace(), [""; 0]);
        machine.pass(2 * SECOND).await;
        let status = machine.until_well().await;
        assert_eq!(machine.trace(), ["start db"]);
        assert_eq!(of(&status, "db").restarts, 0, "it is no failure");
    });
}

#[test]
fn a_death_is_no_drift() {
    for settings in [Settings::default(), report()] {
        on_a_machine_with(settings, async |machine| {
            well(machine).await;
            machine.host.kill(&name("db"));
            let mut drift = false;
            machine.until_state("db", ServiceState::Failed).await;
            machine
                .until("it is back", |status| {
                    drift |= !of(status, "db").drift.is_empty();
                    is_well(status)
                })
                .await;
            assert!(!drift);
            assert_eq!(machine.trace(), ["start db"]);
        });
    }
}

#[test]
fn the_hosts_tables_are_put_right_at_once_and_it_is_told() {
    on_a_machine(async |machine| {
        well(machine).await;
        let (table, text) = (machine.host.firewall(), machine.host.hosts());
        let (_, mut events) = nixmox_agent::server::Control::watch(&machine.agent());
        machine.host.change_firewall_outside(None);
        machine.until("the table is back", |_| machine.host.firewall() == table).await;
        machine.host.change_hosts_outside(Some("127.0.0.1 evil\n".to_owned()));
        machine.until("the file is back", |_| machine.host.hosts() == text).await;
        // What the host itself decides is followed, and no drift.
        machine.host.change_servers_of_host(Some("nameserver 192.0.2.1\n"));
        let followed = |_: &_| machine.host.servers_of_guests().as_deref() == Some("nameserver 192.0.2.1\n");
        machine.until("guests ask whom the host asks", followed).await;
        machine.host.change_servers_of_host(None);
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            if event.service.is_empty() && event.event == "drift" {
                told.push(event.message.clone());
            }
        }
        assert_eq!(
            told,
            [
                "the nftables table `inet nixmox` was changed by somebody else",
                "the hosts file of the containers was changed by somebody else"
            ]
        );
        assert_eq!(machine.trace(), [""; 0]);
    });
}

#[test]
fn with_the_policy_report_everything_is_told_and_nothing_is_corrected() {
    on_a_machine_with(report(), async |machine| {
        well(machine).await;
        let trace = machine.host.trace().len();
        machine.host.change_outside(&name("db"), |db| db.limits.memory_max = None);
        machine.host.stop_outside(&name("app"));
        machine.host.change_firewall_outside(None);
        machine.host.change_hosts_outside(None);
        machine.pass(Duration::from_hours(1)).await;
        let status = machine.status().await;
        assert_eq!(drifted(of(&status, "db")), Some(("memory_max is unset, declared 4G", None)));
        assert_eq!(drifted(of(&status, "app")), Some(("does not run: ended with stopped", None)));
        assert_eq!(of(&status, "app").state, ServiceState::Failed, "nobody will start it");
        assert_eq!(status.host.warnings.len(), 2, "{:?}", status.host.warnings);
        assert!(!status.host.busy);
        assert_eq!(machine.host.trace().len(), trace);

        machine.host.kill(&name("db"));
        machine
            .until("db is back", |status| {
                of(status, "db").drift.is_empty() && of(status, "db").invocation.is_some()
            })
            .await;
        assert_eq!(machine.trace(), ["start db"], "a death is no drift, and what differed went with it");

        machine.up(&stack()).await;
        let status = machine.until_well().await;
        assert_eq!(machine.trace(), ["start db", "start app"], "asking for it is another matter");
        assert_eq!(status.host.warnings, [""; 0]);
        assert!(machine.host.firewall().is_some_and(|table| !table.is_empty()));
    });
}

#[test]
fn the_agents_own_changes_are_no_drift() {
    for settings in [Settings::default(), report()] {
        on_a_machine_with(settings, async |machine| {
            well(machine).await;
            let (_, mut events) = nixmox_agent::server::Control::watch(&machine.agent());
            let db = stack()[0].clone();
            machine.up(&[db.clone().memory_max(8), stack()[1].clone()]).await;
            machine.until_well().await;
            machine.up(&[db.built_anew('b').port(80), stack()[1].clone()]).await;
            machine.until_well().await;
            machine.down().await;
            machine.until("all are gone", |status| status.services.is_empty() && !status.host.busy).await;
            while let Ok(event) = events.try_recv() {
                let drift = event.current.as_ref().is_some_and(|service| !service.drift.is_empty());
                assert!(!drift && event.event != "drift", "{event:?}");
            }
        });
    }
}

#[test]
fn a_failing_correction_is_tried_again_without_another_grace() {
    on_a_machine(async |machine| {
        well(machine).await;
        for _ in 0..2 {
            machine.host.fail_next(Operation::Update(name("db")), nixmox_agent::host::fake::Fault::Before);
        }
        machine.host.change_outside(&name("db"), |db| db.limits.memory_max = None);
        machine.pass(21 * SECOND).await;
        let db = machine.service("db").await;
        assert!(db.reason.contains("cannot write"), "{}", db.reason);
        assert_eq!(drifted(&db), Some(("memory_max is unset, declared 4G", Some(0))));
        machine.pass(7 * SECOND).await;
        machine.until_well().await;
        assert_eq!(machine.trace(), ["update db"; 3]);
        assert_eq!(machine.service("db").await.reason, "");
    });
}

#[test]
fn a_drifting_agent_is_not_busy_and_asks_no_more_than_it_must() {
    on_a_machine(async |machine| {
        well(machine).await;
        machine.host.change_outside(&name("db"), |db| db.limits.memory_max = None);
        machine.until("it drifts", |status| !of(status, "db").drift.is_empty()).await;
        assert!(!machine.status().await.host.busy);
        let looks = machine.host.looks();
        machine.pass(19 * SECOND).await;
        assert!(machine.host.looks() - looks < 20, "{} looks", machine.host.looks() - looks);
    });
}

#[test]
fn a_change_without_a_signal_is_seen_all_the_same() {
    on_a_machine(async |machine| {
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.stop(&["app", "db"]).await.unwrap();
        machine
            .until("all are stopped", |status| {
                !status.host.busy && status.services.iter().all(|s| s.invocation.is_none())
            })
            .await;
        machine.pass(Duration::from_mins(30)).await;
        machine.host.lose_firewall_silently();
        machine.pass(Duration::from_mins(11)).await;
        assert!(machine.host.firewall().is_some());
    });
}

#[test]
fn since_when_a_service_runs_outlives_the_agent() {
    on_a_machine(async |machine| {
        well(machine).await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let days = now - 12 * 86_400;
        machine.kill_agent().await;
        machine.host.change_outside(&name("db"), |db| db.active_since = Some(days));
        machine.boot_agent();
        machine.catch_up().await;
        let status = machine.until_well().await;
        assert_eq!(of(&status, "db").since, Some(days));
        machine.host.kill(&name("db"));
        machine.until_state("db", ServiceState::Failed).await;
        let status = machine.until_well().await;
        assert!(of(&status, "db").since >= Some(now));
    });
}

#[test]
fn what_a_person_stopped_is_not_started_at_once_by_an_agent_that_is_restarted() {
    for (settings, starts) in [(Settings::default(), 1), (report(), 0)] {
        on_a_machine_with(settings, async |machine| {
            well(machine).await;
            machine.kill_agent().await;
            machine.host.stop_outside(&name("app"));
            machine.boot_agent();
            machine.catch_up().await;
            machine.pass(19 * SECOND).await;
            assert_eq!(machine.trace(), [""; 0]);
            assert_eq!(machine.service("app").await.drift.len(), 1, "it is told");
            machine.restart_agent().await;
            machine.pass(Duration::from_hours(1)).await;
            assert_eq!(machine.count(&Operation::Start(name("app"))), starts);
            machine.up(&stack()).await;
            machine.until_well().await;
        });
    }
}

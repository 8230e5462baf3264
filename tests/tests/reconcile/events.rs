//! What a watcher is told: everything once, in order, without gaps.

use std::sync::Arc;
use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, HealthBehaviour};
use nixmox_agent::server::Control;
use nixmox_api::{ServiceStatus, Status, Update, UpdateKind};
use nixmox_core::model::{Condition, OnUnhealthy, Service};
use tokio::sync::broadcast;

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{Machine, name, on_a_machine};

/// A client that keeps a status by what it is told.
struct Watcher {
    status: Status,
    number: u64,
    events: broadcast::Receiver<Arc<Update>>,
    told: Vec<String>,
}

impl Watcher {
    fn new(machine: &Machine) -> Self {
        let (first, events) = machine.agent().watch();
        assert_eq!((first.kind, first.resynchronize), (UpdateKind::Snapshot, false));
        Self { status: first.status.unwrap(), number: first.number, events, told: Vec::new() }
    }

    /// Takes in everything that was told.
    fn catch_up(&mut self) {
        while let Ok(update) = self.events.try_recv() {
            assert_eq!(update.kind, UpdateKind::Event);
            if update.number <= self.number {
                continue;
            }
            assert_eq!(update.number, self.number + 1, "no gap: {update:?}");
            self.number = update.number;
            if let Some(host) = &update.host {
                self.status.host = host.clone();
            }
            if !update.service.is_empty() {
                let place = self.status.services.iter().position(|service| service.name == update.service);
                match (place, update.current.clone()) {
                    (Some(place), Some(current)) => self.status.services[place] = current,
                    (None, Some(current)) => self.status.services.push(current),
                    (Some(place), None) => drop(self.status.services.remove(place)),
                    (None, None) => {}
                }
            }
            if update.event != "changed" {
                self.told.push(format!("{} {}", update.service, update.event).trim().to_owned());
            }
        }
    }

    /// Compares what was told with what is.
    fn check(&mut self, machine: &Machine) {
        self.catch_up();
        let sorted = |status: &Status| {
            let mut services: Vec<ServiceStatus> = status.services.clone();
            services.sort_by(|a, b| a.name.cmp(&b.name));
            services
        };
        let (first, _) = machine.agent().watch();
        assert_eq!(first.number, self.number, "the last event is in the snapshot");
        let status = first.status.unwrap();
        assert_eq!(sorted(&status), sorted(&self.status));
        assert_eq!(status.host, self.status.host);
    }

    /// Returns what was told about one service since the last call.
    fn of(&mut self, service: &str) -> Vec<String> {
        let prefix = format!("{service} ");
        self.told.iter().filter_map(|told| told.strip_prefix(&prefix).map(ToOwned::to_owned)).collect()
    }
}

fn stack() -> [Service; 3] {
    [
        service("db").checked(OnUnhealthy::Report),
        job("migrate").needs("db", Condition::Healthy),
        service("app").needs("migrate", Condition::Completed),
    ]
}

#[test]
fn every_transition_of_an_up_is_told_once_and_in_order() {
    on_a_machine(async |machine| {
        machine.host.behave(
            &name("db"),
            Behaviour {
                start_time: Duration::from_secs(3),
                health: HealthBehaviour::After(Duration::from_secs(9)),
                ..Behaviour::default()
            },
        );
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        let mut watcher = Watcher::new(machine);
        let applied = machine.up(&stack()).await;
        assert_eq!(applied.number, watcher.number, "nothing is told before it is answered");
        machine.until_well().await;
        watcher.check(machine);
        assert_eq!(watcher.of("db"), ["starting", "started", "healthy"]);
        assert_eq!(watcher.of("migrate"), ["waiting", "starting", "started", "completed"]);
        assert_eq!(watcher.of("app"), ["waiting", "starting", "started", "healthy"]);
        let place = |what: &str| watcher.told.iter().position(|told| told == what).unwrap();
        assert!(place("generation") > place("db starting") || place("generation") == 0, "{:?}", watcher.told);
        let order = ["db healthy", "migrate starting", "migrate completed", "app starting"].map(place);
        assert!(order.is_sorted(), "{:?}", watcher.told);
    });
}

#[test]
fn a_live_change_is_told_as_one_with_what_changed() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        machine.up(&stack()).await;
        machine.until_well().await;
        let (_, mut events) = machine.agent().watch();
        let mut watcher = Watcher::new(machine);
        machine.up(&[stack()[0].clone().memory_max(2), stack()[1].clone(), stack()[2].clone()]).await;
        machine.until_well().await;
        machine.pass(Duration::from_secs(1)).await;
        watcher.check(machine);
        assert_eq!(watcher.of("db"), ["live"]);
        let mut messages = Vec::new();
        while let Ok(update) = events.try_recv() {
            if update.event == "live" {
                messages.push(update.message.clone());
            }
        }
        assert_eq!(messages, ["memory_max unset -> 2G"]);
    });
}

#[test]
fn a_death_and_what_follows_are_told() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        machine.up(&stack()).await;
        machine.until_well().await;
        let mut watcher = Watcher::new(machine);
        machine.host.kill(&name("app"));
        machine.pass(Duration::from_secs(5)).await;
        watcher.check(machine);
        assert_eq!(watcher.of("app"), ["failed", "starting", "started", "healthy"]);
        assert!(watcher.of("db").is_empty() && watcher.of("migrate").is_empty(), "{:?}", watcher.told);
        watcher.told.clear();
        machine.stop(&["app"]).await.unwrap();
        machine.pass(Duration::from_secs(5)).await;
        watcher.check(machine);
        assert_eq!(watcher.of("app"), ["stopping", "stopped"]);
        watcher.told.clear();
        machine.down().await;
        machine.pass(Duration::from_secs(5)).await;
        watcher.check(machine);
        assert_eq!(watcher.of("db").last().map(String::as_str), Some("removed"));
        assert_eq!(watcher.status.services, []);
    });
}

#[test]
fn nothing_is_told_while_nothing_happens() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("migrate"), runs_for(Duration::from_secs(5), 0));
        machine.up(&stack()).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(1)).await;
        let (first, _) = machine.agent().watch();
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.agent().watch().0.number, first.number);
    });
}

//! The agent dies at every point where it acts: the next one leads to the same end, and what is right is left alone.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Fault, HealthBehaviour};
use nixmox_core::model::{Condition, OnUnhealthy, Service};

use crate::declare::{Declare, job, runs_for, service};
use crate::machine::{Machine, anna, is_well, name, on_a_machine};

/// What becomes of the operation at whose beginning the agent dies.
const FAULTS: [Option<Fault>; 4] = [None, Some(Fault::Before), Some(Fault::After), Some(Fault::Hang)];

/// db ◀─healthy─ migrate ◀─completed─ app ◀─started─ proxy, and site beside them.
fn cloud() -> Vec<Service> {
    vec![
        service("db").checked(OnUnhealthy::Report).memory_max(4),
        job("migrate").needs("db", Condition::Healthy),
        service("app").needs("db", Condition::Healthy).needs("migrate", Condition::Completed),
        service("proxy").needs("app", Condition::Started).port(80),
        service("site").port(8080),
    ]
}

/// db and the job are others, app has another limit, proxy another port, site is gone and wiki new.
fn next_cloud() -> Vec<Service> {
    vec![
        service("db").checked(OnUnhealthy::Report).memory_max(4).built_anew('b'),
        job("migrate").needs("db", Condition::Healthy).built_anew('b'),
        service("app").needs("db", Condition::Healthy).needs("migrate", Condition::Completed).memory_max(2),
        service("proxy").needs("app", Condition::Started).port(443),
        service("wiki").needs("app", Condition::Healthy),
    ]
}

fn behave(machine: &Machine) {
    let second = Duration::from_secs(1);
    let slow = Behaviour { start_time: 2 * second, stop_time: second, ..Behaviour::default() };
    for service in cloud().iter().chain(&next_cloud()) {
        machine.host.behave(&service.name, slow.clone());
    }
    machine.host.behave(&name("db"), Behaviour { health: HealthBehaviour::After(5 * second), ..slow.clone() });
    machine.host.behave(&name("migrate"), Behaviour { start_time: second, ..runs_for(3 * second, 0) });
}

/// Lets a request be carried out by an agent that dies when it begins each of its operations, and by the next one.
///
/// Returns at how many points it died.
fn die_at_each(
    before: Option<&[Service]>,
    request: &impl AsyncFn(&Machine),
    over: impl Fn(&nixmox_api::Status) -> bool,
) -> usize {
    let mut deaths = 0;
    for fault in FAULTS {
        for skipped in 0.. {
            let mut died = true;
            on_a_machine(async |machine| {
                behave(machine);
                if let Some(before) = before {
                    machine.up(before).await;
                    machine.until_well().await;
                }
                let trigger = machine.trigger();
                machine.host.interrupt(skipped, fault, move || trigger.abort());
                request(machine).await;
                died = machine.is_dead().await;
                if !died {
                    return;
                }
                let right = machine.right();
                machine.boot_agent();
                let context = format!("{fault:?} at operation {skipped}");
                machine.catch_up().await;
                machine.until(&context, |status| !status.host.busy && over(status)).await;
                machine.assert_as_declared(&context);
                machine.assert_kept(&right, &context);
                assert_eq!(machine.host.broken_gates(), [], "{context}");
            });
            if !died {
                assert!(skipped > 2, "it has begun at least a few operations");
                break;
            }
            deaths += 1;
        }
    }
    deaths
}

#[test]
fn an_up_that_is_cut_short_anywhere_is_finished_by_the_next_agent() {
    let deaths =
        die_at_each(None, &async |machine| drop(machine.apply(crate::machine::request(&cloud())).await), is_well);
    assert_eq!(deaths, 4 * 8, "roots, two tables and five starts");
}

#[test]
fn a_change_that_is_cut_short_anywhere_is_finished_by_the_next_agent() {
    let change = async |machine: &Machine| {
        let request = nixmox_api::Request { prune: true, ..crate::machine::request(&next_cloud()) };
        drop(machine.apply(request).await);
    };
    let deaths = die_at_each(Some(&cloud()), &change, is_well);
    assert!(deaths >= 4 * 8, "{deaths}");
}

#[test]
fn a_down_that_is_cut_short_anywhere_is_finished_by_the_next_agent() {
    let down = async |machine: &Machine| drop(machine.down_of("cloud").await);
    let deaths = die_at_each(Some(&cloud()), &down, |status| status.services.is_empty());
    assert!(deaths >= 4 * 8, "{deaths}");
}

#[test]
fn a_stop_that_is_cut_short_anywhere_is_finished_by_the_next_agent() {
    let stop = async |machine: &Machine| {
        let _ = nixmox_agent::server::Control::stop(&machine.agent(), vec!["db".to_owned()], true, anna()).await;
    };
    let deaths = die_at_each(Some(&cloud()), &stop, |status| {
        status.services.iter().filter(|service| service.held_by.is_some() && service.invocation.is_none()).count()
            == 3
    });
    assert_eq!(deaths, 4 * 3);
}

#[test]
fn a_restart_that_is_cut_short_anywhere_is_finished_by_the_next_agent_and_replaces_one_instance() {
    for fault in FAULTS {
        for skipped in 0..2 {
            on_a_machine(async |machine| {
                behave(machine);
                machine.up(&cloud()).await;
                machine.until_well().await;
                let before = machine.right();
                let trigger = machine.trigger();
                machine.host.interrupt(skipped, fault, move || trigger.abort());
                let _ = machine.restart(&["db"]).await;
                assert!(machine.is_dead().await, "a stop and a start");
                machine.boot_agent();
                let context = format!("{fault:?} at operation {skipped}");
                machine.catch_up().await;
                let replaced = || machine.right().get("db").is_some_and(|now| *now != before[&name("db")]);
                machine.until(&context, |status| replaced() && is_well(status)).await;
                let after = machine.right();
                machine.pass(Duration::from_mins(5)).await;
                machine.assert_kept(&after, &context);
                let others = |right: &std::collections::BTreeMap<_, _>| {
                    right.iter().filter(|(other, _)| **other != name("db")).map(|(_, id)| *id).collect::<Vec<_>>()
                };
                assert_eq!(others(&after), others(&before), "{context}");
            });
        }
    }
}

/// Numbers that are the same in every run: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// One thing that happens to a machine.
async fn anything(machine: &mut Machine, numbers: &mut Numbers) {
    let all = ["db", "migrate", "app", "proxy", "site", "wiki"];
    let victim = *numbers.one_of(&all);
    let victim_name = name(victim);
    match numbers.below(14) {
        0 => drop(machine.apply(crate::machine::request(&cloud())).await),
        1 => {
            let request = nixmox_api::Request { prune: true, ..crate::machine::request(&next_cloud()) };
            drop(machine.apply(request).await);
        }
        2 => drop(machine.down_of("cloud").await),
        3 => {
            let _ =
                nixmox_agent::server::Control::stop(&machine.agent(), vec![victim.to_owned()], true, anna()).await;
        }
        4 => drop(machine.start(&[victim]).await),
        5 => drop(machine.restart(&[victim]).await),
        6 => machine.host.kill(&victim_name),
        7 => machine.host.stop_outside(&victim_name),
        8 if machine.host.container(&victim_name).is_some() => machine.host.remove_files_outside(&victim_name),
        9 if machine.host.container(&victim_name).is_some_and(|seen| seen.active.has_processes()) => {
            machine.host.change_outside(&victim_name, |seen| seen.limits.tasks_max = Some(7));
        }
        10 => machine.host.change_firewall_outside(None),
        11 => {
            machine.host.no_interruption();
            machine.reboot().await;
        }
        12 => {
            machine.host.no_interruption();
            machine.restart_agent().await;
        }
        _ => {
            machine.host.set_blind(true);
            machine.pass(Duration::from_secs(numbers.below(9))).await;
            machine.host.set_blind(false);
        }
    }
}

#[test]
fn whatever_happens_and_whenever_the_agent_dies_it_ends_as_declared() {
    for seed in 0..300 {
        on_a_machine(async |machine| {
            let mut numbers = Numbers(seed);
            behave(machine);
            for _ in 0..6 {
                let trigger = machine.trigger();
                let skipped = usize::try_from(numbers.below(12)).unwrap();
                machine.host.interrupt(skipped, *numbers.one_of(&FAULTS), move || trigger.abort());
                anything(machine, &mut numbers).await;
                machine.pass(Duration::from_millis(numbers.below(9000))).await;
                machine.host.no_interruption();
                if machine.is_finished() {
                    machine.boot_agent();
                }
            }
            machine.catch_up().await;
            let stack = if numbers.below(2) == 0 { cloud() } else { next_cloud() };
            let context = format!("seed {seed}");
            let request = nixmox_api::Request { prune: true, ..crate::machine::request(&stack) };
            machine.apply(request).await.unwrap();
            machine.until(&context, is_well).await;
            machine.assert_as_declared(&context);
            assert_eq!(machine.host.broken_gates(), [], "{context}");
            let right = machine.right();
            machine.restart_agent().await;
            machine.catch_up().await;
            machine.until(&context, is_well).await;
            machine.assert_kept(&right, &context);
            assert_eq!(right.len(), stack.len() - 1, "{context}: all but the job run");
        });
    }
}

//! Processes that the kernel kills for want of memory: noticed, told with what its log says, and named as what a service died of.

use std::time::Duration;

use nixmox_agent::server::Control;
use nixmox_api::ServiceState;
use nixmox_core::oom::{OomKill, Scope};

use crate::declare::{Declare, service};
use crate::machine::{Machine, name, on_a_machine};

/// A kill at this moment: paused time has a clock of its own.
fn kill(pid: u32) -> OomKill {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    OomKill {
        at_usec: u64::try_from(now.as_micros()).unwrap(),
        pid,
        process: "stress".to_owned(),
        resident: Some((61 << 20) + (1 << 18)),
        scope: Scope::Own,
    }
}

async fn up(machine: &Machine) {
    machine.up(&[service("hog").memory_max(1), service("other")]).await;
    machine.until_well().await;
}

/// Returns what is told in events of this word, until an hour has passed.
async fn told(machine: &Machine, word: &str, happens: impl AsyncFnOnce()) -> Vec<String> {
    let (_, mut events) = machine.agent().watch();
    happens().await;
    machine.pass(Duration::from_hours(1)).await;
    let mut told = Vec::new();
    while let Ok(update) = events.try_recv() {
        if update.event == word {
            told.push(format!("{}: {}", update.service, update.message));
        }
    }
    told
}

#[test]
fn a_service_that_lives_on_is_told_of_with_process_and_amount() {
    on_a_machine(async |machine| {
        up(machine).await;
        let before = machine.invocations().await;
        let events = told(machine, "oom", async || {
            machine.host.kill_for_memory(&name("hog"), Some(kill(7)), false);
            machine.pass(Duration::from_secs(1)).await;
            machine.host.kill_for_memory(&name("hog"), Some(kill(8)), false);
            let small = OomKill { resident: Some(4096), ..kill(10) };
            machine.host.kill_for_memory(&name("hog"), Some(kill(9)), false);
            machine.host.kill_for_memory(&name("hog"), Some(small), false);
        });
        let first = "hog: out of memory: killed stress (pid 7), 61.2 MiB resident; limit 1 GiB";
        let second = "hog: out of memory: killed stress (pid 9), 61.2 MiB resident; limit 1 GiB; and 2 more";
        assert_eq!(events.await, [first, second]);
        let hog = machine.service("hog").await;
        assert_eq!((hog.state, hog.reason.as_str()), (ServiceState::Healthy, ""));
        let kills = hog.oom_kills.unwrap();
        assert_eq!((kills.count, kills.process.as_deref(), kills.pid), (4, Some("stress"), Some(9)));
        assert_eq!((kills.resident, kills.at.is_some()), (Some((61 << 20) + (1 << 18)), true));
        assert_eq!(machine.service("other").await.oom_kills, None);
        assert_eq!(machine.invocations().await, before);
    });
}

#[test]
fn a_guest_whose_first_process_is_killed_failed_for_want_of_memory() {
    on_a_machine(async |machine| {
        up(machine).await;
        let events = told(machine, "oom", async || machine.host.kill_for_memory(&name("hog"), Some(kill(7)), true));
        let text = "out of memory: killed stress (pid 7), 61.2 MiB resident; limit 1 GiB";
        assert_eq!(events.await, [format!("hog: {text}")]);
        let failed = told(machine, "failed", async || machine.host.kill_for_memory(&name("hog"), None, true)).await;
        let first =
            "hog: failed: out of memory: the kernel killed a process; limit 1 GiB; waits before the next attempt";
        assert_eq!(failed, [first]);
        let hog = machine.service("hog").await;
        assert_eq!((hog.state, hog.restarts), (ServiceState::Healthy, 0));
        assert_eq!(hog.last_end.unwrap().why, "out of memory: the kernel killed a process; limit 1 GiB");
        // Of the run before.
        assert_eq!(hog.oom_kills.map(|kills| (kills.count, kills.process)), Some((0, None)));
    });
}

#[test]
fn what_dies_of_something_else_later_is_not_blamed_on_memory() {
    on_a_machine(async |machine| {
        up(machine).await;
        machine.host.kill_for_memory(&name("hog"), Some(kill(7)), false);
        machine.pass(Duration::from_secs(30)).await;
        machine.host.kill(&name("hog"));
        let failed = machine.until_state("hog", ServiceState::Failed).await;
        assert!(failed.reason.contains("ended with signal KILL"), "{}", failed.reason);
        assert_eq!(failed.oom_kills.map(|kills| kills.count), Some(1));
    });
}

#[test]
fn what_dies_a_moment_after_a_kill_died_of_it() {
    on_a_machine(async |machine| {
        up(machine).await;
        let failed = told(machine, "failed", async || {
            machine.host.kill_for_memory(&name("hog"), Some(kill(7)), false);
            machine.pass(Duration::from_secs(2)).await;
            machine.host.kill(&name("hog"));
        });
        let text = "out of memory: killed stress (pid 7), 61.2 MiB resident; limit 1 GiB";
        assert_eq!(failed.await, [format!("hog: failed: {text}; waits before the next attempt")]);
        assert_eq!(machine.service("hog").await.last_end.unwrap().why, text);
    });
}

#[test]
fn without_the_kernels_log_the_count_is_told() {
    on_a_machine(async |machine| {
        up(machine).await;
        let events = told(machine, "oom", async || machine.host.kill_for_memory(&name("other"), None, false));
        assert_eq!(events.await, ["other: out of memory: the kernel killed a process"]);
        let kills = machine.service("other").await.oom_kills.unwrap();
        assert_eq!((kills.count, kills.process, kills.pid, kills.resident), (1, None, None, None));
    });
}

#[test]
fn the_next_agent_knows_what_kernel_and_journal_say_and_tells_nothing_twice() {
    on_a_machine(async |machine| {
        up(machine).await;
        machine.host.kill_for_memory(&name("hog"), Some(kill(7)), false);
        machine.pass(Duration::from_secs(30)).await;
        let before = machine.service("hog").await.oom_kills.unwrap();
        machine.kill_agent().await;
        machine.boot_agent();
        machine.catch_up().await;
        assert_eq!(told(machine, "oom", async || {}).await, [] as [String; 0]);
        assert_eq!(machine.service("hog").await.oom_kills, Some(before));
        // One that dies while no agent lives is found dead of it.
        machine.kill_agent().await;
        machine.host.kill_for_memory(&name("other"), Some(kill(8)), true);
        machine.boot_agent();
        let failed = machine.until_state("other", ServiceState::Failed).await;
        assert!(failed.reason.starts_with("out of memory: "), "{}", failed.reason);
        let told = |failed: &nixmox_api::Status| failed.services.iter().any(|s| s.reason.contains("(pid 8)"));
        machine.until("the log was read", told).await;
    });
}

#[test]
fn a_storm_of_kills_is_told_a_few_times() {
    on_a_machine(async |machine| {
        up(machine).await;
        let events = told(machine, "oom", async || {
            for pid in 1..=200 {
                machine.host.kill_for_memory(&name("hog"), Some(kill(pid)), false);
                machine.pass(Duration::from_millis(100)).await;
            }
        });
        let events = events.await;
        assert!((2..=6).contains(&events.len()), "{events:?}");
        assert_eq!(machine.service("hog").await.oom_kills.map(|kills| kills.count), Some(200));
    });
}

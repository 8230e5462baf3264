//! Help for what runs inside the testbed, as root, next to its systemd.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nixmox_agent::host::Host;
use nixmox_agent::host::live::Live;
use nixmox_core::model::Container;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::name;

/// Longest wait for anything that a test expects.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Returns the host that this program runs on.
pub(crate) fn open() -> Live {
    // This program is not the agent, so the helper is the installed one's.
    Live::open(&TaskTracker::new(), CancellationToken::new()).with_helper_of(PathBuf::from("/usr/bin/nixmox-agent"))
}

/// Runs a script that must succeed.
pub(crate) fn shell(script: &str) -> String {
    let output = bash(script);
    assert!(output.status.success(), "`{script}` failed: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Repeats a script until it succeeds.
pub(crate) fn wait_until(script: &str) {
    let begin = Instant::now();
    loop {
        let output = bash(script);
        if output.status.success() {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "`{script}` did not succeed: {output:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn bash(script: &str) -> Output {
    Command::new("bash").args(["-c", script]).output().expect("bash runs")
}

/// Returns a container as it is.
pub(crate) async fn observe(host: &Live, text: &str) -> Container {
    let name = name(text);
    let observed = host.observe(&BTreeSet::from([name.clone()])).await.expect("systemd answers");
    observed.containers.get(&name).cloned().unwrap_or_default()
}

/// Waits until something that changes wakes the agent and then holds.
pub(crate) async fn until(host: &Live, text: &str, holds: impl Fn(&Container) -> bool) -> Container {
    let mut changes = host.changes();
    let wait = async {
        loop {
            let container = observe(host, text).await;
            if holds(&container) {
                return container;
            }
            changes.changed().await.expect("the host is there");
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("the change woke the agent")
}

/// Runs a script that must wake the agent, after all that came before has settled.
pub(crate) async fn wakes(host: &Live, script: &str) {
    let mut changes = host.changes();
    while tokio::time::timeout(Duration::from_millis(300), changes.changed()).await.is_ok() {}
    shell(script);
    let woken = tokio::time::timeout(LIMIT, changes.changed()).await;
    woken.unwrap_or_else(|_| panic!("`{script}` wakes the agent")).expect("the host is there");
}

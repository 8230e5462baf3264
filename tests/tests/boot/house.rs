//! A stack with a chain of gates, a job, a held service and one that needs nobody, and what can be seen of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nixmox_api::{ServiceState, Status};
use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::{agent, containers, stack};

/// The stack's name.
const STACK: &str = "house";
/// The service whose health is the gate of others.
pub(crate) const GATE: &str = "base";
/// The job that ran before the reboot.
pub(crate) const JOB: &str = "seed";
/// The service that is held by `stop`.
pub(crate) const HELD: &str = "held";
/// What the job logs when it runs.
const JOB_LOG: &str = "seeding";
/// Who needs whom, of those that run on.
pub(crate) const EDGES: [(&str, &str); 3] = [("middle", GATE), ("top", "middle"), ("beside", GATE)];

/// Every service: its name, the rest of its table, and how it behaves.
fn services() -> [(&'static str, &'static str, Behaviour); 7] {
    let of = Duration::from_millis;
    let http = || Behaviour::new().http(80);
    [
        // The further down, the quicker to stop: out of order, it would be gone first.
        (GATE, "health = { http = \"http://localhost/\", interval = \"1s\" }", http().stop_takes(of(300))),
        (
            JOB,
            "kind = \"job\"\ndepends_on = { base = \"healthy\" }",
            Behaviour::new().log(JOB_LOG).exit(0, of(200)),
        ),
        (
            "middle",
            "depends_on = { base = \"healthy\", seed = \"completed\" }\nhealth = { tcp = 80, interval = \"1s\" }",
            http().listen_after(of(300)).stop_takes(of(600)),
        ),
        ("top", "depends_on = { middle = \"healthy\" }\nhealth = { tcp = 80 }", http().stop_takes(of(1000))),
        ("beside", "depends_on = { base = \"started\" }", http().stop_takes(of(800))),
        ("alone", "", http().stop_takes(of(200))),
        (HELD, "depends_on = { base = \"started\" }", http()),
    ]
}

/// A host with the stack.
pub(crate) struct House {
    pub(crate) bed: Testbed,
}

/// The stack as it runs.
pub(crate) struct Run {
    /// Active containers with their invocations.
    pub(crate) running: BTreeMap<String, String>,
    /// Active containers that wait for others or are waited for, in the order of their starts.
    pub(crate) order: Vec<String>,
    pub(crate) generation: u64,
}

impl House {
    /// Boots a host, brings the stack up, and holds one service.
    pub(crate) fn build(name: &str) -> Result<Self> {
        let bed = Testbed::boot(&Options::new(name).without_homelab())?;
        let services = services();
        let guests: Vec<(&str, &Behaviour)> = services.iter().map(|(name, _, guest)| (*name, guest)).collect();
        let systems = bed.static_guests(&guests)?;
        let mut text = String::new();
        for ((name, rest, _), system) in services.iter().zip(&systems) {
            writeln!(text, "[services.{name}]\nsystem = \"{system}\"\n{rest}")?;
        }
        stack::write(&bed, STACK, &text)?;
        stack::succeed(&bed, STACK, "up")?;
        stack::succeed(&bed, STACK, &format!("stop {HELD}"))?;
        let house = Self { bed };
        house.wait_until_healthy(crate::UP_LIMIT)?;
        ensure!(house.runs_of(JOB)? == 1, "the job ran");
        ensure!(!house.changes_asked_for()?.is_empty(), "`up` and `stop` are recorded");
        Ok(house)
    }

    /// Returns what runs.
    pub(crate) fn run(&self) -> Result<Run> {
        let seen = containers::look(&self.bed)?;
        let mut order = seen.start_order();
        // Nothing is promised about those that nobody waits for and that wait for nobody.
        let chained = ["middle", "top", GATE];
        order.retain(|name| chained.contains(&name.as_str()));
        let generation = agent::status(&self.bed)?.host.generation;
        Ok(Run { running: seen.running(), order, generation })
    }

    /// Makes a service answer with this status from now on.
    pub(crate) fn answer(&self, name: &str, status: u16) -> Result<()> {
        self.bed.write_file(root(name, "status"), status.to_string(), 0o644)
    }

    /// Waits until everything is as it was asked for, the held service held.
    pub(crate) fn wait_until_healthy(&self, limit: Duration) -> Result<()> {
        agent::wait_for(&self.bed, limit, |status| {
            ensure!(!status.host.busy && status.services.len() == services().len(), "{:?}", states(status));
            for (name, state) in states(status) {
                let wanted = match name {
                    JOB => ServiceState::Completed,
                    HELD => ServiceState::Stopped,
                    _ => ServiceState::Healthy,
                };
                ensure!(state == wanted, "{name} is {state:?}: {:?}", states(status));
            }
            Ok(())
        })
        .map(drop)
    }

    /// Waits until the gate was asked a few times and found shut; then nothing behind it may have been started.
    pub(crate) fn wait_for_a_shut_gate(&self, limit: Duration) -> Result<()> {
        agent::wait_for(&self.bed, limit, |status| {
            let find = |name: &str| status.services.iter().find(|service| service.name == name);
            let gate = find(GATE).context("the gate is declared")?;
            ensure!(gate.state == ServiceState::Starting && gate.probe_failures >= 3, "{gate:?}");
            for name in ["alone", "beside"] {
                let state = find(name).map(|service| service.state);
                ensure!(state == Some(ServiceState::Healthy), "{name} waits for no health, and is {state:?}");
            }
            Ok(())
        })?;
        let seen = containers::look(&self.bed)?;
        for name in ["middle", "top", JOB, HELD] {
            let invocation = seen.units.get(name).map(|unit| unit.invocation.as_str()).unwrap_or_default();
            ensure!(invocation.is_empty(), "{name} was started: {:?}", seen.units);
        }
        Ok(())
    }

    /// Returns how often a guest with a line to log was started, over all boots.
    pub(crate) fn runs_of(&self, name: &str) -> Result<usize> {
        let log = self.bed.journal(&["--unit", &format!("container@{name}"), "--grep", JOB_LOG])?;
        Ok(log.lines().filter(|line| line.ends_with(JOB_LOG)).count())
    }

    /// Returns the agent's records of requested changes since the boot.
    pub(crate) fn changes_asked_for(&self) -> Result<String> {
        self.bed.journal(&["--boot", "--unit=nixmox-agent", "--grep=^change", "--output=verbose"])
    }

    /// Removes the markers that guests leave at the end of their shutdown.
    pub(crate) fn forget_shutdowns(&self) -> Result<()> {
        self.bed.succeed("rm -f /var/lib/nixos-containers/*/var/lib/guest/stopped").map(drop)
    }
}

/// Returns the path on the host of a guest's own file.
pub(crate) fn root(name: &str, file: &str) -> String {
    format!("/var/lib/nixos-containers/{name}/var/lib/guest/{file}")
}

fn states(status: &Status) -> Vec<(&str, ServiceState)> {
    status.services.iter().map(|service| (service.name.as_str(), service.state)).collect()
}

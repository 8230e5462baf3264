//! A host on which one thing after another is asked for, and the agent dies each time.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nixmox_api::{ServiceState, Status};
use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::containers::{self, Containers, LOOK};
use nixmox_tests::random::Random;
use nixmox_tests::{agent, stack};

use super::CONVERGE_LIMIT;
use super::model::{self, JOB, Kind, Model, Operation, PORT, REVISIONS, STACK};
use super::point::{Phase, Point};
use super::trace::{Journal, Line};

/// A stack beside the one that changes: nothing may ever happen to it.
const ROCK: &str = "rock";
const ROCK_SERVICES: [&str; 2] = ["rock-base", "rock-top"];
/// Asks for something and kills the agent while it is at it.
///
/// `$1`: seconds until the death, or `never`; the rest: arguments of nixmoxctl. The agent is halted before it is killed,
/// so that what is looked at is what it leaves: a process that is halted does nothing any more. The question to systemd
/// on the bus comes behind every message that the agent had sent.
const SCRIPT: &str = "/root/point.sh";
/// What the client's end leaves: its exit status, and the containers at that moment.
const CLIENT_END: &str = "/root/client-end";

/// How far the side of a window moves that nothing is known of.
const MOVE: f64 = 1.5;

/// From when to when steps are taken, in seconds after a request.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: f64,
    last: f64,
}

impl Window {
    /// Chooses a moment.
    fn delay(self, random: &mut Random) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a share in ten thousandths")]
        let share = random.below(10_000) as f64 / 10_000.0;
        self.first + (self.last - self.first) * share
    }

    /// Narrows the window from the side on which a death after `delay` fell out of the operation. Where that was the half in
    /// which it cannot have been by a little, the other side follows: a host that was busy when the operation was measured,
    /// or is now, has its steps somewhere else.
    fn learn(&mut self, delay: f64, phase: &Phase) {
        let is_late = delay >= self.first.midpoint(self.last);
        match phase {
            Phase::Before => {
                self.first = self.first.midpoint(delay);
                if is_late {
                    self.last *= MOVE;
                }
            }
            Phase::After => {
                self.last = self.last.midpoint(delay);
                if !is_late {
                    self.first /= MOVE;
                }
            }
            Phase::During(_) | Phase::Between => {}
        }
    }
}

/// The host and what is known of it.
pub(crate) struct Storm {
    bed: Testbed,
    random: Random,
    systems: BTreeMap<(&'static str, u8), String>,
    model: Model,
    journal: Journal,
    windows: BTreeMap<Kind, Window>,
    rock: BTreeMap<String, String>,
    points: Vec<Point>,
}

/// What was seen at a death.
struct Death {
    /// The agent that died.
    pid: String,
    /// When the request was made, in microseconds since 1970.
    begun_usec: u64,
    /// What it left.
    left: Containers,
    /// When it died.
    at: Instant,
}

impl Storm {
    /// Boots a host, brings both stacks up, and measures each operation once without a death.
    pub(crate) fn begin(seed: u64) -> Result<Self> {
        let bed = Testbed::boot(&Options::new("kill").without_homelab())?;
        bed.write_file(SCRIPT, script(), 0o755)?;
        let mut keys = Vec::new();
        let mut behaviours = Vec::new();
        for name in model::names() {
            for revision in 0..REVISIONS {
                keys.push((name, revision));
                behaviours.push(model::behaviour(name, revision));
            }
        }
        let guests: Vec<(&str, &Behaviour)> = keys.iter().map(|(name, _)| *name).zip(&behaviours).collect();
        let systems = keys.into_iter().zip(bed.static_guests(&guests)?).collect();

        let rock = bed.static_guest("rock", &Behaviour::new().http(80))?;
        let services = format!(
            "[services.rock-base]\nsystem = \"{rock}\"\nhealth = {{ tcp = 80 }}\n\
             [services.rock-top]\nsystem = \"{rock}\"\ndepends_on = {{ rock-base = \"healthy\" }}\n"
        );
        stack::write(&bed, ROCK, &services)?;
        stack::succeed(&bed, ROCK, "up")?;
        let mut rock = containers::look(&bed)?.running();
        rock.retain(|name, _| ROCK_SERVICES.contains(&name.as_str()));
        ensure!(rock.len() == ROCK_SERVICES.len(), "the stack that nothing happens to is not up: {rock:?}");

        let mut storm = Self {
            bed,
            random: Random::new(seed),
            systems,
            model: Model::new(),
            journal: Journal::default(),
            windows: BTreeMap::new(),
            rock,
            points: Vec::new(),
        };
        storm.journal.read(&storm.bed)?;
        for kind in [Kind::Up, Kind::Change, Kind::Restart, Kind::Down] {
            storm.measure(kind)?;
        }
        Ok(storm)
    }

    /// Returns the deaths so far.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Asks for something, kills the agent at it, waits until all is right again, and compares.
    pub(crate) fn point(&mut self) -> Result<()> {
        let operation = Operation::choose(&mut self.random, &self.model);
        let window = self.windows[&operation.kind];
        let delay = window.delay(&mut self.random);
        let before = containers::look(&self.bed)?;
        let generation = agent::status(&self.bed)?.host.generation;
        let death = self.ask(&operation, Some(delay))?;
        let context = || format!("{} {:?}, killed after {delay:.3} s", operation.arguments(), operation.after);

        let accepted = |status: &Status| status.host.generation != generation || operation.kind == Kind::Restart;
        let old = self.model.clone();
        let status = agent::wait_for(&self.bed, CONVERGE_LIMIT, |status| {
            is_reached(status, if accepted(status) { &operation.after } else { &old })
        });
        let status = status.with_context(context)?;
        let converged_in = death.at.elapsed();
        ensure!(converged_in < CONVERGE_LIMIT, "it took {converged_in:?}: {}", context());
        let accepted = accepted(&status);
        if accepted {
            self.model = operation.after.clone();
        }
        let end = containers::look(&self.bed)?;
        self.check_end(&end).with_context(context)?;
        let kept = self.check_kept(&operation, &before, &death.left, &end).with_context(context)?;
        let client = self.check_client(&operation, accepted, &before, &end).with_context(context)?;
        let lines = self.journal.read(&self.bed)?;
        let phase = Phase::of(&lines, &death.pid);
        self.learn(operation.kind, delay, &phase);
        println!(
            "{:>3}  {:<13} {delay:.3} s  {phase:?}, converged in {converged_in:.1?}, {kept} kept, client {client}",
            self.points.len() + 1,
            operation.kind.word(),
        );
        self.points.push(Point { kind: operation.kind, phase, converged_in, kept, client });
        Ok(())
    }

    /// Carries an operation out without a death, and notes when its steps are taken.
    fn measure(&mut self, kind: Kind) -> Result<()> {
        let operation = Operation::of(kind, &mut self.random, &self.model);
        let before = containers::look(&self.bed)?;
        let death = self.ask(&operation, None)?;
        self.model = operation.after.clone();
        agent::wait_for(&self.bed, CONVERGE_LIMIT, |status| is_reached(status, &operation.after))?;
        let end = containers::look(&self.bed)?;
        self.check_end(&end)?;
        let client = self.check_client(&operation, true, &before, &end)?;
        ensure!(client == 0, "nixmoxctl {} ended with {client}", operation.arguments());
        let lines = self.journal.read(&self.bed)?;
        let after = |line: Option<&Line>| {
            let usec = line.context("no step was taken")?.at_usec.saturating_sub(death.begun_usec);
            Ok::<f64, anyhow::Error>(Duration::from_micros(usec).as_secs_f64())
        };
        let window = Window {
            first: after(lines.iter().find(|line| line.begins))?,
            last: after(lines.iter().rev().find(|line| !line.begins))?,
        };
        println!("     {:<13} steps from {:.3} to {:.3} s", kind.word(), window.first, window.last);
        self.windows.insert(kind, window);
        Ok(())
    }

    /// Asks for an operation, with a death after `delay` seconds.
    fn ask(&self, operation: &Operation, delay: Option<f64>) -> Result<Death> {
        stack::write(&self.bed, STACK, &operation.after.manifest(&self.systems))?;
        let delay = delay.map_or("never".to_owned(), |delay| format!("{delay:.4}"));
        let text = self.bed.succeed(&format!("{SCRIPT} {delay} {}", operation.arguments()))?;
        let at = Instant::now();
        let mut lines = text.splitn(3, '\n');
        let pid = lines.next().context("no PID")?.to_owned();
        let begun_usec = lines.next().and_then(|line| line.parse().ok()).context("no time")?;
        Ok(Death { pid, begun_usec, left: containers::parse(lines.next().unwrap_or_default()), at })
    }

    /// Compares what is there with what is desired, by what systemd, the kernel and a client of the stack say.
    fn check_end(&self, end: &Containers) -> Result<()> {
        for (name, wanted) in &self.model.services {
            let unit = end.units.get(*name).cloned().unwrap_or_default();
            if !self.model.up {
                ensure!(
                    !matches!(unit.active.as_str(), "active" | "activating" | "deactivating"),
                    "{name} is {unit:?}"
                );
                continue;
            }
            if *name == JOB {
                ensure!(unit.active != "active", "{name} is {unit:?}");
                let ended = end.ended.get(*name).with_context(|| format!("{name} left no record"))?;
                ensure!(
                    !ended.stopped && matches!(ended.result.as_str(), "success" | "protocol"),
                    "{name}: {ended:?}"
                );
                continue;
            }
            ensure!(unit.active == "active" && !unit.job, "{name} is {unit:?}");
            let system = &self.systems[&(*name, wanted.revision)];
            ensure!(unit.system == *system, "{name} runs {}, desired is {system}", unit.system);
            let memory = wanted.memory.map(|memory| u64::from(memory) << 20);
            ensure!(unit.memory_max == memory, "{name}: {unit:?}, desired is memory_max {memory:?}");
        }
        let mut running = end.running();
        running.retain(|name, _| ROCK_SERVICES.contains(&name.as_str()));
        ensure!(
            running == self.rock,
            "{running:?} instead of {:?} in the stack that nothing happens to",
            self.rock
        );
        if self.model.up {
            let page = self.bed.exec(&["curl", "-sS", "--max-time", "30", &format!("http://127.0.0.1:{PORT}/")])?;
            ensure!(page.stdout == "status 200\n", "no page on the published port: {page}");
        } else {
            let names: Vec<&str> = model::names().collect();
            // The kernel takes the links of a network away that has ended, and machined its machine, in their own time.
            let none = format!(
                "left=$(for name in {}; do ls -d /etc/nixos-containers/$name.conf /run/systemd/system/container@$name.service.d \
                 /sys/class/net/ve-$name 2> /dev/null; machinectl show $name 2> /dev/null; done); echo \"$left\"; test -z \"$left\"",
                names.join(" ")
            );
            self.bed.wait_until(&none, CONVERGE_LIMIT).context("something is left behind")?;
        }
        Ok(())
    }

    /// Compares invocations: what was right before the request, or at the death, must not have been replaced. Returns
    /// how many were right at the death.
    fn check_kept(
        &self,
        operation: &Operation,
        before: &Containers,
        left: &Containers,
        end: &Containers,
    ) -> Result<usize> {
        let mut kept = 0;
        for name in model::names().filter(|_| self.model.up) {
            let (invocation, spec) = match (end.units.get(name), end.ended.get(name)) {
                (Some(unit), _) if name != JOB => (&unit.invocation, &unit.spec),
                (_, Some(ended)) if name == JOB => (&ended.invocation, &ended.spec),
                (unit, ended) => bail!("{name}: {unit:?}, {ended:?}"),
            };
            let at = |then: &Containers| {
                let unit = then.units.get(name).filter(|unit| unit.active == "active" && !unit.job);
                let running = unit.map(|unit| (unit.invocation.clone(), unit.spec.clone()));
                let ended = then.ended.get(name).filter(|ended| name == JOB && !ended.stopped);
                running.or(ended.map(|ended| (ended.invocation.clone(), ended.spec.clone())))
            };
            let (was, at_death) = (at(before), at(left));
            if let Some((was, _)) = was.clone().filter(|(_, was)| was == spec && !operation.restarts.contains(name))
            {
                ensure!(
                    was == *invocation,
                    "{name} was right before the request, as {was}, and is {invocation} now"
                );
            }
            let Some((at_death, _)) = at_death.filter(|(_, at_death)| at_death == spec) else { continue };
            // One that is to be replaced is right as soon as it has been.
            let replaced = was.is_none_or(|(was, _)| was != at_death);
            if operation.restarts.contains(name) && !replaced {
                continue;
            }
            ensure!(
                at_death == *invocation,
                "{name} was right at the death, as {at_death}, and is {invocation} now"
            );
            kept += 1;
        }
        for (name, invocation) in &self.rock {
            ensure!(left.running().get(name) == Some(invocation), "{name} is not what it was at the death");
            kept += 1;
        }
        Ok(kept)
    }

    /// Waits for the client that asked, and holds it to its word: with exit status 0 all was as it said. Returns it.
    fn check_client(
        &self,
        operation: &Operation,
        accepted: bool,
        before: &Containers,
        end: &Containers,
    ) -> Result<i32> {
        let since = Instant::now();
        let text = loop {
            if let Ok(text) = self.bed.read_file(CLIENT_END) {
                break text;
            }
            ensure!(since.elapsed() < CONVERGE_LIMIT, "nixmoxctl does not end: {}", self.client_output());
            thread::sleep(Duration::from_millis(20));
        };
        let (code, then) = text.split_once('\n').context("the client's end is torn")?;
        let code: i32 = code.parse().context("the client's exit status")?;
        if code != 0 {
            // It may say that it lost the agent before it was answered; everything else is wrong.
            ensure!(code == 4, "nixmoxctl ended with {code}: {}", self.client_output());
            return Ok(code);
        }
        ensure!(accepted, "nixmoxctl said that it was done, and nothing was: {}", self.client_output());
        let then = containers::parse(then);
        ensure!(
            then.running() == end.running(),
            "nixmoxctl said too early that it was done: {:?} became {:?}: {}",
            then.running(),
            end.running(),
            self.client_output()
        );
        for name in &operation.restarts {
            let invocation = |then: &Containers| then.units.get(*name).map(|unit| unit.invocation.clone());
            ensure!(
                invocation(before) != invocation(end),
                "nixmoxctl said that {name} was restarted, and it was not: {}",
                self.client_output()
            );
        }
        Ok(code)
    }

    fn client_output(&self) -> String {
        self.bed.read_file("/root/client-output").unwrap_or_default()
    }

    /// Moves the window of an operation to where its steps seem to be now.
    fn learn(&mut self, kind: Kind, delay: f64, phase: &Phase) {
        if let Some(window) = self.windows.get_mut(&kind) {
            window.learn(delay, phase);
        }
    }
}

/// Says what is missing until the agent reports what is desired.
fn is_reached(status: &Status, model: &Model) -> Result<()> {
    ensure!(!status.host.busy, "the agent is busy: {:?}", states(status));
    ensure!(status.host.warnings.is_empty(), "{:?}", status.host.warnings);
    let mut wanted: BTreeMap<&str, ServiceState> =
        ROCK_SERVICES.iter().map(|name| (*name, ServiceState::Healthy)).collect();
    if model.up {
        wanted.extend(
            model::names()
                .map(|name| (name, if name == JOB { ServiceState::Completed } else { ServiceState::Healthy })),
        );
    }
    ensure!(states(status) == wanted, "{:?}", states(status));
    let drift: Vec<_> = status.services.iter().flat_map(|service| &service.drift).collect();
    ensure!(drift.is_empty(), "{drift:?}");
    Ok(())
}

fn states(status: &Status) -> BTreeMap<&str, ServiceState> {
    status.services.iter().map(|service| (service.name.as_str(), service.state)).collect()
}

fn script() -> String {
    format!(
        r#"#!/bin/bash
cd {folder} || exit
look() {LOOK}
delay=$1
shift
rm -f {CLIENT_END}
pid=$(systemctl show --property=MainPID --value nixmox-agent)
echo "$pid"
echo "${{EPOCHREALTIME/./}}"
client() {{
    nixmoxctl "$@" > /root/client-output 2>&1
    code=$?
    {{ echo $code; look; }} > {CLIENT_END}.new
    mv {CLIENT_END}.new {CLIENT_END}
}}
client "$@" < /dev/null > /dev/null 2>&1 &
if [ "$delay" = never ]; then
    wait
    exit
fi
sleep "$delay"
kill -STOP "$pid"
busctl --quiet call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.DBus.Peer Ping
look
kill -KILL "$pid"
"#,
        folder = stack::folder(STACK)
    )
}

#[test]
fn a_window_that_is_off_finds_the_steps_again() {
    let (first, last) = (1.0, 2.0);
    // Measured on a host that was far busier or far less busy than it is now, and as it is.
    for (begin, end) in [(5.0, 9.0), (0.05, 0.2), (1.1, 1.9)] {
        let mut window = Window { first: begin, last: end };
        let mut random = Random::new(7);
        let phases: Vec<Phase> = (0..60)
            .map(|_| {
                let delay = window.delay(&mut random);
                let phase = match delay {
                    _ if delay < first => Phase::Before,
                    _ if delay > last => Phase::After,
                    _ => Phase::Between,
                };
                window.learn(delay, &phase);
                phase
            })
            .collect();
        let inside = phases[20..].iter().filter(|phase| phase.is_inside()).count();
        assert!(inside >= 32, "{inside} of 40 from {begin} to {end}: {phases:?}");
    }
}

//! The stack that is changed while the agent dies: what is desired of it, and what can be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::random::Random;

/// The stack's name.
pub(crate) const STACK: &str = "storm";
/// The service that is a job.
pub(crate) const JOB: &str = "migrate";
/// Where the front service is published on the host.
pub(crate) const PORT: u16 = 8088;
/// Every service: its name, and the rest of its table without system and limits. Dependencies come first.
const SERVICES: [(&str, &str); 7] = [
    ("db", "health = { http = \"http://localhost/\", interval = \"1s\" }"),
    (JOB, "kind = \"job\"\ndepends_on = { db = \"healthy\" }"),
    (
        "app",
        "depends_on = { db = \"healthy\", migrate = \"completed\" }\nhealth = { http = \"http://localhost/\", interval = \"1s\" }",
    ),
    ("worker", "depends_on = { db = \"started\" }"),
    (
        "front",
        "depends_on = { app = \"healthy\" }\nhealth = { tcp = 80, interval = \"1s\" }\nnetwork = { ports = [\"8088:80\"] }",
    ),
    ("slow", ""),
    ("side", "environment = { COLOUR = \"blue\" }"),
];
/// Systems that each service can have.
pub(crate) const REVISIONS: u8 = 2;

/// Returns every service's name, dependencies first.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(name, _)| *name)
}

/// Returns how the system of a service behaves. Times are long enough to die in and short enough to have fifty of.
pub(crate) fn behaviour(name: &str, revision: u8) -> Behaviour {
    let of = Duration::from_millis;
    let guest = Behaviour::new().revision(&revision.to_string());
    match name {
        "db" => guest.http(80).ready_after(of(150)).stop_takes(of(150)),
        JOB => guest.exit(0, of(250)),
        "app" => guest.http(80).listen_after(of(200)).stop_takes(of(100)),
        "front" => guest.http(80).listen_after(of(100)),
        "slow" => guest.ready_after(of(700)).stop_takes(of(500)),
        _ => guest,
    }
}

/// What is desired of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which of its systems: a change restarts it.
    pub(crate) revision: u8,
    /// `memory_max` in MiB: a change is live.
    pub(crate) memory: Option<u32>,
}

/// What is desired of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// Whether it is up.
    pub(crate) up: bool,
    /// What the stack file says of each service.
    pub(crate) services: BTreeMap<&'static str, Wanted>,
}

impl Model {
    /// Returns the stack before its first `up`.
    pub(crate) fn new() -> Self {
        Self { up: false, services: names().map(|name| (name, Wanted::default())).collect() }
    }

    /// Returns the services as TOML.
    pub(crate) fn manifest(&self, systems: &BTreeMap<(&'static str, u8), String>) -> String {
        SERVICES.iter().fold(String::new(), |mut text, (name, rest)| {
            let Wanted { revision, memory } = self.services[name];
            let system = &systems[&(*name, revision)];
            let _ = writeln!(text, "[services.{name}]\nsystem = \"{system}\"\n{rest}");
            if let Some(memory) = memory {
                let _ = writeln!(text, "limits = {{ memory_max = \"{memory}M\" }}");
            }
            text
        })
    }
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `up` of what is not there.
    Up,
    /// `up` of what is there, with changes.
    Change,
    /// `down`.
    Down,
    /// `restart` of some.
    Restart,
}

impl Kind {
    /// Every kind, in the order in which they are shown.
    pub(crate) const ALL: [Self; 4] = [Self::Up, Self::Change, Self::Down, Self::Restart];

    /// Returns its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Up => "up (all new)",
            Self::Change => "up (changes)",
            Self::Down => "down",
            Self::Restart => "restart",
        }
    }
}

/// Something that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// The services that are to be replaced though they are right.
    pub(crate) restarts: BTreeSet<&'static str>,
    /// What is desired when it was accepted.
    pub(crate) after: Model,
}

impl Operation {
    /// Chooses something that makes sense now.
    pub(crate) fn choose(random: &mut Random, now: &Model) -> Self {
        let kind = match (now.up, random.below(100)) {
            (false, _) => Kind::Up,
            (true, 0..45) => Kind::Change,
            (true, 45..70) => Kind::Restart,
            (true, _) => Kind::Down,
        };
        Self::of(kind, random, now)
    }

    /// Chooses something of a kind.
    pub(crate) fn of(kind: Kind, random: &mut Random, now: &Model) -> Self {
        let mut after = now.clone();
        let mut restarts = BTreeSet::new();
        let all: Vec<&'static str> = names().collect();
        match kind {
            Kind::Up => after.up = true,
            Kind::Down => after.up = false,
            Kind::Change => {
                let order = random.shuffled(&all);
                let replaced = 1 + usize::try_from(random.below(3)).unwrap_or_default();
                for (index, name) in order.iter().enumerate() {
                    let wanted = after.services.get_mut(name).expect("a service");
                    if index < replaced {
                        wanted.revision = (wanted.revision + 1) % REVISIONS;
                    } else if random.percent(30) {
                        wanted.memory = if wanted.memory == Some(64) { None } else { Some(64) };
                    }
                }
            }
            Kind::Restart => {
                let services: Vec<_> = all.into_iter().filter(|name| *name != JOB).collect();
                let count = 1 + usize::try_from(random.below(3)).unwrap_or_default();
                restarts.extend(random.shuffled(&services).into_iter().take(count));
            }
        }
        Self { kind, restarts, after }
    }

    /// Returns the arguments of `nixmoxctl`.
    pub(crate) fn arguments(&self) -> String {
        match self.kind {
            Kind::Up | Kind::Change => "up".to_owned(),
            Kind::Down => "down".to_owned(),
            Kind::Restart => {
                let names: Vec<&str> = self.restarts.iter().copied().collect();
                format!("restart {}", names.join(" "))
            }
        }
    }
}

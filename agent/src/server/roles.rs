//! Who may do what: a peer becomes a role.
//!
//! There are two, and an operator is an observer too. An operator can bind any host path into a container and so
//! equals root on the host; `docs/security.md` says so to people.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use nix::unistd::Group;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::Peer;

/// The group whose members may look.
pub const GROUP_OBSERVER: &str = "nixmox";
/// The group whose members may change, beside root.
pub const GROUP_OPERATOR: &str = "nixmox-operator";
/// How long the look-up of a group may take; it may ask the network (nsswitch.conf(5)).
const LOOK_UP_LIMIT: Duration = Duration::from_secs(2);
/// The shortest time between two look-ups of a group that is missing.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(5);

/// What a peer may do; a later one may do everything that an earlier one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May look.
    Observer,
    /// May change.
    Operator,
}

impl Role {
    /// Returns the word of the errors and the documentation.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Operator => "operator",
        }
    }

    /// Returns how a person gets the role.
    #[must_use]
    pub fn hint(self) -> String {
        let group = match self {
            Self::Observer => GROUP_OBSERVER,
            Self::Operator => GROUP_OPERATOR,
        };
        format!("ask for membership in the group `{group}`, then log in anew; or use sudo")
    }
}

/// Tells the role of a peer.
pub trait Roles {
    /// Returns what a peer may do, from what is known now; `None`: nothing but ask who the agent is.
    fn role(&self, peer: &Peer) -> Option<Role>;

    /// Looks up anew what was missing; bounded in time and in how often it really looks.
    fn refresh(&self) -> impl Future<Output = ()>;
}

/// The roles of the host: root, and two groups.
#[derive(Debug)]
pub struct GroupRoles {
    observers: KnownGroup,
    operators: KnownGroup,
    looked_up: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct KnownGroup {
    name: &'static str,
    /// `None` while there is no such group.
    gid: Cell<Option<u32>>,
}

impl GroupRoles {
    /// Looks the groups up; one that is missing is looked up again when somebody asks who would need it.
    ///
    /// The names are [`GROUP_OBSERVER`] and [`GROUP_OPERATOR`] but in tests.
    pub async fn look_up(observers: &'static str, operators: &'static str) -> Self {
        let group = |name| KnownGroup { name, gid: Cell::new(None) };
        let roles = Self { observers: group(observers), operators: group(operators), looked_up: Cell::new(None) };
        roles.refresh().await;
        roles
    }
}

impl Roles for GroupRoles {
    fn role(&self, peer: &Peer) -> Option<Role> {
        let is_in = |group: &KnownGroup| group.gid.get().is_some_and(|gid| peer.is_in(gid));
        if peer.uid == 0 || is_in(&self.operators) {
            Some(Role::Operator)
        } else if is_in(&self.observers) {
            Some(Role::Observer)
        } else {
            None
        }
    }

    async fn refresh(&self) {
        let recent = self.looked_up.get().is_some_and(|at| at.elapsed() < LOOK_UP_INTERVAL);
        let groups = [&self.observers, &self.operators];
        if recent || groups.iter().all(|group| group.gid.get().is_some()) {
            return;
        }
        self.looked_up.set(Some(Instant::now()));
        for group in groups {
            if group.gid.get().is_none() {
                group.gid.set(group_id(group.name).await);
            }
        }
    }
}

/// Looks a group up; `None`: there is none, or nobody says in time.
pub(crate) async fn group_id(name: &'static str) -> Option<u32> {
    match timeout(LOOK_UP_LIMIT, spawn_blocking(|| Group::from_name(name))).await {
        Ok(Ok(Ok(Some(group)))) => Some(group.gid.as_raw()),
        Ok(Ok(Ok(None))) => {
            debug!(group = name, "no such group");
            None
        }
        Ok(Ok(Err(error))) => {
            warn!(group = name, error = &error as &dyn std::error::Error, "cannot look up a group");
            None
        }
        Ok(Err(_)) | Err(_) => {
            warn!(group = name, "looking up a group took too long");
            None
        }
    }
}

//! What a container is given of GPUs: made ready before a start, bound while it runs, and looked at from where its processes are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_core::gpu::{Found, GuestView, Opened, SeenNode};
use nixmox_core::model::{Assigned, ContainerName, Grant, OPTIONAL_NODES, PrivateUsers};
use tokio::time::{Instant, sleep, timeout};

use super::Live;
use crate::chain::chain;
use crate::guest_helper::devices::{self as asked, Asked};
use crate::guest_helper::{Question, Request};
use crate::host::devices::{self, Numbers};
use crate::host::paths::Paths;
use crate::host::{StepError, line};

/// Where nodes are made.
const NODES: &str = "/dev";
/// How long nodes are waited for: at boot their module, or udev, may be later than the agent.
const NODES_LIMIT: Duration = Duration::from_secs(10);
/// The wait between two looks at them.
const NODES_PAUSE: Duration = Duration::from_millis(100);
/// How long a look into a guest may take. A driver that has not been used for a while takes seconds to open.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// `EPERM`, which the device rules of a cgroup answer with, and `EACCES`, which the modes of a node do.
const REFUSED: i32 = nix::errno::Errno::EPERM as i32;
const FORBIDDEN: i32 = nix::errno::Errno::EACCES as i32;

/// The numbers that the host has for nodes, by their paths.
type NodeNumbers = BTreeMap<PathBuf, Option<(u32, u32)>>;

impl Live {
    /// Makes ready what a start binds of a service's GPUs.
    pub(super) async fn prepare_gpu(&self, assigned: &Assigned) -> Result<(), StepError> {
        let Some(grant) = assigned.gpu.grant() else { return Ok(()) };
        self.prepare_nodes(grant).await?;
        let grant = grant.clone();
        let key = self.paths.gpu_dir();
        self.on(&self.unhurried_own, &key, move |paths| devices::prepare_user_space(paths, &grant)).await
    }

    /// Makes the nodes that are NVIDIA's where they are missing or stale, and waits for those that are not there yet.
    ///
    /// # Errors
    /// `GpuNodeMissing`, `GpuNoDriver`, `GpuNotANode`, `File`.
    pub(super) async fn prepare_nodes(&self, grant: &Grant) -> Result<(), StepError> {
        let wrong = self.wrong_nodes(grant).await?;
        if wrong.is_empty() {
            return Ok(());
        }
        for call in devices::calls(wrong.iter().map(PathBuf::as_path)) {
            devices::run(&call).await;
        }
        let end = Instant::now() + NODES_LIMIT;
        loop {
            let late = Instant::now() >= end;
            self.make_nodes(grant).await?;
            match self.wrong_nodes(grant).await?.into_iter().next() {
                None => return Ok(()),
                Some(path) if late => {
                    let known = self.numbers(grant).await?.get(&path).is_some_and(Option::is_some);
                    return Err(if known {
                        StepError::GpuNodeMissing { path }
                    } else {
                        StepError::GpuNoDriver { path }
                    });
                }
                Some(_) => sleep(NODES_PAUSE).await,
            }
        }
    }

    /// Makes those that can be made now, for one start at a time: many may need the same.
    async fn make_nodes(&self, grant: &Grant) -> Result<(), StepError> {
        let nodes = grant.nodes.clone();
        let make = move |paths: &Paths| {
            let numbers = Numbers::read(paths);
            nodes.iter().try_for_each(|path| devices::put_right(paths, &numbers, path))
        };
        self.on(&self.unhurried_own, Path::new(NODES), make).await
    }

    /// Returns the nodes of a grant that are not there, or lead to what is not loaded any more.
    async fn wrong_nodes(&self, grant: &Grant) -> Result<Vec<PathBuf>, StepError> {
        let nodes = grant.nodes.clone();
        let look = move |paths: &Paths| {
            let numbers = Numbers::read(paths);
            let mut wrong = Vec::new();
            for path in nodes {
                if !devices::is_right(paths, &numbers, &path)? {
                    wrong.push(path);
                }
            }
            Ok(wrong)
        };
        self.blocking(look).await
    }

    async fn numbers(&self, grant: &Grant) -> Result<NodeNumbers, StepError> {
        let nodes = grant.nodes.clone();
        self.blocking(move |paths| {
            let numbers = Numbers::read(paths);
            Ok(nodes.into_iter().map(|path| (path.clone(), numbers.of(&path))).collect())
        })
        .await
    }

    /// Looks at what a running container has of a grant.
    pub(super) async fn look_into_container(&self, name: &ContainerName, grant: &Grant) -> GuestView {
        let asked = async {
            let leader = self.leader(name).await.map_err(|error| chain(&error))?;
            let leader = leader.ok_or_else(|| "the container does not run".to_owned())?;
            let numbers = self.numbers(grant).await.map_err(|error| chain(&error))?;
            let number = |path: &PathBuf| numbers.get(path).copied().flatten();
            let nodes = grant.nodes.iter().map(|path| Asked { path: path.clone(), number: number(path) });
            let question = Question::Devices(nodes.collect());
            let timeout_ms = u64::try_from(LOOK_LIMIT.as_millis()).unwrap_or(u64::MAX);
            let answer = self.guests.answer(&Request { leader, unit: name.unit(), timeout_ms, question }).await;
            answer.devices.ok_or(answer.output)
        };
        let seen = timeout(LOOK_LIMIT * 2, asked).await;
        let seen = seen.unwrap_or_else(|_late| Err("no answer in time".to_owned()));
        let (seen, fault) = match seen {
            Ok(seen) => (seen, None),
            Err(fault) => (asked::Seen::default(), Some(line::clean(&fault))),
        };
        let nodes = grant.nodes.iter().zip(&seen.nodes).map(|(path, seen)| of_helper(path.clone(), *seen));
        let library = seen.library.map(|text| line::clean(&text));
        GuestView { vendor: grant.vendor, nodes: nodes.collect(), library, fault }
    }

    /// Returns the nodes of a grant that a running container cannot use, and what was seen.
    ///
    /// # Errors
    /// `GpuUnseen`.
    pub(super) async fn lost_nodes(&self, name: &ContainerName, grant: &Grant) -> Result<Vec<SeenNode>, StepError> {
        let numbers = self.numbers(grant).await?;
        let view = self.look_into_container(name, grant).await;
        if let Some(why) = view.fault {
            return Err(StepError::GpuUnseen { name: name.clone(), why });
        }
        let lost = view.lost(|path| numbers.get(path).copied().flatten());
        Ok(view.nodes.into_iter().filter(|node| lost.contains(&node.path)).collect())
    }

    /// Binds the nodes of its GPUs into a running container that lacks them, or has those of a module that was loaded before. Its device
    /// rules are set already.
    ///
    /// # Errors
    /// `GpuNeedsRestart`, `GpuNotUsable`, `GpuUnseen`, `Bus`.
    pub(super) async fn bind_nodes(&self, assigned: &Assigned, grant: &Grant) -> Result<(), StepError> {
        let name = &assigned.service.name;
        let mut lost = self.lost_nodes(name, grant).await?;
        lost.retain(|node| !is_gone_without(assigned, node));
        for node in lost.iter().filter(|node| node.opened.is_none()) {
            match assigned.service.private_users {
                PrivateUsers::No => {}
                PrivateUsers::Pick => {
                    return Err(StepError::GpuNeedsRestart { name: name.clone(), path: node.path.clone() });
                }
            }
            tracing::info!(container = %name, path = %node.path.display(), "binding a node");
            self.machined.bind(name, &node.path).await?;
        }
        if lost.is_empty() {
            return Ok(());
        }
        match self.lost_nodes(name, grant).await?.into_iter().find(|node| !is_gone_without(assigned, node)) {
            None => Ok(()),
            Some(SeenNode { path, found, opened }) => {
                Err(StepError::GpuNotUsable { name: name.clone(), path, found: told(found, opened) })
            }
        }
    }
}

/// Returns whether a container goes on without a node that it lacks: computing does without it, and a restart alone would give it.
fn is_gone_without(assigned: &Assigned, node: &SeenNode) -> bool {
    let is_optional = OPTIONAL_NODES.iter().any(|path| node.path == Path::new(path));
    node.opened.is_none() && is_optional && assigned.service.private_users == PrivateUsers::Pick
}

/// Returns what was found of a node that is not usable.
fn told(found: Option<Found>, opened: Option<Opened>) -> &'static str {
    match (found, opened) {
        (None, _) => "it is not there",
        (Some(Found::Other), _) => "something else is in its place",
        (_, Some(Opened::Refused)) => "the device rules refuse it",
        (_, Some(Opened::Forbidden)) => "its permissions refuse it",
        (_, None | Some(Opened::Let(_))) => "it is of a module that was loaded before",
    }
}

fn of_helper(path: PathBuf, seen: asked::SeenNode) -> SeenNode {
    let (found, opened) = match seen {
        asked::SeenNode::Absent => (None, None),
        asked::SeenNode::Other => (Some(Found::Other), None),
        asked::SeenNode::Device(major, minor, errno) => (Some(Found::Device(major, minor)), errno.map(of_errno)),
    };
    SeenNode { path, found, opened }
}

fn of_errno(errno: i32) -> Opened {
    match errno {
        0 => Opened::Let(None),
        REFUSED => Opened::Refused,
        FORBIDDEN => Opened::Forbidden,
        other => Opened::Let(Some(other)),
    }
}

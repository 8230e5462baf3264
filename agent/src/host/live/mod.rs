//! The real host: the adapters, composed into the steps of a plan.
//!
//! Owns the order of calls within one step. Each adapter knows one outside thing; nothing but this module knows
//! two of them.

mod engine;
mod gpu;
mod host;
mod layout;
mod logs;
mod loopback;
mod observe;
mod probe;
mod session;
mod slices;
mod start;
mod switch;
mod update;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nixmox_core::container::Layout;
use nixmox_core::model::ContainerName;
use observe::Running;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StepError;
use super::bus::{Bus, is_away};
use super::cgroup::OomCounts;
use super::changes::{Changes, Watcher};
use super::firewall::Firewall;
use super::gpu::Gpus;
use super::guest::Guests;
use super::machined::Machined;
use super::paths::Paths;
use super::session::Sessions;
use super::systemd::{Jobs, Systemd, UnitCache};
use crate::unhurried::Unhurried;

/// The program that runs now, even when its file was replaced by an upgrade (`proc_pid_exe(5)`).
const SELF: &str = "/proc/self/exe";

/// How long a file system of somebody else may take to answer: a disk that sleeps takes some ten seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// Such looks at a time, those included that never end: one per path at most.
const LOOKS_MAX: usize = 16;
/// How long a systemd that replaces itself, or a bus that restarts, is waited for.
const AWAY_LIMIT: Duration = Duration::from_secs(10);
/// The wait between attempts meanwhile.
const AWAY_PAUSE: Duration = Duration::from_millis(100);
/// Such turns. dbus-daemon(1) refuses further calls of a connection that waits for 128 answers (`max_replies_per_connection`),
/// and each takes up to two, beside those of a look at all.
const ASKS_MAX: usize = 16;

/// The host that the agent runs on.
#[derive(Debug)]
pub struct Live {
    paths: Paths,
    layout: Layout,
    systemd: Systemd,
    machined: Machined,
    firewall: Firewall,
    guests: Guests,
    gpus: Gpus,
    sessions: Sessions,
    changes: Changes,
    oom: Arc<OomCounts>,
    /// Turns to ask the bus about single containers.
    asks: Semaphore,
    /// Looks at what lies on disks of somebody else.
    unhurried: Unhurried,
    /// Looks at the store and the roots, which every start needs, whatever the mounts of others do.
    unhurried_own: Unhurried,
    /// What ran at the last look.
    running: Mutex<BTreeMap<ContainerName, Running>>,
}

impl Live {
    /// Starts watching the host and returns it. The bus is connected in the background, again and again where it
    /// fails: calls wait a few seconds for it.
    ///
    /// The watching tasks run on `tasks` until `stop` is cancelled.
    #[must_use]
    pub fn open(tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let paths = Paths::default();
        let (connection, bus) = Bus::new();
        let (changes, jobs, units) = (Changes::new(), Jobs::new(), Arc::<UnitCache>::default());
        let sessions = Sessions::new(PathBuf::from(SELF), tasks.clone(), stop.clone());
        let oom = Arc::new(OomCounts::new());
        let kills = Arc::clone(&oom);
        Watcher {
            changes: changes.clone(),
            jobs: Arc::clone(&jobs),
            units: Arc::clone(&units),
            kills,
            connection,
            stop,
        }
        .spawn(&paths, tasks);
        let layout = layout::find(&paths);
        let paths = paths.with_conf_in_run(layout.conf_in_run);
        Self {
            paths,
            layout,
            systemd: Systemd::new(bus.clone(), jobs, units),
            machined: Machined::new(bus),
            firewall: Firewall::default(),
            guests: Guests::new(PathBuf::from(SELF)),
            gpus: Gpus::new(PathBuf::from(SELF)),
            sessions,
            changes,
            oom,
            asks: Semaphore::new(ASKS_MAX),
            unhurried: Unhurried::new(LOOKS_MAX, LOOK_LIMIT),
            unhurried_own: Unhurried::new(LOOKS_MAX, LOOK_LIMIT),
            running: Mutex::default(),
        }
    }

    /// Enters guests through the helper of another program than the one that runs: for tests, which are not the agent.
    #[must_use]
    pub fn with_helper_of(mut self, agent: PathBuf) -> Self {
        self.guests = Guests::new(agent.clone());
        self.gpus = Gpus::new(agent.clone());
        self.sessions = self.sessions.with_program(agent);
        self
    }

    /// Does something again while systemd is away. Everything that is asked of the host may be repeated.
    async fn patiently<T, F: Future<Output = Result<T, StepError>>>(
        attempt: impl Fn() -> F,
    ) -> Result<T, StepError> {
        let end = Instant::now() + AWAY_LIMIT;
        loop {
            match attempt().await {
                Err(error) if is_away(&error) && Instant::now() < end => {
                    tracing::debug!(%error, "systemd is away for a moment");
                    tokio::time::sleep(AWAY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Looks at a path whose file system may never answer.
    async fn on<T: Send + 'static>(
        &self,
        unhurried: &Unhurried,
        path: &Path,
        work: impl FnOnce(&Paths) -> Result<T, StepError> + Send + 'static,
    ) -> Result<T, StepError> {
        let paths = self.paths.clone();
        let work: Work<T> = Box::new(move || work(&paths));
        let done = unhurried.run(path, work).await;
        done.unwrap_or_else(|| Err(StepError::NoAnswer { path: path.to_owned() }))
    }

    /// Runs blocking work of an adapter (files, `/proc`, netlink) on the blocking pool.
    ///
    /// Boxed: a task for each kind of work takes 0.1 MiB of the program.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Paths) -> Result<T, StepError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StepError>> + Send {
        let paths = self.paths.clone();
        done(Box::new(move || work(&paths)))
    }
}

/// Blocking work, whatever it is.
type Work<T> = Box<dyn FnOnce() -> Result<T, StepError> + Send>;

async fn done<T: Send + 'static>(work: Work<T>) -> Result<T, StepError> {
    let done = tokio::task::spawn_blocking(work).await;
    // Fails only when the runtime shuts down.
    done.unwrap_or_else(|error| Err(super::bus::failed("spawn_blocking", "blocking work", error)))
}

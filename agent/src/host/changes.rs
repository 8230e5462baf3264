//! What wakes the reconcile task: signals of systemd and machined, files of containers, the nftables ruleset.
//!
//! Owns the watching tasks and the subscription of job ends. A wake-up says only that something may have changed;
//! what did is observed anew, so lost, doubled and coalesced signals do not matter.
//!
//! ```text
//!            connected               bus gone
//! connecting ─────────▶ watching ───────────────▶ connecting (100 ms, doubling up to 5 s)
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SelectAll, StreamExt};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nixmox_core::model::ContainerName;
use nixmox_core::slice;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::cgroup::OomCounts;
use super::paths::Paths;
use super::readable::Readable;
use super::systemd::{self, JobEnd, JobSignal, Jobs, UnitCache};
use super::{bus, netlink, servers};

const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);
/// After a change of a file or of the ruleset, what follows within this time is one change with it.
const SETTLE_TIME: Duration = Duration::from_millis(50);
const MACHINED: &str = "org.freedesktop.machine1";

/// Kills for want of memory are looked for after this time: as often as that, a container at its limit wakes the agent.
const KILL_SETTLE_TIME: Duration = Duration::from_millis(500);

/// A counter that grows with every change outside.
#[derive(Clone, Debug)]
pub(super) struct Changes(watch::Sender<u64>);

impl Changes {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Says that something may have changed.
    pub(super) fn note(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// What the watching tasks need.
pub(super) struct Watcher {
    pub(super) changes: Changes,
    pub(super) jobs: Arc<Jobs>,
    pub(super) units: Arc<UnitCache>,
    pub(super) kills: Arc<OomCounts>,
    pub(super) connection: watch::Sender<Option<Connection>>,
    pub(super) stop: CancellationToken,
}

impl Watcher {
    /// Starts the tasks; they end when `stop` is cancelled.
    pub(super) fn spawn(self, paths: &Paths, tasks: &TaskTracker) {
        let ours = [paths.conf_dir(), paths.runtime_conf_dir(), paths.guests_dir(), paths.exit_dir()];
        self.watch_files(tasks, ours.to_vec(), paths.runtime_units(), |_| {});
        // systemd sends no signal when `systemctl set-property` changes limits: it only writes them down.
        self.watch_files(tasks, Vec::new(), paths.control_dir(), UnitCache::all_changed);
        // Without `--runtime` it writes to /etc, into a folder that it makes itself.
        let lasting = paths.lasting_control_dir();
        let parent = lasting.parent().map(Path::to_owned);
        self.watch_files(tasks, parent.into_iter().collect(), lasting, UnitCache::all_changed);
        match netlink::ruleset_changes() {
            Ok(socket) => {
                self.watch_fd(tasks, socket, SETTLE_TIME, Box::new(|| true));
            }
            Err(error) => tracing::warn!(%error, "cannot watch nftables; the periodic look will see changes"),
        }
        if let Some(fd) = self.kills.wakes() {
            let kills = Arc::clone(&self.kills);
            self.watch_fd(tasks, fd, KILL_SETTLE_TIME, Box::new(move || kills.look()));
        }
        tasks.spawn(servers::follow(paths.clone(), self.changes.clone(), self.stop.clone()));
        tasks.spawn(self.keep_connection());
    }

    /// Watches folders, and below `units` those of containers and slices; `forget` runs before a change is noted.
    fn watch_files(
        &self,
        tasks: &TaskTracker,
        folders: Vec<PathBuf>,
        units: PathBuf,
        forget: impl Fn(&UnitCache) + Send + 'static,
    ) {
        match WatchedFiles::new(folders, units) {
            Ok((files, fd)) => {
                let known = Arc::clone(&self.units);
                let look = move || {
                    forget(&known);
                    files.add_watches();
                    true
                };
                self.watch_fd(tasks, fd, SETTLE_TIME, Box::new(look));
            }
            Err(error) => tracing::warn!(%error, "cannot watch files; the periodic look will see changes"),
        }
    }

    fn watch_fd(&self, tasks: &TaskTracker, fd: OwnedFd, settle: Duration, look: Look) {
        tasks.spawn(watch_fd(fd, settle, look, self.changes.clone(), self.stop.clone()));
    }

    async fn keep_connection(self) {
        let mut delay = RECONNECT_DELAY_MIN;
        loop {
            let stop = self.stop.clone();
            // Both arms are cancel-safe: a connection that is not used is closed.
            let attempt = tokio::select! {
                () = stop.cancelled() => return,
                attempt = tokio::time::timeout(bus::CALL_LIMIT, open()) => attempt,
            };
            match attempt {
                Ok(Ok((connection, signals))) => {
                    delay = RECONNECT_DELAY_MIN;
                    self.watch_signals(connection, signals).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!("the connection to the system bus ended; connecting again");
                }
                Ok(Err(error)) => tracing::warn!(%error, ?delay, "cannot connect to systemd; trying again"),
                Err(_elapsed) => tracing::warn!(?delay, "systemd does not answer on the bus; trying again"),
            }
            // Both arms are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    /// Publishes a connection and hands on its signals until it ends.
    async fn watch_signals(&self, connection: Connection, mut signals: SelectAll<MessageStream>) {
        self.connection.send_replace(Some(connection.clone()));
        self.units.all_changed();
        self.jobs.publish(JobSignal::Lost);
        self.changes.note();
        loop {
            // Every arm is cancel-safe, and only the chosen arm's value is used.
            let message = tokio::select! {
                () = self.stop.cancelled() => break,
                () = connection.closed() => break,
                message = signals.next() => message,
            };
            match message {
                Some(Ok(message)) => self.hand_on(&message),
                Some(Err(error)) => tracing::debug!(%error, "unreadable signal"),
                None => break,
            }
        }
        self.connection.send_replace(None);
    }

    /// Forgets what a signal makes doubtful, then says that something changed.
    fn hand_on(&self, message: &Message) {
        let header = message.header();
        let body = message.body();
        let mut ended = None;
        let unit = match header.member().map(zbus::names::MemberName::as_str) {
            Some("JobRemoved") => {
                let Ok((id, _path, unit, result)) =
                    body.deserialize::<(u32, zbus::ObjectPath<'_>, String, String)>()
                else {
                    return;
                };
                let end = if result == "done" { JobEnd::Done } else { JobEnd::Other(result) };
                ended = Some(JobSignal::Ended(id, end));
                ContainerName::from_unit(&unit)
            }
            Some("JobNew") => {
                let read = body.deserialize::<(u32, zbus::ObjectPath<'_>, String)>();
                read.ok().and_then(|(_, _, unit)| ContainerName::from_unit(&unit))
            }
            Some("UnitNew" | "UnitRemoved") => {
                let read = body.deserialize::<(String, zbus::ObjectPath<'_>)>();
                read.ok().and_then(|(unit, _)| ContainerName::from_unit(&unit))
            }
            Some("PropertiesChanged") => header.path().and_then(|path| container_of(path)),
            Some("MachineNew" | "MachineRemoved") => {
                self.changes.note();
                return;
            }
            Some("Reloading") => {
                // A systemd that replaced itself was not on the bus for a moment, and its jobs went on.
                self.units.all_changed();
                self.jobs.publish(JobSignal::Lost);
                self.changes.note();
                return;
            }
            Some(_) | None => return,
        };
        if let Some(name) = &unit {
            self.units.unit_changed(&name.unit());
            self.changes.note();
        }
        // Last: whoever waits for this end must not find what was known before.
        if let Some(ended) = ended {
            self.jobs.publish(ended);
        }
    }
}

/// Returns the container of a unit's object.
fn container_of(path: &zbus::ObjectPath<'_>) -> Option<ContainerName> {
    let label = path.as_str().strip_prefix(systemd::UNITS)?.strip_prefix('/')?;
    // `container@x.service` is escaped to `container_40x_2eservice`.
    if !label.starts_with("container_40") {
        return None;
    }
    ContainerName::from_unit(&zbus_systemd::bus_label_unescape(label))
}

/// Connects, and subscribes before anything is asked.
async fn open() -> zbus::Result<(Connection, SelectAll<MessageStream>)> {
    let connection = bus::connect().await?;
    let signal = |sender| MatchRule::builder().msg_type(Type::Signal).sender(sender);
    let mut rules = Vec::new();
    for member in ["JobNew", "JobRemoved", "UnitNew", "UnitRemoved", "Reloading"] {
        let manager = signal(systemd::DESTINATION).path(systemd::PATH).interface(systemd::MANAGER);
        rules.push(manager.member(member).build()?);
    }
    // Each change is signalled for both interfaces of a unit; one of them is enough.
    let properties = signal(systemd::DESTINATION).interface("org.freedesktop.DBus.Properties");
    rules.push(properties.path_namespace(systemd::UNITS).add_arg("org.freedesktop.systemd1.Unit").build()?);
    for member in ["MachineNew", "MachineRemoved"] {
        rules.push(signal(MACHINED).interface("org.freedesktop.machine1.Manager").member(member).build()?);
    }
    let mut signals = SelectAll::new();
    for rule in rules {
        signals.push(bus::subscribe(&connection, rule).await?);
    }
    // Without a subscriber systemd sends no signals: org.freedesktop.systemd1(5).
    let subscribe =
        connection.call_method(Some(systemd::DESTINATION), systemd::PATH, Some(systemd::MANAGER), "Subscribe", &());
    subscribe.await?;
    Ok((connection, signals))
}

/// Folders in which files of containers lie.
struct WatchedFiles {
    inotify: Inotify,
    folders: Vec<PathBuf>,
    /// A folder of drop-in folders.
    units: PathBuf,
}

impl WatchedFiles {
    /// Watches them, and makes those that are missing; returns the descriptor that wakes.
    fn new(folders: Vec<PathBuf>, units: PathBuf) -> std::io::Result<(Self, OwnedFd)> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let fd = inotify.as_fd().try_clone_to_owned()?;
        for folder in folders.iter().chain([&units]) {
            // In a read-only /etc it cannot be made, and nobody else can make files in it.
            let _ = std::fs::create_dir_all(folder);
        }
        let files = Self { inotify, folders, units };
        files.add_watches();
        Ok((files, fd))
    }

    /// Watches the folders that came since; watching one again changes nothing (inotify(7)).
    fn add_watches(&self) {
        for folder in self.folders.iter().chain([&self.units]) {
            self.watch(folder);
        }
        for entry in std::fs::read_dir(&self.units).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let unit = name.to_str().and_then(|name| name.strip_suffix(".d"));
            if unit.is_some_and(|unit| ContainerName::from_unit(unit).is_some() || slice::is_known(unit)) {
                self.watch(&entry.path());
            }
        }
    }

    fn watch(&self, directory: &Path) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        if let Err(error) = self.inotify.add_watch(directory, flags) {
            tracing::debug!(path = %directory.display(), %error, "cannot watch");
        }
    }
}

/// Looks at what a descriptor tells of; returns whether that is a change. One type for all, so that there is one task for all.
type Look = Box<dyn Fn() -> bool + Send>;

/// Looks whenever a descriptor becomes readable, `settle` later, and notes what is a change.
async fn watch_fd(fd: OwnedFd, settle: Duration, look: Look, changes: Changes, stop: CancellationToken) {
    let readable = match Readable::new(fd) {
        Ok(readable) => readable,
        Err(error) => {
            tracing::warn!(%error, "cannot watch a descriptor; the periodic look will see changes");
            return;
        }
    };
    loop {
        // Both arms are cancel-safe: what is there to read stays until it is drained.
        let ready = tokio::select! {
            () = stop.cancelled() => return,
            ready = readable.ready() => ready,
        };
        if ready.is_err() {
            return;
        }
        tokio::time::sleep(settle).await;
        readable.drain();
        if look() {
            changes.note();
        }
    }
}

//! The agent as a whole: wires state, reconcile task and server together, and lives until it is told to stop.
//!
//! Generic over the host, so that tests run the same agent on a simulated one. Decides nothing.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Gid;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::host::Host;
use crate::metrics::{self, Listen};
use crate::reconcile::{Reconciler, Standing};
use crate::server::{self, Limits, Roles};
use crate::settings::{MetricsSettings, Settings};
use crate::state::{Generations, NotesFile, StateError};

/// How long clients are kept waiting for the first look at the host. A host that cannot be looked at for longer is
/// served too: the agent then says so.
const FIRST_LOOK_LIMIT: Duration = Duration::from_secs(5);

const METRICS_OFF: &str = "metrics are not given to anybody";

/// What the agent needs from the one who starts it.
#[derive(Debug)]
pub struct Parts<R> {
    /// Where it keeps its state, `/var/lib/nixmox`.
    pub state: PathBuf,
    /// Its settings.
    pub settings: Settings,
    /// Where it listens.
    pub listener: UnixListener,
    /// Who may do what.
    pub roles: R,
    /// What one client may do to it.
    pub limits: Limits,
}

/// Runs the agent until `stop` is cancelled. Containers are never touched by its end.
///
/// Says READY to the service manager as soon as it serves: after the first look at the host, before anything is
/// brought up.
///
/// # Errors
/// When the state cannot be read at all. State of a newer version is no error: the agent then serves, says so,
/// and touches nothing.
pub async fn run<H: Host, R: Roles + 'static>(
    host: Arc<H>,
    parts: Parts<R>,
    stop: CancellationToken,
) -> Result<(), StateError> {
    let generations = Generations::new(&parts.state);
    let notes = NotesFile::new(&parts.state);
    let mut standing = standing(&generations, &notes)?;
    let metrics = match parts.settings.metrics.clone() {
        Some(MetricsSettings { listen }) => metrics_listener(listen, &mut standing.warnings).await,
        None => None,
    };
    info!(generation = standing.generation.number, event = "start", version = env!("CARGO_PKG_VERSION"), "serving");
    let (reconciler, handle) = Reconciler::new(host, standing, generations, notes, parts.settings);

    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let work = tokio::task::spawn_local(reconciler.run(stop.clone()));
            let (stopping, source) = (stop.clone(), handle.clone());
            let server = tokio::task::spawn_local(async move {
                // Before the first look the status is empty: `down` would take it for the end of its work.
                handle.looked(FIRST_LOOK_LIMIT).await;
                crate::notify::ready();
                server::serve(parts.listener, handle, parts.roles, parts.limits, stopping).await
            });
            if let Some(listener) = metrics {
                let known = source.clone();
                let serving = metrics::serve(listener, source, metrics::Limits::default(), stop.clone());
                // Its end is no reason for that of the agent.
                tokio::task::spawn_local(async move {
                    // An empty page would be taken for services that are gone.
                    known.looked(FIRST_LOOK_LIMIT).await;
                    if let Err(error) = serving.await {
                        error!(event = "metrics", "{METRICS_OFF}: {error}");
                    }
                });
            }
            // Both arms are cancel-safe: a task that is not awaited any more goes on until the set is dropped.
            // Whichever ends first ends the agent; systemd starts it anew.
            let lost = tokio::select! {
                ended = server => match ended {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                },
                ended = work => ended.err().map(|error| error.to_string()),
            };
            if let Some(reason) = lost {
                error!(event = "crash", "a task of the agent ended: {reason}");
            }
            crate::notify::stopping();
            stop.cancel();
        })
        .await;
    Ok(())
}

/// Listens for those who ask for metrics. Where that fails the agent does without, and says so: containers matter more.
async fn metrics_listener(listen: Listen, warnings: &mut Vec<String>) -> Option<metrics::Listener> {
    let observers = match listen {
        Listen::Socket(_) => server::group_id(server::GROUP_OBSERVER).await.map(Gid::from_raw),
        Listen::Loopback(_) => None,
    };
    match metrics::bind(&listen, observers) {
        Ok(listener) => Some(listener),
        Err(error) => {
            error!(event = "metrics", "{METRICS_OFF}: {error}");
            warnings.push(format!("{METRICS_OFF}: {error}; `systemctl restart nixmox-agent` tries again"));
            None
        }
    }
}

/// Reads what the agent begins with.
///
/// # Errors
/// When the state cannot be read at all. Damage is a warning in what is returned, and state of a newer version
/// means that nothing is touched.
pub fn standing(generations: &Generations, notes: &NotesFile) -> Result<Standing, StateError> {
    match read_standing(generations, notes) {
        Err(newer @ StateError::Newer { .. }) => {
            error!(event = "hands-off", "{newer}");
            Ok(Standing { hands_off: Some(newer.to_string()), ..Standing::default() })
        }
        other => other,
    }
}

fn read_standing(generations: &Generations, notes: &NotesFile) -> Result<Standing, StateError> {
    let current = generations.load()?;
    let mut warnings: Vec<String> = Vec::new();
    if let (0, [damage, ..]) = (current.generation.number, current.damage.as_slice()) {
        // What is desired is not known. To take that for nothing would stop everything.
        error!(event = "hands-off", "{damage}");
        let reason =
            format!("{damage}, and no other generation is there: restore it, or remove it and run `nixmoxctl up`");
        return Ok(Standing { hands_off: Some(reason), ..Standing::default() });
    }
    for damage in &current.damage {
        error!(event = "damage", generation = current.generation.number, "{damage}");
        warnings.push(format!("{damage}; generation {} stands in", current.generation.number));
    }
    let on_disk = match notes.load() {
        Err(damage @ StateError::Damaged { .. }) => {
            // Holds are lost, what is desired is not: better than not starting at all.
            error!(event = "damage", "{damage}");
            warnings.push(format!("{damage}: services held by `stop` are started again"));
            let mut notes = crate::state::Notes::default();
            for (stack, record) in &current.generation.stacks {
                // What passed long ago is not judged a second time for want of a note.
                notes.prove(stack, record.changed_in);
            }
            notes
        }
        other => other?,
    };
    let mut notes = on_disk.clone();
    if current.damage.is_empty() {
        // Left behind when an agent died between the generation and the notes.
        notes.retain_declared(|name| current.generation.services.contains_key(name));
    }
    Ok(Standing { generation: current.generation, notes, on_disk, warnings, hands_off: None })
}

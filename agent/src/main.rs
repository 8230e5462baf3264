//! The agent program: chooses what to be, and wires the real host. The only file that names it.
//!
//! `nixmox-agent` serves. `nixmox-agent guest-helper`, `guest-session`, `gpu-probe`, `log-reader` and `exit-record` are the
//! children that may hang, enter a guest, or run while the agent does not.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nixmox_agent::app::{self, Parts};
use nixmox_agent::exit_record::{self, Moment};
use nixmox_agent::gpu_probe;
use nixmox_agent::guest_helper;
use nixmox_agent::host::live::Live;
use nixmox_agent::journal;
use nixmox_agent::server::{self, GROUP_OBSERVER, GROUP_OPERATOR, GroupRoles, Limits};
use nixmox_agent::settings::Settings;
use nixmox_core::model::ContainerName;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const STATE: &str = "/var/lib/nixmox";
const SETTINGS: &str = "/etc/nixmox/agent.toml";
/// Between two starts that fail.
const FAULT_PAUSE: Duration = Duration::from_secs(5);

/// How long blocking work under way may take to end with the agent; it is done again by whoever asks again.
const LAST_WORK_LIMIT: Duration = Duration::from_secs(1);

const USAGE: &str = "usage: nixmox-agent [--version | --check-settings FILE]

Keeps nixos-containers as declared. Started by systemd (nixmox-agent.service); driven by nixmoxctl.
Settings: /etc/nixmox/agent.toml. State: /var/lib/nixmox.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            let served = serve();
            let failed = served.is_err();
            let code = finish(served);
            if failed {
                pause();
            }
            code
        }
        ["exit-record", name] => finish(record_exit(name, Moment::StopPost)),
        ["exit-record", "--started", name] => finish(record_exit(name, Moment::Started)),
        ["exit-record", "--stop", name] => finish(record_exit(name, Moment::Stop)),
        ["log-reader", reading] => finish(guest_helper::journal::read(reading).map_err(Into::into)),
        ["guest-helper"] => finish(guest_helper::run().map_err(Into::into)),
        ["gpu-probe", left_out @ ..] => finish(gpu_probe::run(left_out).map_err(Into::into)),
        ["guest-session"] => finish(guest_helper::session::run().map_err(Into::into)),
        ["--check-settings", file] => finish(Settings::load(Path::new(file)).map(drop).map_err(Into::into)),
        ["--version" | "-V"] => say(&format!("nixmox-agent {}\n", env!("CARGO_PKG_VERSION")), ExitCode::SUCCESS),
        ["--help" | "-h"] => say(USAGE, ExitCode::SUCCESS),
        _ => say(USAGE, ExitCode::from(2)),
    }
}

fn serve() -> anyhow::Result<()> {
    journal::start();
    let settings = Settings::load(Path::new(SETTINGS))?;
    let listener = activated_socket()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let host = Arc::new(Live::open(&tasks, stop.clone()));
        let parts = Parts {
            state: PathBuf::from(STATE),
            settings,
            listener,
            roles: GroupRoles::look_up(GROUP_OBSERVER, GROUP_OPERATOR).await,
            limits: Limits::default(),
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let told = stop.clone();
        let waiting = async move {
            // Every arm is cancel-safe; the last one is an agent that ended by itself.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = told.cancelled() => {}
            }
            told.cancel();
        };
        let (ended, ()) = tokio::join!(app::run(host, parts, stop), waiting);
        tasks.close();
        tasks.wait().await;
        ended.context("cannot read what is desired")
    });
    // Work on a file system that does not answer may never end, and the removal of data takes minutes: neither is waited for.
    runtime.shutdown_timeout(LAST_WORK_LIMIT);
    ended
}

/// Waits before the end of an agent that could not start: the unit starts it again at once, and a fault that lasts, such
/// as a mistake in the settings, is to be told every few seconds and not ten times in each.
fn pause() {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        std::thread::sleep(FAULT_PAUSE);
    }
}

fn record_exit(name: &str, moment: Moment) -> anyhow::Result<()> {
    let name: ContainerName = name.parse()?;
    Ok(exit_record::write(&name, moment)?)
}

/// Returns the socket that systemd listens on for the agent.
fn activated_socket() -> anyhow::Result<UnixListener> {
    server::from_systemd()?.context(
        "systemd passed no socket: start nixmox-agent.socket, or run this under systemd-socket-activate(1)",
    )
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = "exit", "{error:#}");
            say(&format!("nixmox-agent: {error:#}\n"), ExitCode::FAILURE)
        }
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "what a person asked this program for")]
fn say(text: &str, code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS {
        print!("{text}");
    } else {
        eprint!("{text}");
    }
    code
}

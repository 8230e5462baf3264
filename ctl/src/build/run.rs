//! A run of nix: its log is followed and shown, its answer returned. As the user, with the user's own settings.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::{Output as Ended, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::error::{BuildError, Failure};
use super::log::{Log, Said};
use super::options::NixOptions;
use super::view::View;
use crate::context::Context;

/// How often the view is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// How long its last words are waited for once nix has ended: what it started may keep its stderr open, as the master
/// connection of ssh does.
const DRAIN: Duration = Duration::from_millis(500);

/// A host may not have switched flakes on; they are what was asked for here.
pub(super) const FEATURES: [&str; 2] = ["--extra-experimental-features", "nix-command flakes"];

/// Runs nix, once and again.
pub(super) struct Nix<'a> {
    pub(super) context: &'a mut Context,
    pub(super) options: &'a NixOptions,
    /// What was said to the person: the same warning comes with every run.
    said: BTreeSet<String>,
}

/// What nix is to do.
pub(super) struct Call<'a> {
    /// The subcommand, such as `build`.
    pub(super) command: &'static str,
    /// What that is to a person.
    pub(super) doing: &'static str,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// Where it runs.
    pub(super) folder: &'a Path,
    /// What that is about, as the manifest names it.
    pub(super) about: &'a [String],
}

impl<'a> Nix<'a> {
    pub(super) fn new(context: &'a mut Context, options: &'a NixOptions) -> Self {
        Self { context, options, said: BTreeSet::new() }
    }

    /// Runs nix to its end and returns what it wrote to stdout. What it is doing is shown on stderr meanwhile, and what it
    /// complains about.
    pub(super) async fn run(&mut self, call: Call<'_>) -> Result<Vec<u8>, BuildError> {
        let mut command = self.context.machine.program("nix");
        command
            .args(FEATURES)
            .arg(call.command)
            .args(["--log-format", "internal-json", "-v"])
            .args(self.options.of_nix())
            .args(&call.arguments)
            .current_dir(call.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = Command::from(command).kill_on_drop(true).spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BuildError::NoNix { installables: call.about.to_vec() },
            _ => BuildError::Nix(source),
        })?;
        let mut log = Log::default();
        let mut view = View::new(self.context, call.doing, call.about);
        let ended = self.follow(child, &mut log, &mut view).await;
        view.clear(self.context).map_err(BuildError::Nix)?;
        let ended = ended.map_err(BuildError::Nix)?;
        match ended {
            None => Err(BuildError::Interrupted),
            Some(ended) if ended.status.success() => {
                view.summary(&log, self.context).map_err(BuildError::Nix)?;
                Ok(ended.stdout)
            }
            Some(ended) => Err(BuildError::Failed(Box::new(Failure {
                command: call.command,
                status: ended.status,
                installables: call.about.to_vec(),
                builders: log.failed().to_vec(),
                hidden: None,
            }))),
        }
    }

    /// Follows nix to its end; `None`: somebody stopped it.
    async fn follow(&mut self, mut child: Child, log: &mut Log, view: &mut View) -> io::Result<Option<Ended>> {
        let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("its output is not there"));
        };
        let (mut answer, mut is_answered, mut is_silent) = (Vec::new(), false, false);
        let mut err = BufReader::new(err);
        let mut line = Vec::new();
        let mut ticks = tokio::time::interval(TICK);
        let mut stop = pin!(stopped());
        let mut is_stopped = false;
        let mut status = None;
        let mut drained = pin!(tokio::time::sleep(Duration::MAX));
        while !(is_answered && is_silent) {
            // Every arm is cancel-safe: what was read of a line stays in `line`, of the answer in `answer`.
            tokio::select! {
                read = err.read_until(b'\n', &mut line), if !is_silent => {
                    is_silent = read? == 0;
                    let text = line.strip_suffix(b"\n").unwrap_or(&line);
                    if let Some(said) = log.take(text, view.now_ms()) {
                        self.say(said, view)?;
                    }
                    line.clear();
                }
                read = out.read_buf(&mut answer), if !is_answered => is_answered = read? == 0,
                ended = child.wait(), if status.is_none() => {
                    status = Some(ended?);
                    drained.as_mut().reset(Instant::now() + DRAIN);
                }
                () = &mut drained, if status.is_some() => break,
                _ = ticks.tick() => view.draw(log, self.context)?,
                _ = &mut stop, if !is_stopped => {
                    is_stopped = true;
                    // On a terminal it has heard so itself; twice is no harm.
                    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
                    let _gone = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGINT));
                }
            }
        }
        let status = match status {
            Some(status) => status,
            None => child.wait().await?,
        };
        Ok((!is_stopped).then_some(Ended { status, stdout: answer, stderr: Vec::new() }))
    }

    /// Tells a person what nix says, each thing once.
    fn say(&mut self, said: Said, view: &mut View) -> io::Result<()> {
        let (Said::Text(text) | Said::Foreign(text)) = said;
        if self.said.insert(text.clone()) { view.say(&text, self.context) } else { Ok(()) }
    }
}

/// Waits until this process is to end: by Ctrl-C, by its service manager, with its terminal.
async fn stopped() -> io::Result<()> {
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    let [terminate, hangup] = &mut signals;
    // Every arm is cancel-safe, and none has a value.
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Returns words as arguments.
pub(super) fn words<T: AsRef<OsStr>>(words: impl IntoIterator<Item = T>) -> Vec<OsString> {
    words.into_iter().map(|word| word.as_ref().to_owned()).collect()
}

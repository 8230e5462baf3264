//! A command as a transient unit of the guest's systemd: started, watched, stopped.
//!
//! The unit is of type `exec`, so its start job ends when the program runs or cannot run: a program that exits with 203
//! by itself is told from one that systemd could not execute. How it ended is read from the signals of systemd, which
//! come in order and before the unit is forgotten; so nothing needs to be kept in the guest.
//!
//! ```text
//!            StartTransientUnit          JobRemoved: done             ExecMainCode, inactive
//!  Command::start ──────────▶ starting ──────────────────▶ running ──────────────────────────▶ exit status, signal
//!            │ refused            │ JobRemoved: failed, ...   │ the connection ends
//!            ▼                    ▼                           ▼
//!         failure              failure                     failure: the container ended
//! ```

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use nixmox_api::{ExecReply, ExecRequest};
use zbus::message::Type;
use zbus::names::MemberName;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

use super::environment::Environment;
use super::streams::Guests;
use crate::host::line;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PATH: &str = "/org/freedesktop/systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// Where programs are looked up: as NixOS has it, then as other systems do.
const SEARCH_PATH: [&str; 9] = [
    "/run/wrappers/bin",
    "/nix/var/nix/profiles/default/bin",
    "/run/current-system/sw/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// The user's shell, as its systemd knows it from its own passwd(5), as a shell that was logged in to.
const LOGIN_SHELL: [&str; 3] = ["/bin/sh", "-c", "exec \"${SHELL:-/bin/sh}\" -l"];
/// How long what is left of a command may take to end before it is killed.
const STOP_USEC: u64 = 5_000_000;

/// A command that was started.
pub(super) struct Command<'a> {
    connection: &'a Connection,
    unit: String,
    unit_path: String,
    job: OwnedObjectPath,
    signals: MessageStream,
    seen: Seen,
    request: &'a ExecRequest,
    root: &'a OwnedFd,
    /// Until the program has them.
    guests: Option<Guests>,
    /// Until systemd has read it, which is before that.
    environment: Option<Environment>,
}

/// What systemd has told of the unit so far.
#[derive(Debug, Default)]
struct Seen {
    /// The result of the start job; empty while it is under way.
    started: String,
    active: String,
    result: String,
    /// `CLD_EXITED`, `CLD_KILLED` or `CLD_DUMPED` of waitid(2); 0 while it runs.
    main_code: i32,
    main_status: i32,
}

impl<'a> Command<'a> {
    /// Starts a command; the failure is what its client is told.
    pub(super) async fn start(
        connection: &'a Connection,
        root: &'a OwnedFd,
        request: &'a ExecRequest,
        guests: Guests,
    ) -> Result<Self, ExecReply> {
        let unit = unit_name();
        let environment = Environment::write(root, &unit, &request.environment)
            .map_err(|trouble| failed("refused", trouble.to_string(), ""))?;
        let begin = async {
            // Before the call: signals may be read before the reply is. One stream for all, since their order tells.
            let rule = MatchRule::builder().msg_type(Type::Signal).path_namespace(PATH).build()?;
            let signals = MessageStream::for_match_rule(rule.into_owned(), connection, None).await?;
            connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "Subscribe", &()).await?;
            let aux: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
            let body = (&unit, "fail", properties(request, &guests, environment.as_ref()), aux);
            let call = connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "StartTransientUnit", &body);
            let job: OwnedObjectPath = call.await?.body().deserialize()?;
            Ok((signals, job))
        };
        let (signals, job) = begin.await.map_err(|error: zbus::Error| refused(&error))?;
        let unit_path = format!("{UNITS}/{}", zbus_systemd::bus_label_escape(&unit));
        let seen = Seen::default();
        let guests = Some(guests);
        Ok(Self { connection, unit, unit_path, job, signals, seen, request, root, guests, environment })
    }

    /// Waits for the end. Cancel-safe.
    pub(super) async fn ended(&mut self) -> ExecReply {
        loop {
            match self.seen.end() {
                None => {}
                Some(End::Exited(status)) => {
                    return ExecReply { exit_status: Some(status), ..ExecReply::default() };
                }
                Some(End::Killed(signal)) => return ExecReply { signal: Some(signal), ..ExecReply::default() },
                Some(End::NotStarted) => return self.not_started(),
            }
            let Some(Ok(message)) = self.signals.next().await else {
                return failed("ended", "the container ended, and the command with it", "");
            };
            self.seen.take(&message, &self.unit_path, &self.job);
            if !self.seen.started.is_empty() {
                self.guests = None;
                self.environment = None;
            }
        }
    }

    /// Asks systemd to end it: a hang-up and SIGTERM, SIGKILL for what is left after a while.
    pub(super) async fn stop(&self) -> zbus::Result<()> {
        let body = (&self.unit, "replace");
        let stopped = self.connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "StopUnit", &body).await;
        match stopped {
            // It has ended in between.
            Err(zbus::Error::MethodError(name, ..)) if name.ends_with(".NoSuchUnit") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Says why the program does not run: by the exit status that systemd gave in its place (systemd.exec(5),
    /// "Process Exit Codes").
    fn not_started(&self) -> ExecReply {
        let request = self.request;
        let program = request.command.first().map_or("/bin/sh", String::as_str);
        let user = request.user.as_deref().unwrap_or("root");
        let directory = request.working_directory.as_deref().unwrap_or("its home directory");
        match self.seen.main_status {
            203 if self.is_there(program) => failed(
                "not_executable",
                format!("`{program}` cannot be executed in `{}`", request.name),
                "may its user execute it, and is it a program for this machine?",
            ),
            203 => failed(
                "not_found",
                format!("there is no program `{program}` in `{}`", request.name),
                "give its path in the container",
            ),
            216 | 217 => failed("user", format!("there is no user `{user}` in `{}`", request.name), ""),
            200 => failed(
                "working_directory",
                format!("the user `{user}` of `{}` cannot work in {directory}", request.name),
                "-w / works in every container",
            ),
            status => {
                let how = if status == 0 { &self.seen.started } else { &self.seen.result };
                failed(
                    "other",
                    format!(
                        "the systemd of `{}` could not start the command: {how}, status {status}",
                        request.name
                    ),
                    format!("journalctl -M {} -n 20", request.name),
                )
            }
        }
    }

    /// Whether the guest has a file where a program of this name was looked up.
    fn is_there(&self, program: &str) -> bool {
        use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
        let how = || {
            OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
        };
        let program = absolute(program, self.request);
        if program.starts_with('/') {
            return openat2(self.root, program.as_str(), how()).is_ok();
        }
        SEARCH_PATH.iter().any(|folder| openat2(self.root, format!("{folder}/{program}").as_str(), how()).is_ok())
    }
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Exited(i32),
    Killed(i32),
    NotStarted,
}

impl Seen {
    /// Folds a signal in, if it is about the unit or its job.
    fn take(&mut self, message: &Message, unit_path: &str, job: &OwnedObjectPath) {
        let header = message.header();
        match header.member().map(MemberName::as_str) {
            Some("JobRemoved") => {
                let body: zbus::Result<(u32, OwnedObjectPath, String, String)> = message.body().deserialize();
                if let Ok((_, ended, _, result)) = body
                    && ended == *job
                {
                    self.started = result;
                }
            }
            Some("PropertiesChanged") if header.path().is_some_and(|path| path.as_str() == unit_path) => {
                type Changed = (String, HashMap<String, OwnedVariant>, Vec<String>);
                if let Ok((_, changed, _)) = message.body().deserialize::<Changed>() {
                    self.take_properties(changed);
                }
            }
            Some(_) | None => {}
        }
    }

    fn take_properties(&mut self, changed: HashMap<String, OwnedVariant>) {
        for (name, value) in changed {
            match name.as_str() {
                "ActiveState" => self.active = String::try_from(value).unwrap_or_default(),
                "Result" => self.result = String::try_from(value).unwrap_or_default(),
                "ExecMainCode" => self.main_code = i32::try_from(value).unwrap_or_default(),
                "ExecMainStatus" => self.main_status = i32::try_from(value).unwrap_or_default(),
                _ => {}
            }
        }
    }

    /// Returns how it ended; `None`: not yet.
    fn end(&self) -> Option<End> {
        const CLD_EXITED: i32 = 1;
        match self.started.as_str() {
            "" => None,
            "done" => match (self.active.as_str(), self.main_code) {
                (_, 0) => None,
                ("inactive" | "failed", CLD_EXITED) => Some(End::Exited(self.main_status)),
                ("inactive" | "failed", _killed) => Some(End::Killed(self.main_status)),
                _ => None,
            },
            _ => Some(End::NotStarted),
        }
    }
}

/// Returns the path of a program that is given relative to the working directory; a bare name stays one.
fn absolute(program: &str, request: &ExecRequest) -> String {
    if program.contains('/') && !program.starts_with('/') {
        let directory = request.working_directory.as_deref().unwrap_or("/");
        return format!("{}/{program}", directory.trim_end_matches('/'));
    }
    program.to_owned()
}

/// A name that no other command has; two agents never run.
fn unit_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("nixmox-exec-{}-{}.service", std::process::id(), now.as_nanos())
}

fn properties<'a>(
    request: &'a ExecRequest,
    guests: &'a Guests,
    environment: Option<&Environment>,
) -> Vec<(&'static str, Variant<'a>)> {
    let words: Vec<String> = match request.command.as_slice() {
        [] => LOGIN_SHELL.map(str::to_owned).to_vec(),
        words => words.to_vec(),
    };
    let program = absolute(words.first().map_or("", String::as_str), request);
    // Nothing in the words is a variable of systemd's (systemd.service(5), "Command Lines").
    let execute = vec![(program, words, vec!["no-env-expand".to_owned()])];
    let terminal: Vec<String> = guests.terminal_kind().map(|kind| format!("TERM={kind}")).into_iter().collect();
    let directory = match (request.working_directory.as_deref(), request.login) {
        (Some(directory), _) => directory,
        // The home directory, or where there is none, the root.
        (None, true) => "-~",
        (None, false) => "/",
    };
    let mut properties = vec![
        ("Description", Variant::from("Command of nixmoxctl")),
        ("Type", Variant::from("exec")),
        ("ExecStartEx", Variant::from(execute)),
        ("ExecSearchPath", Variant::from(SEARCH_PATH.to_vec())),
        ("User", Variant::from(request.user.as_deref().unwrap_or("root"))),
        // HOME, SHELL, LOGNAME and USER, also of root.
        ("SetLoginEnvironment", Variant::from(true)),
        ("WorkingDirectory", Variant::from(directory)),
        ("Environment", Variant::from(terminal)),
        // As in a shell: whoever writes to a reader that is gone ends.
        ("IgnoreSIGPIPE", Variant::from(false)),
        ("SendSIGHUP", Variant::from(guests.terminal_kind().is_some())),
        ("TimeoutStopUSec", Variant::from(STOP_USEC)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        // A command that is run often is not to be throttled.
        ("StartLimitIntervalUSec", Variant::from(0_u64)),
    ];
    if let Some(environment) = environment {
        // One that is missing is no environment either.
        properties.push(("EnvironmentFiles", Variant::from(vec![(environment.path(), false)])));
    }
    if request.login {
        properties.push(("PAMName", Variant::from("login")));
    }
    properties.extend(guests.properties());
    properties
}

/// Returns the reply of a command that did not run; what the guest says of it becomes one line.
fn failed(kind: &str, reason: impl AsRef<str>, hint: impl Into<String>) -> ExecReply {
    ExecReply::failed(kind, line::clean(reason.as_ref()), hint)
}

/// Says why the guest's systemd did not take a unit.
fn refused(error: &zbus::Error) -> ExecReply {
    failed("refused", format!("the guest's systemd refused: {error}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(started: &str, active: &str, main: (i32, i32)) -> Seen {
        Seen {
            started: started.to_owned(),
            active: active.to_owned(),
            result: String::new(),
            main_code: main.0,
            main_status: main.1,
        }
    }

    #[test]
    fn a_command_has_ended_when_it_ran_and_its_unit_is_over() {
        assert_eq!(seen("", "inactive", (1, 0)).end(), None, "how it was started is not told yet");
        assert_eq!(seen("done", "", (0, 0)).end(), None);
        assert_eq!(seen("done", "active", (0, 0)).end(), None);
        assert_eq!(seen("done", "inactive", (0, 0)).end(), None, "that is the state before the start");
        assert_eq!(seen("done", "deactivating", (1, 7)).end(), None, "what it left is being ended");
        assert_eq!(seen("done", "failed", (1, 7)).end(), Some(End::Exited(7)));
        assert_eq!(seen("done", "failed", (1, 203)).end(), Some(End::Exited(203)), "of its own");
        assert_eq!(seen("done", "inactive", (2, 15)).end(), Some(End::Killed(15)));
        assert_eq!(seen("done", "failed", (3, 11)).end(), Some(End::Killed(11)));
        assert_eq!(seen("failed", "failed", (1, 203)).end(), Some(End::NotStarted));
        assert_eq!(seen("canceled", "", (0, 0)).end(), Some(End::NotStarted));
    }
}

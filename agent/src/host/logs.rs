//! Readers of journals: a child for each source, which becomes `journalctl`, and a pipe to whoever wants to read.
//!
//! Owns which sources there are, and what `journalctl` is asked for. The agent's own part ends there: no line ever passes
//! through it. How a child gets at the journal of a guest is `guest_helper::journal`'s.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use nixmox_api::{LogKind, LogSource};
use nixmox_core::model::ContainerName;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::guest_helper::journal::{Guest, Reading};

/// What of each entry is passed on (systemd.journal-fields(7)); its time and its cursor always are.
const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID,_SYSTEMD_UNIT,_TRANSPORT,UNIT,OBJECT_SYSTEMD_UNIT";

/// The same of events, which carry fields of the agent's own (`reconcile::report`).
const EVENT_FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,NIXMOX_NUMBER,NIXMOX_SERVICE,NIXMOX_EVENT,\
     NIXMOX_GENERATION,NIXMOX_BY,NIXMOX_CAUSE,NIXMOX_REQUEST,NIXMOX_NEEDS";

/// Which lines are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The services, each once.
    pub services: BTreeMap<ContainerName, LogStart>,
    /// Whether new lines are waited for.
    pub follow: bool,
    /// The newest so many of every source; `None`: all.
    pub lines: Option<u64>,
    /// The last moment, in microseconds since 1970.
    pub until_usec: Option<u64>,
    /// Only lines of this unit inside the guests.
    pub unit: Option<String>,
    /// Only lines that match.
    pub grep: Option<String>,
}

/// Where the lines of a service begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The first moment, in microseconds since 1970; `None`: the first line.
    pub since_usec: Option<u64>,
    /// After this entry of the host's journal.
    pub host_cursor: Option<String>,
    /// After this entry of the guest's journal.
    pub guest_cursor: Option<String>,
}

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Whether new ones are waited for.
    pub follow: bool,
    /// The first moment, in microseconds since 1970; `None`: the first that the journal has.
    pub since_usec: Option<u64>,
    /// After this entry.
    pub cursor: Option<String>,
}

/// Readers that were started.
#[derive(Debug)]
pub struct Readers {
    /// The sources.
    pub sources: Vec<LogSource>,
    /// The read end of a pipe for each source, and of one on which all complain.
    pub descriptors: Vec<OwnedFd>,
    /// The readers themselves.
    pub work: Work,
}

/// Readers at work. Dropped, they are killed.
#[derive(Debug, Default)]
pub struct Work {
    children: Vec<Child>,
    /// What they take up; let go of when they have ended.
    taken: Option<Box<dyn Any + Send>>,
}

impl Work {
    /// Holds something for as long as there are readers, also those that are being killed.
    pub fn hold(&mut self, taken: impl Any + Send) {
        self.taken = Some(Box::new(taken));
    }

    /// Waits until all have ended, and returns how many failed. Why is said to the client, on the last of the pipes.
    pub async fn ended(mut self) -> u64 {
        let mut failed = 0;
        for child in &mut self.children {
            failed += u64::from(!child.wait().await.is_ok_and(|status| status.success()));
        }
        self.children.clear();
        failed
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let (children, taken) = (std::mem::take(&mut self.children), self.taken.take());
        // Without a runtime the agent ends; children are killed with their handles then.
        if let (false, Ok(runtime)) = (children.is_empty(), Handle::try_current()) {
            runtime.spawn(end(children, taken));
        }
    }
}

/// Kills readers, and lets go of what they take up when none is left.
async fn end(mut children: Vec<Child>, taken: Option<Box<dyn Any + Send>>) {
    for child in &mut children {
        // Errors: it has ended already.
        let _ = child.start_kill();
    }
    for child in &mut children {
        let _ = child.wait().await;
    }
    drop(taken);
}

/// A reader to be.
#[derive(Debug, PartialEq, Eq)]
struct Planned {
    source: LogSource,
    reading: Reading,
}

/// Starts readers. `guests` says where each guest's journal is.
pub(super) async fn start(
    program: &Path,
    query: &LogQuery,
    guests: &BTreeMap<ContainerName, Guest>,
) -> io::Result<Readers> {
    let mut readers = Begun::new()?;
    for planned in plan(query, guests) {
        readers.spawn(program, planned)?;
        // Each start takes a while, and there may be hundreds.
        tokio::task::yield_now().await;
    }
    Ok(readers.all())
}

/// Starts the reader of what an agent told of events.
pub(super) fn start_events(program: &Path, query: &EventQuery) -> io::Result<Readers> {
    let mut readers = Begun::new()?;
    readers.spawn(program, plan_events(query))?;
    Ok(readers.all())
}

fn plan_events(query: &EventQuery) -> Planned {
    let asked = LogQuery { follow: query.follow, ..LogQuery::default() };
    let mut arguments = arguments(&asked, EVENT_FIELDS, query.since_usec, query.cursor.as_deref());
    // Of the agent's unit, whatever its process is called: a field that journald alone writes.
    arguments.extend(["_SYSTEMD_UNIT=nixmox-agent.service".to_owned(), "NIXMOX_RECORD=event".to_owned()]);
    Planned {
        source: LogSource { kind: LogKind::Agent, services: Vec::new() },
        reading: Reading { guest: None, follow: query.follow, arguments },
    }
}

/// Returns the readers that a query takes: one for all on the host that begin at the same place, and one per guest.
fn plan(query: &LogQuery, guests: &BTreeMap<ContainerName, Guest>) -> Vec<Planned> {
    let mut planned = Vec::new();
    if query.unit.is_none() {
        let mut groups: BTreeMap<(Option<&str>, Option<u64>), Vec<&ContainerName>> = BTreeMap::new();
        for (name, start) in &query.services {
            let cursor = start.host_cursor.as_deref();
            groups.entry((cursor, start.since_usec.filter(|_| cursor.is_none()))).or_default().push(name);
        }
        planned.extend(groups.into_iter().map(|((cursor, since), names)| {
            let mut arguments = arguments(query, FIELDS, since, cursor);
            arguments.extend(of_units(&names));
            let services = names.iter().map(ToString::to_string).collect();
            Planned {
                source: LogSource { kind: LogKind::Host, services },
                reading: Reading { guest: None, follow: query.follow, arguments },
            }
        }));
    }
    for (name, start) in &query.services {
        let Some(guest) = guests.get(name) else { continue };
        let mut arguments = arguments(query, FIELDS, start.since_usec, start.guest_cursor.as_deref());
        // With the journals of more than one machine id, not only those of the host's boot are followed.
        arguments.push("--merge".to_owned());
        arguments.extend(query.unit.iter().map(|unit| format!("--unit={unit}")));
        planned.push(Planned {
            source: LogSource { kind: LogKind::Guest, services: vec![name.to_string()] },
            reading: Reading { guest: Some(guest.clone()), follow: query.follow, arguments },
        });
    }
    planned
}

/// Returns what holds for every source. Who follows the host's journal gets lines of this boot alone.
fn arguments(query: &LogQuery, fields: &str, since_usec: Option<u64>, cursor: Option<&str>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--quiet", "--no-pager", "--all", "--output=json", fields].map(str::to_owned).to_vec();
    let mut add = |argument: String| arguments.push(argument);
    match query.lines {
        Some(lines) => add(format!("--lines={lines}")),
        // Else the last ten.
        None if query.follow => add("--no-tail".to_owned()),
        None => {}
    }
    if query.follow {
        add("--follow".to_owned());
    }
    match (cursor, since_usec) {
        // journalctl takes one of the two.
        (Some(cursor), _) => add(format!("--after-cursor={cursor}")),
        (None, Some(usec)) => add(format!("--since={}", moment(usec))),
        (None, None) => {}
    }
    if let Some(usec) = query.until_usec {
        add(format!("--until={}", moment(usec)));
    }
    if let Some(pattern) = &query.grep {
        add(format!("--grep={pattern}"));
    }
    arguments
}

/// Returns the matches of what units of containers print, and of what PID 1 and journald (that it dropped some of it) say
/// of them. Only fields that a client of journald cannot choose decide; matches on one field are alternatives.
fn of_units(names: &[&ContainerName]) -> Vec<String> {
    let of = |field: &str| names.iter().map(|name| format!("{field}={}", name.unit())).collect::<Vec<_>>();
    let or = |by: &str| ["+".to_owned(), by.to_owned()];
    [
        of("_SYSTEMD_UNIT"),
        [&or("_PID=1")[..], &of("UNIT")].concat(),
        [&or("_TRANSPORT=driver")[..], &of("OBJECT_SYSTEMD_UNIT")].concat(),
    ]
    .concat()
}

/// Returns a moment as systemd.time(7) has it: seconds since 1970, with six decimals.
fn moment(usec: u64) -> String {
    format!("@{}.{:06}", usec / 1_000_000, usec % 1_000_000)
}

/// Readers that are being started.
struct Begun {
    readers: Readers,
    /// The pipe on which all complain.
    heard: PipeReader,
    complaints: PipeWriter,
}

impl Begun {
    fn new() -> io::Result<Self> {
        let (heard, complaints) = io::pipe()?;
        let readers = Readers { sources: Vec::new(), descriptors: Vec::new(), work: Work::default() };
        Ok(Self { readers, heard, complaints })
    }

    fn spawn(&mut self, program: &Path, Planned { source, reading }: Planned) -> io::Result<()> {
        let (lines, writer) = io::pipe()?;
        let child = Command::new(program)
            .arg("log-reader")
            .arg(serde_json::to_string(&reading)?)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(self.complaints.try_clone()?)
            .kill_on_drop(true)
            .spawn()?;
        self.readers.work.children.push(child);
        self.readers.descriptors.push(lines.into());
        self.readers.sources.push(source);
        Ok(())
    }

    /// Returns them; the pipe of complaints is at its end with the last of them.
    fn all(self) -> Readers {
        let Self { mut readers, heard, complaints: _ } = self;
        readers.descriptors.push(heard.into());
        readers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(names: &[(&str, Option<&str>)]) -> LogQuery {
        let start = |cursor: Option<&str>| LogStart {
            host_cursor: cursor.map(str::to_owned),
            since_usec: Some(7_000_001),
            ..LogStart::default()
        };
        let services = names.iter().map(|(name, cursor)| (name.parse().unwrap(), start(*cursor))).collect();
        LogQuery { services, follow: true, ..LogQuery::default() }
    }

    #[tokio::test]
    async fn what_readers_take_up_is_let_go_of_when_they_are_gone() {
        let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        let is_there = || Path::new(&format!("/proc/{pid}")).exists();
        let mut work = Work { children: vec![child], taken: None };
        let (held, let_go) = tokio::sync::oneshot::channel::<()>();
        work.hold(held);
        assert!(is_there());
        drop(work);
        let_go.await.unwrap_err();
        assert!(!is_there(), "killed, and reaped");
    }

    fn guest(name: &str) -> (ContainerName, Guest) {
        (name.parse().unwrap(), Guest { name: name.to_owned(), running: None, at_rest: Vec::new() })
    }

    #[test]
    fn the_host_is_read_once_for_all_that_begin_at_the_same_place() {
        let planned = plan(&query(&[("db", Some("s=1")), ("web", Some("s=1")), ("new", None)]), &BTreeMap::new());
        let told: Vec<_> =
            planned.iter().map(|planned| (planned.source.kind, planned.source.services.join(" "))).collect();
        assert_eq!(told, [(LogKind::Host, "new".to_owned()), (LogKind::Host, "db web".to_owned())]);
        let of = |index: usize| planned[index].reading.arguments.join(" ");
        assert!(of(0).ends_with(
            "--no-tail --follow --since=@7.000001 _SYSTEMD_UNIT=container@new.service + _PID=1 UNIT=container@new.service + _TRANSPORT=driver OBJECT_SYSTEMD_UNIT=container@new.service"
        ));
        assert!(of(1).contains("--no-tail --follow --after-cursor=s=1 "));
        assert!(
            of(1).ends_with(
                "_SYSTEMD_UNIT=container@db.service _SYSTEMD_UNIT=container@web.service + _PID=1 UNIT=container@db.service UNIT=container@web.service + _TRANSPORT=driver OBJECT_SYSTEMD_UNIT=container@db.service OBJECT_SYSTEMD_UNIT=container@web.service"
            )
        );
    }

    #[test]
    fn a_unit_is_one_inside_the_guests() {
        let query = LogQuery {
            unit: Some("nginx.service".to_owned()),
            grep: Some("-x".to_owned()),
            lines: Some(3),
            follow: false,
            ..query(&[("db", None), ("web", None)])
        };
        let planned = plan(&query, &BTreeMap::from([guest("web")]));
        assert_eq!(planned.len(), 1, "{planned:?}");
        assert_eq!(planned[0].source, LogSource { kind: LogKind::Guest, services: vec!["web".to_owned()] });
        let arguments = planned[0].reading.arguments.join(" ");
        assert!(
            arguments.ends_with("--lines=3 --since=@7.000001 --grep=-x --merge --unit=nginx.service"),
            "{arguments}"
        );
    }
}

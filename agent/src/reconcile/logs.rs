//! Calls that read journals: checked, counted, and handed on to the host's readers.
//!
//! Owns how many readers one user and all together may have; they end when their client leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use nixmox_api::{AgentError, EventsRequest, LogSources, LogsOf, LogsRequest};
use nixmox_core::model::ContainerName;

use super::change::unknown_service;
use crate::host::{EventQuery, Host, LogQuery, LogStart, Readers};
use crate::server::Attended;

/// Readers altogether: each is a `journalctl` of some MiB.
const READERS_MAX: usize = 512;
/// Readers of one user other than root: two looks at a hundred services.
const READERS_PER_USER: usize = 256;
/// Of all, those that are kept for root: looking is not to be stopped by others who look.
const READERS_OF_ROOT: usize = 64;
/// Services of one call: each source takes a descriptor of the 253 that a message may hand over (unix(7), `SCM_RIGHTS`).
const SERVICES_MAX: usize = 100;
/// Longest text that is handed to `journalctl`.
const TEXT_BYTES_MAX: usize = 1024;

/// The readers at work, by user.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

/// Places for some readers; free again when it is dropped.
#[derive(Debug)]
struct Taken {
    places: Places,
    uid: u32,
    count: usize,
}

impl Places {
    fn take(&self, uid: u32, count: usize) -> Result<Taken, AgentError> {
        let mut by_user = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_user.get(&uid).copied().unwrap_or_default().saturating_add(count);
        let all = by_user.values().sum::<usize>().saturating_add(count);
        let most = if uid == 0 { READERS_MAX } else { READERS_MAX - READERS_OF_ROOT };
        if all > most || (uid != 0 && own > READERS_PER_USER) {
            let whose = if all > most { "all users together" } else { "this user" };
            return Err(AgentError::Refused {
                reason: format!("too many journals are being read by {whose}"),
                hint: "name fewer services, or end another `nixmoxctl logs`".to_owned(),
            });
        }
        by_user.insert(uid, own);
        Ok(Taken { places: self.clone(), uid, count })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut by_user = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_user.get_mut(&self.uid) {
            *count = count.saturating_sub(self.count);
            if *count == 0 {
                by_user.remove(&self.uid);
            }
        }
    }
}

/// Starts reading lines of services, of which `known` are all there are.
pub(super) async fn services<H: Host>(
    host: &H,
    places: &Places,
    request: LogsRequest,
    uid: u32,
    known: &BTreeSet<ContainerName>,
) -> Result<Attended<LogSources>, AgentError> {
    let query = query(request, known)?;
    // One for each guest, and on the host one for each at most.
    let taken = places.take(uid, query.services.len().saturating_mul(2))?;
    let readers = host.read_logs(&query).await.map_err(|error| not_read(&error))?;
    Ok(attended(readers, taken))
}

/// Starts reading events.
pub(super) fn events<H: Host>(
    host: &H,
    places: &Places,
    request: EventsRequest,
    uid: u32,
) -> Result<Attended<LogSources>, AgentError> {
    let EventsRequest { follow, since_usec, cursor } = request;
    check_texts(cursor.iter())?;
    let taken = places.take(uid, 1)?;
    let readers = host.read_events(&EventQuery { follow, since_usec, cursor }).map_err(|error| not_read(&error))?;
    Ok(attended(readers, taken))
}

fn attended(readers: Readers, taken: Taken) -> Attended<LogSources> {
    let Readers { sources, descriptors, mut work } = readers;
    // Until the last of them is reaped, whoever leaves first.
    work.hold(taken);
    Attended {
        first: LogSources { sources, failed: 0 },
        descriptors,
        end: Box::pin(async move {
            let failed = work.ended().await;
            Ok(LogSources { sources: Vec::new(), failed })
        }),
    }
}

fn query(request: LogsRequest, known: &BTreeSet<ContainerName>) -> Result<LogQuery, AgentError> {
    let LogsRequest { services, follow, lines, until_usec, unit, grep } = request;
    let mut problems = Vec::new();
    if services.len() > SERVICES_MAX {
        problems.push(format!("{} services are more than {SERVICES_MAX}", services.len()));
    }
    if follow && until_usec.is_some() {
        problems.push("lines until a moment cannot be followed".to_owned());
    }
    let mut starts = BTreeMap::new();
    let texts = services.iter().flat_map(|of| [&of.host_cursor, &of.guest_cursor]).chain([&unit, &grep]);
    check_texts(texts.flatten())?;
    if !problems.is_empty() {
        return Err(AgentError::Invalid { problems, hint: String::new() });
    }
    for LogsOf { name, since_usec, host_cursor, guest_cursor } in services {
        let found = known.iter().find(|there| there.as_str() == name);
        let name = found.ok_or_else(|| unknown_service(&name, known.iter()))?.clone();
        starts.insert(name, LogStart { since_usec, host_cursor, guest_cursor });
    }
    Ok(LogQuery { services: starts, follow, lines, until_usec, unit, grep })
}

/// Refuses what cannot be an argument of `journalctl`.
fn check_texts<'a>(mut texts: impl Iterator<Item = &'a String>) -> Result<(), AgentError> {
    if !texts.any(|text| text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control)) {
        return Ok(());
    }
    let problem = "a cursor, a unit or a pattern is too long, or has a control character in it".to_owned();
    Err(AgentError::Invalid { problems: vec![problem], hint: String::new() })
}

fn not_read(error: &std::io::Error) -> AgentError {
    AgentError::Refused { reason: format!("cannot start a reader of the journal: {error}"), hint: String::new() }
}

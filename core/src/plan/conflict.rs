//! What cannot be held by two containers at once, and passes from one that stops to one that starts.
//!
//! The usual case is a service that was given another name: its data directory and its address must be let go
//! before the new one starts on them. Published ports are not among these: they belong to the host's table,
//! which is replaced as a whole. But a container on the host's network may listen on one that is to be published.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::{Host, Verdict, Work};
use crate::container::{conf_addresses, is_on_host_network, spec_of_conf, writable_sources};
use crate::model::{ChangeKind, ConfFile, Container, Reason};

/// What running containers hold that shall let it go.
#[derive(Default)]
struct Held {
    addresses: HashMap<Ipv4Addr, Vec<usize>>,
    sources: BTreeMap<PathBuf, Vec<usize>>,
    /// Containers that may listen on any port of the host.
    on_host_network: Vec<usize>,
    /// Containers of which nobody knows what they hold: their conf file is not the one they were started with.
    unknown: Vec<usize>,
}

/// Returns, for each container that starts, the containers whose stop it must wait for; and blocks the start of
/// those that need what a container holds whose stop is blocked.
pub(super) fn find(host: &Host<'_>, verdicts: &mut [Verdict]) -> BTreeMap<usize, BTreeSet<usize>> {
    // A conf file is long to read, and what it says keeps nobody back where nothing starts.
    if !verdicts.iter().any(|verdict| is_new_start(verdict.work)) {
        return BTreeMap::new();
    }
    let held = held(host, verdicts);
    if held.is_empty() {
        return BTreeMap::new();
    }
    let mut conflicts: BTreeMap<usize, BTreeSet<usize>> = (0..host.entries.len())
        .filter(|index| verdicts.get(*index).is_some_and(|verdict| is_new_start(verdict.work)))
        .map(|index| (index, held.holders_of(host, index)))
        .filter(|(_, holders)| !holders.is_empty())
        .collect();
    // A restart that is blocked keeps what it holds, which can block the next one.
    while let Some((index, reason)) = conflicts.iter().find_map(|(index, holders)| {
        let holder = holders.iter().filter_map(|holder| verdicts.get(*holder)).find(|v| !v.work.stops())?;
        let reason = holder.change.as_ref().and_then(|change| change.reasons.last());
        Some((*index, reason.cloned().unwrap_or(Reason::ForeignJob)))
    }) {
        conflicts.remove(&index);
        if let Some(verdict) = verdicts.get_mut(index) {
            verdict.work = Work::Nothing;
            if let Some(change) = &mut verdict.change {
                change.kind = ChangeKind::Blocked;
                change.reasons.push(reason);
            }
        }
    }
    // What might be held is waited for where it stops, but blocks nobody.
    let stopping = |holders: Vec<usize>| -> Vec<usize> {
        holders.into_iter().filter(|holder| verdicts.get(*holder).is_some_and(|v| v.work.stops())).collect()
    };
    let (unknown, listening) = (stopping(held.unknown), stopping(held.on_host_network));
    if unknown.is_empty() && listening.is_empty() {
        return conflicts;
    }
    for (index, _) in verdicts.iter().enumerate().filter(|(_, verdict)| is_new_start(verdict.work)) {
        let assigned = host.entries.get(index).and_then(|entry| entry.assigned);
        let publishes = assigned.is_some_and(|assigned| !assigned.service.ports.is_empty());
        let listening = listening.iter().filter(|_| publishes);
        let waited_for: Vec<usize> =
            unknown.iter().chain(listening).filter(|holder| **holder != index).copied().collect();
        if !waited_for.is_empty() {
            conflicts.entry(index).or_default().extend(waited_for);
        }
    }
    conflicts
}

/// Returns whether an instance is started that does not run yet.
fn is_new_start(work: Work) -> bool {
    match work {
        Work::Start | Work::StopStart => true,
        Work::Nothing | Work::AwaitJob | Work::Stop | Work::StopRemove | Work::Remove | Work::Update => false,
    }
}

fn held(host: &Host<'_>, verdicts: &[Verdict]) -> Held {
    let mut held = Held::default();
    for (index, (entry, verdict)) in host.entries.iter().zip(verdicts).enumerate() {
        let Some(container) = entry.container.filter(|_| verdict.wanted.stops()) else { continue };
        let text = match &container.conf {
            ConfFile::Ours(text) if is_of_the_running(text, container) => text,
            ConfFile::Ours(_) | ConfFile::Absent => {
                held.unknown.push(index);
                continue;
            }
            // Adopted containers keep what their owner gave them, and nobody else can be declared to have it.
            ConfFile::Foreign | ConfFile::Link => continue,
        };
        for address in conf_addresses(text) {
            held.addresses.entry(address).or_default().push(index);
        }
        for source in writable_sources(text) {
            held.sources.entry(source).or_default().push(index);
        }
        if is_on_host_network(text) {
            held.on_host_network.push(index);
        }
    }
    held
}

/// Returns whether a conf file tells about the running instance; until that can be asked, it was just written.
fn is_of_the_running(conf: &str, container: &Container) -> bool {
    container.started_with.is_none() || container.started_with == spec_of_conf(conf)
}

impl Held {
    fn is_empty(&self) -> bool {
        let Self { addresses, sources, on_host_network, unknown } = self;
        addresses.is_empty() && sources.is_empty() && on_host_network.is_empty() && unknown.is_empty()
    }

    /// Returns the other containers that hold what this one needs.
    fn holders_of(&self, host: &Host<'_>, index: usize) -> BTreeSet<usize> {
        let mut holders = BTreeSet::new();
        let assigned = host.entries.get(index).and_then(|entry| entry.assigned);
        for address in assigned.and_then(|assigned| assigned.addresses).into_iter().flat_map(|a| [a.host, a.local])
        {
            holders.extend(self.addresses.get(&address).into_iter().flatten());
        }
        for mount in assigned.into_iter().flat_map(|assigned| &assigned.service.mounts) {
            holders.extend(self.writers_of(&mount.source));
        }
        holders.remove(&index);
        holders
    }

    /// Returns who can write at this path, above it or below it.
    fn writers_of(&self, path: &Path) -> impl Iterator<Item = usize> {
        let above = path.ancestors().filter_map(|ancestor| self.sources.get(ancestor));
        let after = (Bound::Excluded(path.to_path_buf()), Bound::Unbounded);
        let start = path.to_path_buf();
        let below = self
            .sources
            .range(after)
            .take_while(move |(source, _)| source.starts_with(&start))
            .map(|(_, holders)| holders);
        above.chain(below).flatten().copied()
    }
}

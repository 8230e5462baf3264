//! What cannot be held by two containers at once, and passes from one that stops to one that starts.
//!
//! The usual case is a service that was given another name: its data directory and its address must be let go
//! before the new one starts on them. Published ports are not among these: they belong to the host's table,
//! which is replaced as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::{Host, Verdict, Work};
use crate::container::{conf_addresses, writable_sources};
use crate::model::{ChangeKind, ConfFile, Reason};

/// What running containers hold that shall let it go.
#[derive(Default)]
struct Held {
    addresses: HashMap<Ipv4Addr, Vec<usize>>,
    sources: BTreeMap<PathBuf, Vec<usize>>,
}

/// Returns, for each container that starts, the containers whose stop it must wait for; and blocks the start of
/// those that need what a container holds whose stop is blocked.
pub(super) fn find(host: &Host<'_>, verdicts: &mut [Verdict]) -> HashMap<usize, BTreeSet<usize>> {
    let held = held(host, verdicts);
    let mut conflicts = HashMap::new();
    if held.addresses.is_empty() && held.sources.is_empty() {
        return conflicts;
    }
    for (index, entry) in host.entries.iter().enumerate() {
        let starts = match verdicts.get(index).map(|verdict| verdict.work) {
            Some(Work::Start | Work::StopStart) => true,
            Some(Work::Nothing | Work::AwaitJob | Work::Stop | Work::StopRemove | Work::Remove | Work::Update)
            | None => false,
        };
        let (true, Some(assigned)) = (starts, entry.assigned) else { continue };
        let mut holders = BTreeSet::new();
        for address in assigned.addresses.iter().flat_map(|addresses| [addresses.host, addresses.local]) {
            holders.extend(held.addresses.get(&address).into_iter().flatten());
        }
        for mount in &assigned.service.mounts {
            holders.extend(held.holders_of(&mount.source));
        }
        holders.remove(&index);
        let blocked = holders.iter().filter_map(|holder| verdicts.get(*holder)).find(|v| !v.work.stops());
        let reason = blocked.map(|verdict| {
            verdict.change.as_ref().and_then(|change| change.reasons.last()).cloned().unwrap_or(Reason::ForeignJob)
        });
        if let (Some(reason), Some(verdict)) = (reason, verdicts.get_mut(index)) {
            verdict.work = Work::Nothing;
            if let Some(change) = &mut verdict.change {
                change.kind = ChangeKind::Blocked;
                change.reasons.push(reason);
            }
        } else if !holders.is_empty() {
            conflicts.insert(index, holders);
        }
    }
    conflicts
}

fn held(host: &Host<'_>, verdicts: &[Verdict]) -> Held {
    let mut held = Held::default();
    for (index, (entry, verdict)) in host.entries.iter().zip(verdicts).enumerate() {
        let Some(container) = entry.container.filter(|_| verdict.wanted.stops()) else { continue };
        // Adopted containers keep what their owner gave them, and nobody else can be declared to have it.
        let text = match &container.conf {
            ConfFile::Ours(text) => text,
            ConfFile::Absent | ConfFile::Foreign | ConfFile::Link => continue,
        };
        for address in conf_addresses(text) {
            held.addresses.entry(address).or_default().push(index);
        }
        for source in writable_sources(text) {
            held.sources.entry(source).or_default().push(index);
        }
    }
    held
}

impl Held {
    /// Returns who can write at this path, above it or below it.
    fn holders_of(&self, path: &Path) -> impl Iterator<Item = usize> {
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

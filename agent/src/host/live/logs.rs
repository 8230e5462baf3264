//! Which journals there are of services, for those that read them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use futures_util::future::join_all;
use nixmox_core::model::ContainerName;

use super::Live;
use crate::guest_helper::journal::{Guest, Running};
use crate::guest_helper::view::Place;
use crate::host::logs::{self, EventQuery, LogQuery, Readers};

/// Where a system keeps its journal, relative to its root.
const JOURNAL: &str = "var/log/journal";

impl Live {
    pub(super) async fn start_readers(&self, query: &LogQuery) -> io::Result<Readers> {
        let guests = query.services.keys().map(async |name| (name.clone(), self.guest(name).await));
        let guests: BTreeMap<ContainerName, Guest> = join_all(guests).await.into_iter().collect();
        logs::start(&self.guests.program, query, &guests).await
    }

    pub(super) fn start_event_reader(&self, query: &EventQuery) -> io::Result<Readers> {
        logs::start_events(&self.guests.program, query)
    }

    /// Returns where the journal of a guest is found. Whether it has one is seen by whoever goes there.
    async fn guest(&self, name: &ContainerName) -> Guest {
        // A guest that boots counts: its machine is registered before its unit is active. What cannot be asked is taken
        // for one that rests, whose journal on disk is the same.
        let machine = self.machined.machine(name).await.ok().flatten();
        let machine = machine.filter(|machine| machine.unit == name.unit());
        let running = machine.map(|machine| Running { leader: machine.leader, unit: name.unit() });
        let at_rest = vec![
            Place { ours: self.paths.state(name), theirs: PathBuf::from(JOURNAL) },
            Place { ours: self.paths.journal(name), theirs: PathBuf::new() },
        ];
        Guest { name: name.to_string(), running, at_rest }
    }
}

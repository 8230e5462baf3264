//! What the reconcile task remembers of the host's tables: published ports, names, and what slices carry.
//!
//! Owns which of them may be replaced now: one that just could not be replaced waits, so that no container waits
//! for it, and one that somebody else changed is put right at once, or left alone, as the settings say. There is no
//! grace as with containers: a ruleset that was flushed by mistake cuts everybody off.

use std::time::Duration;

use nixmox_core::model::{Action, Desired, Observed, Servers, SystemState};
use nixmox_core::network::{FirewallTable, hosts_file};
use nixmox_core::restart;
use nixmox_core::slice::{self, Slices};

use super::supervise::{Failure, back_off};
use crate::settings::DriftPolicy;

/// What is remembered of the host's tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    ports: Kept<FirewallTable>,
    names: Kept<String>,
    slices: Kept<Slices>,
}

/// What is remembered of one of them.
#[derive(Debug)]
struct Kept<T> {
    /// As it last was there and right.
    right: Option<T>,
    /// Somebody else changed it since it was right.
    drifts: bool,
    /// Nobody was told of that yet.
    untold: bool,
    failure: Option<Failure>,
    retry: restart::Tracker,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { right: None, drifts: false, untold: false, failure: None, retry: restart::Tracker::default() }
    }
}

impl Tables {
    /// Takes in an observation; what is not to be replaced now is made to look right, so that no plan waits for it.
    pub(super) fn take_in(
        &mut self,
        now: Duration,
        desired: &Desired,
        observed: &mut Observed,
        policy: DriftPolicy,
    ) {
        if observed.system == SystemState::Stopping {
            return;
        }
        let found = observed.firewall.clone().unwrap_or_default();
        let ports = FirewallTable::of(desired);
        if self.ports.take_in(now, Some(&found), &ports, policy) {
            observed.firewall = Some(ports);
        }
        let names = hosts_file(desired);
        let left = self.names.take_in(now, observed.hosts.as_ref(), &names, policy);
        if left {
            observed.hosts = Some(names);
        }
        // They are written together.
        if left || self.names.retry.due(now).is_some() {
            observed.servers = Servers::default();
        }
        let slices = slice::slices(desired, observed.protection_of_host);
        let found = slice::are_right(&observed.slices, &slices).then_some(&slices);
        if self.slices.take_in(now, found, &slices, policy) {
            observed.slices = slice::done(&slices);
        }
    }

    /// Takes note that one could not be replaced.
    pub(super) fn failed(&mut self, now: Duration, action: Action, failure: Failure) {
        if let Some((kept, retry)) = self.kept(action) {
            *kept = Some(failure);
            back_off(retry, now);
        }
    }

    /// Takes note that one was replaced.
    pub(super) fn succeeded(&mut self, action: Action) {
        if let Some((kept, retry)) = self.kept(action) {
            *kept = None;
            retry.reset();
        }
    }

    /// Forgets what was right: somebody asked for all to be as declared.
    pub(super) fn asked(&mut self) {
        (self.ports.right, self.names.right, self.slices.right) = (None, None, None);
    }

    /// Returns when to look again for their sake; `None`: never.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let retries = [&self.ports.retry, &self.names.retry, &self.slices.retry];
        retries.into_iter().filter_map(|retry| retry.due(now)).min()
    }

    /// Returns what could not be replaced.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.ports.failure.iter().chain(&self.names.failure).chain(&self.slices.failure)
    }

    /// Returns what somebody else changed, in one line each, ports first.
    pub(super) fn drifts(&self) -> impl Iterator<Item = &'static str> {
        let drifts = [
            (self.ports.drifts, PORTS_CHANGED),
            (self.names.drifts, NAMES_CHANGED),
            (self.slices.drifts, SLICES_CHANGED),
        ];
        drifts.into_iter().filter(|(drifts, _)| *drifts).map(|(_, line)| line)
    }

    /// Returns of that what was not returned before.
    pub(super) fn news(&mut self) -> impl Iterator<Item = &'static str> + use<> {
        let untold = [
            (&mut self.ports.untold, PORTS_CHANGED),
            (&mut self.names.untold, NAMES_CHANGED),
            (&mut self.slices.untold, SLICES_CHANGED),
        ];
        untold.map(|(untold, line)| std::mem::take(untold).then_some(line)).into_iter().flatten()
    }

    fn kept(&mut self, action: Action) -> Option<(&mut Option<Failure>, &mut restart::Tracker)> {
        match action {
            Action::PublishPorts => Some((&mut self.ports.failure, &mut self.ports.retry)),
            Action::PublishNames => Some((&mut self.names.failure, &mut self.names.retry)),
            Action::SetSlices => Some((&mut self.slices.failure, &mut self.slices.retry)),
            Action::Stop | Action::Remove | Action::Start | Action::Update | Action::Await(_) => None,
        }
    }
}

const PORTS_CHANGED: &str = "the nftables table `inet nixmox` was changed by somebody else";
const NAMES_CHANGED: &str = "the hosts file of the containers was changed by somebody else";
const SLICES_CHANGED: &str = "limits of the stacks' slices were changed by somebody else";

impl<T: PartialEq + Clone> Kept<T> {
    /// Returns whether it is to be left as it is.
    fn take_in(&mut self, now: Duration, found: Option<&T>, wanted: &T, policy: DriftPolicy) -> bool {
        if found == Some(wanted) {
            if self.right.as_ref() != Some(wanted) {
                self.right = Some(wanted.clone());
            }
            (self.drifts, self.untold) = (false, false);
            return false;
        }
        let drifts = self.right.as_ref() == Some(wanted);
        self.untold |= drifts && !self.drifts;
        self.drifts = drifts;
        let left_alone = match policy {
            DriftPolicy::Correct => false,
            DriftPolicy::Report => drifts,
        };
        left_alone || self.retry.due(now).is_some()
    }
}

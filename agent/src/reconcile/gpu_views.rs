//! What running guests see of the GPUs that they were given, and what is done about nodes that they cannot use.
//!
//! A guest is looked into when it starts, when it is changed and now and then; what it lost is given anew by an update, one at a time,
//! and after a few in a row but seldom. Nothing of it outlives the agent: the next one looks for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use nixmox_core::gpu::{GuestView, Inventory};
use nixmox_core::model::{ActiveState, ContainerName, Desired, GpuStanding, Grant, InvocationId, Observed};

use super::gpus::News;

/// Time between two looks into a guest that has GPUs, which open its nodes and so wake them. One that starts or is changed, or
/// whose nodes have other numbers, is looked into at once.
const VIEW_INTERVAL: Duration = Duration::from_mins(5);
/// The same after a repair.
const VIEW_INTERVAL_AFTER_REPAIR: Duration = Duration::from_secs(3);
/// Repairs in a row of what a guest cannot use; then it is a person's to look at it, and tried again but seldom.
const REPAIRS_MAX: u32 = 3;
/// Time between two of those.
const REPAIR_INTERVAL: Duration = Duration::from_mins(10);
/// What a running guest saw of its GPUs.
#[derive(Debug)]
struct View {
    invocation: Option<InvocationId>,
    lost: Vec<PathBuf>,
    /// When the next look is due.
    next: Duration,
    /// Repairs since it could last use all.
    repairs: u32,
    /// When the last one was.
    repaired: Duration,
    /// It was changed since it was looked into.
    changed: bool,
}

impl View {
    fn new(invocation: Option<InvocationId>, now: Duration) -> Self {
        Self { invocation, lost: Vec::new(), next: now, repairs: 0, repaired: Duration::ZERO, changed: false }
    }
}

/// A guest that is to be looked into.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) name: ContainerName,
    pub(super) invocation: Option<InvocationId>,
    pub(super) grant: Grant,
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct Views {
    views: BTreeMap<ContainerName, View>,
    /// Who is being looked into.
    viewing: BTreeSet<ContainerName>,
}

impl Views {
    /// Returns when the next look is due; `None`: there is nobody to look into.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.views.iter().filter(|(name, _)| !self.viewing.contains(*name)).map(|(_, view)| view.next).min()
    }

    /// Returns who cannot use what although that was repaired, a sentence each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let lost = self.views.iter().filter(|(_, view)| view.repairs >= REPAIRS_MAX && !view.lost.is_empty());
        lost.map(|(name, view)| {
            format!("{name} cannot use {}; see `nixmoxctl gpu doctor {name}`", shown(&view.lost))
        })
    }

    /// Returns the guests that are to be looked into now; each is then under way.
    pub(super) fn begin(&mut self, now: Duration, desired: &Desired, observed: &Observed) -> Vec<Look> {
        let granted = |name: &ContainerName| {
            desired.services.get(name).and_then(|assigned| match &assigned.gpu {
                GpuStanding::Granted(grant)
                | GpuStanding::Kept { grant, .. }
                | GpuStanding::Shrinking { grant, .. } => Some(grant),
                GpuStanding::None | GpuStanding::Waiting { .. } | GpuStanding::Yielding { .. } => None,
            })
        };
        let active = |name: &ContainerName| {
            observed.containers.get(name).filter(|container| container.active == ActiveState::Active)
        };
        self.views.retain(|name, _| granted(name).is_some() && active(name).is_some());
        let mut looks = Vec::new();
        for name in desired.services.keys() {
            let (Some(grant), Some(container)) = (granted(name), active(name)) else { continue };
            let view = self.views.entry(name.clone()).or_insert_with(|| View::new(container.invocation, now));
            if view.invocation != container.invocation {
                *view = View::new(container.invocation, now);
            }
            if view.next <= now && self.viewing.insert(name.clone()) {
                looks.push(Look { name: name.clone(), invocation: container.invocation, grant: grant.clone() });
            }
        }
        looks
    }

    /// Takes in what a guest saw. Returns what it tells that was not known.
    pub(super) fn looked(
        &mut self,
        now: Duration,
        look: &Look,
        seen: &GuestView,
        inventory: Option<&Inventory>,
    ) -> Option<News> {
        self.viewing.remove(&look.name);
        let number = |path: &PathBuf| inventory.and_then(|inventory| inventory.number_of(path));
        let lost = seen.lost(number);
        let view = self.views.get_mut(&look.name).filter(|view| view.invocation == look.invocation)?;
        (view.next, view.changed) = (now.saturating_add(VIEW_INTERVAL), false);
        if seen.fault.is_some() {
            return None;
        }
        let before = std::mem::replace(&mut view.lost, lost);
        let news = |text: String| Some(News { service: Some(look.name.clone()), text });
        match (before.is_empty(), view.lost.is_empty()) {
            (_, true) => {
                view.repairs = 0;
                if before.is_empty() { None } else { news("its GPUs can be used again".to_owned()) }
            }
            (true, false) => news(format!("cannot use {}: it is given anew", shown(&view.lost))),
            (false, false) if view.repairs == REPAIRS_MAX => {
                view.repairs += 1;
                news(format!(
                    "still cannot use {}; `nixmoxctl gpu doctor {1}` says why, `nixmoxctl restart {1}` may help",
                    shown(&view.lost),
                    look.name
                ))
            }
            (false, false) => None,
        }
    }

    /// Has guests looked into at once: somebody wants to know.
    pub(super) fn doubt(&mut self, now: Duration) {
        self.views.values_mut().for_each(|view| view.next = view.next.min(now));
    }

    /// Takes note that a container was changed while it runs, which is how its GPUs are given anew.
    pub(super) fn updated(&mut self, now: Duration, name: &ContainerName) {
        if let Some(view) = self.views.get_mut(name) {
            if !view.lost.is_empty() {
                view.repairs = view.repairs.saturating_add(1);
                view.repaired = now;
            }
            view.changed = true;
            view.next =
                now.saturating_add(if view.lost.is_empty() { Duration::ZERO } else { VIEW_INTERVAL_AFTER_REPAIR });
        }
    }

    /// Tells the plan what guests cannot use, as long as that is to be repaired.
    pub(super) fn mark_lost(&self, now: Duration, observed: &mut Observed) {
        for (name, container) in &mut observed.containers {
            let view = self.views.get(name).filter(|view| view.invocation == container.invocation);
            // One repair at a time: whether it helped is seen by the next look.
            let is_due =
                |view: &&View| view.repairs < REPAIRS_MAX || now.saturating_sub(view.repaired) >= REPAIR_INTERVAL;
            let repairs = view.filter(is_due).filter(|view| !self.is_to_be_seen(name, view));
            container.lost_nodes = repairs.map(|view| view.lost.clone()).unwrap_or_default();
        }
    }

    /// Returns whether what a guest sees is being found out, or was changed since it was.
    fn is_to_be_seen(&self, name: &ContainerName, view: &View) -> bool {
        self.viewing.contains(name) || view.changed
    }
}

fn shown(nodes: &[PathBuf]) -> String {
    nodes.iter().map(|node| node.display().to_string()).collect::<Vec<_>>().join(", ")
}

//! Answers about GPUs: what is there, what would fit, and what is wrong.
//!
//! Made beside the reconcile task, of what it published and of a look of their own: a driver that hangs holds up whoever
//! asks about it, and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use nixmox_api::{
    AgentError, GpuDoctorReply, GpuFitReply, GpuFitRequest, GpuLayer, GpuRoom, GpuService, GpuShare, GpuYield,
    GpusReply,
};
use nixmox_core::gpu::admission::{self, Ask, Outcome, Yielded};
use nixmox_core::gpu::doctor::{self, Checkup, Layer, ServiceCheckup};
use nixmox_core::gpu::ledger::{self, Room};
use nixmox_core::gpu::{Claim, Gates, GuestView, Phase, gates};
use nixmox_core::model::{
    self, ActiveState, Bytes, Container, ContainerName, Desired, Device, GpuStanding, Grant, Observed, StackName,
};

use super::change::{invalid, unknown_service};
use super::gpus::{Gpus, Seen};
use super::handle::Places;
use super::offload_answers::OffloadScene;
use super::words::gpu_word;
use crate::host::Host;

/// What answers are made of, beside a look.
#[derive(Clone, Debug, Default)]
pub(super) struct GpuScene {
    /// The last look of the reconcile task; `None`: it has no reason to look.
    pub(super) seen: Option<Arc<Seen>>,
    /// The declared services that ask for GPUs.
    askers: BTreeMap<ContainerName, Asker>,
}

/// A service that asks for GPUs.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts that are read one by one, each independent of the others")]
struct Asker {
    stack: StackName,
    share: model::GpuShare,
    standing: GpuStanding,
    /// What it runs with, or had last.
    holds: Option<Grant>,
    phase: Phase,
    is_active: bool,
    held: bool,
    wants: bool,
    /// What it waits for beside GPUs.
    gates: Gates,
    granted: bool,
    since: u64,
    remembered: Option<Bytes>,
    elastic: bool,
    /// Device rules as systemd has them.
    devices: Vec<Device>,
    private_users: bool,
}

impl GpuScene {
    pub(super) fn of(gpus: &Gpus, desired: &Desired, observed: &Observed) -> Self {
        let absent = Container::default();
        let asker = |(name, assigned): (&ContainerName, &model::Assigned)| {
            let container = observed.containers.get(name).unwrap_or(&absent);
            Some((
                name.clone(),
                Asker {
                    stack: assigned.service.stack.clone(),
                    share: assigned.service.gpu.clone()?,
                    standing: assigned.gpu.clone(),
                    holds: gpus.grant(name).cloned(),
                    phase: super::gpus::phase(observed, name),
                    is_active: container.active == ActiveState::Active,
                    held: desired.holds.contains_key(name),
                    wants: gpus.wants(name),
                    gates: gates(desired, Some(observed), name),
                    granted: gpus.was_granted(name),
                    since: gpus.since(name),
                    remembered: gpus.expected(name),
                    elastic: gpus.is_elastic(name),
                    devices: container.devices.clone(),
                    private_users: assigned.service.private_users == model::PrivateUsers::Pick,
                },
            ))
        };
        Self { seen: gpus.seen(), askers: desired.services.iter().filter_map(asker).collect() }
    }

    fn claims<'a>(&'a self) -> Vec<Claim<'a>> {
        let claim = |name, asker: &'a Asker| Claim {
            name,
            share: &asker.share,
            holds: asker.holds.as_ref(),
            phase: asker.phase,
            wants: asker.wants,
            ready: asker.gates.ready,
            needs: &asker.gates.needs,
            granted: asker.granted,
            since: asker.since,
            remembered: asker.remembered,
            elastic: asker.elastic,
        };
        self.askers.iter().map(|(name, asker)| claim(name, asker)).collect()
    }

    /// Returns the video memory that each service used at the last look.
    pub(super) fn used(&self) -> BTreeMap<ContainerName, Bytes> {
        let Some(seen) = &self.seen else { return BTreeMap::new() };
        let running = self.askers.iter().filter(|(_, asker)| asker.phase == Phase::Up);
        running.filter_map(|(name, _)| Some((name.clone(), ledger::used(&seen.inventory, name)?))).collect()
    }

    /// Returns what each service may use of video memory.
    pub(super) fn budgets(&self) -> BTreeMap<ContainerName, Bytes> {
        let granted = |asker: &Asker| asker.standing.grant().filter(|_| !asker.held).and_then(|grant| grant.budget);
        self.askers.iter().filter_map(|(name, asker)| Some((name.clone(), granted(asker)?))).collect()
    }
}

/// Returns what is known of the GPUs, and how services stand with them.
pub(super) fn gpus(seen: &Seen, scene: &GpuScene) -> GpusReply {
    let mut services: Vec<GpuService> =
        scene.askers.iter().map(|(name, asker)| service(seen, name, asker)).collect();
    services.sort_by_key(|service| (std::cmp::Reverse(service.share.priority), service.name.clone()));
    GpusReply { at_usec: seen.at_usec, inventory: (&seen.inventory).into(), rooms: rooms(seen, scene), services }
}

fn rooms(seen: &Seen, scene: &GpuScene) -> Vec<GpuRoom> {
    let wire = |room: Room| GpuRoom {
        id: room.id.to_string(),
        total: room.total.0,
        reserved: room.reserved.0,
        headroom: room.headroom.0,
        promised: room.promised.0,
        others: room.others.0,
        free: room.free.0,
    };
    ledger::rooms(&seen.inventory, &scene.claims()).into_iter().map(wire).collect()
}

fn service(seen: &Seen, name: &ContainerName, asker: &Asker) -> GpuService {
    let (reason, hint) = match &asker.standing {
        GpuStanding::None | GpuStanding::Granted(_) | GpuStanding::Kept { .. } => (String::new(), String::new()),
        GpuStanding::Waiting { why, hint, .. } => (why.clone(), hint.clone()),
        GpuStanding::Shrinking { why, .. } => (why.clone(), String::new()),
        GpuStanding::Yielding { to, why, .. } => (format!("gives way to {to}: {why}"), String::new()),
    };
    let grant = asker.standing.grant().filter(|_| !asker.held);
    let runs = asker.phase == Phase::Up;
    GpuService {
        name: name.to_string(),
        stack: asker.stack.to_string(),
        state: gpu_word(&asker.standing, asker.held).to_owned(),
        reason,
        hint,
        share: GpuShare::from(&asker.share),
        gpus: grant.iter().flat_map(|grant| &grant.gpus).map(ToString::to_string).collect(),
        budget: grant.and_then(|grant| grant.budget).map(|budget| budget.0),
        used: runs.then(|| ledger::used(&seen.inventory, name)).flatten().map(|used| used.0),
        remembered: asker.remembered.map(|bytes| bytes.0),
    }
}

/// Returns what would come of a share.
pub(super) fn fit(
    seen: &Seen,
    (scene, places): (&GpuScene, &Places),
    request: GpuFitRequest,
) -> Result<GpuFitReply, AgentError> {
    let GpuFitRequest { name, share } = request;
    let share = share.map(GpuShare::into_model).transpose().map_err(invalid)?;
    let known = match &name {
        None => None,
        Some(name) => Some(asker(scene, places, name)?.0),
    };
    let claims = scene.claims();
    let ask = Ask { name: known, share: share.as_ref() };
    let Some(fit) = admission::fit(&seen.inventory, &claims, &ask) else {
        return Err(invalid(vec!["neither a service nor a share is asked about".to_owned()]));
    };
    let outcome = match fit.outcome {
        Outcome::Fits => "fits",
        Outcome::Yields => "yields",
        Outcome::Waits => "waits",
        Outcome::Never => "never",
    };
    let wire = |other: Yielded| GpuYield {
        name: other.name.to_string(),
        priority: other.priority,
        memory: other.memory.0,
    };
    Ok(GpuFitReply {
        outcome: outcome.to_owned(),
        reason: fit.why,
        hint: fit.hint,
        gpus: fit.gpus.iter().map(ToString::to_string).collect(),
        budget: fit.budget.map(|budget| budget.0),
        yields: fit.yields.into_iter().map(wire).collect(),
        gives: fit.gives.into_iter().map(wire).collect(),
        rooms: rooms(seen, scene),
    })
}

/// Returns a service that asks for GPUs.
fn asker<'a>(
    scene: &'a GpuScene,
    places: &Places,
    name: &str,
) -> Result<(&'a ContainerName, &'a Asker), AgentError> {
    if let Some(found) = scene.askers.get_key_value(name) {
        return Ok(found);
    }
    if places.contains_key(name) {
        return Err(AgentError::Refused {
            reason: format!("`{name}` asks for no GPU"),
            hint: "give it a `gpu` table in its manifest, and `nixmoxctl up`".to_owned(),
        });
    }
    Err(unknown_service(name, places.keys()))
}

/// Looks at every layer between the GPUs and the services that have some, or this one.
pub(super) async fn doctor<H: Host>(
    host: &H,
    seen: &Seen,
    (scene, offloads, places): (&GpuScene, &OffloadScene, &Places),
    name: Option<&str>,
) -> Result<GpuDoctorReply, AgentError> {
    let asked: Vec<(&ContainerName, &Asker)> = match name {
        Some(name) => vec![asker(scene, places, name)?],
        None => scene.askers.iter().collect(),
    };
    let views = join_all(asked.iter().map(async |(name, asker)| {
        let grant = asker.standing.grant().filter(|_| asker.is_active)?;
        Some(host.look_into(name, grant).await)
    }));
    let views: Vec<Option<GuestView>> = views.await;
    let services = asked.iter().zip(&views).map(|((name, asker), view)| ServiceCheckup {
        name,
        share: Some(&asker.share),
        standing: &asker.standing,
        runs: asker.is_active,
        private_users: asker.private_users,
        devices: &asker.devices,
        view: view.as_ref(),
        models: offloads.checkup(name),
    });
    let checkup = Checkup { inventory: &seen.inventory, whole: name.is_none(), services: services.collect() };
    let layers = doctor::diagnose(&checkup);
    Ok(GpuDoctorReply { layers: layers.into_iter().map(wire_layer).collect() })
}

fn wire_layer(layer: Layer) -> GpuLayer {
    GpuLayer {
        service: layer.service.map(|name| name.to_string()),
        layer: layer.kind.as_word().to_owned(),
        outcome: layer.outcome.as_word().to_owned(),
        found: layer.found,
        remedy: layer.remedy,
    }
}

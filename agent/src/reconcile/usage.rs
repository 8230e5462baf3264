//! What services use, as the wire tells it: the host's figures beside what is declared.
//!
//! Keeps nothing between two answers: a rate is made of two of them, by whoever asks twice.

use std::collections::{BTreeMap, BTreeSet};

use nix::time::{ClockId, clock_gettime};
use nixmox_api::{Pressure, ServiceStatus, ServiceUsage, Status, UsageReply};
use nixmox_core::model::{Assigned, ContainerName, Desired, PressureMax, Subject};

use super::handle::{Published, now_usec};
use crate::host::Host;

/// Returns the containers of a status that ran when it was made.
pub(super) fn running(status: &Status) -> BTreeSet<ContainerName> {
    let running = status.services.iter().filter(|service| service.invocation.is_some());
    running.filter_map(|service| service.name.parse().ok()).collect()
}

/// Returns the figures of all services that are published.
pub(super) async fn reply<H: Host>(host: &H, published: &Published) -> UsageReply {
    let mut read = host.figures(&running(&published.status)).await;
    let (vram, budgets) = (published.gpus.used(), published.gpus.budgets());
    let services = published.status.services.iter().map(|service| {
        let declared = ServiceUsage {
            name: service.name.clone(),
            stack: service.stack.clone(),
            memory_max_declared: service.memory_max,
            memory_high_declared: published.memory_high.get(service.name.as_str()).copied(),
            vram_current: vram.get(service.name.as_str()).map(|bytes| bytes.0),
            vram_budget: budgets.get(service.name.as_str()).map(|bytes| bytes.0),
            restarts: service.restarts,
            ..ServiceUsage::default()
        };
        with_figures(declared, service, &mut read)
    });
    UsageReply { at_usec: now_usec(), clock_usec: clock_usec(), services: services.collect() }
}

/// Returns which pressure a container is under that is above its maximum, in one line; `None`: none.
pub(super) async fn pressed<H: Host>(host: &H, name: &ContainerName, most: PressureMax) -> Option<String> {
    if most.is_empty() {
        return None;
    }
    let (_, figures) = host.figures(&BTreeSet::from([name.clone()])).await.remove(name)?;
    let some = |pressure: Option<crate::host::Pressure>| pressure.map(|pressure| pressure.some_avg10);
    most.exceeded(some(figures.cpu_pressure), some(figures.memory_pressure), some(figures.io_pressure))
}

/// Returns a warning for each service whose health is asked for by a pressure that the kernel does not count.
pub(super) fn not_counted(desired: &Desired) -> impl Iterator<Item = (Subject, String)> + '_ {
    let asks = |(name, assigned): (&ContainerName, &Assigned)| {
        let most = assigned.service.health.as_ref().map(|check| check.pressure).filter(|most| !most.is_empty())?;
        let text = format!(
            "this host's kernel does not count pressure, so that `health.pressure` ({most}) is left out; `psi=1` on its command line \
             may help"
        );
        Some((Subject::Service(name.clone()), text))
    };
    desired.services.iter().filter_map(asks)
}

/// Returns the time on the clock that nobody sets, in microseconds; the same clock for every agent of one boot.
fn clock_usec() -> u64 {
    // The clock is always there (clock_gettime(2)).
    let read = clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(std::time::Duration::from);
    read.and_then(|time| u64::try_from(time.as_micros()).ok()).unwrap_or_default()
}

/// Adds what was read of a container; nothing for one that does not run.
fn with_figures(
    declared: ServiceUsage,
    service: &ServiceStatus,
    read: &mut BTreeMap<ContainerName, (crate::host::Usage, crate::host::Figures)>,
) -> ServiceUsage {
    let Some((usage, figures)) = read.remove(service.name.as_str()) else { return declared };
    let pressure = |pressure: crate::host::Pressure| Pressure {
        some_avg10: pressure.some_avg10,
        full_avg10: pressure.full_avg10,
    };
    ServiceUsage {
        invocation: usage.invocation.map(|invocation| invocation.to_string()),
        active_since_usec: usage.active_since_usec,
        cpu_usec: usage.cpu_usec,
        cpu_pressure: figures.cpu_pressure.map(pressure),
        memory_current: usage.memory_current,
        memory_swap_current: figures.memory_swap_current,
        memory_max: figures.memory_max,
        memory_high: figures.memory_high,
        memory_pressure: figures.memory_pressure.map(pressure),
        oom_kills: figures.oom_kills,
        io_read_bytes: figures.io_read_bytes,
        io_write_bytes: figures.io_write_bytes,
        io_pressure: figures.io_pressure.map(pressure),
        tasks_current: usage.tasks_current,
        tasks_max: figures.tasks_max,
        network_receive_bytes: figures.network_receive_bytes,
        network_transmit_bytes: figures.network_transmit_bytes,
        ..declared
    }
}

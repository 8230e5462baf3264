//! What is on the page: every family, in order, and what its samples are made of.
//!
//! Names are those of cAdvisor for what a container uses (its storage/prometheus page), of the Prometheus client
//! libraries for the process itself, and begin with `nixmox_` where nobody has one. What is not known is not there, and
//! never 0. The tables in `docs/metrics.md` are made of these here.

use std::collections::BTreeMap;
use std::sync::Arc;

use nixmox_api::{GpusReply, OffloadsReply, ServiceState, ServiceStatus, Status};
use nixmox_core::model::ContainerName;

use super::gpus;
use super::models;
use super::own::Own;
use super::records::Records;
use super::text::{Family, Form, Kind, Text, Value};
use crate::host::{Figures, Pressure, Usage};

/// What a page is made of, but for the process itself.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The newest status.
    pub status: Arc<Status>,
    /// What running services use; the others are not there.
    pub usage: BTreeMap<ContainerName, (Usage, Figures)>,
    /// What the reconcile task noted.
    pub records: Records,
    /// What the last look at the GPUs found; `None`: nobody looked.
    pub gpus: Option<Arc<GpusReply>>,
    /// What engines that run models said last; `None`: no service has one.
    pub offloads: Option<Arc<OffloadsReply>>,
}

/// A service, with what it uses if it runs.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    status: &'a ServiceStatus,
    usage: Option<&'a (Usage, Figures)>,
    records: &'a Records,
}

/// A family with one sample, where there is a value.
pub(super) type Of<T> = (Family, fn(&T) -> Option<Value>);

/// A family with one sample for each service that has a value.
pub(super) type OfEach = (Family, fn(&Seen<'_>) -> Option<Value>);

/// Every state, as one sample each: the one that a service is in is 1.
const STATES: [ServiceState; 8] = [
    ServiceState::Healthy,
    ServiceState::Unhealthy,
    ServiceState::Starting,
    ServiceState::Waiting,
    ServiceState::Stopping,
    ServiceState::Stopped,
    ServiceState::Failed,
    ServiceState::Completed,
];

pub(super) const BUILD: Family = gauge("nixmox_build_info", "The agent's version; the value is always 1.");
pub(super) const KIND: Family =
    gauge("nixmox_service_info", "Whether it is a service or a job; the value is always 1.");
pub(super) const STATE: Family = gauge(
    "nixmox_service_state",
    "The state as nixmoxctl status shows it: 1 for the one that it is in, 0 for the others.",
);

/// Of the agent as a whole.
pub(super) const AGENT: &[Of<Status>] = &[
    (gauge("nixmox_generation", "The current generation; 0 before the first."), |status| {
        whole(status.host.generation)
    }),
    (gauge("nixmox_busy", "Whether the agent has work under way."), |status| whole(u64::from(status.host.busy))),
    (
        gauge("nixmox_warnings", "What hinders the host as a whole, as nixmoxctl status shows it: how many."),
        |status| count(status.host.warnings.len()),
    ),
];

pub(super) const OBSERVE: Family =
    histogram("nixmox_observe_duration_seconds", "How long a look at the host took: systemd, files, firewall.");
pub(super) const PLAN: Family = histogram("nixmox_plan_duration_seconds", "How long it took to make a plan.");
pub(super) const STEP: Family = histogram(
    "nixmox_step_duration_seconds",
    "How long a step took, failed ones included; a start to the guest being up.",
);
pub(super) const FAILURES: Family = counter("nixmox_step_failures", "Steps that failed.");

/// Of each service.
pub(super) const SERVICE: &[OfEach] = &[
    (
        gauge(
            "nixmox_service_healthy",
            "1: it runs and is well; 0: it should be and is not. Absent of what is held by stop, and of a job that is done.",
        ),
        |seen| healthy(seen.status.state),
    ),
    (
        counter("nixmox_service_restarts", "Starts by this agent after an earlier instance, whatever ended that."),
        |seen| whole(seen.records.restarts.get(seen.status.name.as_str()).copied().unwrap_or_default()),
    ),
    (gauge("container_start_time_seconds", "When it became active, in seconds since 1970."), |seen| {
        usec(seen.used()?.active_since_usec)
    }),
    (counter("container_cpu_usage_seconds", "CPU time used since its start."), |seen| usec(seen.used()?.cpu_usec)),
    (
        counter("container_pressure_cpu_waiting_seconds", "How long at least one of its tasks waited for a CPU."),
        |seen| some(seen.figures()?.cpu_pressure),
    ),
    (counter("container_pressure_cpu_stalled_seconds", "How long all of its tasks waited for a CPU."), |seen| {
        full(seen.figures()?.cpu_pressure)
    }),
    (gauge("container_memory_usage_bytes", "Memory in use, caches included (memory.current)."), |seen| {
        seen.used()?.memory_current.map(Value::Whole)
    }),
    (gauge("container_memory_swap", "Swap in use, in bytes (memory.swap.current)."), |seen| {
        seen.figures()?.memory_swap_current.map(Value::Whole)
    }),
    (gauge("container_spec_memory_limit_bytes", "memory.max in force; absent: no limit."), |seen| {
        seen.figures()?.memory_max.map(Value::Whole)
    }),
    (gauge("nixmox_service_memory_high_bytes", "memory.high in force; absent: no limit."), |seen| {
        seen.figures()?.memory_high.map(Value::Whole)
    }),
    (
        counter(
            "container_pressure_memory_waiting_seconds",
            "How long at least one of its tasks waited for memory.",
        ),
        |seen| some(seen.figures()?.memory_pressure),
    ),
    (
        counter("container_pressure_memory_stalled_seconds", "How long all of its tasks waited for memory."),
        |seen| full(seen.figures()?.memory_pressure),
    ),
    (
        counter(
            "container_oom_events",
            "Processes that the kernel killed for want of memory since its start (oom_kill).",
        ),
        |seen| seen.figures()?.oom_kills.map(Value::Whole),
    ),
    (counter("container_fs_reads_bytes", "Bytes read from block devices since its start."), |seen| {
        seen.figures()?.io_read_bytes.map(Value::Whole)
    }),
    (counter("container_fs_writes_bytes", "Bytes written to block devices since its start."), |seen| {
        seen.figures()?.io_write_bytes.map(Value::Whole)
    }),
    (
        counter("container_pressure_io_waiting_seconds", "How long at least one of its tasks waited for IO."),
        |seen| some(seen.figures()?.io_pressure),
    ),
    (counter("container_pressure_io_stalled_seconds", "How long all of its tasks waited for IO."), |seen| {
        full(seen.figures()?.io_pressure)
    }),
    (gauge("container_threads", "Tasks, that is processes and threads (pids.current)."), |seen| {
        seen.used()?.tasks_current.map(Value::Whole)
    }),
    (gauge("container_threads_max", "pids.max in force; absent: no limit."), |seen| {
        seen.figures()?.tasks_max.map(Value::Whole)
    }),
    (
        counter(
            "container_network_receive_bytes",
            "Bytes received through the interface that the host gave it; absent on the host's network.",
        ),
        |seen| seen.figures()?.network_receive_bytes.map(Value::Whole),
    ),
    (counter("container_network_transmit_bytes", "Bytes sent through that interface."), |seen| {
        seen.figures()?.network_transmit_bytes.map(Value::Whole)
    }),
];

/// Of the agent's process.
pub(super) const PROCESS: &[Of<Own>] = &[
    (counter("process_cpu_seconds", "CPU time that the agent used, without its children."), |own| {
        own.cpu_usec.map(Value::Usec)
    }),
    (gauge("process_resident_memory_bytes", "Memory of the agent that is resident."), |own| {
        own.resident_bytes.map(Value::Whole)
    }),
    (gauge("process_virtual_memory_bytes", "Address space of the agent."), |own| {
        own.virtual_bytes.map(Value::Whole)
    }),
    (gauge("process_start_time_seconds", "When the agent started, in seconds since 1970."), |own| {
        own.started_usec.map(Value::Usec)
    }),
    (gauge("process_open_fds", "File descriptors that the agent has open."), |own| own.open_fds.map(Value::Whole)),
    (gauge("process_max_fds", "File descriptors that it may have open."), |own| own.max_fds.map(Value::Whole)),
];

/// Returns a page in Prometheus' own format, without the process's figures.
#[cfg(feature = "testing")]
#[must_use]
pub fn shown(page: &Page) -> String {
    write(page, &Own::default(), Form::Prometheus)
}

/// Writes a page.
pub(super) fn write(page: &Page, own: &Own, form: Form) -> String {
    let mut text = Text::new(form);
    let Page { status, usage, records, gpus, offloads } = page;
    text.family(&BUILD);
    text.sample(&BUILD, &[("version", env!("CARGO_PKG_VERSION"))], Value::Whole(1));
    each(&mut text, AGENT, status);
    for (family, histogram) in [(OBSERVE, &records.observe), (PLAN, &records.plan)] {
        text.family(&family);
        text.histogram(&family, &[], histogram);
    }
    text.family(&STEP);
    for step in &records.steps {
        text.histogram(&STEP, &[("step", step.word)], &step.took);
    }
    text.family(&FAILURES);
    for step in &records.steps {
        text.sample(&FAILURES, &[("step", step.word)], Value::Whole(step.failures));
    }
    let seen = |service| Seen::of(service, usage, records);
    services(&mut text, &status.services.iter().map(seen).collect::<Vec<_>>());
    if let Some(gpus) = gpus {
        gpus::write(&mut text, gpus);
    }
    if let Some(offloads) = offloads {
        models::write(&mut text, offloads);
    }
    each(&mut text, PROCESS, own);
    text.end()
}

fn each<T>(text: &mut Text, families: &[Of<T>], of: &T) {
    for (family, value) in families {
        if let Some(value) = value(of) {
            text.family(family);
            text.sample(family, &[], value);
        }
    }
}

fn services(text: &mut Text, services: &[Seen<'_>]) {
    text.family(&KIND);
    for seen in services {
        let kind = if seen.status.job { "job" } else { "service" };
        text.sample(&KIND, &[seen.name(), seen.stack(), ("kind", kind)], Value::Whole(1));
    }
    text.family(&STATE);
    for seen in services {
        for state in STATES {
            let is = Value::Whole(u64::from(seen.status.state == state));
            text.sample(&STATE, &[seen.name(), seen.stack(), ("state", state.word())], is);
        }
    }
    for (family, value) in SERVICE {
        text.family(family);
        for seen in services {
            if let Some(value) = value(seen) {
                text.sample(family, &[seen.name(), seen.stack()], value);
            }
        }
    }
}

impl<'a> Seen<'a> {
    fn of(
        status: &'a ServiceStatus,
        usage: &'a BTreeMap<ContainerName, (Usage, Figures)>,
        records: &'a Records,
    ) -> Self {
        Self { status, usage: usage.get(status.name.as_str()), records }
    }

    fn name(&self) -> (&'static str, &'a str) {
        ("name", &self.status.name)
    }

    fn stack(&self) -> (&'static str, &'a str) {
        ("stack", &self.status.stack)
    }

    fn used(&self) -> Option<&'a Usage> {
        self.usage.map(|(usage, _)| usage)
    }

    fn figures(&self) -> Option<&'a Figures> {
        self.usage.map(|(_, figures)| figures)
    }
}

/// Returns whether it is as it should be; `None`: nobody wants it to run.
fn healthy(state: ServiceState) -> Option<Value> {
    match state {
        ServiceState::Healthy => whole(1),
        ServiceState::Unhealthy
        | ServiceState::Starting
        | ServiceState::Waiting
        | ServiceState::Stopping
        | ServiceState::Failed => whole(0),
        ServiceState::Stopped | ServiceState::Completed => None,
    }
}

fn some(pressure: Option<Pressure>) -> Option<Value> {
    usec(pressure?.some_total_usec)
}

fn full(pressure: Option<Pressure>) -> Option<Value> {
    usec(pressure?.full_total_usec)
}

fn usec(usec: Option<u64>) -> Option<Value> {
    usec.map(Value::Usec)
}

#[allow(clippy::unnecessary_wraps, reason = "every value of a table may be absent")]
fn whole(number: u64) -> Option<Value> {
    Some(Value::Whole(number))
}

fn count(number: usize) -> Option<Value> {
    u64::try_from(number).ok().map(Value::Whole)
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, help }
}

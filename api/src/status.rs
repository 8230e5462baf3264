//! What the agent reports: a snapshot of every stack and service, and the updates that follow it.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use crate::{GpuStatus, RolledBack};

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
#[zlink(rename = "Snapshot")]
pub struct Status {
    /// Grows with every change of the snapshot; starts anew with the agent.
    pub sequence: u64,
    /// The host as a whole.
    pub host: HostStatus,
    /// The stacks, by name.
    pub stacks: Vec<StackStatus>,
    /// The services, by stack and then in start order; last those that are no longer declared and still stop.
    pub services: Vec<ServiceStatus>,
}

/// The host as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
pub struct HostStatus {
    /// The agent's version.
    pub version: String,
    /// The current generation; 0 before the first.
    pub generation: u64,
    /// When it was made, in seconds since 1970; 0 before the first.
    pub generation_at: u64,
    /// Who made it; empty before the first.
    pub generation_by: Caller,
    /// Whether the agent has work under way.
    pub busy: bool,
    /// What hinders the host as a whole, one sentence each, with the way out.
    pub warnings: Vec<String>,
}

/// Who asked for something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Caller {
    /// The user id.
    pub uid: u32,
    /// The user name, or `uid N`.
    pub name: String,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
pub struct StackStatus {
    /// Its name.
    pub name: String,
    /// The stack file as its last `up` named it: an absolute path.
    pub file: String,
    /// The generation in which it was last changed.
    pub generation: u64,
    /// When that was, in seconds since 1970.
    pub changed_at: u64,
    /// Who changed it.
    pub changed_by: Caller,
    /// Whether everything that this generation changed in it became healthy.
    #[serde(default)]
    pub good: bool,
    /// Whether services go back to the last good generation should one that was changed not become healthy.
    #[serde(default)]
    pub on_trial: bool,
    /// The deployment that failed before; absent unless this generation came of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// Who declares it, such as an option of NixOS; absent: a person's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// What a service does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum ServiceState {
    /// It runs and its health check succeeds, or it runs and has none.
    Healthy,
    /// It runs and its health check fails.
    Unhealthy,
    /// It starts, or runs and has not been healthy yet.
    Starting,
    /// It is to be started when its dependencies are ready, or its back-off is over.
    Waiting,
    /// It is being stopped.
    Stopping,
    /// It is held by `stop`.
    Stopped,
    /// It ended or did not start, and will not be started again by itself, or not now.
    Failed,
    /// It is a job and ended with 0.
    Completed,
}

impl ServiceState {
    /// Returns its word, as the wire has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Completed => "completed",
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its stack.
    pub stack: String,
    /// Whether it is a job.
    pub job: bool,
    /// What it does.
    pub state: ServiceState,
    /// Since when, in seconds since 1970; absent when unknown.
    pub since: Option<u64>,
    /// Why it is in that state, in one line: the unmet gate, the last probe, the cause of a failure; may be empty.
    pub reason: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The services it waits for, each as `name: condition`.
    pub waits_for: Vec<String>,
    /// What the last probe asked and was told; empty when there was none.
    pub probe: String,
    /// Failed probes since it was last healthy.
    pub probe_failures: u32,
    /// The time it is given to become healthy, in milliseconds.
    pub start_period_ms: u64,
    /// The last lines it logged, oldest first; only for services that are not well.
    pub log: Vec<String>,
    /// Where it is declared: `file:line`.
    pub declared_at: String,
    /// Where its health check is declared: `file:line`; empty without one.
    pub health_declared_at: String,
    /// Starts by the agent since it was last well, without the first.
    pub restarts: u32,
    /// The address in its private network; absent without one.
    pub address: Option<String>,
    /// Published ports as the manifest writes them.
    pub ports: Vec<String>,
    /// The unit's current invocation ID, 32 hexadecimal digits; absent when it does not run.
    pub invocation: Option<String>,
    /// The system's store path; absent for an adopted container.
    pub system: Option<String>,
    /// Memory in use, in bytes; absent where the kernel has no figure.
    pub memory_current: Option<u64>,
    /// Declared `memory_max`, in bytes.
    pub memory_max: Option<u64>,
    /// CPU time used since its start, in microseconds.
    pub cpu_usec: Option<u64>,
    /// CPU time used in the last sampling period, in percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Tasks.
    pub tasks_current: Option<u64>,
    /// Differences from what is declared that no running work explains.
    pub drift: Vec<Drift>,
    /// Who holds it stopped; absent unless held.
    pub held_by: Option<String>,
    /// When it is started again by itself, in seconds since 1970; absent: it is not, or it need not be.
    #[serde(default)]
    pub restart_at: Option<u64>,
    /// What must hold of others before it is started, by name.
    #[serde(default)]
    pub depends_on: Vec<crate::Dependency>,
    /// When the last probe was answered, in seconds since 1970; absent in a watch, and when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<u64>,
    /// How its last instance came to its end; absent when there was none, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<LastEnd>,
    /// Its processes that the kernel killed for want of memory; absent when there was none, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<OomKills>,
    /// What it has of the GPUs that it asks for; absent: it asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuStatus>,
}

/// Processes of a service that the kernel killed for want of memory, whoever's limit that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct OomKills {
    /// How many in the run that is or was last, as the kernel counts them; 0: those told of are of a run before.
    pub count: u64,
    /// When the last one was killed, in seconds since 1970; absent: before this agent's time, and the kernel's log has it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// What that one called itself; absent: the kernel's log cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Its process id on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The memory that it held, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// All of it in one line for people, with the limit.
    pub why: String,
}

/// How an instance came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct LastEnd {
    /// When it was noticed, in seconds since 1970; absent when that was before this agent's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// What ended it: `crashed`, `not_started`, `exited`, `rebooted`, `stopped_outside`, `unhealthy`, `asked`, `changed` or
    /// `drift`.
    pub kind: String,
    /// The same in one line for people: the exit code or signal, the probe, who asked, what was changed.
    pub why: String,
}

/// A difference from what is declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Drift {
    /// What differs, such as `memory_max is 6G, declared 4G`.
    pub what: String,
    /// In how many seconds it is corrected; absent: not by itself.
    pub corrected_in: Option<u64>,
}

/// What an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum UpdateKind {
    /// `status` holds the whole snapshot: the first message, and after falling behind.
    Snapshot,
    /// `service`, `event` and `message` tell what happened; `current` or `host` hold what it led to.
    Event,
}

/// One message of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Update {
    /// What this message is.
    pub kind: UpdateKind,
    /// The event's number, without gaps as long as the agent lives; another agent goes on with greater ones. Of a
    /// snapshot, that of the last event it includes.
    pub number: u64,
    /// When, in microseconds since 1970.
    pub at_usec: u64,
    /// Whether events were lost since the last message: what was shown before is to be forgotten.
    pub resynchronize: bool,
    /// The service it is about; empty for the host.
    pub service: String,
    /// The event in one word: `live`, `starting`, `started`, `healthy`, `unhealthy`, `stopping`, `stopped`, `failed`,
    /// `completed`, `removed`, `drift`, `oom`, `changed` (any other field), `generation`; `found` and `agent` for what an agent
    /// that has just started finds; empty for a snapshot.
    pub event: String,
    /// The event in one line.
    pub message: String,
    /// The whole snapshot; absent in an event.
    pub status: Option<Status>,
    /// The service's status after the event: replaces the one in the snapshot. Absent when the service is gone,
    /// and in a snapshot.
    pub current: Option<ServiceStatus>,
    /// The host's status after an event of the host; absent otherwise.
    pub host: Option<HostStatus>,
    /// All stacks after an event of the host in which one of them became another: replace those in the snapshot. Absent
    /// otherwise.
    #[serde(default)]
    pub stacks: Option<Vec<StackStatus>>,
}

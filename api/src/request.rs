//! What a client asks for and is told: plans and changes.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use crate::status::Caller;

/// A stack as a client resolved it: for `Plan` and `Apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The stack's name.
    pub stack: String,
    /// The stack file: an absolute path.
    pub file: String,
    /// The pool of addresses, such as `10.233.0.0/16`.
    pub address_pool: String,
    /// The services of the stack: all of them, or at least those of `only`.
    pub services: Vec<crate::Service>,
    /// The services to apply; all others stay as they were in the last generation. Empty: all.
    pub only: Vec<String>,
    /// Whether services that the stack no longer contains are stopped and forgotten; not together with `only`.
    pub prune: bool,
    /// The base of a plan that was shown before (`PlanReply.base`): refused when the host has moved on. Absent: any.
    pub base: Option<String>,
    /// Whether the services that change stay as declared even when one does not become healthy. Absent: they go back to the
    /// last good generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_rollback: Option<bool>,
    /// What the stack as a whole may use. Absent: it has no limits of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<crate::Limits>,
    /// Who declares the stack, such as an option of NixOS: from then on a request of anybody else is refused. One without services
    /// and with `prune` gives the stack up. Absent: a person's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// For `Plan`, whether guests that would be switched to another system are asked what that does in them, where the caller is
    /// an operator: it runs a program there. Absent: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_inside: Option<bool>,
}

/// A plan as text and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct PlanReply {
    /// What the plan was made for: a digest of what is desired and observed.
    pub base: String,
    /// The generation that would be made.
    pub generation: u64,
    /// Every service concerned, in start order; those to be removed last.
    pub services: Vec<Planned>,
    /// Services of this stack that run, and that the stack no longer contains; stopped only with `prune`.
    pub orphans: Vec<String>,
    /// What a person should know though nothing is changed for it.
    pub warnings: Vec<Warning>,
    /// What becomes different of the limits of the stack as a whole, at once; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<Reason>>,
}

/// What happens to one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// `unchanged`, `create`, `live`, `restart`, `remove`, `hold` or `blocked`.
    pub change: String,
    /// Why; empty when unchanged.
    pub reasons: Vec<Reason>,
    /// The services it waits for before it is started, each as `name: condition`.
    pub after: Vec<String>,
    /// Its state now, as in `ServiceStatus`; absent when nothing of it is there.
    pub state: Option<crate::ServiceState>,
}

/// Why something happens to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Reason {
    /// A word for programs: `new`, `not_running`, `field`, `limit`, ...: the variants of core's `Reason`; `declared`
    /// where the agent alone does otherwise from then on.
    pub kind: String,
    /// A line for people, such as `memory_max unset -> 1G` or `mounts changed`.
    pub text: String,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Warning {
    /// The service it is about; empty for the host.
    pub service: String,
    /// One sentence.
    pub text: String,
}

/// The answer to `Apply`, `Down` and `Rollback`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Applied {
    /// The generation that was made, or the current one when nothing had to be written.
    pub generation: u64,
    /// The number of the last event before it: a watch that begins there misses nothing.
    pub number: u64,
    /// What is going to happen.
    pub plan: PlanReply,
}

/// The answer to `Start`, `Stop`, `Restart`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Done {
    /// The number of the last event before it.
    pub number: u64,
    /// The services concerned, dependents that go along included.
    pub services: Vec<String>,
}

/// A stack that the host holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct StackInfo {
    /// Its name.
    pub name: String,
    /// The stack file: an absolute path.
    pub file: String,
    /// Its services, by name.
    pub services: Vec<String>,
    /// The generation in which it was last changed.
    pub generation: u64,
    /// Who changed it last.
    pub changed_by: Caller,
    /// When that was, in seconds since 1970.
    pub changed_at: u64,
}

/// The answer to `Stacks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct StacksReply {
    /// The stacks, by name.
    pub stacks: Vec<StackInfo>,
}

/// The answer to `Paths`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct PathsReply {
    /// What lies where, in the order in which a person looks.
    pub paths: Vec<PathInfo>,
}

/// Where something of a service lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct PathInfo {
    /// What it is: `unit`, `drop-in`, `conf`, `state`, `system`, `journal`, `environment`, `mount`, `credential`.
    pub what: String,
    /// The absolute path, or the unit's name.
    pub path: String,
    /// Whether it is there now; absent where what it lies on does not answer.
    pub exists: Option<bool>,
}

/// The answer to `RemoveData`: an object without fields, as other Varlink servers send it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

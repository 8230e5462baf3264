//! The errors of the interface. A name is never reused; parameters carry what a program needs, `hint` what a person does.

use zlink::ReplyError;

/// Why a call was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, ReplyError, zlink::introspect::ReplyError)]
#[zlink(interface = "io.nixmox.Agent")]
pub enum AgentError {
    /// The caller has not the role that the method needs.
    NotPermitted {
        /// The role: `observer` or `operator`.
        role: String,
        /// The method.
        method: String,
        /// Which group to join.
        hint: String,
    },
    /// The request is not valid; nothing was changed.
    Invalid {
        /// Each fault: `service: what is wrong`.
        problems: Vec<String>,
        /// The way out; may be empty.
        hint: String,
    },
    /// No service of this name.
    UnknownService {
        /// The name.
        name: String,
        /// The nearest name there is, or the list; may be empty.
        hint: String,
    },
    /// No stack of this name.
    UnknownStack {
        /// The name.
        name: String,
        /// The stacks there are; may be empty.
        hint: String,
    },
    /// No generation of this number is kept.
    UnknownGeneration {
        /// The number.
        number: u64,
        /// Those there are.
        hint: String,
    },
    /// The host is not any more what the plan was made for; nothing was changed.
    Stale {
        /// The base of the plan.
        expected: String,
        /// The base as it is now.
        actual: String,
    },
    /// Running services depend on the ones to be stopped; nothing was changed.
    HasDependents {
        /// The dependents, by name.
        dependents: Vec<String>,
        /// The way out.
        hint: String,
    },
    /// The host cannot take the change now, or could not carry it out; nothing was changed.
    Refused {
        /// Why, in one sentence.
        reason: String,
        /// The way out; may be empty.
        hint: String,
    },
}

//! What to do when the agent cannot be reached, does not understand, or refuses.

use std::cmp::Ordering;

use nixmox_api::AgentError;

use super::Circumstances;
use crate::client::ClientError;
use crate::machine::Membership;
use crate::render::Report;

/// The agent's units.
const SOCKET: &str = "nixmox-agent.socket";
const AGENT: &str = "nixmox-agent";

/// This program's version, which is the agent's too where both are of one release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the complaint about a call.
pub(super) fn client_report(error: &ClientError, about: &Circumstances<'_>) -> Report {
    let report = Report::new(error.to_string()).causes(error);
    match error {
        ClientError::Missing { .. } if about.machine.has_unit(SOCKET) => report
            .row("why", format!("{SOCKET} is installed, and not started"))
            .row("try", format!("sudo systemctl enable --now {SOCKET} {AGENT}"))
            .row("", format!("systemctl status {SOCKET} {AGENT}")),
        ClientError::Missing { .. } => report
            .row("why", format!("NixMox is not installed here: systemd has no {SOCKET}"))
            .row("try", "install it, as docs/install.md says; or go to the machine that has it"),
        ClientError::Refused { .. } => report
            .row("why", format!("the agent ended, and {SOCKET} with it"))
            .row("try", format!("sudo systemctl restart {SOCKET} {AGENT}"))
            .row("", format!("systemctl status {SOCKET} {AGENT}")),
        ClientError::Unreachable { .. } => report.row("try", format!("systemctl status {SOCKET} {AGENT}")),
        ClientError::Silent { .. } => report
            .row("why", "it hangs, or the machine is very busy; what was asked for may still be done")
            .row("try", format!("systemctl status {AGENT}"))
            .row("", format!("journalctl -u {AGENT} -n 20")),
        ClientError::Lost { .. } => report
            .row("", "the agent ended, or closed one of too many connections of this user")
            .row("try", "the same again; what was asked for may have been done")
            .row("", format!("journalctl -u {AGENT} says who was turned away")),
        ClientError::Denied { socket } => report
            .row("why", "the socket is for everybody; who may do what is decided behind it")
            .row("try", format!("ls -ld {} shows who closed it", socket.display()))
            .row("", format!("sudo systemctl restart {SOCKET} makes it anew")),
        ClientError::Unknown { .. } => versions(report, "why", about),
        ClientError::Foreign { .. } => versions(report, "", about),
        ClientError::Agent(refused) => refused_report(refused, about),
    }
}

/// Returns the complaint about a refusal.
fn refused_report(error: &AgentError, about: &Circumstances<'_>) -> Report {
    let or = |hint: &str, otherwise: &str| if hint.is_empty() { otherwise.to_owned() } else { hint.to_owned() };
    match error {
        AgentError::NotPermitted { role, method, hint } => not_permitted(role, method, hint, about),
        AgentError::Invalid { problems, hint } => {
            let report = Report::new("the agent cannot take this; nothing was changed").rows("why", problems);
            // It refuses what it does not know: it would carry out something else than what was shown.
            if about.is_another_version() {
                versions(report, "", about)
            } else {
                report.row("try", or(hint, "nixmoxctl check"))
            }
        }
        AgentError::UnknownService { name, hint } => {
            Report::new(format!("there is no service `{name}`")).row("try", or(hint, "nixmoxctl status --all"))
        }
        AgentError::UnknownStack { name, hint } => {
            Report::new(format!("there is no stack `{name}`")).row("try", or(hint, "nixmoxctl stacks"))
        }
        AgentError::UnknownGeneration { number, hint } => {
            Report::new(format!("there is no generation {number}")).row("try", or(hint, "nixmoxctl generations"))
        }
        AgentError::Stale { .. } => Report::new("the plan was made for another state of the host")
            .row("why", "something was changed, or changed by itself, since it was made; nothing was done")
            .row("try", "make it anew: nixmoxctl plan -o FILE"),
        AgentError::HasDependents { dependents, hint } => Report::new("services depend on it; nothing was stopped")
            .row("need", dependents.join(", "))
            .row("try", or(hint, "--with-dependents stops them too")),
        AgentError::Refused { reason, hint } => {
            Report::new(reason).row("try", or(hint, &format!("journalctl -u {AGENT} -n 20")))
        }
    }
}

fn not_permitted(role: &str, method: &str, hint: &str, about: &Circumstances<'_>) -> Report {
    let group = if role == "operator" { "nixmox-operator" } else { "nixmox" };
    let needs = format!("{method} needs the role {role}, which root and group {group} have");
    let anew = "log in again: a group counts from the next login on";
    let report = |who: &str| Report::new(format!("{who} may not do that")).row("why", &needs);
    match about.machine.membership(group) {
        Membership::NotInThisSession { user } => report(&user)
            .row("", format!("{user} is in {group}, and this session began before that"))
            .row("try", anew)
            .row("", format!("newgrp {group} for this terminal alone")),
        Membership::No { user } => report(&user)
            .row("try", format!("sudo usermod -aG {group} {user}"))
            .row("", anew)
            .row("", "or the same with sudo"),
        Membership::NoGroup => report("you")
            .row("", format!("there is no group {group} on this machine"))
            .row("try", format!("sudo systemd-sysusers, then sudo usermod -aG {group} USER"))
            .row("", anew),
        Membership::Yes | Membership::Unknown => {
            let join = if hint.is_empty() { format!("join group {group}") } else { hint.to_owned() };
            report("you").row("try", join).row("", anew)
        }
    }
}

/// Adds what the versions of both sides lead to; `key` is empty below another cause.
fn versions(report: Report, key: &'static str, about: &Circumstances<'_>) -> Report {
    let both = |agent: &str| format!("the agent is {agent}, this nixmoxctl {VERSION}");
    let restart = format!("sudo systemctl restart {AGENT}, if its new version is installed already");
    let same = "install both from the same release";
    match about.agent_version.as_deref().map(|agent| (agent, order(agent, VERSION))) {
        Some((agent, Some(Ordering::Less))) => {
            report.row(key, format!("{}: the agent is too old", both(agent))).row("try", restart).row("", same)
        }
        Some((agent, Some(Ordering::Greater))) => {
            report.row(key, format!("{}: this program is too old", both(agent))).row("try", same)
        }
        Some((agent, Some(Ordering::Equal) | None)) => report
            .row(key, format!("{}; one of them is broken, or of a build in between", both(agent)))
            .row("try", restart)
            .row("", same),
        None => report
            .row(key, "their versions differ, or the agent is broken")
            .row("try", "nixmoxctl --version")
            .row("", "nixmox-agent --version"),
    }
}

/// Compares two versions, `MAJOR.MINOR.PATCH`; `None` where one is none.
pub(super) fn order(one: &str, other: &str) -> Option<Ordering> {
    let parts = |version: &str| -> Option<Vec<u64>> {
        let parts: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
        parts.filter(|parts| parts.len() == 3)
    };
    Some(parts(one)?.cmp(&parts(other)?))
}

impl Circumstances<'_> {
    /// Returns whether the agent is known to be of another version.
    fn is_another_version(&self) -> bool {
        self.agent_version.as_deref().is_some_and(|agent| agent != VERSION)
    }
}

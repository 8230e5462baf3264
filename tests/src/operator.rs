//! What an operator does and sees: a stack, `nixmoxctl` on it, what it says, and what became of the services.
#![allow(
    clippy::missing_errors_doc,
    reason = "every function fails for the same reason: the testbed did not do what was asked; the message says which"
)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nixmox_testbed::{Output, Testbed};
use serde_json::Value;

use crate::{say, stack};

/// Longest time that one command of ours may take.
const COMMAND_LIMIT: Duration = Duration::from_mins(10);
/// Longest wait for a service to become healthy by itself, on a busy machine.
const HEALTHY_LIMIT: Duration = Duration::from_mins(3);

/// A stack in a folder of its own.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    bed: &'a Testbed,
    name: &'a str,
}

impl<'a> Stack<'a> {
    /// A stack of this name in `/srv/NAME`; nothing is written yet.
    #[must_use]
    pub fn new(bed: &'a Testbed, name: &'a str) -> Self {
        Self { bed, name }
    }

    /// Writes the manifest with these tables.
    pub fn declare(&self, services: &[&str]) -> Result<()> {
        stack::write(self.bed, self.name, &services.join("\n\n"))
    }

    /// Runs `nixmoxctl` with these arguments, which a shell splits, in the stack's folder.
    pub fn ctl(&self, arguments: &str) -> Result<Output> {
        let script = format!("cd {} && exec nixmoxctl {arguments}", stack::folder(self.name));
        self.bed.exec_within(COMMAND_LIMIT, &["bash", "-c", &script])
    }

    /// Runs `nixmoxctl` and returns what it printed; fails when it does.
    pub fn succeed(&self, arguments: &str) -> Result<Output> {
        let output = self.ctl(arguments)?;
        ensure!(output.success(), "`nixmoxctl {arguments}` of {}: {output}\n{}", self.name, self.journal());
        Ok(output)
    }

    /// Runs `nixmoxctl`, which must end with this status and say all of this, each on one line, on standard error.
    ///
    /// Returns what it printed.
    pub fn refuse(&self, arguments: &str, code: i32, words: &[&str]) -> Result<Output> {
        let output = self.ctl(arguments)?;
        say(&format!("$ nixmoxctl {arguments}    # {}, exit status {}\n{}", self.name, output.code, output.stderr));
        ensure!(output.code == code, "expected exit status {code}: {output}\n{}", self.journal());
        // The text is wrapped at the width of the terminal, or not at all.
        let said = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            ensure!(said.contains(word), "`{word}` is not said: {output}");
        }
        Ok(output)
    }

    /// Returns what the agent says of a service: an object as on the wire.
    pub fn service(&self, name: &str) -> Result<Value> {
        let output = self.ctl("--all status --json")?;
        ensure!(output.success(), "status: {output}");
        let status: Value = serde_json::from_str(&output.stdout).context("the status is not JSON")?;
        let services = status.get("services").and_then(Value::as_array).cloned().unwrap_or_default();
        let found = services.into_iter().find(|service| service.get("name").is_some_and(|there| there == name));
        found.with_context(|| format!("the status has no `{name}`: {status}"))
    }

    /// Returns a field of a service's status as text; a missing one and null are empty.
    pub fn field(&self, name: &str, field: &str) -> Result<String> {
        Ok(match self.service(name)?.get(field) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        })
    }

    /// Waits until a service is healthy, as after a start of the agent, and returns its invocation ID.
    pub fn becomes_healthy(&self, name: &str) -> Result<String> {
        let query = format!(".services[] | select(.name == \"{name}\" and .state == \"healthy\")");
        self.bed.wait_until(&format!("nixmoxctl --all status --json | jq -e '{query}'"), HEALTHY_LIMIT)?;
        self.healthy(name)
    }

    /// Returns the invocation ID of a healthy service; fails when it is not healthy.
    pub fn healthy(&self, name: &str) -> Result<String> {
        let state = self.field(name, "state")?;
        ensure!(state == "healthy", "{name} is {state}: {}\n{}", self.service(name)?, self.journal());
        let invocation = self.field(name, "invocation")?;
        let unit = self.bed.succeed(&format!("systemctl show -P InvocationID container@{name}"))?;
        ensure!(invocation == unit, "the agent knows {invocation} of {name}, systemd {unit}");
        Ok(invocation)
    }

    /// The last lines of the agent's journal, for messages.
    fn journal(&self) -> String {
        self.bed.journal(&["-u", "nixmox-agent", "-n", "60"]).unwrap_or_else(|error| format!("{error:#}"))
    }
}

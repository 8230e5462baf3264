//! Which stack and which services a command means.

use nixmox_api::{ServiceStatus, Status};

use crate::context::Context;
use crate::error::CtlError;
use crate::manifest;

/// Which stacks are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of the host.
    All,
    /// This one: named with `-s`.
    Named(String),
    /// This one: that of the stack file.
    OfFile(String),
}

impl Selection {
    /// Returns what the options say, else the stack of the stack file; `None` where there is none.
    pub(super) fn find(context: &Context) -> Result<Option<Self>, CtlError> {
        if context.options.all {
            return Ok(Some(Self::All));
        }
        if let Some(stack) = &context.options.stack {
            return Ok(Some(Self::Named(stack.clone())));
        }
        Ok(manifest::stack_name(context)?.map(Self::OfFile))
    }

    /// Returns the same, and complains where no stack is named.
    pub(super) fn require(context: &Context) -> Result<Self, CtlError> {
        Self::find(context)?.ok_or_else(|| CtlError::Usage {
            what: "which stack? there is no nixmox.toml here or above".to_owned(),
            hint: "-s STACK, -f FILE or --all".to_owned(),
        })
    }

    /// Returns whether a service of this stack is meant.
    pub(super) fn has(&self, stack: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) | Self::OfFile(name) => name == stack,
        }
    }

    /// Returns the complaint that nothing of it is on the host.
    pub(super) fn not_up(&self) -> CtlError {
        let what = match self {
            Self::All => "no stack is up".to_owned(),
            Self::Named(stack) | Self::OfFile(stack) => format!("{stack} is not up"),
        };
        CtlError::NotUp { what, hint: "nixmoxctl up".to_owned() }
    }

    /// Leaves only what is meant in a snapshot; no names: every service of the stacks.
    ///
    /// Complains about a stack that was named with `-s`, and about services that are not there, or not in that stack.
    pub(super) fn narrow(&self, mut status: Status, names: &[String]) -> Result<Status, CtlError> {
        if let Self::Named(name) = self {
            known("stack", name, status.stacks.iter().map(|stack| stack.name.as_str()))?;
            status.services.retain(|service| service.stack == *name);
        }
        for name in names {
            known("service", name, status.services.iter().map(|service| service.name.as_str()))?;
        }
        let meant = |service: &ServiceStatus| match names {
            [] => self.has(&service.stack),
            names => names.contains(&service.name),
        };
        status.services.retain(meant);
        let stacks_of_names: Vec<String> = status.services.iter().map(|service| service.stack.clone()).collect();
        status.stacks.retain(|stack| match names {
            [] => self.has(&stack.name),
            _ => stacks_of_names.contains(&stack.name),
        });
        Ok(status)
    }
}

/// Returns the services that a verb is for: those named, else all of the stack that is meant.
pub(super) fn services(context: &Context, status: &Status, names: &[String]) -> Result<Vec<String>, CtlError> {
    if !names.is_empty() {
        if let Some(stack) = &context.options.stack {
            Selection::Named(stack.clone()).narrow(status.clone(), names)?;
        }
        return Ok(names.to_vec());
    }
    let selection = Selection::require(context)?;
    let status = selection.narrow(status.clone(), &[])?;
    if status.stacks.is_empty() {
        return Err(selection.not_up());
    }
    Ok(status.services.into_iter().map(|service| service.name).collect())
}

/// Complains unless the name is one of those there are.
pub(super) fn known<'a>(
    kind: &'static str,
    name: &str,
    there: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), CtlError> {
    if there.clone().any(|known| known == name) {
        return Ok(());
    }
    // As many letters may be wrong as a person mistypes in a name.
    let near = there
        .clone()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= (name.chars().count() / 3).max(1))
        .min();
    let hint = match near {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => match there.collect::<Vec<_>>() {
            there if there.is_empty() => "there are none yet".to_owned(),
            there => format!("there are: {}", there.join(", ")),
        },
    };
    Err(CtlError::Unknown { kind, name: name.to_owned(), hint })
}

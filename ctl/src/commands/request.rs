//! What `plan` and `up` ask for: the stack with its systems built, narrowed to the services that are named.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use clap::Args;
use nixmox_api::{PlanReply, Request, Service};
use nixmox_core::manifest::Declared;
use nixmox_core::model::{ContainerName, Limits};
use serde::{Deserialize, Serialize};

use super::selection::known;
use crate::build::{Extent, NixOptions, Roots, build};
use crate::context::Context;
use crate::error::CtlError;
use crate::manifest;

/// The form of a saved plan. Another number is refused, since what it asks for might be misunderstood.
const PLAN_FORMAT: u32 = 1;

/// Which services `plan` and `up` are about.
#[derive(Debug, Args)]
pub(crate) struct Scope {
    /// The services; none: all of the stack
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Leave alone what the named services depend on
    #[arg(long, requires = "names")]
    no_deps: bool,
    /// Stop and forget services that the stack file no longer contains
    #[arg(long, conflicts_with = "names")]
    prune: bool,
}

/// What is asked for, with systems that may still have to be built.
pub(super) struct Prepared {
    /// What to ask for.
    pub(super) request: Request,
    /// The services whose system is not in the store.
    pub(super) unbuilt: BTreeSet<ContainerName>,
    /// What keeps the systems until the agent has them; `None`: nothing was made by nix.
    pub(super) roots: Option<Roots>,
}

/// A saved plan: what was asked for and what was answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanFile {
    format: u32,
    request: Request,
    plan: PlanReply,
}

impl Scope {
    /// Returns the scope of a stack that is to be exactly what its file says.
    pub(super) fn whole() -> Self {
        Self { names: Vec::new(), no_deps: false, prune: true }
    }

    /// Reads the manifest, makes its systems and returns what to ask for. Warnings go to stderr.
    pub(super) fn prepare(
        &self,
        context: &mut Context,
        options: &NixOptions,
        extent: Extent,
    ) -> Result<Prepared, CtlError> {
        let loaded = manifest::load(context)?;
        let names = loaded.services().iter().map(|declared| declared.service.name.as_str());
        for name in &self.names {
            known("service", name, names.clone())?;
        }
        let screen = context.output.screen();
        context.output.note(&loaded.warnings.text(screen.error_width, screen.error_style))?;
        let only =
            if self.no_deps { self.names.clone() } else { with_dependencies(&self.names, loaded.services()) };
        // What is not meant need not even be there to be built.
        let mut meant = loaded.services().to_vec();
        meant.retain(|declared| only.is_empty() || only.iter().any(|name| declared.service.name.as_str() == name));
        let systems = build(context, &meant, options, extent)?;
        let request = Request {
            stack: loaded.stack.name.to_string(),
            file: loaded.file.display().to_string(),
            address_pool: loaded.stack.address_pool.to_string(),
            services: systems.services.iter().map(Service::from).collect(),
            only,
            prune: self.prune,
            base: None,
            no_rollback: None,
            // An agent of before knows no such key, and need not for a stack without.
            limits: (loaded.stack.limits != Limits::default()).then(|| (&loaded.stack.limits).into()),
            owner: loaded.stack.owner.as_ref().map(ToString::to_string),
            look_inside: None,
        };
        Ok(Prepared { request, unbuilt: systems.unbuilt, roots: systems.roots })
    }
}

/// Returns the named services and all that they need within the stack, in the stack's order.
fn with_dependencies(names: &[String], services: &[Declared]) -> Vec<String> {
    let mut meant: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = names.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        if meant.insert(name) {
            let declared = services.iter().find(|declared| declared.service.name.as_str() == name);
            let needed = declared.into_iter().flat_map(|declared| declared.service.depends_on.keys());
            open.extend(needed.map(ContainerName::as_str));
        }
    }
    let names = services.iter().map(|declared| declared.service.name.as_str());
    names.filter(|name| meant.contains(name)).map(str::to_owned).collect()
}

impl PlanFile {
    /// Returns a plan to be saved.
    pub(super) fn new(request: Request, plan: PlanReply) -> Self {
        Self { format: PLAN_FORMAT, request, plan }
    }

    /// Returns the stack that it is of.
    pub(super) fn stack(&self) -> &str {
        &self.request.stack
    }

    /// Returns what was answered.
    pub(super) fn plan(&self) -> &PlanReply {
        &self.plan
    }

    /// Writes it, in place of what is there.
    pub(super) fn write(&self, path: &Path) -> Result<(), CtlError> {
        let failed = |source| CtlError::File { action: "write", path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(io::Error::other(error)))?;
        std::fs::write(path, text + "\n").map_err(failed)
    }

    /// Reads a saved plan.
    pub(super) fn read(path: &Path) -> Result<Self, CtlError> {
        let text = std::fs::read_to_string(path).map_err(|source| CtlError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let refused = |source| CtlError::PlanFile { path: path.to_owned(), source };
        let plan: Self = serde_json::from_str(&text).map_err(refused)?;
        if plan.format == PLAN_FORMAT {
            return Ok(plan);
        }
        let other = format!("its format is {}, {PLAN_FORMAT} is known here", plan.format);
        Err(refused(serde::de::Error::custom(other)))
    }

    /// Returns what was asked for, to be refused when the host is not any more what was planned for.
    pub(super) fn into_request(self) -> Request {
        Request { base: Some(self.plan.base), ..self.request }
    }
}

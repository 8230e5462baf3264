//! `nixmoxctl config`: hidden, for Compose users: the stack as `check` resolved it, defaults filled in.

use clap::Args;
use nixmox_api::Service;
use nixmox_core::manifest::{Declared, SystemRef};
use nixmox_core::model::System;

use crate::context::Context;
use crate::error::{CtlError, Exit};
use crate::manifest;

/// Check the stack file and print its services with every default filled in, as JSON
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a service as it goes to the agent. Nothing is built: where a system is not a store path yet, it stands as it is declared.

Examples:
  nixmoxctl config | jq -r .name")]
pub(crate) struct Config {}

impl Config {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let loaded = manifest::load(context)?;
        let screen = context.output.screen();
        context.output.note(&loaded.warnings.text(screen.error_width, screen.error_style))?;
        context.output.page()?;
        for declared in loaded.services() {
            context.output.json(&unbuilt(declared))?;
        }
        Ok(Exit::Done)
    }
}

fn unbuilt(declared: &Declared) -> Service {
    let system = match &declared.service.system {
        SystemRef::Flake { installable, .. } => Some(installable.clone()),
        SystemRef::Module(path) | SystemRef::Link(path) => Some(path.display().to_string()),
        SystemRef::StorePath(path) => Some(path.to_string()),
        SystemRef::Adopted => None,
    };
    let service = Service::from(&declared.service.clone().with_system(System::Adopted));
    Service { system, ..service }
}

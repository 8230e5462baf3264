//! `nixmoxctl check`: whether the manifest is right, without the agent and without building anything.

use clap::Args;

use crate::context::Context;
use crate::error::{CtlError, Exit};
use crate::manifest::{self, ManifestError};
use crate::render::counted;

/// Check the stack file and what it includes
#[derive(Debug, Args)]
#[command(after_help = "\
Needs neither the agent nor nix, and names every mistake of every file at once.

Examples:
  nixmoxctl check
  nixmoxctl check -f other/nixmox.toml
  nixmoxctl check --json | jq -r '.diagnostics[].message'")]
pub(crate) struct Check {}

impl Check {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let loaded = match manifest::load(context) {
            Err(ManifestError::Invalid(findings)) if context.options.json => {
                context.output.json(&findings.json(0))?;
                return Ok(Exit::Failed);
            }
            loaded => loaded?,
        };
        if context.options.json {
            context.output.json(&loaded.warnings.json(loaded.services().len()))?;
            return Ok(Exit::Done);
        }
        let screen = context.output.screen();
        context.output.note(&loaded.warnings.text(screen.error_width, screen.error_style))?;
        let services = counted(loaded.services().len(), "service");
        let text = format!("{}: {services}, {}\n", loaded.warnings.file, loaded.warnings.counts());
        context.output.print(&text)?;
        Ok(Exit::Done)
    }
}

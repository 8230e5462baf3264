//! `nixmoxctl schema`: the JSON Schema of the manifest, for editors.

use clap::{Args, ValueEnum};
use nixmox_core::manifest;

use crate::context::Context;
use crate::error::{CtlError, Exit};

/// Print the JSON Schema of the stack file, for a TOML language server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixmoxctl schema > nixmox.schema.json
  nixmoxctl schema service > service.schema.json

A language server finds it by the first line of nixmox.toml: #:schema ./nixmox.schema.json")]
pub(crate) struct Schema {
    /// Which file: stack (nixmox.toml) or service (an included service.toml)
    #[arg(value_name = "KIND", value_enum, default_value_t, hide_possible_values = true)]
    kind: Kind,
}

/// The two kinds of manifest files.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Kind {
    #[default]
    Stack,
    Service,
}

impl Schema {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let schema = match self.kind {
            Kind::Stack => manifest::stack_schema(),
            Kind::Service => manifest::service_schema(),
        };
        context.output.page()?;
        context.output.print(&format!("{schema:#}\n"))?;
        Ok(Exit::Done)
    }
}

//! `nixmoxctl rm --data`: delete what a service left behind. Nothing else ever deletes data.

use clap::Args;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render::counted;

/// Delete the data of services that are stopped and not declared any more
#[derive(Debug, Args)]
#[command(after_help = "\
Host folders that were mounted into a service are not its data: they stay.

Examples:
  nixmoxctl down wiki && nixmoxctl rm wiki --data")]
pub(crate) struct Rm {
    /// The services
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Say that data is to be deleted; without it nothing is done
    #[arg(long)]
    data: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Rm {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        if !self.data {
            return Err(CtlError::Usage {
                what: "rm deletes data, and only when told so".to_owned(),
                hint: format!("nixmoxctl rm {} --data", self.names.join(" ")),
            });
        }
        if !self.yes {
            self.ask(context)?;
        }
        block_on(async {
            let mut client = Client::connect(&context.options.socket).await?;
            for name in &self.names {
                context.output.note(&format!("{name}: deleting its data\n"))?;
                client.remove_data(name).await?;
                if context.options.json {
                    context.output.json(&nixmox_api::Nothing {})?;
                } else {
                    context.output.print(&format!("{name}: data deleted\n"))?;
                }
            }
            Ok(Exit::Done)
        })
    }

    fn ask(&self, context: &mut Context) -> Result<(), CtlError> {
        let names = self.names.join(", ");
        let Some(answers) = &mut context.answers else {
            return Err(CtlError::Declined {
                what: "nobody is here to confirm; nothing was deleted".to_owned(),
                hint: format!("nixmoxctl rm {} --data --yes", self.names.join(" ")),
            });
        };
        let services = counted(self.names.len(), "service");
        context.output.note(&format!("Delete the data of {services} for good: {names}? [y/N] "))?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(CtlError::Declined { what: "nothing was deleted".to_owned(), hint: String::new() })
    }
}

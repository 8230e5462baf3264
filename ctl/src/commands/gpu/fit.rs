//! `nixmoxctl gpu fit`: what would come of a share of the GPUs, without anything being done.

use clap::{Args, ValueEnum};
use nixmox_api::{GpuFitReply, GpuFitRequest, GpuShare};
use nixmox_core::model::{self, Bytes, GpuId};

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Say whether a share of the GPUs would fit, where, and who would yield
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is started or stopped. With names: what these services declare, each by itself, as if it were to start now. With \
options: a service that is made up, in the words of the manifest's table gpu. Exit codes: 0 all fit, if need be because others \
of a lower priority would be stopped; 1 one of them does not.

Examples:
  nixmoxctl gpu fit whisper
  nixmoxctl gpu fit --vram 8G --vram-min 4G --priority 80 --devices 2
  nixmoxctl gpu fit --vram 24G && nixmoxctl up llama")]
pub(crate) struct Fit {
    /// Services that are declared
    #[arg(value_name = "NAME", required_unless_present = "share", conflicts_with = "share")]
    names: Vec<String>,
    #[command(flatten)]
    share: Share,
}

/// A share that is made up.
#[derive(Debug, Args)]
#[group(id = "share", multiple = true)]
struct Share {
    /// Video memory that it wants, such as 8G
    #[arg(long, value_name = "SIZE")]
    vram: Option<Bytes>,
    /// Video memory below which it waits [default: as --vram]
    #[arg(long, value_name = "SIZE", requires = "vram")]
    vram_min: Option<Bytes>,
    /// Who goes first, 0 to 100; higher wins [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=100))]
    priority: Option<u8>,
    /// Which GPUs: all, how many, or UUIDs and PCI addresses with commas between them [default: 1]
    #[arg(long, value_name = "all|N|ID,...", value_parser = devices)]
    devices: Option<model::GpuDevices>,
    /// Whose GPUs [default: the only vendor that is there]
    #[arg(long, value_enum, value_name = "VENDOR")]
    vendor: Option<Vendor>,
}

/// Who makes a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Vendor {
    Nvidia,
    Amd,
    Intel,
}

impl Fit {
    pub(super) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let requests = self.requests()?;
        let is_json = context.options.json;
        let (inventory, replies) = block_on(async {
            let mut client = Client::connect(&context.options.socket).await?;
            let mut replies = Vec::new();
            for request in &requests {
                replies.push(client.gpu_fit(request).await?);
            }
            // For names of GPUs alone: without it, all else is told.
            let gpus = if is_json { None } else { client.gpus().await.ok() };
            Ok((gpus.unwrap_or_default().inventory, replies))
        })?;
        let screen = context.output.screen();
        for (index, (request, reply)) in requests.iter().zip(&replies).enumerate() {
            if is_json {
                context.output.json(reply)?;
                continue;
            }
            let text = render::gpu::fit(request.name.as_deref(), reply, &inventory, screen.width(), screen.style);
            let gap = if index == 0 { "" } else { "\n" };
            context.output.print(&screen.style.drawn(format!("{gap}{text}")))?;
        }
        Ok(if replies.iter().all(is_fit) { Exit::Done } else { Exit::Failed })
    }

    /// Returns what is asked: one question for each name, or one about a share.
    fn requests(&self) -> Result<Vec<GpuFitRequest>, CtlError> {
        if !self.names.is_empty() {
            let of = |name: &String| GpuFitRequest { name: Some(name.clone()), share: None };
            return Ok(self.names.iter().map(of).collect());
        }
        Ok(vec![GpuFitRequest { name: None, share: Some(self.share.wire()?) }])
    }
}

impl Share {
    fn wire(&self) -> Result<GpuShare, CtlError> {
        if self.vram_min > self.vram {
            return Err(CtlError::Usage {
                what: "--vram-min is more than --vram".to_owned(),
                hint: "--vram is what it wants, --vram-min what it can do with".to_owned(),
            });
        }
        let (all, count, ids) = match &self.devices {
            None => (false, Some(1), Vec::new()),
            Some(model::GpuDevices::All) => (true, None, Vec::new()),
            Some(model::GpuDevices::Count(count)) => (false, Some(*count), Vec::new()),
            Some(model::GpuDevices::Ids(ids)) => (false, None, ids.iter().map(ToString::to_string).collect()),
        };
        Ok(GpuShare {
            vendor: self.vendor.and_then(|vendor| Some(vendor.to_possible_value()?.get_name().to_owned())),
            all,
            count,
            ids,
            vram: self.vram.map(|Bytes(bytes)| bytes),
            vram_min: self.vram_min.map(|Bytes(bytes)| bytes),
            priority: self.priority.unwrap_or(model::GpuShare::PRIORITY),
        })
    }
}

/// Whether it would be started, if need be because others are stopped for it.
fn is_fit(reply: &GpuFitReply) -> bool {
    matches!(reply.outcome.as_str(), "fits" | "yields")
}

fn devices(text: &str) -> Result<model::GpuDevices, String> {
    if text == "all" {
        return Ok(model::GpuDevices::All);
    }
    if text.chars().all(|c| c.is_ascii_digit()) {
        let count = text.parse().ok().filter(|count| *count > 0);
        return count.map(model::GpuDevices::Count).ok_or_else(|| "a number of GPUs is 1 or more".to_owned());
    }
    let mut ids: Vec<GpuId> = Vec::new();
    for id in text.split(',') {
        let id = id.trim().parse::<GpuId>().map_err(|error| error.to_string())?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(model::GpuDevices::Ids(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_all_a_number_or_names() {
        let ids = |ids: &[&str]| Ok(model::GpuDevices::Ids(ids.iter().map(|id| id.parse().unwrap()).collect()));
        assert_eq!(devices("all"), Ok(model::GpuDevices::All));
        assert_eq!(devices("2"), Ok(model::GpuDevices::Count(2)));
        assert_eq!(devices("GPU-5a, 0000:03:00.0,GPU-5a"), ids(&["GPU-5a", "0000:03:00.0"]));
        for wrong in ["0", "", "GPU-5a,", "a b", "99999999999"] {
            assert!(devices(wrong).is_err(), "{wrong}");
        }
    }
}

//! `nixmoxctl offload estimate`: how much of a model fits, what memory it takes, and what another setting would change.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use nixmox_api::{MeasuredLoad, OffloadModelReply, OffloadService};
use nixmox_core::model::{Bytes, ContainerName, Offload, Word as _};
use nixmox_core::offload::engine::{Engine, MemoryEngine, Version, default_context, memory_engine};
use nixmox_core::offload::estimate::{Ask, KvType, Layers, Room};
use nixmox_core::offload::model::Model;

use super::there;
use crate::client::Client;
use crate::commands::selection::known;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::estimate::{self, Case};
use crate::render;

/// Tokens that are computed at once, where nobody says otherwise (llama.cpp's `n_ubatch`, Ollama's `num_batch`).
const BATCH: u32 = 512;
/// Bytes from which on a size may be without a unit.
const LEAST_WITHOUT_UNIT: u64 = 1 << 20;
/// What a GPU has where nobody says how much: more than any model needs, and far from what numbers can hold.
const PLENTY: Bytes = Bytes(1 << 50);

/// Estimate how much of a model fits into video memory
#[derive(Debug, Args)]
#[command(after_help = "\
MODEL is a GGUF file (of one that is split, the first part), which you read yourself: no agent is needed. Or it is a model of a \
service, as SERVICE:MODEL: then the engine is asked what it is made of, and budget, GPUs, version and settings are those of the \
service, where no option says otherwise. SERVICE can be left out where only one runs models. A name with a / in it, or that ends \
in .gguf, is a file.

What the driver takes of each GPU (OVERHEAD) is a part of --vram: what is laid out fits with it.

Without --vram, a file is told with what all of its layers need. A load that was measured with the same settings counts in place \
of the estimate. Exit codes: 0 estimated, whatever fits; 1 it could not be.

Examples:
  nixmoxctl offload estimate ./llama-3.1-8b-q4_k_m.gguf
  nixmoxctl offload estimate ./big-00001-of-00003.gguf --vram 24G --gpus 2
  nixmoxctl offload estimate model.gguf --vram 8G --engine b11434 --kv q8_0
  nixmoxctl offload estimate ollama:llama3.1:8b --context 16384
  nixmoxctl offload estimate model.gguf --json | jq '.enough'")]
pub(crate) struct EstimateOf {
    /// A GGUF file, or SERVICE:MODEL
    #[arg(value_name = "MODEL")]
    model: String,
    /// Video memory that it may take, over all GPUs, such as 8G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    vram: Option<Bytes>,
    /// All memory of each GPU [default: what it may take of it]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    total: Option<Bytes>,
    /// Tokens of context of one request [default: the engine's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(tokens()))]
    context: Option<u32>,
    /// Requests at the same time; 0 leaves that to the engine [default: 1; of llama-server 0, which
    /// is four that share one context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1024))]
    parallel: Option<u32>,
    /// How keys and values are kept, in the word of llama.cpp [default: f16]
    #[arg(long, value_name = "TYPE", value_parser = kv)]
    kv: Option<KvType>,
    /// How many GPUs, all alike [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    gpus: Option<u32>,
    /// Layers that are to be on GPUs [default: as many as fit]
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Whether attention is computed in one pass [default: as the engine does]
    #[arg(long, value_name = "yes|no", value_enum, hide_possible_values = true)]
    flash_attention: Option<YesNo>,
    /// The engine: ollama, an Ollama version such as 0.12.10, llama-server, or a build such as b11434 [default: the newest Ollama]
    #[arg(long, value_name = "VERSION", value_parser = engine)]
    engine: Option<(Engine, Option<Version>)>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// What is known of a model before options are looked at.
struct Known {
    service: Option<String>,
    name: String,
    model: Model,
    engine: Engine,
    version: Option<Version>,
    /// GPUs, with what may be taken of each; `None`: nobody knows.
    gpus: Option<Vec<Room>>,
    budget: Option<Bytes>,
    context: Option<u32>,
    parallel: Option<u32>,
    kv: Option<KvType>,
    measured: Vec<MeasuredLoad>,
}

impl EstimateOf {
    pub(super) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let known = match self.file(context) {
            Some(path) if self.is_of_nobody(&path) => {
                return Err(CtlError::NotAModel {
                    what: format!("there is no file {}", self.model),
                    hint: format!(
                        "of a service that runs models: nixmoxctl offload estimate SERVICE:{}",
                        self.model
                    ),
                });
            }
            Some(path) => of_file(&self.model, &path)?,
            None => of_service(&self.model, context)?,
        };
        let outcome = self.case(known)?.outcome();
        if context.options.json {
            context.output.json(&outcome)?;
            return Ok(Exit::Done);
        }
        let screen = context.output.screen();
        let text = render::offload::estimate(&outcome, screen.width(), screen.style);
        context.output.print(&screen.style.drawn(text))?;
        Ok(Exit::Done)
    }

    /// Returns the file that is meant; `None`: a model of a service.
    fn file(&self, context: &Context) -> Option<PathBuf> {
        let path = context.folder.join(&self.model);
        // The folder itself, which no model is called by.
        let is_folder = matches!(self.model.as_str(), "" | "." | "..");
        let is_file = is_folder || self.model.contains('/') || path.extension().is_some_and(|end| end == "gguf");
        // Ollama has models such as `hf.co/unsloth/gemma-3-4b-it-GGUF:Q4_K_M`.
        let service = self.model.split_once(':').map(|(service, _)| service.parse::<ContainerName>());
        let is_of_service = matches!(service, Some(Ok(_))) && !path.exists();
        (is_file && !is_of_service).then_some(path)
    }

    /// Whether no file has that name, and it looks like one of a model of a service, such as `hf.co/user/model:Q4`.
    fn is_of_nobody(&self, path: &Path) -> bool {
        self.model.contains(':') && path.extension().is_none_or(|end| end != "gguf") && !path.exists()
    }

    /// Puts what is known and what is asked together; what is asked goes first.
    fn case(&self, known: Known) -> Result<Case, CtlError> {
        let (engine, version) = self.engine.unwrap_or((known.engine, known.version));
        let memory = memory_engine(engine, version);
        let (gpus, vram) = self.rooms(known.gpus, known.budget)?;
        let kv = self.kv.or(known.kv).unwrap_or(KvType::F16);
        let trained = known.model.number("context_length").and_then(|tokens| u32::try_from(tokens).ok());
        // Of a GPU of which nobody says what it has, no tier follows.
        let may_take = vram.unwrap_or(Bytes(0));
        let context = self.context.or(known.context);
        let context = context.unwrap_or_else(|| default_context(engine, version, may_take, trained));
        // What says nothing leaves it to the engine.
        let usual = match engine {
            Engine::Ollama => 1,
            Engine::LlamaServer => 0,
        };
        let parallel = self.parallel.or(known.parallel).filter(|parallel| *parallel > 0).unwrap_or(usual);
        let flash_attention = match self.flash_attention {
            Some(YesNo::Yes) => true,
            Some(YesNo::No) if kv.is_quantised() => {
                return Err(CtlError::Usage {
                    what: format!("engines keep keys and values as {} only with flash attention", kv.as_word()),
                    hint: "leave out --flash-attention no, or give --kv f16".to_owned(),
                });
            }
            Some(YesNo::No) => false,
            None => match memory {
                MemoryEngine::Layered => kv.is_quantised(),
                MemoryEngine::Exact | MemoryEngine::Fit => true,
            },
        };
        let ask = Ask {
            engine: memory,
            version,
            gpus,
            context: context.max(1),
            parallel,
            batch: BATCH,
            keys: kv,
            values: kv,
            flash_attention,
            layers: self.layers.map_or(Layers::Auto, Layers::Exactly),
        };
        Ok(Case {
            name: known.name,
            service: known.service,
            model: known.model,
            engine,
            version,
            vram,
            ask,
            measured: known.measured,
        })
    }

    /// Returns the GPUs, and what may be taken of all of them together; `None`: as much as it needs.
    fn rooms(
        &self,
        known: Option<Vec<Room>>,
        budget: Option<Bytes>,
    ) -> Result<(Vec<Room>, Option<Bytes>), CtlError> {
        let given = known.filter(|_| self.vram.is_none() && self.total.is_none() && self.gpus.is_none());
        if let Some(gpus) = given {
            let all = gpus.iter().fold(0_u64, |sum, room| sum.saturating_add(room.free.0));
            return Ok((gpus, Some(budget.map_or(Bytes(all), |budget| budget.min(Bytes(all))))));
        }
        let count = self.gpus.unwrap_or(1);
        let number = usize::try_from(count).unwrap_or(0);
        let each = self.vram.or(budget).map(|Bytes(all)| Bytes(all / u64::from(count.max(1))));
        let free = each.or(self.total).unwrap_or(PLENTY);
        let total = self.total.unwrap_or(free);
        if free > total {
            return Err(CtlError::Usage {
                what: format!("{free} of each GPU are more than it has, {total}"),
                hint: "--vram is over all GPUs together, --total of each".to_owned(),
            });
        }
        let all = free.0.saturating_mul(u64::from(count));
        Ok((vec![Room { total, free }; number], (free != PLENTY).then_some(Bytes(all))))
    }
}

/// Reads a model that lies in a file.
fn of_file(name: &str, path: &Path) -> Result<Known, CtlError> {
    Ok(Known {
        service: None,
        name: name.to_owned(),
        model: estimate::read(path)?,
        engine: Engine::Ollama,
        version: None,
        gpus: None,
        budget: None,
        context: None,
        parallel: None,
        kv: None,
        measured: Vec::new(),
    })
}

/// Asks the agent for a model of a service.
fn of_service(asked: &str, context: &Context) -> Result<Known, CtlError> {
    let (service, name, reply) = block_on(async {
        let mut client = Client::connect(&context.options.socket).await?;
        let offloads = client.offloads().await?;
        let (service, name) = match asked.split_once(':').map(|(service, name)| (find(&offloads, service), name)) {
            Some((Some(service), name)) => (service.clone(), name.to_owned()),
            // Names of models may have a colon themselves.
            Some((None, _)) | None => match offloads.services.as_slice() {
                [only] => (only.clone(), asked.to_owned()),
                _ => return Err(which(asked, &offloads)),
            },
        };
        if let Some(why) = Offload::name_fault(&name) {
            return Err(CtlError::Usage { what: why.to_owned(), hint: "SERVICE:MODEL, or a GGUF file".to_owned() });
        }
        let reply = client.offload_model(&service.name, &name).await?;
        Ok((service, name, reply))
    })?;
    let model = reply.header().and_then(|header| Model::of(&[header]).map_err(|fault| fault.to_string()));
    let model = model.map_err(|why| CtlError::NotAModel {
        what: format!("what the engine of {} says of {name} makes no model: it {why}", service.name),
        hint: "estimate the file that it was made of: nixmoxctl offload estimate ./MODEL.gguf".to_owned(),
    })?;
    Ok(Known {
        // A word of a later agent is not known here; its newest formula is as good as any.
        engine: Engine::from_word(&service.offload.engine).unwrap_or(Engine::LlamaServer),
        version: reply.version.parse().ok(),
        gpus: gpus(&reply),
        budget: reply.budget.map(Bytes),
        context: reply.context,
        parallel: Some(reply.parallel),
        kv: KvType::from_word(&reply.kv),
        measured: reply.measured,
        service: Some(service.name),
        name,
        model,
    })
}

/// Returns the GPUs that a service has; `None`: it has none now.
fn gpus(reply: &OffloadModelReply) -> Option<Vec<Room>> {
    let rooms = reply.gpus.iter().map(|gpu| Room { total: Bytes(gpu.total), free: Bytes(gpu.free) });
    (!reply.gpus.is_empty()).then(|| rooms.collect())
}

fn find<'a>(offloads: &'a nixmox_api::OffloadsReply, name: &str) -> Option<&'a OffloadService> {
    offloads.services.iter().find(|service| service.name == name)
}

/// Returns the complaint that nobody knows which service is meant.
fn which(asked: &str, offloads: &nixmox_api::OffloadsReply) -> CtlError {
    if offloads.services.is_empty() {
        return CtlError::NotAModel {
            what: format!("no service runs models, and {asked} is no GGUF file"),
            hint: "of a file: nixmoxctl offload estimate ./MODEL.gguf".to_owned(),
        };
    }
    let service = asked.split_once(':').map_or(asked, |(service, _)| service);
    match known("service with models", service, there(offloads)) {
        Err(unknown) => unknown,
        // The name of a service alone.
        Ok(()) => CtlError::Usage {
            what: format!("which model of {asked}?"),
            hint: format!("nixmoxctl offload estimate {asked}:MODEL"),
        },
    }
}

/// Returns the tokens that can be asked for, as the command line counts.
fn tokens() -> std::ops::RangeInclusive<i64> {
    i64::from(*Offload::CONTEXT.start())..=i64::from(*Offload::CONTEXT.end())
}

/// Reads a size. Nobody means so few bytes: the unit was forgotten.
fn size(text: &str) -> Result<Bytes, String> {
    let size = text.parse::<Bytes>().map_err(|fault| fault.to_string())?;
    match size.0 {
        1..LEAST_WITHOUT_UNIT if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("`{text}` is {text} bytes; give a unit, such as {text}G or {text}M"))
        }
        _others => Ok(size),
    }
}

/// Reads how keys and values are kept.
fn kv(text: &str) -> Result<KvType, String> {
    let known = || format!("it is one of {}", KvType::words().collect::<Vec<_>>().join(", "));
    KvType::from_word(text).ok_or_else(known)
}

/// Reads an engine, or a version that tells which one it is of.
fn engine(text: &str) -> Result<(Engine, Option<Version>), String> {
    let text = text.trim();
    let (word, version) = text.split_once([' ', ':', '=']).map_or((text, None), |(word, rest)| (word, Some(rest)));
    let read = |version: &str| {
        let version_of = version.parse::<Version>().ok().filter(|version| *version != Version(0, 0, 0));
        version_of.ok_or_else(|| format!("`{version}` is not a version such as 0.12.10 or b11434"))
    };
    if let Ok(engine) = Engine::from_word(word) {
        return Ok((engine, version.map(read).transpose()?));
    }
    let version = read(text).map_err(|_| {
        format!("`{text}` is none of ollama, llama-server, an Ollama version such as 0.12.10, and a build such as b11434")
    })?;
    Ok((if matches!(version, Version(0, 0, 1..)) { Engine::LlamaServer } else { Engine::Ollama }, Some(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_named_or_known_by_its_version() {
        for (text, engine_is, version) in [
            ("ollama", Engine::Ollama, None),
            ("ollama 0.12.10", Engine::Ollama, Some(Version(0, 12, 10))),
            ("ollama:0.6.8", Engine::Ollama, Some(Version(0, 6, 8))),
            ("0.6.8", Engine::Ollama, Some(Version(0, 6, 8))),
            ("v0.30.0-rc1", Engine::Ollama, Some(Version(0, 30, 0))),
            ("llama-server", Engine::LlamaServer, None),
            ("llama-server b11434", Engine::LlamaServer, Some(Version(0, 0, 11434))),
            ("b11434", Engine::LlamaServer, Some(Version(0, 0, 11434))),
        ] {
            assert_eq!(engine(text), Ok((engine_is, version)), "{text}");
        }
        for wrong in [
            "",
            "vllm",
            "ollama x",
            "ollama:",
            "1.2.3.4",
            "b",
            "b0",
            "0",
            "v0.0.0",
            "ollama b0",
            "llama-server 0.0",
        ] {
            assert!(engine(wrong).is_err(), "{wrong}");
        }
    }
}

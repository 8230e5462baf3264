//! What a model takes in llama.cpp: weights, cache and compute buffers on each device, however its layers are placed.
//!
//! Owns the measuring of one placement, as `llama-fit-params --fit-print` does it; which placement is taken is `fit`'s.
//!
//! ```text
//! Setup, Placement ─▶ weights, kv: sums by device
//!                  └▶ layers: what is computed of a batch (tape) ─▶ schedule: on which device ─▶ allocator: how far memory reaches
//! ```

mod allocator;
mod attention;
mod block;
mod delta;
mod feed_forward;
mod gemma;
mod layers;
#[cfg(test)]
mod logs;
mod placement;
mod recurrent;
mod repeats;
mod schedule;
mod tape;
mod weights;

pub use placement::{Overflow, Placement};

use super::kv::{Cells, How, Keeps, LayerKeeps};
use super::{KvType, Parts};
use crate::model::Bytes;
use crate::offload::engine::Version;
use crate::offload::model::Model;

/// The build that places the output first and fits by itself (`--fit`).
const FITS_SINCE: u32 = 7_407;
/// The build that keeps a window of the context alone, of layers that look at no more.
const WINDOWS_SINCE: u32 = 5_427;
/// The build that keeps no values where keys hold them (MLA).
const NO_VALUES_SINCE: u32 = 7_772;
/// The build that has room for a batch of vectors beside one of tokens: b7437 has not, b8946 has.
const VECTORS_SINCE: u32 = 8_200;
/// The build that gives the mask of attention in one pass with 16 bits: llama.cpp pull request 23764, of the end of May 2026.
const HALF_MASK_SINCE: u32 = 9_350;
/// The build that stores keys and values by the numbers of their rows; b5950 does not, unless told to.
const ROWS_SINCE: u32 = 6_100;
/// The build that rotates quantised keys and values.
const ROTATES_SINCE: u32 = 8_600;
/// The build that reserves room on the GPU for copies of quantised keys and values: pull request 23907, of June 2026.
const HALF_COPIES_SINCE: u32 = 9_500;
/// The build whose `llama-server` has four slots that share one context, where `--parallel` is left to it: pull request 16736, of November 2025; b7079 does.
const SLOTS_SINCE: u32 = 6_950;
/// The build that reserves room for as many outputs as `llama-server` needs: after May, before the end of June 2026.
const FEW_OUTPUTS_SINCE: u32 = 9_400;
/// The build that has room for batches of tokens and of vectors: after June, before October 2026.
const MIXED_SINCE: u32 = 10_700;
/// The last minor version of Ollama that is known, and the build that it brings.
const OLLAMA_KNOWN: (u32, u32) = (33, 10_488);

/// How a model is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Tokens of context of one sequence.
    pub context: u64,
    /// Sequences at the same time, each with a context of its own.
    pub sequences: u64,
    /// How many share each of these contexts (`--kv-unified`); 1: it is one's own.
    pub slots: u64,
    /// Tokens that are computed at once.
    pub batch: u64,
    /// Tokens of those that the output is computed of: as many as sequences in `llama-server`, all in `llama-fit-params`.
    pub outputs: u64,
    /// How keys are kept.
    pub keys: KvType,
    /// How values are kept.
    pub values: KvType,
    /// Whether attention is computed in one pass.
    pub flash_attention: bool,
    /// What the build does.
    pub build: Build,
}

/// What differs between builds of llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a change of its own, made at another time")]
pub struct Build {
    /// The output is the first to be on a GPU; before, it was the last.
    pub output_first: bool,
    /// Layers with a window keep no more than that.
    pub windows: bool,
    /// No values are kept where keys hold them.
    pub no_values_beside_keys: bool,
    /// A batch may be of tokens, of vectors or of both: room for each of them is reserved.
    pub mixed_inputs: bool,
    /// Room for a batch of vectors is reserved beside that for one of tokens.
    pub takes_vectors: bool,
    /// The mask of attention in one pass is given with 16 bits; before, it was made of one with 32.
    pub half_mask: bool,
    /// Keys and values are stored by the numbers of their rows, which are given with each batch.
    pub stores_by_rows: bool,
    /// Quantised keys and values are rotated.
    pub rotates: bool,
    /// Copies of quantised keys and values with 16 bits are part of the compute buffer.
    pub half_copies: bool,
    /// Sequences that share one context in `llama-server` where nothing else is asked for (`--parallel`).
    pub slots: u64,
    /// `llama-server` reserves room for the outputs that it needs, one of each sequence; before, of all tokens.
    pub few_outputs: bool,
}

impl Build {
    /// Returns what a build does (`0.0.11434`), or the one that a version of Ollama brings; `None`: what the newest does.
    ///
    /// Where a change was seen in logs alone, the build is one between the last log without it and the first with it.
    #[must_use]
    pub fn of(version: Option<Version>) -> Self {
        let build = match version {
            Some(Version(0, 0, build)) => build,
            Some(Version(0, minor, _)) if minor <= OLLAMA_KNOWN.0 => OLLAMA_KNOWN.1,
            Some(_) | None => u32::MAX,
        };
        Self {
            output_first: build >= FITS_SINCE,
            windows: build >= WINDOWS_SINCE,
            no_values_beside_keys: build >= NO_VALUES_SINCE,
            mixed_inputs: build >= MIXED_SINCE,
            takes_vectors: build >= VECTORS_SINCE,
            half_mask: build >= HALF_MASK_SINCE,
            stores_by_rows: build >= ROWS_SINCE,
            rotates: build >= ROTATES_SINCE,
            half_copies: build >= HALF_COPIES_SINCE,
            slots: if build >= SLOTS_SINCE { 4 } else { 1 },
            few_outputs: build >= FEW_OUTPUTS_SINCE,
        }
    }
}

/// What a placement takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// On each GPU.
    pub gpus: Vec<Parts>,
    /// In the machine's memory.
    pub host: Parts,
}

/// A model with what is known of it, ready to be measured in many placements.
pub struct Measure<'a> {
    pub(super) model: &'a Model,
    pub(super) setup: Setup,
    pub(super) keeps: Keeps,
    /// Layers that are loaded, from the first one on: not those that guess ahead, which have a number all the same.
    pub(super) loaded: usize,
    /// Whether it makes one vector of a text: it looks at all of it at once, and keeps nothing.
    pub(super) is_encoder: bool,
    /// Which layers are alike.
    classes: repeats::Classes,
}

impl<'a> Measure<'a> {
    /// Looks at a model once.
    #[must_use]
    pub fn new(model: &'a Model, setup: Setup) -> Self {
        let mut keeps = Keeps::of(model);
        if !setup.build.windows {
            keeps.window = 0;
            keeps.layers.iter_mut().for_each(|layer| layer.is_windowed = false);
        }
        if keeps.is_compressed && !setup.build.no_values_beside_keys {
            let rank = model.number("attention.kv_lora_rank").unwrap_or(0);
            keeps.layers.iter_mut().for_each(|layer| layer.value = rank);
        }
        let ahead = model.number("nextn_predict_layers").and_then(|ahead| usize::try_from(ahead).ok()).unwrap_or(0);
        // Some files have them behind all layers that they count.
        let are_counted = !model.others.iter().any(|tensor| tensor.name.starts_with("blk."));
        let all = model.layers.len();
        let loaded = if are_counted && ahead < all { all.saturating_sub(ahead) } else { all };
        keeps.layers.iter_mut().skip(loaded).for_each(|layer| *layer = LayerKeeps::default());
        let is_output = |name: &str| matches!(name, "output.weight" | "token_embd.weight");
        let is_encoder = !model.output.iter().any(|tensor| is_output(&tensor.name));
        if is_encoder {
            keeps.layers.iter_mut().for_each(|layer| layer.has_cache = false);
        }
        let classes = repeats::Classes::of(model.layers.get(..loaded).unwrap_or_default(), &keeps);
        Self { model, setup, keeps, loaded, is_encoder, classes }
    }

    /// Returns how many layers repeat.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.model.layers.len()
    }

    /// Returns how many layers there are: those that repeat, and the output.
    #[must_use]
    pub fn layers_all(&self) -> u32 {
        u32::try_from(self.layers()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Returns what a placement takes.
    #[must_use]
    pub fn take(&self, placement: &Placement) -> Measured {
        let mut parts = self.settled(placement);
        for (place, bytes) in self.computing(placement, &self.classes.needed(placement)).into_iter().enumerate() {
            with(&mut parts, place, |part| part.compute = Bytes(bytes));
        }
        let host = parts.pop().unwrap_or_default();
        Measured { gpus: parts, host }
    }

    /// Returns what stays as long as the model is loaded, on each GPU and in the machine's memory as the last one.
    pub(super) fn settled(&self, placement: &Placement) -> Vec<Parts> {
        let mut parts = vec![Parts::default(); placement.gpus().saturating_add(1)];
        for (place, bytes) in weights::by_place(self.model, self.loaded, placement).into_iter().enumerate() {
            with(&mut parts, place, |part| part.weights = Bytes(bytes));
        }
        let cells = self.cells();
        for index in 0..self.layers() {
            let bytes = self.keeps.layer(index, &cells, &self.how()).sum();
            with(&mut parts, placement.layer(index), |part| {
                part.cache = Bytes(part.cache.0.saturating_add(bytes));
                part.layers = part.layers.saturating_add(1);
            });
        }
        with(&mut parts, placement.output(), |part| part.layers = part.layers.saturating_add(1));
        parts
    }

    /// Returns what a batch takes that goes through these layers, on each GPU and in the machine's memory as the last one.
    fn computing(&self, placement: &Placement, layers: &[usize]) -> Vec<u64> {
        let gpus = placement.gpus();
        let is_pipeline = gpus > 1 && placement.is_whole() && !placement.overflows();
        schedule::memory(layers::tape(self, placement, layers), gpus, is_pipeline)
    }

    pub(super) fn cells(&self) -> Cells {
        if self.is_encoder {
            let tokens = self.batch();
            return Cells { full: tokens, windowed: tokens, sequences: 1, states: 1 };
        }
        self.keeps.cells(self.setup.context, (self.setup.sequences, self.setup.slots), self.batch())
    }

    /// Tokens that are computed at once: no more than there are in the context.
    pub(super) fn batch(&self) -> u64 {
        self.setup.batch.min(self.setup.context.saturating_mul(self.setup.sequences)).max(1)
    }

    pub(super) fn how(&self) -> How {
        How { keys: self.setup.keys, values: self.setup.values, pads_values: !self.setup.flash_attention }
    }
}

fn with(parts: &mut [Parts], place: usize, change: impl FnOnce(&mut Parts)) {
    if let Some(part) = parts.get_mut(place) {
        change(part);
    }
}

/// Returns what is not known of a model, in one line each.
pub(super) fn doubts(model: &Model) -> Vec<String> {
    let mut doubts = Vec::new();
    let keeps = Keeps::of(model);
    let recurrent = keeps.layers.iter().zip(&model.layers).filter(|(layer, _)| layer.state > 0);
    if recurrent.into_iter().any(|(_, tensors)| !recurrent::is_known(tensors)) {
        doubts.push(format!("compute buffers of recurrent layers (`{}`) are approximate", model.architecture));
    }
    if !KNOWN.contains(&model.architecture.as_str()) {
        doubts.push(format!(
            "`{}` is computed as its tensors suggest: no figures of it were compared",
            model.architecture
        ));
    }
    if !model.projector.is_empty() {
        doubts.push("what sees pictures or hears is not counted: `llama-server` loads it besides".to_owned());
    }
    doubts
}

/// Architectures whose weights, caches and buffers were compared with llama.cpp's own.
const KNOWN: [&str; 52] = [
    "bailingmoe2",
    "bert",
    "cohere2",
    "command-r",
    "deepseek",
    "deepseek2",
    "dots1",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone4",
    "falcon-h1",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "glm4",
    "glm4moe",
    "gpt-oss",
    "granite",
    "granitehybrid",
    "granitemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "internlm2",
    "jamba",
    "lfm2",
    "lfm2moe",
    "llama",
    "llama4",
    "mamba",
    "minicpm",
    "minimax-m2",
    "mistral3",
    "nemotron_h",
    "nemotron_h_moe",
    "nomic-bert",
    "nomic-bert-moe",
    "olmo2",
    "olmoe",
    "phi2",
    "phi3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen35",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vlmoe",
    "seed_oss",
    "smollm3",
    "starcoder2",
];

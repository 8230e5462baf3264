//! What Ollama's own runner keeps of its context, layer by layer: keys and values, states of recurrent layers and their checkpoints.

use std::num::Saturating;

use super::super::super::engine::Version;
use super::super::super::gguf::Value;
use super::super::super::model::Model;
use super::super::KvType;
use super::super::kv::{Keeps, LayerKeeps};
use super::super::layered::graph::{self, Load};
use super::super::layered::shape::Shape;

/// Tokens that caches are rounded up to.
const CELLS: u64 = 256;

/// Tokens that windowed layers of these models keep, more than they look back.
const KEPT: u64 = 4096;

/// Since when all models with states share one cache, which keeps checkpoints of them.
const SHARED: Version = Version(0, 17, 1);

/// What is kept of a context.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    /// Bytes by layer; the output, which is last, has none.
    pub(super) layers: Vec<u64>,
    /// Tokens of each kind of layer: each kind has a mask of its own.
    pub(super) kinds: Vec<u64>,
}

pub(super) fn cache(model: &Model, shape: &Shape, load: &Load) -> Cache {
    let windows = windows(model, shape);
    let all = cells(load.context.saturating_mul(load.parallel));
    let window = windowed(shape, load);
    let looking = graph::looking(model);
    let keeps = Keeps::of(model);
    // They read a text as a whole, and go on from nothing.
    let keeps_nothing = matches!(shape.architecture.as_str(), "bert" | "nomic-bert");
    let states = load.parallel.saturating_mul(checkpoints(&shape.architecture, load.version).saturating_add(1));
    let mut layers: Vec<u64> = (0..shape.layers.len())
        .map(|layer| {
            if looking.contains(&layer) {
                return graph::picture(shape);
            }
            if keeps_nothing {
                return 0;
            }
            let keep = keeps.layers.get(layer).copied().unwrap_or_default();
            if !keep.has_cache {
                return keep.state.saturating_mul(4).saturating_mul(states);
            }
            let is_windowed = windows.get(layer).copied().unwrap_or(false);
            let heads = Heads::of(model, shape, &keep, is_windowed);
            heads.bytes(load, if is_windowed { window } else { all })
        })
        .collect();
    layers.push(0);
    Cache { layers, kinds: if windows.contains(&true) { vec![all, window] } else { vec![all] } }
}

/// Copies of a state that are kept, besides the one that is computed with, so that a request can go on from an earlier token.
fn checkpoints(architecture: &str, version: Version) -> u64 {
    if version >= SHARED {
        24
    } else if architecture == "qwen3next" {
        32
    } else {
        0
    }
}

/// Extents of the keys and values of a layer.
#[derive(Clone, Copy, Debug)]
struct Heads {
    count: u64,
    key: u64,
    value: u64,
}

impl Heads {
    fn of(model: &Model, shape: &Shape, keep: &LayerKeeps, is_windowed: bool) -> Self {
        let compressed = |key: &str| model.number(key).filter(|length| *length > 0);
        if let Some((key, value)) =
            compressed("attention.key_length_mla").zip(compressed("attention.value_length_mla"))
        {
            // What all heads share is kept compressed, once as keys and once as values.
            return Self { count: 1, key, value };
        }
        let of_window = |key: &str| model.number(key).filter(|_| is_windowed);
        let of_all = model.number("attention.global_head_count_kv").filter(|count| !is_windowed && *count > 0);
        Self {
            count: of_all.unwrap_or(keep.heads_kv),
            key: of_window("attention.key_length_swa").unwrap_or(shape.key),
            value: of_window("attention.value_length_swa").unwrap_or(shape.value),
        }
    }

    fn bytes(self, load: &Load, cells: u64) -> u64 {
        let kept = |extent: u64, kind: KvType| {
            let (bytes, numbers) = if load.flash_attention { block(kind) } else { block(KvType::F16) };
            Saturating(extent) * Saturating(self.count) * Saturating(cells) * Saturating(bytes)
                / Saturating(numbers)
        };
        (kept(self.key, load.keys) + kept(self.value, load.values)).0
    }
}

fn cells(tokens: u64) -> u64 {
    tokens.checked_next_multiple_of(CELLS).unwrap_or(u64::MAX)
}

/// Tokens that a windowed layer keeps.
fn windowed(shape: &Shape, load: &Load) -> u64 {
    let keeps_more = matches!(shape.architecture.as_str(), "gptoss" | "gpt-oss" | "gemma4");
    let mut kept = if keeps_more { KEPT.max(shape.window) } else { shape.window };
    if load.parallel > 1 {
        kept = kept.max(shape.window.saturating_add(1));
    }
    if kept >= load.context {
        return cells(load.context.saturating_mul(load.parallel));
    }
    cells(kept.saturating_mul(load.parallel).saturating_add(load.batch))
}

/// Which layers are windowed.
fn windows(model: &Model, shape: &Shape) -> Vec<bool> {
    let layers = shape.layers.len();
    if shape.window == 0 {
        return vec![false; layers];
    }
    if let Some(Value::Numbers(pattern)) = model.value("attention.sliding_window_pattern") {
        return (0..layers).map(|layer| pattern.get(layer).is_some_and(|is_windowed| *is_windowed != 0)).collect();
    }
    (0..layers)
        .map(|layer| match shape.architecture.as_str() {
            "gemma3" => (layer + 1) % 6 != 0,
            "gptoss" | "gpt-oss" => layer % 2 == 0,
            "olmo3" => (layer + 1) % 4 != 0,
            _ => false,
        })
        .collect()
}

/// Bytes of so many numbers.
fn block(kind: KvType) -> (u64, u64) {
    match kind {
        KvType::Q8_0 => (34, 32),
        KvType::Q4_0 => (18, 32),
        // What else is asked for is not taken on: 16 bits.
        KvType::F32 | KvType::F16 | KvType::Bf16 | KvType::Q5_1 | KvType::Q5_0 | KvType::Q4_1 | KvType::Iq4Nl => {
            (2, 1)
        }
    }
}

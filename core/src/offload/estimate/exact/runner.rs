//! What Ollama's own runner needs: weights and keys and values to the byte, buffers to compute in by what lives at the same time.
//!
//! The runner builds its graph for the worst case: a full batch at the end of a full context, with a picture where it sees. In the
//! middle of a layer these live: the mask of attention for each kind of layer, twice (as it comes, in 32 bits, and as it is used), the
//! layer's input, and the hidden vectors of feed-forward. Without flash attention there are scores for each head as well.

use std::num::Saturating;

use super::super::super::engine::Version;
use super::super::super::gguf::{Tensor, Value};
use super::super::super::model::Model;
use super::super::KvType;
use super::super::layered::graph::{self, Load};
use super::super::layered::shape::Shape;
use super::super::layered::vision;
use super::Needs;

type N = Saturating<u64>;

/// Bytes that tensors and buffers on GPUs are rounded up to.
const ALIGNMENT: u64 = 128;

/// Tokens that caches are rounded up to.
const CELLS: u64 = 256;

/// Tokens that windowed layers of these models keep, more than they look back.
const KEPT: u64 = 4096;

/// Models whose figures were compared with logs.
const COMPARED: &[&str] = &[
    "gemma3",
    "gptoss",
    "gpt-oss",
    "qwen3",
    "qwen3moe",
    "qwen3vl",
    "qwen3vlmoe",
    "mistral3",
    "qwen25vl",
    "mllama",
];

pub(super) fn needs(model: &Model, shape: &Shape, load: &Load, doubts: &mut Vec<String>) -> Needs {
    if !COMPARED.contains(&shape.architecture.as_str()) {
        doubts.push(format!(
            "buffers of architecture {} were not compared with what Ollama logs",
            shape.architecture
        ));
    }
    let rope = padded(model.others.iter().filter(|tensor| tensor.name.contains("rope_f")));
    let mut weights: Vec<u64> =
        model.layers.iter().take(shape.layers.len()).map(|layer| padded(layer).saturating_add(rope)).collect();
    let seeing = padded(&model.projector);
    weights.push(padded(&model.output).saturating_add(seeing));
    let windows = windows(model, shape);
    let all = cells(load.context.saturating_mul(load.parallel));
    let window = windowed(shape, load);
    let looking = graph::looking(model);
    let mut cache: Vec<u64> = (0..shape.layers.len())
        .map(|layer| {
            if looking.contains(&layer) {
                return graph::picture(shape);
            }
            let is_windowed = windows.get(layer).copied().unwrap_or(false);
            layer_cache(shape, load, layer, if is_windowed { window } else { all })
        })
        .collect();
    cache.push(0);
    let kinds = if windows.contains(&true) { vec![all, window] } else { vec![all] };
    let masks = masks(load, &kinds);
    let text = text(model, shape, load, &kinds) + masks;
    let picture = Saturating(vision::sizes(model, load.version.max(Version(0, 7, 1))).1);
    let hidden = Saturating(load.batch) * Saturating(shape.embedding) * Saturating(4);
    // A picture is seen before its tokens are read: what lives then is the larger of the two.
    let full = if picture.0 == 0 { text } else { text.max(picture + masks + hidden) };
    Needs {
        weights,
        cache,
        input: padded(&model.input),
        full: full.0,
        partial: text.0,
        host: (hidden.0, text.0),
        buffer: 0,
    }
}

/// Bytes of tensors, each rounded up.
fn padded<'tensor>(tensors: impl IntoIterator<Item = &'tensor Tensor>) -> u64 {
    tensors.into_iter().fold(0, |sum: u64, tensor| {
        sum.saturating_add(tensor.bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX))
    })
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
    if let Some(Value::Numbers(pattern)) =
        model.metadata.get(&format!("{}.attention.sliding_window_pattern", shape.architecture))
    {
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

fn layer_cache(shape: &Shape, load: &Load, layer: usize, cells: u64) -> u64 {
    let heads = shape.heads.get(layer).copied().unwrap_or(1);
    let heads_kv = shape.heads_kv.get(layer).copied().unwrap_or(1);
    if heads == 0 || heads_kv == 0 {
        return shape.recurrent.saturating_mul(load.parallel);
    }
    let kept = |extent: u64, kind: KvType| {
        let (bytes, numbers) = if load.flash_attention { block(kind) } else { block(KvType::F16) };
        Saturating(extent) * Saturating(heads_kv) * Saturating(cells) * Saturating(bytes) / Saturating(numbers)
    };
    (kept(shape.key, load.keys) + kept(shape.value, load.values)).0
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

/// Masks of attention: as they come, and as they are used.
fn masks(load: &Load, kinds: &[u64]) -> N {
    let cells: N = kinds.iter().map(|cells| Saturating(*cells)).fold(Saturating(0), |sum, cells| sum + cells);
    let bytes = if load.flash_attention { Saturating(4 + 2) } else { Saturating(4) };
    cells * Saturating(load.batch) * bytes
}

/// Buffers of a layer in its middle, besides masks.
fn text(model: &Model, shape: &Shape, load: &Load, kinds: &[u64]) -> N {
    let row = Saturating(load.batch) * Saturating(4);
    let used = Saturating(model.number("expert_used_count").unwrap_or(0));
    let expert = Saturating(model.number("expert_feed_forward_length").unwrap_or(shape.feed_forward));
    let embedding = Saturating(shape.embedding);
    let fed = if used.0 > 0 {
        used * (Saturating(2) * expert + embedding)
    } else {
        Saturating(2) * Saturating(shape.feed_forward)
    };
    let layer = row * (Saturating(2) * embedding + fed);
    if load.flash_attention {
        return layer;
    }
    let longest = Saturating(kinds.iter().copied().max().unwrap_or(0));
    layer + row * longest * Saturating(shape.heads_max())
}

//! What Ollama's own runner needs: weights and keys and values to the byte, buffers to compute in by what lives at the same time.
//!
//! The runner builds its graph for the worst case: a full batch at the end of a full context, with a picture where it sees. In the
//! middle of a layer these live: the mask of attention for each kind of layer, the layer's input as it is and made even, and either the hidden
//! vectors of feed-forward or, without flash attention, queries and scores for each head.

use std::num::Saturating;

use super::super::super::engine::Version;
use super::super::super::gguf::Tensor;
use super::super::super::model::Model;
use super::super::layered::graph::Load;
use super::super::layered::shape::Shape;
use super::super::layered::vision;
use super::Needs;
use super::cache::{Cache, cache};

type N = Saturating<u64>;

/// Bytes that tensors and buffers on GPUs are rounded up to.
const ALIGNMENT: u64 = 128;

/// Since when the first GPU computes with weights that lie in the machine's memory, as long as there are many tokens.
const TAKES_OVER: Version = Version(0, 12, 8);

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
    let Cache { layers: cache, kinds } = cache(model, shape, load);
    // A mask comes in 32 bits, and attention in one pass has it made anew in 16. Where all layers are on the GPU, the room of the first
    // is taken again by what follows; where they are not, both were seen to stay.
    let (bytes, bytes_both) = if load.flash_attention { (2, 2 + 4) } else { (4, 4) };
    let layer = text(model, shape, load, &kinds);
    let masks_both = masks(load, &kinds, bytes_both);
    let (text, masks) = (layer + masks(load, &kinds, bytes), masks(load, &kinds, bytes));
    let picture = Saturating(vision::sizes(model, load.version.max(Version(0, 7, 1))).1);
    if model.number("vision.block_count").unwrap_or(0) > 0 {
        if picture.0 == 0 {
            doubts.push("buffers that pictures take are not counted".to_owned());
        } else if load.flash_attention {
            doubts.push("buffers that pictures take with flash attention were not compared".to_owned());
        }
    }
    // Then nothing is left to do there but to read tokens; what recurrent layers do with their states was seen to stay.
    let takes_over = load.version >= TAKES_OVER;
    let hidden = Saturating(load.batch) * Saturating(shape.embedding) * Saturating(4);
    // A picture is seen before its tokens are read: what lives then is the larger of the two.
    let full = if picture.0 == 0 { text } else { text.max(picture + masks + hidden) };
    Needs {
        weights,
        cache,
        input: padded(&model.input),
        full: full.0,
        partial: (layer + masks_both).0,
        host: (hidden.0, if takes_over && shape.recurrent == 0 { hidden.0 } else { text.0 }),
        buffer: 0,
        copied: if takes_over { copied(model) } else { Vec::new() },
    }
}

/// Bytes of tensors, each rounded up.
fn padded<'tensor>(tensors: impl IntoIterator<Item = &'tensor Tensor>) -> u64 {
    tensors.into_iter().fold(0, |sum: u64, tensor| {
        sum.saturating_add(tensor.bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX))
    })
}

/// The largest matrix of each layer.
fn copied(model: &Model) -> Vec<u64> {
    model.layers.iter().map(|layer| layer.iter().map(|tensor| tensor.bytes).max().unwrap_or(0)).collect()
}

/// Masks of attention, so many bytes for each token that another one may look at.
fn masks(load: &Load, kinds: &[u64], bytes: u64) -> N {
    let cells: N = kinds.iter().map(|cells| Saturating(*cells)).fold(Saturating(0), |sum, cells| sum + cells);
    cells * Saturating(load.batch) * Saturating(bytes)
}

/// Buffers of a layer, besides masks: of attention or of feed-forward, whichever has more.
fn text(model: &Model, shape: &Shape, load: &Load, kinds: &[u64]) -> N {
    let row = Saturating(load.batch) * Saturating(4);
    let used = Saturating(model.number("expert_used_count").unwrap_or(0));
    let expert = Saturating(model.number("expert_feed_forward_length").unwrap_or(shape.feed_forward));
    let embedding = Saturating(shape.embedding);
    let hidden = Saturating(2) * embedding;
    // What opens, what is opened, and what comes of both; of experts also what each of them says, and the sum of it.
    let fed = if used.0 > 0 {
        used * (Saturating(3) * expert + embedding) + embedding
    } else {
        Saturating(3) * Saturating(shape.feed_forward)
    };
    if load.flash_attention {
        return row * (hidden + fed);
    }
    let longest = Saturating(kinds.iter().copied().max().unwrap_or(0));
    let heads = Saturating(shape.heads_max());
    // Queries, scores, and what comes of them.
    let attended = heads * (Saturating(2) * Saturating(shape.key) + longest);
    row * (hidden + fed.max(attended))
}

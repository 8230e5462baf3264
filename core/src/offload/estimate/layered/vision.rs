//! What Ollama's formula takes for the part of a file that sees pictures.

use std::num::Saturating;

use super::super::super::engine::Version;
use super::super::super::model::{Model, bytes};

type N = Saturating<u64>;

const FOUR: N = Saturating(4);

/// Returns the bytes of weights, and of buffers to compute in; `(0, 0)`: the file sees nothing, or it is not counted yet.
pub(in super::super) fn sizes(model: &Model, version: Version) -> (u64, u64) {
    let number = |key: &str| model.number(key).unwrap_or(0);
    if version < Version(0, 6, 1) || number("vision.block_count") == 0 {
        return (0, 0);
    }
    let seeing = model.projector.iter().chain(&model.others).filter(|tensor| tensor.name.starts_with("v."));
    let weights = bytes(&seeing.cloned().collect::<Vec<_>>());
    let patch = Saturating(number("vision.patch_size"));
    if patch.0 == 0 {
        return (weights, 0);
    }
    let side = Saturating(number("vision.image_size"));
    let channels = Saturating(number("vision.num_channels"));
    let heads = Saturating(number("vision.attention.head_count"));
    let embedding = Saturating(number("vision.embedding_length"));
    let class = model.projector.iter().any(|tensor| tensor.name.starts_with("v.class_embd"));
    let patches = (side / patch) * (side / patch) + Saturating(u64::from(class));
    let graph = match model.architecture.as_str() {
        "mllama" => {
            let tiles = Saturating(number("vision.max_num_tiles"));
            let padded = patches + Saturating(8) - (patches % Saturating(8));
            let all = padded * tiles;
            FOUR * (Saturating(8)
                + side * side * channels * tiles
                + embedding * patches * tiles
                + Saturating(9) * embedding * all
                + all * all * heads)
        }
        "gemma3" => FOUR * (side * side * channels + embedding * patch + patches * patches * heads),
        "mistral3" if version >= Version(0, 6, 5) => {
            FOUR * (side * side * channels + embedding * patch + patches * patches * heads)
        }
        "qwen25vl" if version >= Version(0, 7, 0) => {
            let pixels = Saturating(model.number("vision.max_pixels").unwrap_or(28 * 28 * 1280));
            let patches = pixels / (patch * patch);
            // The picture as it comes and with its numbers made even, its patches, attention, and a buffer.
            FOUR * (Saturating(2) * pixels * channels
                + patches * channels * patch * patch
                + patches * patches * heads
                + embedding * patches)
        }
        _ => Saturating(0),
    };
    (weights, graph.0)
}

//! Weights by device.
//!
//! Owns what llama.cpp puts where: what turns tokens into vectors stays in the machine's memory; a model without an output of
//! its own has what turns tokens into vectors once more, where its output is; what belongs to no layer is where the first one is;
//! layers that guess ahead are not loaded.

use super::placement::Placement;
use crate::offload::gguf::Tensor;
use crate::offload::model::Model;

/// Alignment of tensors in buffers of the CUDA backend, and of the host.
const ALIGNMENT_GPU: u64 = 128;
const ALIGNMENT_HOST: u64 = 32;
/// Rows of quantised tensors are padded to so many numbers on a GPU, at the end of the tensor.
const ROW: u64 = 512;

/// Architectures that take their output before what turns tokens into vectors: they have it twice, also in the same memory.
const OUTPUT_BEFORE_INPUT: [&str; 2] = ["gemma3n", "gemma4"];

/// Returns the bytes of weights of so many layers on each GPU, and in the machine's memory as the last one.
pub(super) fn by_place(model: &Model, layers: usize, placement: &Placement) -> Vec<u64> {
    let gpus = placement.gpus();
    let mut sums = vec![0_u64; gpus.saturating_add(1)];
    let mut add = |place: usize, tensor: &Tensor| {
        let bytes = if place < gpus { on_gpu(tensor) } else { tensor.bytes };
        let alignment = if place < gpus { ALIGNMENT_GPU } else { ALIGNMENT_HOST };
        let rounded = bytes.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        if let Some(sum) = sums.get_mut(place) {
            *sum = sum.saturating_add(rounded);
        }
    };
    let is_twice = OUTPUT_BEFORE_INPUT.contains(&model.architecture.as_str());
    for tensor in &model.input {
        let place = match (tensor.name.as_str(), model.architecture.as_str()) {
            ("token_embd_norm.weight", "lfm2" | "lfm2moe") => placement.output(),
            ("token_embd_norm.weight" | "token_embd_norm.bias", _) => placement.layer(0),
            _others => gpus,
        };
        add(place, tensor);
    }
    for (index, layer) in model.layers.iter().enumerate().take(layers) {
        for tensor in layer {
            add(placement.tensor(index, of_layer(&tensor.name)), tensor);
        }
    }
    for tensor in &model.output {
        // Without a GPU for the output, it is the same memory.
        let is_once = model.is_tied && tensor.name == "token_embd.weight" && placement.output() == gpus;
        if !is_once || is_twice {
            add(placement.output(), tensor);
        }
    }
    for tensor in &model.others {
        if tensor.name.starts_with("rope_") {
            // Each device with layers has its own copy of the frequencies of positions.
            for place in 0..=gpus {
                if (0..layers).any(|index| placement.layer(index) == place) {
                    add(place, tensor);
                }
            }
        } else if tensor.name.starts_with("per_layer_") {
            add(placement.layer(0), tensor);
        }
    }
    sums
}

/// Returns the name of a tensor behind `blk.N.`.
pub(super) fn of_layer(name: &str) -> &str {
    name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, rest)| rest)
}

/// Returns the bytes that a tensor takes on a GPU.
pub(super) fn on_gpu(tensor: &Tensor) -> u64 {
    let row = tensor.shape.first().copied().unwrap_or(0);
    let rest = row.checked_rem(ROW).unwrap_or(0);
    if tensor.kind.block() <= 1 || rest == 0 {
        return tensor.bytes;
    }
    let blocks = ROW.saturating_sub(rest).checked_div(tensor.kind.block()).unwrap_or(0);
    tensor.bytes.saturating_add(blocks.saturating_mul(tensor.kind.block_bytes()))
}

//! What is computed of a batch, from tokens to what they are followed by.
//!
//! Owns the order in which llama.cpp builds it (`src/llama-graph.cpp`, `src/models/`), as one form for all architectures: what a
//! layer does is read from the tensors that it has.

use super::placement::Placement;
use super::tape::{Home, Id, Kind, Tape};
use super::weights::{of_layer, on_gpu};
use super::{Measure, attention, feed_forward};
use crate::offload::gguf::Tensor;

/// Bytes of whole numbers, as positions and rows are given.
const I32: u64 = 4;
const I64: u64 = 8;

/// A batch that is being written down.
pub(super) struct Batch<'a> {
    pub(super) measure: &'a Measure<'a>,
    pub(super) placement: &'a Placement,
    pub(super) tape: Tape,
    /// Tokens in it.
    pub(super) tokens: u64,
    /// What all layers are given.
    pub(super) inputs: Inputs,
    /// Weights that are on the tape already, by name.
    weights: std::collections::BTreeMap<(&'a str, usize), Id>,
}

/// What all layers are given.
#[derive(Clone, Copy, Default)]
pub(super) struct Inputs {
    pub(super) positions: Id,
    pub(super) outputs: Id,
    pub(super) full: AttentionInputs,
    pub(super) windowed: AttentionInputs,
}

/// What attention is given, besides.
#[derive(Clone, Copy, Default)]
pub(super) struct AttentionInputs {
    pub(super) rows_of_keys: Id,
    pub(super) rows_of_values: Id,
    pub(super) mask: Id,
    pub(super) rotates_keys: Option<(Id, u64)>,
    pub(super) rotates_values: Option<(Id, u64)>,
}

/// A layer that is being written down.
pub(super) struct Layer<'a> {
    pub(super) index: usize,
    pub(super) tensors: &'a [Tensor],
}

impl<'a> Layer<'a> {
    /// Returns a tensor by its name behind `blk.N.`.
    pub(super) fn find(&self, name: &str) -> Option<&'a Tensor> {
        self.tensors.iter().find(|tensor| of_layer(&tensor.name) == name)
    }

    /// Returns the first of several names that there is.
    pub(super) fn any(&self, names: &[&str]) -> Option<&'a Tensor> {
        names.iter().find_map(|name| self.find(name))
    }
}

/// Writes down what is computed of a batch that goes through these layers, in their order.
pub(super) fn tape(measure: &Measure<'_>, placement: &Placement, layers: &[usize]) -> Tape {
    let tokens = measure.batch();
    let mut batch = Batch {
        measure,
        placement,
        tape: Tape::default(),
        tokens,
        inputs: Inputs::default(),
        weights: std::collections::BTreeMap::new(),
    };
    let mut current = batch.embedding();
    batch.inputs = batch.given();
    let count = measure.loaded;
    for index in layers.iter().copied() {
        let Some(tensors) = measure.model.layers.get(index) else { continue };
        let layer = Layer { index, tensors };
        current = batch.layer(&layer, current, index.saturating_add(1) == count);
    }
    batch.output(current);
    batch.tape
}

impl<'a> Batch<'a> {
    /// Numbers in the vector of a token.
    pub(super) fn width(&self) -> u64 {
        self.measure.model.number("embedding_length").unwrap_or(0)
    }

    /// Puts a weight on the tape.
    pub(super) fn weight(&mut self, tensor: &'a Tensor, place: usize) -> Id {
        if let Some(id) = self.weights.get(&(tensor.name.as_str(), place)) {
            return *id;
        }
        let id = self.tape.leaf(Home::Weight(place), tensor.bytes, extents(tensor));
        self.tape.grow_on_gpu(id, on_gpu(tensor).saturating_sub(tensor.bytes));
        self.weights.insert((tensor.name.as_str(), place), id);
        id
    }

    /// Puts a weight of a layer on the tape.
    pub(super) fn layer_weight(&mut self, layer: &Layer<'a>, tensor: &'a Tensor) -> Id {
        self.weight(tensor, self.placement.tensor(layer.index, of_layer(&tensor.name)))
    }

    /// Multiplies with a matrix of a layer, and adds what goes with it.
    pub(super) fn multiply(&mut self, layer: &Layer<'a>, tensor: &'a Tensor, with: Id) -> Id {
        let weight = self.layer_weight(layer, tensor);
        let rows = tensor.shape.get(1).copied().unwrap_or(1);
        let tokens = self.tape.entries.get(with).map_or(self.tokens, |entry| entry.shape[1]);
        let mut made = self.tape.multiply([rows, tokens, 1, 1], &[weight, with]);
        let bias = of_layer(&tensor.name).strip_suffix(".weight").map(|stem| format!("{stem}.bias"));
        if let Some(bias) = bias.and_then(|name| layer.find(&name)) {
            let bias = self.layer_weight(layer, bias);
            made = self.tape.make(Kind::InPlace, [rows, tokens, 1, 1], &[made, bias]);
        }
        made
    }

    /// Normalises, with the weights of a layer of that name; as it is, where it has none.
    pub(super) fn normalise(&mut self, layer: &Layer<'a>, names: &[&str], what: Id) -> Id {
        let Some(tensor) = layer.any(names) else { return what };
        let weight = self.layer_weight(layer, tensor);
        let shape = self.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
        let norm = self.tape.make(Kind::InPlace, shape, &[what]);
        if self.placement.is_whole() {
            self.tape.pin(norm, self.placement.layer(layer.index));
        }
        let mut made = self.tape.make(Kind::InPlace, shape, &[norm, weight]);
        let bias = of_layer(&tensor.name).strip_suffix(".weight").map(|stem| format!("{stem}.bias"));
        if let Some(bias) = bias.and_then(|name| layer.find(&name)) {
            let bias = self.layer_weight(layer, bias);
            made = self.tape.make(Kind::InPlace, shape, &[made, bias]);
        }
        made
    }

    /// Turns tokens into vectors.
    fn embedding(&mut self) -> Id {
        let (width, tokens) = (self.width(), self.tokens);
        let host = self.placement.gpus();
        let vectors = width.saturating_mul(tokens).saturating_mul(4);
        let shape = [width, tokens, 1, 1];
        let ids = self.tape.leaf(Home::Input, tokens.saturating_mul(I32), [tokens, 1, 1, 1]);
        let table = self.measure.model.input.iter().find(|tensor| tensor.name == "token_embd.weight");
        let table = table.map_or(ids, |tensor| self.weight(tensor, host));
        if self.measure.setup.build.half_mask {
            self.tape.leaf(Home::Input, vectors, shape);
        }
        let mut made = self.tape.make(Kind::Rows, shape, &[table, ids]);
        if self.measure.setup.build.mixed_inputs {
            let ids = self.tape.leaf(Home::Input, tokens.saturating_mul(I32), [tokens, 1, 1, 1]);
            let slots = self.tape.leaf(Home::Input, tokens.saturating_mul(I64), [tokens, 1, 1, 1]);
            let vectors = self.tape.leaf(Home::Input, vectors, shape);
            let rows = self.tape.make(Kind::Rows, shape, &[table, ids]);
            let copy = self.tape.make(Kind::Other, shape, &[vectors]);
            self.tape.store(copy, &[rows, slots]);
        }
        if self.measure.model.architecture.starts_with("gemma") {
            let scale = self.tape.leaf(Home::Input, tokens.saturating_mul(4), [1, tokens, 1, 1]);
            made = self.tape.make(Kind::InPlace, shape, &[made, scale]);
        }
        made
    }

    /// What all layers are given.
    fn given(&mut self) -> Inputs {
        let tokens = self.tokens;
        let positions = self.tape.leaf(Home::Input, tokens.saturating_mul(I32), [tokens, 1, 1, 1]);
        let full = self.attention_inputs(false);
        let windowed = if self.measure.keeps.window > 0 { self.attention_inputs(true) } else { full };
        let outputs = self.tape.leaf(Home::Input, self.outputs().saturating_mul(I32), [self.outputs(), 1, 1, 1]);
        Inputs { positions, outputs, full, windowed }
    }

    fn attention_inputs(&mut self, is_windowed: bool) -> AttentionInputs {
        let (setup, tokens, keeps) = (&self.measure.setup, self.tokens, &self.measure.keeps);
        let cells = self.measure.cells();
        let held = if is_windowed { cells.windowed } else { cells.full };
        let widest = keeps.layers.iter().map(super::super::kv::LayerKeeps::values).max().unwrap_or(0);
        let rows_of_values = if setup.flash_attention || !setup.build.stores_by_rows {
            tokens
        } else {
            tokens.saturating_mul(widest)
        };
        let is_half = setup.flash_attention && setup.build.half_mask;
        // Each sequence has its part of the batch.
        let part = tokens.checked_div(cells.sequences).unwrap_or(tokens).max(1);
        let numbers = held.saturating_mul(part).saturating_mul(cells.sequences);
        let first = keeps.layers.iter().find(|layer| layer.has_cache).copied().unwrap_or_default();
        let turns = |kind: super::KvType, head: u64| {
            setup.build.rotates && kind.is_quantised() && head > 0 && head.checked_rem(64) == Some(0)
        };
        let mut size_of_keys = 64_u64;
        while first.key.checked_rem(size_of_keys.saturating_mul(2)) == Some(0) && size_of_keys < 1 << 20 {
            size_of_keys = size_of_keys.saturating_mul(2);
        }
        let keys_turn = turns(setup.keys, first.key).then_some(size_of_keys);
        let values_turn = turns(setup.values, first.value).then_some(64_u64);
        let rows_of_keys = self.tape.leaf(Home::Input, tokens.saturating_mul(I64), [tokens, 1, 1, 1]);
        let rows_of_values =
            self.tape.leaf(Home::Input, rows_of_values.saturating_mul(I64), [rows_of_values, 1, 1, 1]);
        let mask_shape = [held, part, 1, cells.sequences];
        let mut mask = self.tape.leaf(Home::Input, numbers.saturating_mul(if is_half { 2 } else { 4 }), mask_shape);
        if self.measure.setup.flash_attention && !is_half {
            let half = self.tape.make(Kind::Other, mask_shape, &[mask]);
            if let Some(entry) = self.tape.entries.get_mut(half) {
                entry.bytes = numbers.saturating_mul(2);
                entry.bytes_on_gpu = entry.bytes;
                entry.is_plain = false;
            }
            mask = half;
        }
        let mut matrix = |size: Option<u64>| {
            size.map(|size| {
                let bytes = size.saturating_mul(size).saturating_mul(4);
                (self.tape.leaf(Home::Input, bytes, [size, size, 1, 1]), size)
            })
        };
        let (rotates_keys, rotates_values) = (matrix(keys_turn), matrix(values_turn));
        AttentionInputs { rows_of_keys, rows_of_values, mask, rotates_keys, rotates_values }
    }

    /// Tokens that the output is computed of.
    pub(super) fn outputs(&self) -> u64 {
        self.measure.setup.outputs.clamp(1, self.tokens)
    }

    fn layer(&mut self, layer: &Layer<'a>, input: Id, is_last: bool) -> Id {
        let width = self.width();
        let normal = self.normalise(layer, &["attn_norm.weight"], input);
        let mut attended = attention::write(self, layer, normal);
        let mut residual = input;
        let mut beside = normal;
        if is_last && self.measure.model.architecture != "gpt-oss" {
            let shape = [width, self.outputs(), 1, 1];
            let outputs = self.inputs.outputs;
            attended = self.tape.make(Kind::Rows, shape, &[attended, outputs]);
            residual = self.tape.make(Kind::Rows, shape, &[residual, outputs]);
        }
        let shape = self.tape.entries.get(residual).map_or([0; 4], |entry| entry.shape);
        let has_own_norm = layer.any(&["ffn_norm.weight"]).is_some();
        // The norm behind attention is that before the feed-forward part, where neither that nor what is behind it has one.
        let is_behind = has_own_norm || layer.any(&["post_ffw_norm.weight"]).is_some();
        if is_behind {
            attended = self.normalise(layer, &["post_attention_norm.weight"], attended);
        }
        let is_parallel = !has_own_norm && layer.any(&["post_attention_norm.weight"]).is_none();
        if is_parallel {
            if is_last {
                let outputs = self.inputs.outputs;
                beside = self.tape.make(Kind::Rows, shape, &[beside, outputs]);
            }
            let made = feed_forward::write(self, layer, beside);
            let sum = self.tape.make(Kind::InPlace, shape, &[made, residual]);
            return self.tape.make(Kind::InPlace, shape, &[sum, attended]);
        }
        let sum = self.tape.make(Kind::InPlace, shape, &[attended, residual]);
        let norm = if is_behind { "ffn_norm.weight" } else { "post_attention_norm.weight" };
        let normal = self.normalise(layer, &[norm], sum);
        let made = feed_forward::write(self, layer, normal);
        let made = self.normalise(layer, &["post_ffw_norm.weight"], made);
        // What is named first is written over first.
        let reads = if self.measure.model.architecture == "phi3" { [sum, made] } else { [made, sum] };
        self.tape.make(Kind::InPlace, shape, &reads)
    }

    fn output(&mut self, mut current: Id) {
        let place = self.placement.output();
        let model = self.measure.model;
        if model.architecture == "gpt-oss" {
            let outputs = self.inputs.outputs;
            current = self.tape.make(Kind::Rows, [self.width(), self.outputs(), 1, 1], &[current, outputs]);
        }
        let shape = self.tape.entries.get(current).map_or([0; 4], |entry| entry.shape);
        if let Some(norm) = model.output.iter().find(|tensor| tensor.name == "output_norm.weight") {
            let weight = self.weight(norm, place);
            let made = self.tape.make(Kind::InPlace, shape, &[current]);
            current = self.tape.make(Kind::InPlace, shape, &[made, weight]);
        }
        let name = if model.is_tied { "token_embd.weight" } else { "output.weight" };
        let Some(matrix) = model.output.iter().find(|tensor| tensor.name == name) else { return };
        let words = matrix.shape.get(1).copied().unwrap_or(0);
        let weight = self.weight(matrix, place);
        let shape = [words, self.outputs(), 1, 1];
        let made = self.tape.multiply(shape, &[weight, current]);
        if model.value("final_logit_softcapping").is_some() {
            let made = self.tape.make(Kind::InPlace, shape, &[made]);
            let made = self.tape.make(Kind::InPlace, shape, &[made]);
            self.tape.make(Kind::InPlace, shape, &[made]);
        }
    }
}

fn extents(tensor: &Tensor) -> [u64; 4] {
    let mut shape = [1; 4];
    for (extent, known) in shape.iter_mut().zip(&tensor.shape) {
        *extent = *known;
    }
    shape
}

//! What is computed of a batch, from tokens to what they are followed by.
//!
//! Owns the order in which llama.cpp builds it (`src/llama-graph.cpp`, `src/models/`), as one form for all architectures: what a
//! layer does is read from the tensors that it has.

use super::placement::Placement;
use super::tape::{Home, Id, Kind, Tape};
use super::weights::{of_layer, on_gpu};
use super::{Measure, block, gemma};
use crate::offload::gguf::{Tensor, Value};

/// Bytes of whole numbers, as positions and rows are given.
const I32: u64 = 4;
const I64: u64 = 8;

/// Architectures that are given four numbers for each position.
const POSITIONS_OF_PICTURES: [&str; 6] = ["paddleocr", "qwen2vl", "qwen35", "qwen35moe", "qwen3vl", "qwen3vlmoe"];

/// A batch that is being written down.
pub(super) struct Batch<'a> {
    pub(super) measure: &'a Measure<'a>,
    pub(super) placement: &'a Placement,
    pub(super) tape: Tape,
    /// Tokens in it.
    pub(super) tokens: u64,
    /// What all layers are given.
    pub(super) inputs: Inputs,
    /// Vectors of tokens for each layer: as they are looked up, as layers take them, and the tokens that these are made of.
    pub(super) per_layer: (Option<Id>, Option<Id>, Id),
    /// Weights that are on the tape already, by name.
    weights: std::collections::BTreeMap<(&'a str, usize), Id>,
}

/// What all layers are given.
#[derive(Clone, Copy, Default)]
pub(super) struct Inputs {
    pub(super) positions: Id,
    pub(super) outputs: Id,
    /// Which states a batch goes on from.
    pub(super) states: Id,
    pub(super) full: AttentionInputs,
    pub(super) windowed: AttentionInputs,
}

/// What attention is given, besides.
#[derive(Clone, Copy, Default)]
pub(super) struct AttentionInputs {
    pub(super) rows_of_keys: Id,
    pub(super) rows_of_values: Id,
    pub(super) mask: Id,
    /// The mask has 32 bits still, where attention reads 16: the first layer that looks at it makes a copy for all.
    pub(super) is_wide: bool,
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
        per_layer: (None, None, 0),
        weights: std::collections::BTreeMap::new(),
    };
    let mut current = batch.embedding();
    batch.inputs = batch.given();
    current = batch.encoded(current);
    batch.per_layer = (gemma::looked_up(&mut batch), None, current);
    let has_versions = measure.model.architecture == "gemma3n";
    if has_versions {
        current = gemma::stacked(&mut batch, current);
    }
    let count = measure.loaded;
    for index in layers.iter().copied() {
        let Some(tensors) = measure.model.layers.get(index) else { continue };
        let layer = Layer { index, tensors };
        current = block::write(&mut batch, &layer, current, index.saturating_add(1) == count);
    }
    if has_versions {
        current = gemma::merged(&mut batch, current);
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
        let given = self.tape.entries.get(with).map_or([0, self.tokens, 1, 1], |entry| entry.shape);
        let shape = [rows, given[1], given[2], given[3]];
        let mut made = self.tape.multiply(shape, &[weight, with]);
        let bias = of_layer(&tensor.name).strip_suffix(".weight").map(|stem| format!("{stem}.bias"));
        if let Some(bias) = bias.and_then(|name| layer.find(&name)) {
            let bias = self.layer_weight(layer, bias);
            made = self.tape.make(Kind::InPlace, shape, &[made, bias]);
        }
        made
    }

    /// How a norm is computed: one by the mean and the variance never writes over what it reads.
    fn norm(&self) -> Kind {
        let has = |key| self.measure.model.value(key).is_some();
        let is_other = self.measure.model.architecture.starts_with("nemotron_h");
        let by_mean = !is_other && has("attention.layer_norm_epsilon") && !has("attention.layer_norm_rms_epsilon");
        if by_mean { Kind::Other } else { Kind::InPlace }
    }

    /// Normalises, with the weights of a layer of that name; as it is, where it has none.
    pub(super) fn normalise(&mut self, layer: &Layer<'a>, names: &[&str], what: Id) -> Id {
        let Some(tensor) = layer.any(names) else { return what };
        let weight = self.layer_weight(layer, tensor);
        let shape = self.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
        let norm = self.tape.make(self.norm(), shape, &[what]);
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
        if self.measure.setup.build.takes_vectors {
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
        if matches!(self.measure.model.architecture.as_str(), "gemma" | "gemma2") {
            made = self.tape.make(Kind::InPlace, shape, &[made]);
        } else if self.measure.model.architecture.starts_with("gemma") {
            let scale = self.tape.leaf(Home::Input, tokens.saturating_mul(4), [1, tokens, 1, 1]);
            made = self.tape.make(Kind::InPlace, shape, &[made, scale]);
        }
        if self.has_factor("embedding_scale") {
            made = self.tape.make(Kind::InPlace, shape, &[made]);
        }
        self.tape.ask();
        made
    }

    /// Whether there is a factor by which something is multiplied: the file says it, or llama.cpp has its own (`minicpm`).
    pub(super) fn has_factor(&self, key: &str) -> bool {
        let has_own = self.measure.model.architecture == "minicpm" && self.measure.model.value(key).is_none();
        has_own
            || matches!(self.measure.model.value(key), Some(Value::Float(factor)) if factor.abs() > f64::EPSILON)
    }

    /// Adds what a token is besides, and where it is, in models that make one vector of a text.
    fn encoded(&mut self, made: Id) -> Id {
        if !self.measure.is_encoder {
            return made;
        }
        let shape = [self.width(), self.tokens, 1, 1];
        let (host, first) = (self.placement.gpus(), self.placement.layer(0));
        let find = |name: &str| self.measure.model.input.iter().find(|tensor| tensor.name == name);
        let (types, places) = (find("token_types.weight"), find("position_embd.weight"));
        let (norm, bias) = (find("token_embd_norm.weight"), find("token_embd_norm.bias"));
        let positions = self.inputs.positions;
        // Places are looked up first: they are named before what they are added to.
        let places = places.map(|tensor| {
            let weight = self.weight(tensor, host);
            self.tape.make(Kind::Rows, shape, &[weight, positions])
        });
        let mut made = made;
        if let Some(tensor) = types {
            let weight = self.weight(tensor, host);
            let row = self.tape.beginning(weight, [self.width(), 1, 1, 1]);
            made = self.tape.make(Kind::InPlace, shape, &[made, row]);
        }
        if let Some(places) = places {
            made = self.tape.make(Kind::InPlace, shape, &[places, made]);
        }
        made = self.tape.make(self.norm(), shape, &[made]);
        if self.placement.is_whole() {
            self.tape.pin(made, first);
        }
        for tensor in norm.into_iter().chain(bias) {
            let weight = self.weight(tensor, first);
            made = self.tape.make(Kind::InPlace, shape, &[made, weight]);
        }
        made
    }

    /// Writes down what is done before what nobody has asked for yet.
    pub(super) fn ahead<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> T {
        let later = self.tape.step_back();
        let made = write(self);
        self.tape.step_forward(later);
        made
    }

    /// What all layers are given.
    fn given(&mut self) -> Inputs {
        let tokens = self.tokens;
        let keeps = &self.measure.keeps;
        let has_states = keeps.layers.iter().any(|layer| layer.state > 0);
        let looks = self.measure.is_encoder || keeps.layers.iter().any(|layer| layer.has_cache);
        // A place in a picture has more numbers than one in a text.
        let has_more = POSITIONS_OF_PICTURES.contains(&self.measure.model.architecture.as_str());
        let numbers = tokens.saturating_mul(if has_more { 4 } else { 1 });
        let positions = self.tape.leaf(Home::Input, numbers.saturating_mul(I32), [numbers, 1, 1, 1]);
        let states = if has_states {
            let count = self.measure.cells().states;
            self.tape.leaf(Home::Input, count.saturating_mul(I32), [count, 1, 1, 1])
        } else {
            positions
        };
        // What the first layer is given comes first.
        let window_first = keeps.window > 0 && keeps.layers.first().is_some_and(|layer| layer.is_windowed);
        let has_window = keeps.window > 0;
        let early = window_first.then(|| self.attention_inputs(true));
        let full = if looks { self.attention_inputs(false) } else { AttentionInputs::default() };
        let windowed = match early {
            Some(inputs) => inputs,
            None if has_window => self.attention_inputs(true),
            None => full,
        };
        let outputs = self.tape.leaf(Home::Input, self.outputs().saturating_mul(I32), [self.outputs(), 1, 1, 1]);
        Inputs { positions, outputs, states, full, windowed }
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
        let mut rows = |numbers: u64| {
            let bytes = if self.measure.is_encoder { 0 } else { numbers.saturating_mul(I64) };
            self.tape.leaf(Home::Input, bytes, [numbers, 1, 1, 1])
        };
        let (rows_of_keys, rows_of_values) = (rows(tokens), rows(rows_of_values));
        let mask_shape = [held, part, 1, cells.sequences];
        let mask = self.tape.leaf(Home::Input, numbers.saturating_mul(if is_half { 2 } else { 4 }), mask_shape);
        let is_wide = setup.flash_attention && !is_half;
        let mut matrix = |size: Option<u64>| {
            size.map(|size| {
                let bytes = size.saturating_mul(size).saturating_mul(4);
                (self.tape.leaf(Home::Input, bytes, [size, size, 1, 1]), size)
            })
        };
        let (rotates_keys, rotates_values) = (matrix(keys_turn), matrix(values_turn));
        AttentionInputs { rows_of_keys, rows_of_values, mask, is_wide, rotates_keys, rotates_values }
    }

    /// Tokens that the output is computed of.
    pub(super) fn outputs(&self) -> u64 {
        self.measure.setup.outputs.clamp(1, self.tokens)
    }

    fn output(&mut self, mut current: Id) {
        let place = self.placement.output();
        let model = self.measure.model;
        let architecture = model.architecture.as_str();
        if block::CHOOSES_AFTER_LAYERS.contains(&architecture) {
            current = block::chosen(self, current);
        }
        let shape = self.tape.entries.get(current).map_or([0; 4], |entry| entry.shape);
        if let Some(norm) = model.output.iter().find(|tensor| tensor.name == "output_norm.weight") {
            let weight = self.weight(norm, place);
            let made = self.tape.make(self.norm(), shape, &[current]);
            current = self.tape.make(Kind::InPlace, shape, &[made, weight]);
            if let Some(bias) = model.output.iter().find(|tensor| tensor.name == "output_norm.bias") {
                let bias = self.weight(bias, place);
                current = self.tape.make(Kind::InPlace, shape, &[current, bias]);
            }
        }
        if block::CHOOSES_AFTER_NORM.contains(&architecture) {
            // Layers that guess ahead begin from it.
            self.tape.give_out(current);
            current = block::chosen(self, current);
        }
        let name = if model.is_tied { "token_embd.weight" } else { "output.weight" };
        let Some(matrix) = model.output.iter().find(|tensor| tensor.name == name) else { return };
        let words = matrix.shape.get(1).copied().unwrap_or(0);
        let weight = self.weight(matrix, place);
        let shape = [words, self.outputs(), 1, 1];
        let mut made = self.tape.multiply(shape, &[weight, current]);
        if let Some(bias) = model.output.iter().find(|tensor| tensor.name == "output.bias") {
            let bias = self.weight(bias, place);
            made = self.tape.make(Kind::InPlace, shape, &[made, bias]);
        }
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

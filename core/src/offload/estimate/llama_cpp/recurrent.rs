//! Layers that carry a state from token to token: scans (Mamba) and short convolutions.
//!
//! Owns their operations (`src/models/mamba-base.cpp`, `lfm2.cpp`). The states are read and written where the cache is;
//! llama.cpp asks for those reads first, so that they are done before what the layer before has left to do.

use super::delta;
use super::layers::{Batch, Layer};
use super::tape::{Home, Id, Kind};
use crate::offload::gguf::Tensor;

/// Whether what a recurrent layer with these tensors computes is known.
pub(super) fn is_known(tensors: &[Tensor]) -> bool {
    let layer = Layer { index: 0, tensors };
    let has = |name| layer.find(name).is_some();
    let is_delta = has("attn_qkv.weight") && (has("ssm_beta.weight") || has("ssm_ba.weight"));
    let is_scan = has("ssm_in.weight") && !has("ssm_ba.weight");
    is_scan || is_delta || has("shortconv.in_proj.weight")
}

/// Writes down a recurrent layer, up to what is added to what the layer was given.
pub(super) fn write<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    if layer.any(&["shortconv.in_proj.weight"]).is_some() {
        return short_convolution(batch, layer, input);
    }
    if layer.any(&["ssm_x.weight"]).is_some() {
        return scan_by_channel(batch, layer, input);
    }
    if layer.any(&["ssm_in.weight"]).is_some() && layer.find("ssm_ba.weight").is_none() {
        return scan_by_head(batch, layer, input);
    }
    if layer.any(&["ssm_beta.weight", "ssm_ba.weight"]).is_some() && layer.find("attn_qkv.weight").is_some() {
        return delta::write(batch, layer, input);
    }
    unknown(batch, layer, input)
}

/// What a layer's convolution and scan are as large as.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Tokens that a convolution looks back.
    pub(super) back: u64,
    /// Numbers of a token that go through the scan.
    pub(super) inner: u64,
    /// Numbers of the state of each of them.
    pub(super) state: u64,
    pub(super) groups: u64,
    pub(super) heads: u64,
    /// Tokens of each sequence.
    pub(super) part: u64,
    pub(super) sequences: u64,
}

impl Sizes {
    pub(super) fn of(batch: &Batch<'_>) -> Self {
        let number = |key: &str| batch.measure.model.number(key).unwrap_or(0);
        let sequences = batch.measure.cells().states;
        Self {
            back: number("ssm.conv_kernel").saturating_sub(1),
            inner: number("ssm.inner_size"),
            state: number("ssm.state_size"),
            groups: number("ssm.group_count").max(1),
            heads: number("ssm.time_step_rank").max(1),
            part: batch.tokens.checked_div(sequences).unwrap_or(batch.tokens).max(1),
            sequences,
        }
    }

    /// Numbers of all states of the scan of one sequence.
    pub(super) fn scanned(self) -> u64 {
        self.inner.saturating_mul(self.state)
    }

    /// What is given out for each token, and the states behind all of them.
    fn scan(self) -> [u64; 4] {
        let tokens = self.inner.saturating_mul(self.part).saturating_mul(self.sequences);
        [tokens.saturating_add(self.scanned().saturating_mul(self.sequences)), 1, 1, 1]
    }

    pub(super) fn by_token(self, width: u64) -> [u64; 4] {
        [width, self.part, self.sequences, 1]
    }
}

/// A cache of states of a layer: so many numbers for each sequence.
pub(super) fn states(batch: &mut Batch<'_>, layer: &Layer<'_>, numbers: u64, sequences: u64) -> Id {
    let place = batch.placement.layer(layer.index);
    let bytes = numbers.saturating_mul(sequences).saturating_mul(4);
    let all = batch.tape.leaf(Home::Cache(place), bytes, [numbers, sequences, 1, 1]);
    batch.tape.view(all, [numbers, sequences, 1, 1], false)
}

/// Clears a state for those that begin anew.
pub(super) fn clear(batch: &mut Batch<'_>, states: Id) {
    batch.tape.store(states, &[]);
}

/// Reads the states of so many sequences, and puts aside those that are not part of the batch.
pub(super) fn read(batch: &mut Batch<'_>, states: Id, numbers: u64, sequences: u64) -> Id {
    let copied = batch.inputs.states;
    let rows = batch.tape.make(Kind::Rows, [numbers, sequences, 1, 1], &[states, copied]);
    let beside = batch.tape.part(rows, [numbers, 0, 1, 1], 0);
    batch.tape.store(states, &[beside]);
    rows
}

/// Puts what the convolution saw last before what it is given, and keeps what it will have seen.
pub(super) fn convolved(
    batch: &mut Batch<'_>,
    layer: &Layer<'_>,
    back: u64,
    given: Id,
    width: u64,
    sizes: Sizes,
) -> Id {
    let numbers = back.saturating_mul(width);
    let (kept, last) = batch.ahead(|batch| {
        let kept = states(batch, layer, numbers, sizes.sequences);
        clear(batch, kept);
        let rows = read(batch, kept, numbers, sizes.sequences);
        (kept, batch.tape.view(rows, [back, width, sizes.sequences, 1], true))
    });
    let turned = batch.tape.view(given, [sizes.part, width, sizes.sequences, 1], false);
    let shape = [back.saturating_add(sizes.part), width, sizes.sequences, 1];
    let made = batch.tape.make(Kind::Other, shape, &[last, turned]);
    let seen = batch.tape.view(made, [back, width, sizes.sequences, 1], false);
    batch.tape.store(kept, &[seen]);
    batch.tape.ask();
    made
}

/// Runs the convolution of a layer, and what follows it.
pub(super) fn activated<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, given: Id, width: u64, sizes: Sizes) -> Id {
    let shape = sizes.by_token(width);
    let weight = layer.find("ssm_conv1d.weight").map(|tensor| batch.layer_weight(layer, tensor));
    let reads: Vec<Id> = [given].into_iter().chain(weight).collect();
    let mut made = batch.tape.make(Kind::Other, shape, &reads);
    if let Some(bias) = layer.find("ssm_conv1d.bias") {
        let bias = batch.layer_weight(layer, bias);
        made = batch.tape.make(Kind::InPlace, shape, &[made, bias]);
    }
    batch.tape.make(Kind::InPlace, shape, &[made])
}

/// Scans, and keeps the states behind the last token.
fn scanned(batch: &mut Batch<'_>, kept: Id, scanned: Id, sizes: Sizes) {
    // States of the batch are read by the scan itself: those of the others alone are gathered.
    let copied = batch.inputs.states;
    let others = sizes.sequences.saturating_sub(1);
    let rows = batch.tape.make(Kind::Rows, [sizes.scanned(), others, 1, 1], &[kept, copied]);
    let beside = batch.tape.part(rows, [sizes.scanned(), 0, 1, 1], 0);
    batch.tape.store(kept, &[beside]);
    let bytes = sizes.scanned().saturating_mul(sizes.sequences).saturating_mul(4);
    let last = batch.tape.part(scanned, [sizes.scanned(), sizes.sequences, 1, 1], bytes);
    batch.tape.store(kept, &[last]);
    batch.tape.ask();
}

/// A scan whose step each number of a token has of its own (Mamba).
fn scan_by_channel<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let sizes = Sizes::of(batch);
    let shape = sizes.by_token(sizes.inner);
    let Some(matrix) = layer.any(&["ssm_in.weight"]) else { return input };
    let parted = batch.tape.view(input, sizes.by_token(batch.width()), true);
    let both = batch.multiply(layer, matrix, parted);
    let given = batch.tape.view(both, shape, false);
    let seen = convolved(batch, layer, sizes.back, given, sizes.inner, sizes);
    let kept = states(batch, layer, sizes.scanned(), sizes.sequences);
    clear(batch, kept);
    let made = activated(batch, layer, seen, sizes.inner, sizes);
    let Some(matrix) = layer.any(&["ssm_x.weight"]) else { return input };
    let all = batch.multiply(layer, matrix, made);
    let step = batch.tape.view(all, sizes.by_token(sizes.heads), false);
    let of_state = [sizes.state, 1, sizes.part, sizes.sequences];
    let step = match layer.find("ssm_dt_norm.weight") {
        Some(_) => batch.normalise(layer, &["ssm_dt_norm.weight"], step),
        None => batch.tape.make(Kind::Other, sizes.by_token(sizes.heads), &[step]),
    };
    let Some(matrix) = layer.any(&["ssm_dt.weight"]) else { return input };
    let step = batch.multiply(layer, matrix, step);
    let [into, from] = ["ssm_b_norm.weight", "ssm_c_norm.weight"].map(|name| {
        let part = batch.tape.view(all, of_state, false);
        batch.normalise(layer, &[name], part)
    });
    let made_view = batch.tape.view(made, [1, sizes.inner, sizes.part, sizes.sequences], true);
    let scan = scan(batch, layer, [kept, made_view, step, into, from], sizes);
    scanned(batch, kept, scan, sizes);
    let gate = batch.tape.view(both, shape, false);
    let gate = batch.tape.make(Kind::Other, shape, &[gate]);
    let out = batch.tape.beginning(scan, shape);
    let out = skipped(batch, layer, made, out, shape);
    let out = batch.tape.make(Kind::Other, shape, &[gate, out]);
    projected(batch, layer, "ssm_out.weight", out)
}

/// A scan whose step is that of a head (Mamba 2).
fn scan_by_head<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let sizes = Sizes::of(batch);
    let width = sizes.inner.saturating_add(sizes.groups.saturating_mul(sizes.state).saturating_mul(2));
    let head = sizes.inner.checked_div(sizes.heads).unwrap_or(0);
    let by_head = [head, sizes.heads, sizes.part, sizes.sequences];
    let Some(matrix) = layer.any(&["ssm_in.weight"]) else { return input };
    let all = batch.multiply(layer, matrix, input);
    let given = batch.tape.view(all, sizes.by_token(width), false);
    let seen = convolved(batch, layer, sizes.back, given, width, sizes);
    let kept = states(batch, layer, sizes.scanned(), sizes.sequences);
    clear(batch, kept);
    let made = activated(batch, layer, seen, width, sizes);
    let step = batch.tape.view(all, sizes.by_token(sizes.heads), false);
    let mut step = batch.tape.make(Kind::Other, sizes.by_token(sizes.heads), &[step]);
    if let Some(bias) = layer.find("ssm_dt.bias") {
        let bias = batch.layer_weight(layer, bias);
        step = batch.tape.make(Kind::InPlace, sizes.by_token(sizes.heads), &[step, bias]);
    }
    let of_state = [sizes.state, sizes.groups, sizes.part, sizes.sequences];
    let values = batch.tape.view(made, by_head, false);
    let [into, from] = [(); 2].map(|()| batch.tape.view(made, of_state, false));
    let scan = scan(batch, layer, [kept, values, step, into, from], sizes);
    scanned(batch, kept, scan, sizes);
    let gate = batch.tape.view(all, by_head, false);
    let gate = batch.tape.make(Kind::Other, by_head, &[gate]);
    let out = batch.tape.beginning(scan, by_head);
    let out = skipped(batch, layer, values, out, by_head);
    let mut out = batch.tape.make(Kind::Other, by_head, &[gate, out]);
    if layer.find("ssm_norm.weight").is_some() {
        let group = sizes.inner.checked_div(sizes.groups).unwrap_or(0);
        let grouped = batch.tape.view(out, [group, sizes.groups, sizes.part, sizes.sequences], true);
        out = batch.normalise(layer, &["ssm_norm.weight"], grouped);
    }
    let flat = batch.tape.view(out, [sizes.inner, batch.tokens, 1, 1], true);
    layer.any(&["ssm_out.weight"]).map_or(flat, |matrix| batch.multiply(layer, matrix, flat))
}

fn scan<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, [kept, made, step, into, from]: [Id; 5], sizes: Sizes) -> Id {
    let copied = batch.inputs.states;
    let old = batch.tape.view(kept, [sizes.scanned(), sizes.sequences, 1, 1], false);
    let decay = layer.any(&["ssm_a"]).map(|tensor| batch.layer_weight(layer, tensor));
    let reads: Vec<Id> = [old, made, step].into_iter().chain(decay).chain([into, from, copied]).collect();
    batch.tape.make(Kind::Other, sizes.scan(), &reads)
}

/// Adds a part of what went into the scan to what came out of it.
fn skipped<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, made: Id, out: Id, shape: [u64; 4]) -> Id {
    let Some(factor) = layer.any(&["ssm_d"]) else { return out };
    let factor = batch.layer_weight(layer, factor);
    let part = batch.tape.make(Kind::InPlace, shape, &[made, factor]);
    batch.tape.make(Kind::InPlace, shape, &[out, part])
}

/// Multiplies with the last matrix; what comes out is read as tokens one after the other.
pub(super) fn projected<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, name: &str, what: Id) -> Id {
    let Some(matrix) = layer.any(&[name]) else { return what };
    let made = batch.multiply(layer, matrix, what);
    let width = matrix.shape.get(1).copied().unwrap_or(0);
    batch.tape.view(made, [width, batch.tokens, 1, 1], true)
}

/// A convolution over a few tokens with a gate before and behind it (LFM 2).
fn short_convolution<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let sizes = Sizes::of(batch);
    let back = batch.measure.model.number("shortconv.l_cache").unwrap_or(1).saturating_sub(1);
    let width = batch.width();
    let shape = sizes.by_token(width);
    let Some(matrix) = layer.any(&["shortconv.in_proj.weight"]) else { return input };
    let parted = batch.tape.view(input, shape, true);
    let all = batch.multiply(layer, matrix, parted);
    let [gate, out_gate, value] = [(); 3].map(|()| batch.tape.view(all, shape, false));
    let given = batch.tape.make(Kind::InPlace, shape, &[gate, value]);
    let seen = convolved(batch, layer, back, given, width, sizes);
    let weight = layer.find("shortconv.conv.weight").map(|tensor| batch.layer_weight(layer, tensor));
    let reads: Vec<Id> = [seen].into_iter().chain(weight).collect();
    let made = batch.tape.make(Kind::Other, shape, &reads);
    let made = batch.tape.make(Kind::InPlace, shape, &[out_gate, made]);
    projected(batch, layer, "shortconv.out_proj.weight", made)
}

/// A recurrent layer of another kind: projections, and what a scan may take. This is approximate.
fn unknown<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let tokens = batch.tokens;
    let names = ["attn_qkv.weight", "ssm_qkvz.weight", "time_mix_receptance.weight"];
    let mut made = layer.any(&names).map_or(input, |matrix| batch.multiply(layer, matrix, input));
    if let Some(gate) = layer.any(&["attn_gate.weight"]) {
        batch.multiply(layer, gate, input);
    }
    let width = batch.tape.entries.get(made).map_or(0, |entry| entry.shape[0]);
    for _ in 0..2 {
        made = batch.tape.make(Kind::Other, [width, tokens, 1, 1], &[made]);
    }
    let Some(matrix) = layer.any(&["ssm_out.weight", "time_mix_output.weight"]) else { return input };
    let inner = matrix.shape.first().copied().unwrap_or(width);
    let scanned = batch.tape.make(Kind::Other, [inner, tokens, 1, 1], &[made]);
    batch.multiply(layer, matrix, scanned)
}

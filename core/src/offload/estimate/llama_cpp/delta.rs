//! Layers with a gated delta rule (Qwen 3 Next, Qwen 3.5), as llama.cpp computes it in one operation.
//!
//! Owns their operations (`src/models/delta-net-base.cpp`, `qwen3next.cpp`, `qwen35.cpp`); `recurrent` owns the states.

use super::layers::{Batch, Layer};
use super::recurrent::{self, Sizes};
use super::tape::{Id, Kind};

/// Writes down such a layer, up to what is added to what the layer was given.
pub(super) fn write<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let sizes = Sizes::of(batch);
    // What the layer is given is asked for by itself.
    batch.tape.ask();
    let keys = sizes.groups.saturating_mul(sizes.state);
    let width = sizes.inner.saturating_add(keys.saturating_mul(2));
    let head = sizes.inner.checked_div(sizes.heads).unwrap_or(0);
    let by_head = [head, sizes.heads, sizes.part, sizes.sequences];
    let Some(matrix) = layer.any(&["attn_qkv.weight"]) else { return input };
    let given = batch.multiply(layer, matrix, input);
    let seen = recurrent::convolved(batch, layer, sizes.back, given, width, sizes);
    let states = recurrent::states(batch, layer, sizes.scanned(), sizes.sequences);
    recurrent::clear(batch, states);
    let state = recurrent::read(batch, states, sizes.scanned(), sizes.sequences);
    let made = recurrent::activated(batch, layer, seen, width, sizes);
    let [query, key] = [(); 2].map(|()| short(batch, layer, made, sizes, by_head));
    let value = batch.tape.view(made, by_head, false);
    let (gate, rate) = gates(batch, layer, input, sizes);
    let state = batch.tape.view(state, [head, head, sizes.heads, sizes.sequences], true);
    let rows = batch.tokens.saturating_add(head.saturating_mul(sizes.sequences));
    let ruled = batch.tape.make(Kind::Other, [sizes.inner, rows, 1, 1], &[query, key, value, gate, rate, state]);
    let bytes = sizes.scanned().saturating_mul(sizes.sequences).saturating_mul(4);
    let new = batch.tape.part(ruled, [sizes.scanned(), sizes.sequences, 1, 1], bytes);
    batch.tape.store(states, &[new]);
    batch.tape.ask();
    let out = batch.tape.beginning(ruled, by_head);
    let out = batch.normalise(layer, &["ssm_norm.weight"], out);
    let Some(matrix) = layer.any(&["attn_gate.weight"]) else { return out };
    let gate = batch.multiply(layer, matrix, input);
    let gate = batch.tape.view(gate, by_head, true);
    let gate = batch.tape.make(Kind::InPlace, by_head, &[gate]);
    let out = batch.tape.make(Kind::InPlace, by_head, &[out, gate]);
    let flat = batch.tape.view(out, sizes.by_token(sizes.inner), true);
    recurrent::projected(batch, layer, "ssm_out.weight", flat)
}

/// A part of what was convolved, made as long as 1: queries and keys.
fn short(batch: &mut Batch<'_>, layer: &Layer<'_>, made: Id, sizes: Sizes, by_head: [u64; 4]) -> Id {
    let shape = [sizes.state, sizes.groups, sizes.part, sizes.sequences];
    let part = batch.tape.view(made, shape, false);
    let part = batch.tape.make(Kind::InPlace, shape, &[part]);
    let part = batch.tape.make(Kind::InPlace, shape, &[part]);
    // Where both gates are of one matrix, heads are repeated to be as many as those of values.
    if layer.find("ssm_ba.weight").is_none() || sizes.groups == sizes.heads {
        return part;
    }
    let times = sizes.heads.checked_div(sizes.groups).unwrap_or(1);
    let apart = batch.tape.view(part, [sizes.state, 1, sizes.groups, batch.tokens], true);
    let made = batch.tape.make(Kind::Other, [sizes.state, times, sizes.groups, batch.tokens], &[apart]);
    batch.tape.view(made, by_head, true)
}

/// How much of the state is forgotten, and how much is learned.
fn gates<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, sizes: Sizes) -> (Id, Id) {
    let shape = sizes.by_token(sizes.heads);
    let both = layer.find("ssm_ba.weight").map(|matrix| batch.multiply(layer, matrix, input));
    let one = |batch: &mut Batch<'a>, name: &str| match (both, layer.find(name)) {
        (Some(both), _) => {
            let part = batch.tape.view(both, shape, false);
            batch.tape.make(Kind::Other, shape, &[part])
        }
        (None, Some(matrix)) => {
            let made = batch.multiply(layer, matrix, input);
            batch.tape.view(made, shape, true)
        }
        (None, None) => input,
    };
    let mut gate = one(batch, "ssm_alpha.weight");
    for (name, also) in [("ssm_dt.bias", true), ("ssm_a", false)] {
        if let Some(tensor) = layer.find(name) {
            let weight = batch.layer_weight(layer, tensor);
            gate = batch.tape.make(Kind::InPlace, shape, &[gate, weight]);
        }
        if also {
            gate = batch.tape.make(Kind::InPlace, shape, &[gate]);
        }
    }
    let rate = one(batch, "ssm_beta.weight");
    (gate, batch.tape.make(Kind::InPlace, shape, &[rate]))
}

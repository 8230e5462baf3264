//! What Gemma 3n and Gemma 4 have besides: vectors of tokens for each layer, and four versions of what layers hand on.
//!
//! Owns their operations (`src/models/gemma3n.cpp`, `gemma4.cpp`).

use super::layers::{Batch, Layer};
use super::tape::{Home, Id, Kind};
use super::{attention, feed_forward};
use crate::offload::gguf::Tensor;

/// Versions of what layers hand on (Gemma 3n).
const VERSIONS: u64 = 4;
/// Layers from the first on that leave out what is small (Gemma 3n).
const SPARSE: usize = 10;

/// Looks up the vectors of tokens for all layers; `None`: there are none.
pub(super) fn looked_up(batch: &mut Batch<'_>) -> Option<Id> {
    let table = batch.measure.model.input.iter().find(|tensor| tensor.name == "per_layer_token_embd.weight")?;
    let (tokens, wide) = (batch.tokens, table.shape.first().copied()?);
    let ids = batch.tape.leaf(Home::Input, tokens.saturating_mul(4), [tokens, 1, 1, 1]);
    let weight = batch.weight(table, batch.placement.gpus());
    let rows = batch.tape.make(Kind::Rows, [wide, tokens, 1, 1], &[weight, ids]);
    let shape = by_layer(batch, wide);
    let apart = batch.tape.view(rows, shape, true);
    let made = batch.tape.make(Kind::InPlace, shape, &[apart]);
    batch.tape.ask();
    Some(made)
}

/// Numbers by token and layer.
fn by_layer(batch: &Batch<'_>, wide: u64) -> [u64; 4] {
    let layers = u64::try_from(batch.measure.loaded).unwrap_or(1).max(1);
    [wide.checked_div(layers).unwrap_or(0), layers, batch.tokens, 1]
}

fn other<'a>(batch: &Batch<'a>, name: &str) -> Option<&'a Tensor> {
    let model = batch.measure.model;
    model.others.iter().chain(&model.output).find(|tensor| tensor.name == name)
}

/// Adds to those vectors what the tokens of the batch make of them, when the first layer needs it.
fn projected(batch: &mut Batch<'_>) -> Option<Id> {
    if batch.per_layer.1.is_some() {
        return batch.per_layer.1;
    }
    let (looked_up, tokens) = (batch.per_layer.0?, batch.per_layer.2);
    let place = batch.placement.layer(0);
    let matrix = other(batch, "per_layer_model_proj.weight")?;
    let norm = other(batch, "per_layer_proj_norm.weight")?;
    let wide = matrix.shape.get(1).copied()?;
    let weight = batch.weight(matrix, place);
    let flat = [wide, batch.tokens, 1, 1];
    let made = batch.tape.multiply(flat, &[weight, tokens]);
    let made = batch.tape.make(Kind::InPlace, flat, &[made]);
    let shape = by_layer(batch, wide);
    let made = batch.tape.view(made, shape, true);
    let made = batch.tape.make(Kind::InPlace, shape, &[made]);
    let weight = batch.weight(norm, place);
    let made = batch.tape.make(Kind::InPlace, shape, &[made, weight]);
    let made = batch.tape.make(Kind::InPlace, shape, &[made, looked_up]);
    let made = batch.tape.make(Kind::InPlace, shape, &[made]);
    let turned = batch.tape.view(made, [shape[0], shape[2], shape[1], 1], false);
    let made = batch.tape.make(Kind::Other, [shape[0], shape[2], shape[1], 1], &[turned]);
    batch.per_layer.1 = Some(made);
    Some(made)
}

/// A layer's own vector of each token, as it goes into what a layer hands on.
fn of_layer<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, given: Id) -> Id {
    let (Some(gate), Some(matrix)) = (layer.find("inp_gate.weight"), layer.find("proj.weight")) else {
        return given;
    };
    let made = batch.multiply(layer, gate, given);
    let shape = batch.tape.entries.get(made).map_or([0; 4], |entry| entry.shape);
    let made = batch.tape.make(Kind::InPlace, shape, &[made]);
    let Some(all) = projected(batch) else { return given };
    let own = batch.tape.beginning(all, shape);
    let made = batch.tape.make(Kind::InPlace, shape, &[made, own]);
    let made = batch.multiply(layer, matrix, made);
    batch.normalise(layer, &["post_norm.weight"], made)
}

/// The feed-forward part of Gemma 4, with experts beside what all tokens take: both are given what attention left.
pub(super) fn both<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, given: Id) -> Id {
    let shape = batch.tape.entries.get(given).map_or([0; 4], |entry| entry.shape);
    let (Some(scale), Some(router)) = (layer.find("ffn_gate_inp.scale"), layer.find("ffn_gate_inp.weight")) else {
        let normal = batch.normalise(layer, &["ffn_norm.weight"], given);
        return feed_forward::write(batch, layer, normal);
    };
    let made = batch.tape.make(Kind::InPlace, shape, &[given]);
    let made = batch.tape.make(Kind::InPlace, shape, &[made]);
    let weight = batch.layer_weight(layer, scale);
    let made = batch.tape.make(Kind::InPlace, shape, &[made, weight]);
    let scores = batch.multiply(layer, router, made);
    let choice = feed_forward::choose(batch, layer, scores);
    let normal = batch.normalise(layer, &["pre_ffw_norm_2.weight"], given);
    let chosen = feed_forward::computed(batch, layer, normal, choice);
    let normal = batch.normalise(layer, &["ffn_norm.weight"], given);
    let dense = feed_forward::dense(batch, layer, normal, "");
    let dense = batch.normalise(layer, &["post_ffw_norm_1.weight"], dense);
    let chosen = batch.normalise(layer, &["post_ffw_norm_2.weight"], chosen);
    batch.tape.make(Kind::InPlace, shape, &[dense, chosen])
}

/// What follows a layer of Gemma 4.
pub(super) fn behind<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, mut current: Id) -> Id {
    let shape = batch.tape.entries.get(current).map_or([0; 4], |entry| entry.shape);
    if batch.per_layer.0.is_some() {
        let own = of_layer(batch, layer, current);
        current = batch.tape.make(Kind::InPlace, shape, &[current, own]);
    }
    if let Some(scale) = layer.find("layer_output_scale.weight") {
        let weight = batch.layer_weight(layer, scale);
        current = batch.tape.make(Kind::InPlace, shape, &[current, weight]);
    }
    current
}

/// How long vectors are.
fn lengths(batch: &mut Batch<'_>, what: Id, shape: [u64; 4]) -> Id {
    let made = batch.tape.make(Kind::InPlace, shape, &[what]);
    let one = [1, shape[1], shape[2], 1];
    let made = batch.tape.make(Kind::Other, one, &[made]);
    batch.tape.make(Kind::InPlace, one, &[made])
}

/// Multiplies with a matrix for each version but the first, and makes them as long as that.
fn as_long(batch: &mut Batch<'_>, name: &str, what: Id, first: Id) -> Option<Id> {
    let (wide, tokens) = (batch.width(), batch.tokens);
    let shape = [wide, tokens, VERSIONS.saturating_sub(1), 1];
    let tensor = other(batch, name)?;
    let weight = batch.weight(tensor, batch.placement.output());
    let made = batch.tape.multiply(shape, &[weight, what]);
    let target = lengths(batch, first, [wide, tokens, 1, 1]);
    let scaled = batch.tape.make(Kind::InPlace, shape, &[made, target]);
    let length = lengths(batch, made, shape);
    Some(batch.tape.make(Kind::InPlace, shape, &[scaled, length]))
}

/// Makes all versions of one.
pub(super) fn stacked(batch: &mut Batch<'_>, input: Id) -> Id {
    let (wide, tokens) = (batch.width(), batch.tokens);
    let shape = [wide, tokens, VERSIONS.saturating_sub(1), 1];
    let repeated = batch.tape.make(Kind::Other, shape, &[input]);
    let Some(added) = as_long(batch, "altup_proj.weight", repeated, input) else { return input };
    batch.tape.make(Kind::Other, [wide, tokens, VERSIONS, 1], &[input, added])
}

/// Makes one of all versions.
pub(super) fn merged(batch: &mut Batch<'_>, current: Id) -> Id {
    let shape = [batch.width(), batch.tokens, 1, 1];
    let mut sum = batch.tape.beginning(current, shape);
    let rest = batch.tape.view(current, [shape[0], shape[1], VERSIONS.saturating_sub(1), 1], false);
    let active = batch.tape.beginning(current, shape);
    let Some(made) = as_long(batch, "altup_unembd_proj.weight", rest, active) else { return current };
    for _ in 1..VERSIONS {
        let part = batch.tape.beginning(made, shape);
        sum = batch.tape.make(Kind::InPlace, shape, &[sum, part]);
    }
    batch.tape.make(Kind::InPlace, shape, &[sum])
}

/// What a version says of how the others are mixed.
fn modalities<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, active: Id, coefficients: &str) -> Id {
    let made = batch.normalise(layer, &["altup_router_norm.weight"], active);
    let shape = batch.tape.entries.get(made).map_or([0; 4], |entry| entry.shape);
    let made = batch.tape.make(Kind::InPlace, shape, &[made]);
    let Some(router) = layer.find("altup_router.weight") else { return made };
    let made = batch.multiply(layer, router, made);
    let made = batch.tape.make(Kind::InPlace, [VERSIONS, batch.tokens, 1, 1], &[made]);
    layer.find(coefficients).map_or(made, |tensor| batch.multiply(layer, tensor, made))
}

/// Leaves out what is small.
fn sparse(batch: &mut Batch<'_>, what: Id) -> Id {
    let shape = batch.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
    let one = [1, shape[1], 1, 1];
    let mean = batch.tape.make(Kind::Other, one, &[what]);
    let apart = batch.tape.make(Kind::InPlace, shape, &[what, mean]);
    let apart = batch.tape.make(Kind::InPlace, shape, &[apart]);
    let mut deviation = batch.tape.make(Kind::Other, one, &[apart]);
    for _ in 0..3 {
        deviation = batch.tape.make(Kind::InPlace, one, &[deviation]);
    }
    let cut = batch.tape.make(Kind::InPlace, one, &[mean, deviation]);
    let made = batch.tape.make(Kind::InPlace, shape, &[what, cut]);
    batch.tape.make(Kind::InPlace, shape, &[made])
}

/// The feed-forward part of Gemma 3n.
fn gated<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let find = |name| layer.find(name);
    let (Some(up), Some(gate), Some(down)) =
        (find("ffn_up.weight"), find("ffn_gate.weight"), find("ffn_down.weight"))
    else {
        return feed_forward::write(batch, layer, input);
    };
    let up = batch.multiply(layer, up, input);
    let mut gate = batch.multiply(layer, gate, input);
    if layer.index < SPARSE {
        gate = sparse(batch, gate);
    }
    let shape = batch.tape.entries.get(gate).map_or([0; 4], |entry| entry.shape);
    let gate = batch.tape.make(Kind::InPlace, shape, &[gate]);
    let made = batch.tape.make(Kind::InPlace, shape, &[up, gate]);
    batch.multiply(layer, down, made)
}

/// A layer of Gemma 3n.
pub(super) fn layer<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let (wide, tokens) = (batch.width(), batch.tokens);
    let (one, all) = ([wide, tokens, 1, 1], [wide, tokens, VERSIONS, 1]);
    // Each version is predicted from all of them.
    let turned = batch.tape.view(input, [VERSIONS, wide, tokens, 1], false);
    let turned = batch.tape.make(Kind::Other, [VERSIONS, wide, tokens, 1], &[turned]);
    let active = batch.tape.beginning(input, one);
    let mixes = modalities(batch, layer, active, "altup_predict_coef.weight");
    let mixes = batch.tape.view(mixes, [VERSIONS, VERSIONS, tokens, 1], true);
    let made = batch.tape.multiply([wide, VERSIONS, tokens, 1], &[turned, mixes]);
    let made = batch.tape.view(made, all, false);
    let made = batch.tape.make(Kind::Other, all, &[made]);
    let predictions = batch.tape.make(Kind::InPlace, all, &[made, input]);
    let active = batch.tape.beginning(predictions, one);
    let normal = batch.normalise(layer, &["attn_norm.weight"], active);
    let attended = attention::write(batch, layer, normal);
    let attended = batch.normalise(layer, &["post_attention_norm.weight"], attended);
    let attended = batch.tape.make(Kind::InPlace, one, &[attended, active]);
    let mut beside = normal;
    for name in ["laurel_l.weight", "laurel_r.weight"] {
        beside = layer.find(name).map_or(beside, |matrix| batch.multiply(layer, matrix, beside));
    }
    let beside = batch.normalise(layer, &["laurel_post_norm.weight"], beside);
    let beside = batch.tape.make(Kind::InPlace, one, &[beside, normal]);
    let both = batch.tape.make(Kind::InPlace, one, &[attended, beside]);
    let both = batch.tape.make(Kind::InPlace, one, &[both]);
    let normal = batch.normalise(layer, &["ffn_norm.weight"], both);
    let made = gated(batch, layer, normal);
    let made = batch.normalise(layer, &["post_ffw_norm.weight"], made);
    let activated = batch.tape.make(Kind::InPlace, one, &[made, both]);
    // All versions are corrected by what the active one became.
    let active = batch.tape.beginning(predictions, one);
    let new = batch.tape.make(Kind::InPlace, one, &[activated, active]);
    let new = batch.tape.make(Kind::Other, all, &[new]);
    let mixes = modalities(batch, layer, activated, "altup_correct_coef.weight");
    let mixes = batch.tape.make(Kind::InPlace, [VERSIONS, tokens, 1, 1], &[mixes]);
    let turned = batch.tape.view(mixes, [tokens, VERSIONS, 1, 1], false);
    let mixes = batch.tape.make(Kind::Other, [1, tokens, VERSIONS, 1], &[turned]);
    let corrected = batch.tape.make(Kind::InPlace, all, &[new, mixes]);
    let corrected = batch.tape.make(Kind::InPlace, all, &[corrected, predictions]);
    let first = batch.tape.beginning(corrected, one);
    let mut own = first;
    if let Some(scale) = layer.find("altup_correct_scale.weight") {
        let weight = batch.layer_weight(layer, scale);
        own = batch.tape.make(Kind::InPlace, one, &[first, weight]);
    }
    let own = of_layer(batch, layer, own);
    let first = batch.tape.beginning(corrected, one);
    let rest = [wide, tokens, VERSIONS.saturating_sub(1), 1];
    let part = batch.tape.view(corrected, rest, false);
    let part = batch.tape.make(Kind::InPlace, rest, &[part, own]);
    batch.tape.make(Kind::Other, all, &[first, part])
}

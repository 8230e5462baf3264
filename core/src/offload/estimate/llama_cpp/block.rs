//! How a layer joins its parts: what is normalised, added up and left out, in which order.
//!
//! Owns the form of a layer for all architectures; `attention`, `recurrent` and `feed_forward` own its parts.

use super::layers::{Batch, Layer};
use super::tape::{Id, Kind};
use super::{attention, feed_forward, gemma, recurrent};

/// Architectures that name what they have before what is added to it: what is named first is written over first.
const OLD_FIRST: [&str; 4] = ["jamba", "lfm2", "lfm2moe", "phi3"];
/// The same of what is added behind attention.
const OLD_FIRST_BEHIND_ATTENTION: [&str; 3] = ["jamba", "lfm2", "lfm2moe"];

/// Architectures that leave out what no output is computed of behind all layers.
pub(super) const CHOOSES_AFTER_LAYERS: [&str; 1] = ["gemma3n"];
/// The same behind the last norm.
pub(super) const CHOOSES_AFTER_NORM: [&str; 7] =
    ["gemma4", "gpt-oss", "nemotron_h", "nemotron_h_moe", "qwen35", "qwen35moe", "qwen3next"];

/// Architectures with attention beside the feed-forward part that add what attention found first.
const ATTENTION_FIRST: [&str; 1] = ["phi2"];

/// Writes down a layer.
pub(super) fn write<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, is_last: bool) -> Id {
    let is_of = |list: &[&str]| list.contains(&batch.measure.model.architecture.as_str());
    let (old_first, old_first_behind) = (is_of(&OLD_FIRST), is_of(&OLD_FIRST_BEHIND_ATTENTION));
    if is_of(&["gemma3n"]) {
        return gemma::layer(batch, layer, input);
    }
    if is_of(&["falcon-h1"]) {
        return side_by_side(batch, layer, input, is_last);
    }
    if layer.any(&["layer_output_norm.weight"]).is_some() {
        return normalised_behind(batch, layer, input, is_last);
    }
    let has_own_norm = layer.any(&["ffn_norm.weight", "ffn_norm"]).is_some();
    let is_parallel = !has_own_norm && layer.any(&["post_attention_norm.weight"]).is_none();
    if is_of(&["nemotron_h", "nemotron_h_moe"]) {
        return one_part(batch, layer, input);
    }
    if is_parallel && feed_forward::is_in(layer) {
        return beside(batch, layer, input, is_last);
    }
    let width = batch.width();
    let normal = batch.normalise(layer, &["attn_norm.weight"], input);
    let mut attended = attention::write(batch, layer, normal);
    let mut residual = input;
    if is_last && !is_of(&CHOOSES_AFTER_LAYERS) && !is_of(&CHOOSES_AFTER_NORM) {
        if old_first_behind {
            residual = batch.ahead(|batch| chosen(batch, residual));
            attended = chosen(batch, attended);
        } else {
            attended = chosen(batch, attended);
            residual = chosen(batch, residual);
        }
    }
    let shape = batch.tape.entries.get(residual).map_or([width, 0, 1, 1], |entry| entry.shape);
    if !feed_forward::is_in(layer) {
        return batch.tape.make(Kind::InPlace, shape, &[attended, residual]);
    }
    // The norm behind attention is that before the feed-forward part, where neither that nor what is behind it has one.
    let is_behind = has_own_norm || layer.any(&["post_ffw_norm.weight"]).is_some();
    if is_behind {
        attended = batch.normalise(layer, &["post_attention_norm.weight"], attended);
    }
    attended = scaled(batch, attended);
    let reads = if old_first_behind { [residual, attended] } else { [attended, residual] };
    let sum = batch.tape.make(Kind::InPlace, shape, &reads);
    let norms: &[&str] = if is_behind { &["ffn_norm.weight", "ffn_norm"] } else { &["post_attention_norm.weight"] };
    let made = if is_of(&["gemma4"]) {
        gemma::both(batch, layer, sum)
    } else {
        let normal = batch.normalise(layer, norms, sum);
        feed_forward::write(batch, layer, normal)
    };
    let made = batch.normalise(layer, &["post_ffw_norm.weight"], made);
    let made = scaled(batch, made);
    let reads = if old_first { [sum, made] } else { [made, sum] };
    let made = batch.tape.make(Kind::InPlace, shape, &reads);
    gemma::behind(batch, layer, made)
}

/// A layer that is normalised behind its parts (BERT).
fn normalised_behind<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, is_last: bool) -> Id {
    let mut attended = attention::write(batch, layer, input);
    let mut residual = input;
    if is_last {
        attended = chosen(batch, attended);
        residual = chosen(batch, residual);
    }
    let shape = batch.tape.entries.get(residual).map_or([0; 4], |entry| entry.shape);
    let sum = batch.tape.make(Kind::InPlace, shape, &[attended, residual]);
    let normal = batch.normalise(layer, &["attn_output_norm.weight"], sum);
    let made = feed_forward::write(batch, layer, normal);
    let sum = batch.tape.make(Kind::InPlace, shape, &[made, normal]);
    batch.normalise(layer, &["layer_output_norm.weight"], sum)
}

/// A layer whose attention and feed-forward part are given the same (Command R).
fn beside<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, is_last: bool) -> Id {
    let mut normal = batch.normalise(layer, &["attn_norm.weight"], input);
    let mixed = attention::mixed(batch, layer, normal);
    let kept = |batch: &mut Batch<'a>, what: Id| if is_last { chosen(batch, what) } else { what };
    let delivered = |batch: &mut Batch<'a>| {
        let made = attention::delivered(batch, layer, mixed);
        kept(batch, made)
    };
    // What attention found is delivered when it is added up: first, or last.
    let is_first = ATTENTION_FIRST.contains(&batch.measure.model.architecture.as_str());
    let early = is_first.then(|| delivered(batch));
    normal = kept(batch, normal);
    let made = feed_forward::write(batch, layer, normal);
    let shape = batch.tape.entries.get(made).map_or([0; 4], |entry| entry.shape);
    if let Some(attended) = early {
        let sum = batch.tape.make(Kind::InPlace, shape, &[attended, made]);
        let residual = kept(batch, input);
        return batch.tape.make(Kind::InPlace, shape, &[sum, residual]);
    }
    let residual = kept(batch, input);
    let sum = batch.tape.make(Kind::InPlace, shape, &[made, residual]);
    let attended = delivered(batch);
    batch.tape.make(Kind::InPlace, shape, &[sum, attended])
}

/// A layer that is of one part: a scan, attention or a feed-forward part (Nemotron H).
fn one_part<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let normal = batch.normalise(layer, &["attn_norm.weight"], input);
    let part = if feed_forward::is_in(layer) { feed_forward::write } else { attention::write };
    let made = part(batch, layer, normal);
    let shape = batch.tape.entries.get(input).map_or([0; 4], |entry| entry.shape);
    batch.tape.make(Kind::InPlace, shape, &[made, input])
}

/// A layer whose attention and scan are given the same, and added up (Falcon H1).
fn side_by_side<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, is_last: bool) -> Id {
    let shape = batch.tape.entries.get(input).map_or([0; 4], |entry| entry.shape);
    let normal = batch.normalise(layer, &["attn_norm.weight"], input);
    let mixed = attention::mixed(batch, layer, normal);
    let normal = batch.normalise(layer, &["attn_norm.weight"], input);
    let scanned = recurrent::write(batch, layer, normal);
    // What attention found is delivered once the states are kept.
    let attended = batch.ahead(|batch| attention::delivered(batch, layer, mixed));
    let both = batch.tape.make(Kind::InPlace, shape, &[attended, scanned]);
    let mut sum = batch.tape.make(Kind::InPlace, shape, &[both, input]);
    if is_last {
        sum = chosen(batch, sum);
    }
    let normal = batch.normalise(layer, &["ffn_norm.weight", "ffn_norm"], sum);
    let made = feed_forward::write(batch, layer, normal);
    let shape = batch.tape.entries.get(sum).map_or([0; 4], |entry| entry.shape);
    batch.tape.make(Kind::InPlace, shape, &[made, sum])
}

/// Multiplies what is added to what a layer was given by a factor, where the file says one (Granite).
fn scaled(batch: &mut Batch<'_>, what: Id) -> Id {
    if !batch.has_factor("residual_scale") {
        return what;
    }
    let shape = batch.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
    batch.tape.make(Kind::InPlace, shape, &[what])
}

/// Keeps the tokens that the output is computed of.
pub(super) fn chosen(batch: &mut Batch<'_>, what: Id) -> Id {
    let width = batch.tape.entries.get(what).map_or(0, |entry| entry.shape[0]);
    let (outputs, count) = (batch.inputs.outputs, batch.outputs());
    batch.tape.make(Kind::Rows, [width, count, 1, 1], &[what, outputs])
}

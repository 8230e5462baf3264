//! The feed-forward part of a layer: dense, or of experts of which each token takes a few.

use super::layers::{Batch, Layer};
use super::tape::{Id, Kind};
use super::weights::of_layer;
use crate::offload::gguf::{Tensor, Value};

/// More experts of one token than this are not written down one by one.
const EXPERTS_USED_MAX: u64 = 64;

/// Architectures whose experts count 1 in sum, whatever the file says.
const SUM_UP_TO_ONE: [&str; 22] = [
    "arctic",
    "dbrx",
    "ernie4_5-moe",
    "gemma4",
    "granitehybrid",
    "granitemoe",
    "grok",
    "grovemoe",
    "hunyuan-moe",
    "kimi-linear",
    "lfm2moe",
    "llama",
    "mimo2",
    "minimax-m2",
    "mistral3",
    "phimoe",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vlmoe",
    "rnd1",
    "smallthinker",
];

/// Whether a layer has a feed-forward part.
pub(super) fn is_in(layer: &Layer<'_>) -> bool {
    layer.any(&["ffn_gate_inp.weight", "ffn_down.weight"]).is_some()
}

/// Writes down the feed-forward part of a layer, up to what is added to what it was given.
pub(super) fn write<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    if layer.any(&["ffn_gate_inp.weight"]).is_none() {
        return dense(batch, layer, input, "");
    }
    let experts = experts(batch, layer, input);
    if layer.any(&["ffn_up_shexp.weight"]).is_none() {
        return experts;
    }
    let mut shared = dense(batch, layer, input, "_shexp");
    let shape = batch.tape.entries.get(experts).map_or([0; 4], |entry| entry.shape);
    if let Some(gate) = layer.any(&["ffn_gate_inp_shexp.weight"]) {
        let weight = batch.layer_weight(layer, gate);
        let open = batch.tape.multiply([1, shape[1], 1, 1], &[weight, input]);
        let open = batch.tape.make(Kind::InPlace, [1, shape[1], 1, 1], &[open]);
        shared = batch.tape.make(Kind::InPlace, shape, &[shared, open]);
    }
    batch.tape.make(Kind::InPlace, shape, &[experts, shared])
}

/// One matrix up, or two that are multiplied with each other, and one down.
pub(super) fn dense<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, suffix: &str) -> Id {
    let find = |part: &str| layer.find(&format!("ffn_{part}{suffix}.weight"));
    let (Some(up), Some(down)) = (find("up"), find("down")) else { return input };
    let tokens = batch.tape.entries.get(input).map_or(batch.tokens, |entry| entry.shape[1]);
    let inner = down.shape.first().copied().unwrap_or(0);
    let made = if let Some(gate) = find("gate") {
        let gate = batch.multiply(layer, gate, input);
        let up = batch.multiply(layer, up, input);
        batch.tape.make(Kind::Other, [inner, tokens, 1, 1], &[gate, up])
    } else {
        let up_made = batch.multiply(layer, up, input);
        // Twice as wide: gate and up in one.
        let is_both = up.shape.get(1).copied().unwrap_or(0) > inner;
        let kind = if is_both { Kind::Other } else { Kind::InPlace };
        batch.tape.make(kind, [inner, tokens, 1, 1], &[up_made])
    };
    batch.multiply(layer, down, made)
}

/// Multiplies with the matrices of the experts that each token takes, and adds what goes with them.
fn multiply_chosen<'a>(
    batch: &mut Batch<'a>,
    layer: &Layer<'a>,
    tensor: &'a Tensor,
    shape: [u64; 4],
    reads: [Id; 2],
) -> Id {
    let weight = batch.layer_weight(layer, tensor);
    let mut made = batch.tape.make_rows(Kind::Other, shape, shape[2], &[weight, reads[0], reads[1]]);
    let beside = |part: &str| {
        let stem = of_layer(&tensor.name).strip_suffix(".weight")?;
        layer.find(&format!("{stem}.{part}"))
    };
    if let Some(scale) = beside("scale") {
        // A factor of each expert, of which each token takes those that it has chosen.
        let all = scale.shape.first().copied().unwrap_or(1);
        let weight = batch.layer_weight(layer, scale);
        let by_expert = batch.tape.view(weight, [1, all, 1, 1], true);
        let by_token = batch.tape.make(Kind::Other, [1, all, shape[2], 1], &[by_expert]);
        let factors = batch.tape.make(Kind::Rows, [1, shape[1], shape[2], 1], &[by_token, reads[1]]);
        made = batch.tape.make(Kind::InPlace, shape, &[made, factors]);
    }
    if let Some(bias) = beside("bias") {
        let bias = batch.layer_weight(layer, bias);
        made = batch.tape.make(Kind::InPlace, shape, &[made, bias, reads[1]]);
    }
    made
}

/// Chooses experts for each token, has them compute, and adds up what they say.
fn experts<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let Some(router) = layer.any(&["ffn_gate_inp.weight"]) else { return input };
    let scores = batch.multiply(layer, router, input);
    let choice = choose(batch, layer, scores);
    computed(batch, layer, input, choice)
}

/// How many experts each token takes.
fn used(batch: &Batch<'_>, layer: &Layer<'_>) -> u64 {
    let used = batch.measure.model.numbers("expert_used_count");
    used.and_then(|used| used.get(layer.index).copied()).unwrap_or(1).clamp(1, EXPERTS_USED_MAX)
}

/// Has the chosen experts compute, and adds up what they say.
pub(super) fn computed<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, (chosen, shares): (Id, Id)) -> Id {
    let tokens = batch.tape.entries.get(input).map_or(batch.tokens, |entry| entry.shape[1]);
    let used = used(batch, layer);
    let Some(down) = layer.any(&["ffn_down_exps.weight"]) else { return input };
    let width = batch.width();
    let inner = down.shape.first().copied().unwrap_or(0);
    let by_token = batch.tape.view(input, [width, 1, tokens, 1], true);
    let shape = [inner, used, tokens, 1];
    let made = if let Some(both) = layer.any(&["ffn_gate_up_exps.weight"]) {
        let made =
            multiply_chosen(batch, layer, both, [inner.saturating_mul(2), used, tokens, 1], [by_token, chosen]);
        let gate = batch.tape.view(made, shape, false);
        let up = batch.tape.view(made, shape, false);
        batch.tape.make(Kind::Other, shape, &[gate, up])
    } else {
        let gate = layer.any(&["ffn_gate_exps.weight"]);
        let up = layer.any(&["ffn_up_exps.weight"]);
        let gate = gate.map(|tensor| multiply_chosen(batch, layer, tensor, shape, [by_token, chosen]));
        let up = up.map(|tensor| multiply_chosen(batch, layer, tensor, shape, [by_token, chosen]));
        let reads: Vec<Id> = gate.into_iter().chain(up).collect();
        batch.tape.make(if reads.len() == 1 { Kind::InPlace } else { Kind::Other }, shape, &reads)
    };
    let shape = [width, used, tokens, 1];
    let made = multiply_chosen(batch, layer, down, shape, [made, chosen]);
    let weighted = batch.tape.make(Kind::InPlace, shape, &[made, shares]);
    let parts: Vec<Id> = (0..used)
        .map(|_| batch.tape.part(weighted, [width, tokens, 1, 1], width.saturating_mul(tokens).saturating_mul(4)))
        .collect();
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or(weighted);
    let sum = parts.fold(first, |sum, part| batch.tape.make(Kind::InPlace, [width, tokens, 1, 1], &[sum, part]));
    batch.tape.ask();
    if used == 1 { batch.tape.make(Kind::Other, [width, tokens, 1, 1], &[sum]) } else { sum }
}

/// Returns which experts each token takes by their scores, and how much each of them counts.
pub(super) fn choose<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, scores: Id) -> (Id, Id) {
    let shape = batch.tape.entries.get(scores).map_or([0; 4], |entry| entry.shape);
    let [all, tokens, ..] = shape;
    let used = used(batch, layer);
    let late = batch.measure.model.architecture == "gpt-oss";
    let chances = if late { scores } else { batch.tape.make(Kind::InPlace, shape, &[scores]) };
    let biased = match layer.any(&["exp_probs_b.bias"]) {
        Some(bias) => {
            let bias = batch.layer_weight(layer, bias);
            batch.tape.make(Kind::InPlace, shape, &[chances, bias])
        }
        None => chances,
    };
    let sorted = batch.tape.make(Kind::Other, shape, &[biased]);
    let chosen = batch.tape.view(sorted, [used, tokens, 1, 1], false);
    let by_expert = batch.tape.view(chances, [1, all, tokens, 1], true);
    let mut shares = batch.tape.make(Kind::Rows, [1, used, tokens, 1], &[by_expert, chosen]);
    if late {
        let flat = batch.tape.view(shares, [used, tokens, 1, 1], true);
        let made = batch.tape.make(Kind::InPlace, [used, tokens, 1, 1], &[flat]);
        shares = batch.tape.view(made, [1, used, tokens, 1], true);
    }
    if sum_up_to_one(batch) {
        let flat = batch.tape.view(shares, [used, tokens, 1, 1], true);
        let sum = batch.tape.make(Kind::Other, [1, tokens, 1, 1], &[flat]);
        let sum = batch.tape.make(Kind::InPlace, [1, tokens, 1, 1], &[sum]);
        let made = batch.tape.make(Kind::InPlace, [used, tokens, 1, 1], &[flat, sum]);
        shares = batch.tape.view(made, [1, used, tokens, 1], true);
    }
    let scale = match batch.measure.model.value("expert_weights_scale") {
        Some(Value::Float(scale)) => *scale,
        Some(_) | None => 0.0,
    };
    if scale.abs() > f64::EPSILON && (scale - 1.0).abs() > f64::EPSILON {
        shares = batch.tape.make(Kind::InPlace, [1, used, tokens, 1], &[shares]);
    }
    batch.tape.ask();
    (chosen, shares)
}

/// Whether what experts count is made to be 1 in sum.
fn sum_up_to_one(batch: &Batch<'_>) -> bool {
    let model = batch.measure.model;
    match model.value("expert_weights_norm") {
        Some(Value::Bool(does)) => *does,
        Some(_) | None => SUM_UP_TO_ONE.contains(&model.architecture.as_str()),
    }
}

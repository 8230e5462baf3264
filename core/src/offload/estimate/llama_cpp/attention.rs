//! Attention of a layer.

use super::layers::{AttentionInputs, Batch, Layer};
use super::recurrent;
use super::tape::{Home, Id, Kind};

/// Architectures whose attention knows of no positions.
const NO_POSITIONS: [&str; 5] = ["bert", "jamba", "jina-bert-v2", "nemotron_h", "nemotron_h_moe"];
/// Architectures that scale queries before attention does.
const SCALES_QUERIES: [&str; 4] = ["gemma", "gemma2", "gemma3", "phi3"];
/// Architectures that rotate before they normalise.
const ROTATES_FIRST: [&str; 3] = ["hunyuan-dense", "hunyuan-moe", "hunyuan_vl"];
/// Architectures that normalise values, without weights.
const NORMALISES_VALUES: [&str; 2] = ["gemma3n", "gemma4"];

/// Writes down the attention of a layer, or what it has in its place, up to what is added to what the layer was given.
pub(super) fn write<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    if keeps.state > 0 {
        return recurrent::write(batch, layer, input);
    }
    let mixed = mixed(batch, layer, input);
    delivered(batch, layer, mixed)
}

/// Writes down attention up to the values of all heads.
pub(super) fn mixed<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    if batch.measure.keeps.is_compressed || layer.any(&["attn_kv_a_mqa.weight"]).is_some() {
        return compressed(batch, layer, input);
    }
    let Some((gated, parts)) = projections(batch, layer, input) else { return input };
    let mixed = attend(batch, layer, parts, None);
    let Some(all) = gated else { return mixed };
    // What queries come with is a gate of what attention finds.
    let shape = batch.tape.entries.get(mixed).map_or([0; 4], |entry| entry.shape);
    let gate = batch.tape.view(all, shape, false);
    let gate = batch.tape.make(Kind::Other, shape, &[gate]);
    let gate = batch.tape.make(Kind::InPlace, shape, &[gate]);
    batch.tape.make(Kind::InPlace, shape, &[mixed, gate])
}

/// Multiplies what attention found with its last matrix.
pub(super) fn delivered<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, mixed: Id) -> Id {
    layer.any(&["attn_output.weight"]).map_or(mixed, |matrix| batch.multiply(layer, matrix, mixed))
}

/// Queries, keys and values by head, in the order in which they are asked for; and what has a gate besides queries.
fn projections<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Option<(Option<Id>, [Id; 3])> {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied()?;
    let fused = layer.any(&["attn_qkv.weight"]).map(|matrix| batch.multiply(layer, matrix, input));
    let mut both = None;
    if fused.is_none() {
        let matrix = layer.any(&["attn_q.weight"])?;
        if matrix.shape.get(1).copied() == Some(keeps.key.saturating_mul(keeps.heads).saturating_mul(2)) {
            both = Some(batch.multiply(layer, matrix, input));
        }
    }
    let query = queries(batch, layer, input, fused.or(both));
    let has_own = keeps.has_cache || batch.measure.is_encoder;
    if !has_own || (fused.is_none() && layer.any(&["attn_k.weight"]).is_none()) {
        return Some((both, [query; 3]));
    }
    let by_head = [keeps.value, keeps.heads_kv, batch.tokens, 1];
    let has_values = fused.is_some() || layer.any(&["attn_v.weight"]).is_some();
    let values = |batch: &mut Batch<'a>| {
        let what = raw(batch, layer, input, fused, "attn_v.weight", by_head);
        settled(batch, layer, what)
    };
    // Where some layers have a window keys are asked for first, and where nothing is kept.
    if batch.measure.keeps.window > 0 || batch.measure.is_encoder || !has_values {
        let (plain, key) = keys(batch, layer, input, fused);
        let value = if has_values { values(batch) } else { settled(batch, layer, plain) };
        return Some((both, [query, key, value]));
    }
    let value = values(batch);
    let (_, key) = keys(batch, layer, input, fused);
    Some((both, [query, key, value]))
}

/// What a matrix, or a part of a fused one, makes of what a layer is given.
fn raw<'a>(
    batch: &mut Batch<'a>,
    layer: &Layer<'a>,
    input: Id,
    fused: Option<Id>,
    name: &str,
    by_head: [u64; 4],
) -> Id {
    if let Some(all) = fused {
        return batch.tape.view(all, by_head, false);
    }
    let made = layer.any(&[name]).map_or(input, |matrix| batch.multiply(layer, matrix, input));
    let norm = name.replace(".weight", "_norm.weight");
    let made = whole_norm(batch, layer, &norm, made);
    let width = batch.tape.entries.get(made).map_or(0, |entry| entry.shape[0]);
    batch.tape.view(made, by_head, width == by_head[0].saturating_mul(by_head[1]))
}

fn queries<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, fused: Option<Id>) -> Id {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    let query = raw(batch, layer, input, fused, "attn_q.weight", [keeps.key, keeps.heads, batch.tokens, 1]);
    let mut query = turned(batch, layer, "attn_q_norm.weight", query);
    if SCALES_QUERIES.contains(&batch.measure.model.architecture.as_str()) {
        let shape = batch.tape.entries.get(query).map_or([0; 4], |entry| entry.shape);
        query = batch.tape.make(Kind::InPlace, shape, &[query]);
    }
    let matrix = inputs(batch, layer).rotates_keys;
    spread(batch, matrix, query)
}

/// Keys as they come, and as they are kept.
fn keys<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id, fused: Option<Id>) -> (Id, Id) {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    let plain = raw(batch, layer, input, fused, "attn_k.weight", [keeps.key, keeps.heads_kv, batch.tokens, 1]);
    let key = turned(batch, layer, "attn_k_norm.weight", plain);
    let matrix = inputs(batch, layer).rotates_keys;
    (plain, if keeps.has_cache { spread(batch, matrix, key) } else { key })
}

/// Values as they are kept.
fn settled<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, mut value: Id) -> Id {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    if NORMALISES_VALUES.contains(&batch.measure.model.architecture.as_str()) {
        let shape = batch.tape.entries.get(value).map_or([0; 4], |entry| entry.shape);
        value = batch.tape.make(Kind::InPlace, shape, &[value]);
    }
    let matrix = inputs(batch, layer).rotates_values;
    if keeps.has_cache { spread(batch, matrix, value) } else { value }
}

/// What the attention of a layer is given besides.
fn inputs(batch: &Batch<'_>, layer: &Layer<'_>) -> AttentionInputs {
    let is_windowed = batch.measure.keeps.layers.get(layer.index).is_some_and(|keeps| keeps.is_windowed);
    if is_windowed { batch.inputs.windowed } else { batch.inputs.full }
}

/// Normalises all heads as one, before they are told apart, where the weights are for all of them.
fn whole_norm<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, name: &str, what: Id) -> Id {
    if is_whole(batch, layer, name) { batch.normalise(layer, &[name], what) } else { what }
}

/// Normalises each head, where the weights are for one.
fn head_norm<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, name: &str, what: Id) -> Id {
    if is_whole(batch, layer, name) { what } else { batch.normalise(layer, &[name], what) }
}

fn is_whole(batch: &Batch<'_>, layer: &Layer<'_>, name: &str) -> bool {
    let head = batch.measure.keeps.layers.get(layer.index).map_or(0, |keeps| keeps.key);
    layer.find(name).and_then(|tensor| tensor.shape.first()).is_some_and(|width| *width > head)
}

/// Normalises and rotates each head.
fn turned<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, norm: &str, what: Id) -> Id {
    if ROTATES_FIRST.contains(&batch.measure.model.architecture.as_str()) {
        let what = rotate(batch, layer, what);
        return head_norm(batch, layer, norm, what);
    }
    let what = head_norm(batch, layer, norm, what);
    rotate(batch, layer, what)
}

/// Rotates by position, where a layer does.
fn rotate(batch: &mut Batch<'_>, layer: &Layer<'_>, what: Id) -> Id {
    let architecture = batch.measure.model.architecture.as_str();
    let is_windowed = batch.measure.keeps.layers.get(layer.index).is_some_and(|keeps| keeps.is_windowed);
    let knows_positions = match architecture {
        "cohere2" => is_windowed,
        "exaone4" => is_windowed || batch.measure.keeps.window == 0,
        "smollm3" => layer.index.saturating_add(1).checked_rem(4) != Some(0),
        other => !NO_POSITIONS.contains(&other),
    };
    if !knows_positions {
        return what;
    }
    let shape = batch.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
    let positions = batch.inputs.positions;
    // Factors of frequencies are a weight, though where this is done does not depend on it.
    let has_factors = architecture != "gemma4" || !is_windowed;
    let is_factors = |name: &str| matches!(name, "rope_freqs.weight" | "rope_factors_short.weight");
    let model = batch.measure.model;
    let factors = model.others.iter().find(|tensor| has_factors && is_factors(&tensor.name));
    let factors = factors.map(|tensor| batch.weight(tensor, batch.placement.layer(layer.index)));
    let reads: Vec<Id> = [what, positions].into_iter().chain(factors).collect();
    batch.tape.make(Kind::InPlaceAnywhere, shape, &reads)
}

/// Multiplies with the matrix that spreads what is quantised.
fn spread(batch: &mut Batch<'_>, matrix: Option<(Id, u64)>, what: Id) -> Id {
    let Some((matrix, size)) = matrix else { return what };
    let shape = batch.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
    let numbers = shape.iter().fold(1_u64, |numbers, extent| numbers.saturating_mul(*extent));
    let flat = batch.tape.view(what, [size, numbers.checked_div(size).unwrap_or(0), 1, 1], true);
    let made = batch.tape.multiply([size, numbers.checked_div(size).unwrap_or(0), 1, 1], &[matrix, flat]);
    batch.tape.view(made, shape, true)
}

/// Keeps keys and values, and has the queries look at all that are kept. `behind`: a matrix that values go through then.
fn attend<'a>(
    batch: &mut Batch<'a>,
    layer: &Layer<'a>,
    [query, key, value]: [Id; 3],
    behind: Option<(Id, u64)>,
) -> Id {
    let measure = batch.measure;
    let keeps = measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    let inputs = inputs(batch, layer);
    let cells = measure.cells();
    let held = if keeps.is_windowed { cells.windowed } else { cells.full };
    // Layers without a cache of their own use that of the last one before that looks as far.
    let looks_alike = |at: &usize| {
        measure.keeps.layers.get(*at).is_some_and(|other| other.has_cache && other.is_windowed == keeps.is_windowed)
    };
    let source = (0..=layer.index).rev().find(looks_alike).unwrap_or(layer.index);
    let place = batch.placement.layer(source);
    let cache = measure.keeps.layer(source, &cells, &measure.how());
    let (keys, values) = kept(batch, layer, inputs, [key, value], place, (cache.keys, cache.values));
    let tokens = batch.tokens;
    let part = tokens.checked_div(cells.sequences).unwrap_or(tokens).max(1);
    let query_view = batch.tape.view(query, [keeps.key, keeps.heads, part, cells.sequences], false);
    let query_view = batch.tape.view(query_view, [keeps.key, part, keeps.heads, cells.sequences], false);
    let keys = batch.tape.view(keys, [keeps.key, held, keeps.heads_kv, cells.sequences], false);
    let values = batch.tape.view(values, [keeps.value, held, keeps.heads_kv, cells.sequences], false);
    let wide = if keeps.value == 0 {
        measure.model.number("attention.kv_lora_rank").unwrap_or(keeps.key)
    } else {
        keeps.value
    };
    let sinks = layer.any(&["attn_sinks.weight"]).map(|tensor| batch.layer_weight(layer, tensor));
    let attended = if measure.setup.flash_attention {
        let mask = half_mask(batch, inputs);
        let reads: Vec<Id> = [query_view, keys, values, mask].into_iter().chain(sinks).collect();
        let made = batch.tape.make(Kind::Anywhere, [wide, keeps.heads, part, cells.sequences], &reads);
        let halves = half_copies(batch, &keeps, held.saturating_mul(cells.sequences));
        batch.tape.grow_on_gpu(made, halves);
        made
    } else {
        let scores = batch.tape.multiply([held, part, keeps.heads, cells.sequences], &[keys, query_view]);
        let mut shares = scores;
        if measure.model.value("attn_logit_softcapping").is_some() {
            for _ in 0..3 {
                shares = batch.tape.make(Kind::InPlace, [held, part, keeps.heads, cells.sequences], &[shares]);
            }
        }
        let reads: Vec<Id> = [shares, inputs.mask].into_iter().chain(sinks).collect();
        let shares = batch.tape.make(Kind::InPlace, [held, part, keeps.heads, cells.sequences], &reads);
        batch.tape.multiply([wide, part, keeps.heads, cells.sequences], &[values, shares])
    };
    let mut width = wide;
    let mut attended = attended;
    if let Some((matrix, size)) = behind {
        if measure.setup.flash_attention {
            let turned = batch.tape.view(attended, [wide, part, keeps.heads, cells.sequences], false);
            let made = batch.tape.multiply([size, part, keeps.heads, cells.sequences], &[matrix, turned]);
            let turned = batch.tape.view(made, [size, keeps.heads, part, cells.sequences], false);
            attended = batch.tape.make(Kind::Other, [size, keeps.heads, part, cells.sequences], &[turned]);
        } else {
            attended = batch.tape.multiply([size, part, keeps.heads, cells.sequences], &[matrix, attended]);
        }
        width = size;
    }
    let flat = [width.saturating_mul(keeps.heads), tokens, 1, 1];
    if measure.setup.flash_attention {
        let flat = batch.tape.view(attended, flat, true);
        batch.tape.ask();
        return spread(batch, inputs.rotates_values, flat);
    }
    let turned = batch.tape.view(attended, [width, keeps.heads, part, cells.sequences], false);
    let made = batch.tape.make(Kind::Other, flat, &[turned]);
    batch.tape.ask();
    made
}

/// Writes keys and values to where they are kept, and returns what is there.
fn kept<'a>(
    batch: &mut Batch<'a>,
    layer: &Layer<'a>,
    inputs: AttentionInputs,
    [key, value]: [Id; 2],
    place: usize,
    (keys, values): (u64, u64),
) -> (Id, Id) {
    if batch.measure.is_encoder {
        return (halved(batch, key), halved(batch, value));
    }
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    let tokens = batch.tokens;
    let all_keys = batch.tape.leaf(Home::Cache(place), keys, [keeps.keys(), 1, 1, 1]);
    let all_values =
        if values == 0 { all_keys } else { batch.tape.leaf(Home::Cache(place), values, [keeps.values(), 1, 1, 1]) };
    if !keeps.has_cache {
        return (all_keys, all_values);
    }
    let flat = batch.tape.view(key, [keeps.keys(), tokens, 1, 1], true);
    batch.tape.store(all_keys, &[flat, inputs.rows_of_keys]);
    if values != 0 {
        let flat = batch.tape.view(value, [keeps.values(), tokens, 1, 1], true);
        batch.tape.store(all_values, &[flat, inputs.rows_of_values]);
    }
    (all_keys, all_values)
}

/// Returns the mask as attention in one pass reads it. What is made of it once serves all layers after.
fn half_mask(batch: &mut Batch<'_>, inputs: super::layers::AttentionInputs) -> Id {
    if !inputs.is_wide {
        return inputs.mask;
    }
    let half = halved(batch, inputs.mask);
    for other in [&mut batch.inputs.full, &mut batch.inputs.windowed] {
        if other.mask == inputs.mask {
            (other.mask, other.is_wide) = (half, false);
        }
    }
    half
}

/// Makes a copy with 16 bits, as attention in one pass reads them.
fn halved(batch: &mut Batch<'_>, what: Id) -> Id {
    if !batch.measure.setup.flash_attention {
        return what;
    }
    let shape = batch.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
    let made = batch.tape.make(Kind::Other, shape, &[what]);
    if let Some(entry) = batch.tape.entries.get_mut(made) {
        entry.bytes = entry.bytes.div_ceil(2);
        entry.bytes_on_gpu = entry.bytes;
        entry.is_plain = false;
    }
    made
}

/// Bytes of copies with 16 bits that a GPU makes of keys and values which are quantised.
fn half_copies(batch: &Batch<'_>, keeps: &crate::offload::estimate::kv::LayerKeeps, rows: u64) -> u64 {
    let setup = &batch.measure.setup;
    let half = |kind: super::KvType, numbers: u64| {
        if kind == super::KvType::F16 || !setup.build.half_copies {
            0
        } else {
            numbers.saturating_mul(rows).saturating_mul(2)
        }
    };
    half(setup.keys, keeps.keys()).saturating_add(half(setup.values, keeps.values()))
}

/// Attention over compressed keys (MLA).
fn compressed<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    let (model, tokens) = (batch.measure.model, batch.tokens);
    let number = |key: &str| model.number(key).unwrap_or(0);
    let (rank, turning) = (number("attention.kv_lora_rank"), number("rope.dimension_count"));
    let head = model.number("attention.key_length_mla").unwrap_or(keeps.key);
    let value = model.number("attention.value_length_mla").unwrap_or(keeps.value);
    let still = head.saturating_sub(turning);
    let query = match layer.any(&["attn_q_a.weight"]) {
        Some(first) => {
            let made = batch.multiply(layer, first, input);
            let made = batch.normalise(layer, &["attn_q_a_norm.weight"], made);
            layer.any(&["attn_q_b.weight"]).map_or(made, |second| batch.multiply(layer, second, made))
        }
        None => layer.any(&["attn_q.weight"]).map_or(input, |matrix| batch.multiply(layer, matrix, input)),
    };
    let query = batch.tape.view(query, [head, keeps.heads, tokens, 1], true);
    let Some(matrix) = layer.any(&["attn_kv_a_mqa.weight"]) else { return input };
    let is_absorbed = batch.measure.keeps.is_compressed;
    let absorbed = is_absorbed.then(|| {
        let part = batch.tape.view(query, [still, tokens, keeps.heads, 1], false);
        let weight = layer.any(&["attn_k_b.weight"]).map(|tensor| batch.layer_weight(layer, tensor));
        let reads: Vec<Id> = weight.into_iter().chain([part]).collect();
        let made = batch.tape.multiply([rank, tokens, keeps.heads, 1], &reads);
        let made = batch.tape.view(made, [rank, keeps.heads, tokens, 1], false);
        let part = batch.tape.view(query, [turning, keeps.heads, tokens, 1], false);
        let turned = rotate(batch, layer, part);
        batch.tape.make(Kind::Other, [rank.saturating_add(turning), keeps.heads, tokens, 1], &[made, turned])
    });
    let both = batch.multiply(layer, matrix, input);
    let squeezed = batch.tape.view(both, [rank, tokens, 1, 1], false);
    let squeezed = batch.normalise(layer, &["attn_kv_a_norm.weight"], squeezed);
    let turning_part = batch.tape.view(both, [turning, 1, tokens, 1], false);
    let turned = rotate(batch, layer, turning_part);
    if let Some(query) = absorbed {
        let squeezed = batch.tape.view(squeezed, [rank, 1, tokens, 1], true);
        let key = batch.tape.make(Kind::Other, [rank.saturating_add(turning), 1, tokens, 1], &[squeezed, turned]);
        let behind = layer.any(&["attn_v_b.weight"]).map(|tensor| (batch.layer_weight(layer, tensor), value));
        attend(batch, layer, [query, key, squeezed], behind)
    } else {
        let Some(matrix) = layer.any(&["attn_kv_b.weight"]) else { return input };
        let all = batch.multiply(layer, matrix, squeezed);
        let still_key = batch.tape.view(all, [still, keeps.heads, tokens, 1], false);
        let value_part = batch.tape.view(all, [value, keeps.heads, tokens, 1], false);
        let value = batch.tape.make(Kind::Other, [value, keeps.heads, tokens, 1], &[value_part]);
        let repeated = batch.tape.make(Kind::Other, [turning, keeps.heads, tokens, 1], &[turned]);
        let key = batch.tape.make(Kind::Other, [head, keeps.heads, tokens, 1], &[still_key, repeated]);
        let query = rotate(batch, layer, query);
        attend(batch, layer, [query, key, value], None)
    }
}

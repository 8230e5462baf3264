//! Attention of a layer, and what recurrent layers have in its place.

use super::layers::{AttentionInputs, Batch, Layer};
use super::tape::{Home, Id, Kind};

/// Writes down the attention of a layer, up to what is added to what the layer was given.
pub(super) fn write<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied().unwrap_or_default();
    if keeps.state > 0 {
        let states = recurrent(batch, layer, input);
        if !keeps.has_cache {
            return states;
        }
    }
    if batch.measure.keeps.is_compressed || layer.any(&["attn_kv_a_mqa.weight"]).is_some() {
        return compressed(batch, layer, input);
    }
    let Some((query, key, value)) = projections(batch, layer, input) else { return input };
    let attended = attend(batch, layer, [query, key, value], None);
    match layer.any(&["attn_output.weight"]) {
        Some(matrix) => batch.multiply(layer, matrix, attended),
        None => attended,
    }
}

/// Queries, keys and values, by head.
fn projections<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Option<(Id, Id, Id)> {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied()?;
    let tokens = batch.tokens;
    let by_head = |head: u64, heads: u64| [head, heads, tokens, 1];
    let (mut query, mut key, value) = if let Some(fused) = layer.any(&["attn_qkv.weight"]) {
        let all = batch.multiply(layer, fused, input);
        let part = |batch: &mut Batch<'_>, shape: [u64; 4]| batch.tape.view(all, shape, false);
        let query = part(batch, by_head(keeps.key, keeps.heads));
        let key = part(batch, by_head(keeps.key, keeps.heads_kv));
        (query, key, part(batch, by_head(keeps.value, keeps.heads_kv)))
    } else {
        let made = batch.multiply(layer, layer.any(&["attn_q.weight"])?, input);
        let made = whole_norm(batch, layer, "attn_q_norm.weight", made);
        let gate = batch.tape.entries.get(made).map_or(0, |entry| entry.shape[0]);
        let query =
            batch.tape.view(made, by_head(keeps.key, keeps.heads), gate == keeps.key.saturating_mul(keeps.heads));
        // They are written down when they are needed: values before keys.
        let value = layer.any(&["attn_v.weight"]);
        return finish_separate(batch, layer, input, query, value);
    };
    query = batch.normalise(layer, &["attn_q_norm.weight"], query);
    query = rotate(batch, query);
    if batch.measure.model.architecture == "phi3" {
        query = batch.tape.make(Kind::InPlace, by_head(keeps.key, keeps.heads), &[query]);
    }
    key = batch.normalise(layer, &["attn_k_norm.weight"], key);
    key = rotate(batch, key);
    Some((query, key, value))
}

fn finish_separate<'a>(
    batch: &mut Batch<'a>,
    layer: &Layer<'a>,
    input: Id,
    query: Id,
    value: Option<&'a crate::offload::gguf::Tensor>,
) -> Option<(Id, Id, Id)> {
    let keeps = batch.measure.keeps.layers.get(layer.index).copied()?;
    let tokens = batch.tokens;
    let query = head_norm(batch, layer, "attn_q_norm.weight", query);
    let mut query = rotate(batch, query);
    if batch.measure.model.architecture.starts_with("gemma") {
        let shape = batch.tape.entries.get(query).map_or([0; 4], |entry| entry.shape);
        query = batch.tape.make(Kind::InPlace, shape, &[query]);
    }
    let Some(keys) = layer.any(&["attn_k.weight"]) else { return Some((query, query, query)) };
    let value = match value {
        Some(matrix) => {
            let made = batch.multiply(layer, matrix, input);
            Some(batch.tape.view(made, [keeps.value, keeps.heads_kv, tokens, 1], true))
        }
        None => None,
    };
    let made = batch.multiply(layer, keys, input);
    let made = whole_norm(batch, layer, "attn_k_norm.weight", made);
    let key = batch.tape.view(made, [keeps.key, keeps.heads_kv, tokens, 1], true);
    let value = value.unwrap_or(key);
    let key = head_norm(batch, layer, "attn_k_norm.weight", key);
    Some((query, rotate(batch, key), value))
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

/// Rotates by position.
fn rotate(batch: &mut Batch<'_>, what: Id) -> Id {
    let shape = batch.tape.entries.get(what).map_or([0; 4], |entry| entry.shape);
    let positions = batch.inputs.positions;
    batch.tape.make(Kind::InPlaceAnywhere, shape, &[what, positions])
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
    let inputs = if keeps.is_windowed { batch.inputs.windowed } else { batch.inputs.full };
    let cells = measure.cells();
    let held = if keeps.is_windowed { cells.windowed } else { cells.full };
    let place = batch.placement.layer(layer.index);
    let cache = measure.keeps.layer(layer.index, &cells, &measure.how());
    let (query, key, value) = if keeps.has_cache {
        let (query, key) = (spread(batch, inputs.rotates_keys, query), spread(batch, inputs.rotates_keys, key));
        (query, key, spread(batch, inputs.rotates_values, value))
    } else {
        (spread(batch, inputs.rotates_keys, query), key, value)
    };
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
        let reads: Vec<Id> = [query_view, keys, values, inputs.mask].into_iter().chain(sinks).collect();
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
        return spread(batch, inputs.rotates_values, flat);
    }
    let turned = batch.tape.view(attended, [width, keeps.heads, part, cells.sequences], false);
    batch.tape.make(Kind::Other, flat, &[turned])
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
        return (key, value);
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

/// Bytes of copies with 16 bits that a GPU makes of keys and values which are quantised.
fn half_copies(batch: &Batch<'_>, keeps: &crate::offload::estimate::kv::LayerKeeps, rows: u64) -> u64 {
    let setup = &batch.measure.setup;
    let half = |kind: super::KvType, numbers: u64| {
        if kind == super::KvType::F16 || !setup.build.rotates {
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
    let turned_query = if is_absorbed {
        let part = batch.tape.view(query, [turning, keeps.heads, tokens, 1], false);
        Some(rotate(batch, part))
    } else {
        None
    };
    let absorbed = if is_absorbed {
        let part = batch.tape.view(query, [still, tokens, keeps.heads, 1], false);
        let weight = layer.any(&["attn_k_b.weight"]).map(|tensor| batch.layer_weight(layer, tensor));
        let reads: Vec<Id> = weight.into_iter().chain([part]).collect();
        let made = batch.tape.multiply([rank, tokens, keeps.heads, 1], &reads);
        let turned = batch.tape.view(made, [rank, keeps.heads, tokens, 1], false);
        let reads: Vec<Id> = [turned].into_iter().chain(turned_query).collect();
        Some(batch.tape.make(Kind::Other, [rank.saturating_add(turning), keeps.heads, tokens, 1], &reads))
    } else {
        None
    };
    let both = batch.multiply(layer, matrix, input);
    let squeezed = batch.tape.view(both, [rank, tokens, 1, 1], false);
    let squeezed = batch.normalise(layer, &["attn_kv_a_norm.weight"], squeezed);
    let turning_part = batch.tape.view(both, [turning, 1, tokens, 1], false);
    let turned = rotate(batch, turning_part);
    let attended = if let Some(query) = absorbed {
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
        let query = rotate(batch, query);
        attend(batch, layer, [query, key, value], None)
    };
    match layer.any(&["attn_output.weight"]) {
        Some(matrix) => batch.multiply(layer, matrix, attended),
        None => attended,
    }
}

/// A recurrent layer: projections, a short convolution, a scan over the tokens. What the scan takes is approximate.
fn recurrent<'a>(batch: &mut Batch<'a>, layer: &Layer<'a>, input: Id) -> Id {
    let tokens = batch.tokens;
    let names = [
        "ssm_in.weight",
        "attn_qkv.weight",
        "ssm_qkvz.weight",
        "shortconv.in_proj.weight",
        "time_mix_receptance.weight",
    ];
    let mut made = layer.any(&names).map_or(input, |matrix| batch.multiply(layer, matrix, input));
    if let Some(gate) = layer.any(&["attn_gate.weight"]) {
        batch.multiply(layer, gate, input);
    }
    let width = batch.tape.entries.get(made).map_or(0, |entry| entry.shape[0]);
    for _ in 0..2 {
        made = batch.tape.make(Kind::Other, [width, tokens, 1, 1], &[made]);
    }
    let names = ["ssm_out.weight", "shortconv.out_proj.weight", "time_mix_output.weight"];
    let Some(matrix) = layer.any(&names) else { return input };
    let inner = matrix.shape.first().copied().unwrap_or(width);
    let scanned = batch.tape.make(Kind::Other, [inner, tokens, 1, 1], &[made]);
    batch.multiply(layer, matrix, scanned)
}

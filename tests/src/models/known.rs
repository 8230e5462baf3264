//! Tensors by architecture, and models that are published.

use nixmox_core::offload::gguf::Tensor;

use super::{Mix, Shape, tensor};

/// What a matrix is for, as far as its type depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Tokens,
    Output,
    Values(u64),
    Down(u64),
    Experts,
    Other,
}

/// Whether a layer has more bits in a mix: those at both ends, and every third between.
fn has_more_bits(layer: u64, layers: u64) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

fn kind(shape: &Shape, what: Use) -> &'static str {
    let more = |layer| has_more_bits(layer, shape.layers);
    match (shape.mix, what) {
        (Mix::Mxfp4, Use::Experts) => "MXFP4",
        (Mix::Mxfp4, _) => "Q8_0",
        (Mix::All(_), Use::Tokens) if shape.is_tied => kind(shape, Use::Other),
        (_, Use::Tokens) if shape.is_tied => "Q6_K",
        (Mix::All(kind), _) => kind,
        (_, Use::Output) => "Q6_K",
        (Mix::Legacy(kind), _) => kind,
        (Mix::Q4KM | Mix::Q5KM, Use::Values(layer) | Use::Down(layer)) if more(layer) => "Q6_K",
        (Mix::Q4KS, Use::Values(layer)) if layer < 4 => "Q5_K",
        (Mix::Q4KS, Use::Down(layer)) if layer < shape.layers / 8 => "Q5_K",
        (Mix::Q4KM | Mix::Q4KS, _) => "Q4_K",
        (Mix::Q5KM, _) => "Q5_K",
    }
}

/// Returns what llama.cpp takes instead, where rows are no whole blocks of 256.
fn in_blocks(kind: &'static str, row: u64) -> &'static str {
    match kind {
        _ if row.is_multiple_of(256) => kind,
        "Q4_K" => "Q5_0",
        "Q5_K" => "Q5_1",
        "Q6_K" => "Q8_0",
        other => other,
    }
}

/// Returns the tensors of a shape.
pub(super) fn tensors(shape: &Shape) -> Vec<Tensor> {
    let (wide, words) = (shape.embedding, shape.vocabulary);
    let mut all = vec![
        tensor("token_embd.weight".into(), kind(shape, Use::Tokens), &[wide, words]),
        tensor("output_norm.weight".into(), "F32", &[wide]),
    ];
    if !shape.is_tied {
        all.push(tensor("output.weight".into(), kind(shape, Use::Output), &[wide, words]));
    }
    if shape.more.iter().any(|(key, _)| *key == "rope.freqs") {
        all.push(tensor("rope_freqs.weight".into(), "F32", &[shape.head / 2]));
    }
    for layer in 0..shape.layers {
        let mut put = |name: &str, kind: &str, extents: &[u64]| {
            all.push(tensor(format!("blk.{layer}.{name}"), kind, extents));
        };
        attention(shape, layer, &mut put);
        feed_forward(shape, layer, &mut put);
    }
    all
}

fn attention(shape: &Shape, layer: u64, put: &mut impl FnMut(&str, &str, &[u64])) {
    let (wide, head) = (shape.embedding, shape.head);
    let (queries, keys) = (shape.heads.0 * head, shape.heads.1 * head);
    let usual = kind(shape, Use::Other);
    if shape.architecture != "olmo2" {
        put("attn_norm.weight", "F32", &[wide]);
    }
    if shape.architecture == "deepseek2" {
        let number = |name: &str| shape.more.iter().find(|(key, _)| *key == name).map_or(0, |(_, value)| *value);
        let (rank, turning) = (number("attention.kv_lora_rank"), number("rope.dimension_count"));
        let (key, value) = (number("attention.key_length_mla"), number("attention.value_length_mla"));
        put("attn_q.weight", usual, &[wide, shape.heads.0 * key]);
        put("attn_kv_a_mqa.weight", usual, &[wide, rank + turning]);
        put("attn_kv_a_norm.weight", "F32", &[rank]);
        put("attn_k_b.weight", "Q8_0", &[key - turning, rank, shape.heads.0]);
        put("attn_v_b.weight", "Q8_0", &[rank, value, shape.heads.0]);
        put("attn_output.weight", usual, &[shape.heads.0 * value, wide]);
        return;
    }
    if shape.architecture == "phi3" {
        put("attn_qkv.weight", usual, &[wide, queries + 2 * keys]);
    } else {
        put("attn_q.weight", usual, &[wide, queries]);
        put("attn_k.weight", usual, &[wide, keys]);
        put("attn_v.weight", kind(shape, Use::Values(layer)), &[wide, keys]);
    }
    put("attn_output.weight", usual, &[queries, wide]);
    if matches!(shape.architecture, "qwen2" | "gpt-oss") {
        put("attn_q.bias", "F32", &[queries]);
        put("attn_k.bias", "F32", &[keys]);
        put("attn_v.bias", "F32", &[keys]);
    }
    if matches!(shape.architecture, "qwen3" | "qwen3moe" | "gemma3") {
        put("attn_q_norm.weight", "F32", &[head]);
        put("attn_k_norm.weight", "F32", &[head]);
    }
    if shape.architecture == "gpt-oss" {
        put("attn_output.bias", "F32", &[wide]);
        put("attn_sinks.weight", "F32", &[shape.heads.0]);
    }
    if matches!(shape.architecture, "gemma2" | "gemma3" | "gpt-oss" | "olmo2") {
        put("post_attention_norm.weight", "F32", &[wide]);
    }
    if shape.architecture == "olmo2" {
        put("attn_q_norm.weight", "F32", &[queries]);
        put("attn_k_norm.weight", "F32", &[keys]);
    }
}

fn feed_forward(shape: &Shape, layer: u64, put: &mut impl FnMut(&str, &str, &[u64])) {
    let (wide, inner, usual) = (shape.embedding, shape.inner, kind(shape, Use::Other));
    if !matches!(shape.architecture, "gpt-oss" | "olmo2" | "command-r") {
        put("ffn_norm.weight", "F32", &[wide]);
    }
    if matches!(shape.architecture, "gemma2" | "gemma3" | "olmo2") {
        put("post_ffw_norm.weight", "F32", &[wide]);
    }
    let (experts, _, inner_expert) = shape.experts;
    let is_dense_lead = shape.architecture == "deepseek2" && layer == 0;
    if experts == 0 || is_dense_lead {
        let down = kind(shape, Use::Down(layer));
        if shape.architecture == "phi3" {
            put("ffn_up.weight", usual, &[wide, 2 * inner]);
        } else {
            put("ffn_gate.weight", usual, &[wide, inner]);
            put("ffn_up.weight", usual, &[wide, inner]);
        }
        put("ffn_down.weight", in_blocks(down, inner), &[inner, wide]);
        return;
    }
    let down = if shape.mix == Mix::Mxfp4 { "MXFP4" } else { kind(shape, Use::Down(layer)) };
    let of_experts = kind(shape, Use::Experts);
    put("ffn_gate_inp.weight", "F32", &[wide, experts]);
    put("ffn_gate_exps.weight", of_experts, &[wide, inner_expert, experts]);
    put("ffn_up_exps.weight", of_experts, &[wide, inner_expert, experts]);
    put("ffn_down_exps.weight", in_blocks(down, inner_expert), &[inner_expert, wide, experts]);
    if shape.architecture == "gpt-oss" {
        put("ffn_gate_inp.bias", "F32", &[experts]);
        put("ffn_gate_exps.bias", "F32", &[inner_expert, experts]);
        put("ffn_up_exps.bias", "F32", &[inner_expert, experts]);
        put("ffn_down_exps.bias", "F32", &[wide, experts]);
    }
    if shape.architecture == "deepseek2" {
        let shared = 2 * inner_expert;
        put("ffn_gate_shexp.weight", usual, &[wide, shared]);
        put("ffn_up_shexp.weight", usual, &[wide, shared]);
        put("ffn_down_shexp.weight", in_blocks(kind(shape, Use::Down(layer)), shared), &[shared, wide]);
    }
}

macro_rules! shape {
    ($name:literal, $architecture:literal, $layers:literal x $embedding:literal, heads $q:literal/$kv:literal x $head:literal,
     inner $inner:literal, experts $experts:expr, words $words:literal, context $context:literal, tied $tied:literal, $mix:expr
     $(, $key:literal = $value:literal)*) => {
        Shape {
            name: $name, architecture: $architecture, layers: $layers, embedding: $embedding, heads: ($q, $kv), head: $head,
            inner: $inner, experts: $experts, vocabulary: $words, context: $context, is_tied: $tied, mix: $mix,
            more: vec![$(($key, $value)),*],
        }
    };
}

const NONE: (u64, u64, u64) = (0, 0, 0);

/// Models that are published, by their name.
#[must_use]
pub fn known() -> Vec<Shape> {
    vec![
        shape!("Llama-3-8B", "llama", 32 x 4096, heads 32/8 x 128, inner 14336, experts NONE, words 128_256, context 8192, tied false, Mix::Q4KM),
        shape!("Llama-3.2-1B", "llama", 16 x 2048, heads 32/8 x 64, inner 8192, experts NONE, words 128_256, context 131_072, tied true, Mix::Q4KM),
        shape!("Llama-3-70B", "llama", 80 x 8192, heads 64/8 x 128, inner 28672, experts NONE, words 128_256, context 8192, tied false, Mix::Q4KM),
        shape!("Llama-2-7B", "llama", 32 x 4096, heads 32/32 x 128, inner 11008, experts NONE, words 32_000, context 4096, tied false, Mix::Q4KM),
        shape!("Mixtral-8x7B", "llama", 32 x 4096, heads 32/8 x 128, inner 14336, experts (8, 2, 14336), words 32_000, context 32_768, tied false, Mix::Q4KM),
        shape!("Qwen2.5-7B", "qwen2", 28 x 3584, heads 28/4 x 128, inner 18944, experts NONE, words 152_064, context 32_768, tied false, Mix::Q4KM),
        shape!("Qwen3-4B", "qwen3", 36 x 2560, heads 32/8 x 128, inner 9728, experts NONE, words 151_936, context 40_960, tied true, Mix::Q4KM),
        shape!("Qwen3-30B-A3B", "qwen3moe", 48 x 2048, heads 32/4 x 128, inner 6144, experts (128, 8, 768), words 151_936, context 40_960, tied false, Mix::Q4KM),
        shape!("Gemma-2-9B", "gemma2", 42 x 3584, heads 16/8 x 256, inner 14336, experts NONE, words 256_000, context 8192, tied true, Mix::Q4KM, "attention.sliding_window" = 4096),
        shape!("Gemma-3-12B", "gemma3", 48 x 3840, heads 16/8 x 256, inner 15360, experts NONE, words 262_208, context 131_072, tied true, Mix::Q4KM, "attention.sliding_window" = 1024),
        shape!("gpt-oss-20b", "gpt-oss", 24 x 2880, heads 64/8 x 64, inner 2880, experts (32, 4, 2880), words 201_088, context 131_072, tied false, Mix::Mxfp4, "attention.sliding_window" = 128),
        shape!("Phi-3-mini", "phi3", 32 x 3072, heads 32/32 x 96, inner 8192, experts NONE, words 32_064, context 4096, tied false, Mix::Q4KM),
        shape!("OLMo-2-7B", "olmo2", 32 x 4096, heads 32/32 x 128, inner 11008, experts NONE, words 100_352, context 4096, tied false, Mix::Q4KM),
        shape!("DeepSeek-V2-Lite", "deepseek2", 27 x 2048, heads 16/1 x 576, inner 10944, experts (64, 6, 1408), words 102_400, context 163_840, tied false, Mix::Q5KM,
            "attention.kv_lora_rank" = 512, "rope.dimension_count" = 64, "attention.key_length" = 576, "attention.value_length" = 512,
            "attention.key_length_mla" = 192, "attention.value_length_mla" = 128, "leading_dense_block_count" = 1, "expert_shared_count" = 2,
            "expert_gating_func" = 1),
    ]
}

/// Small models of many shapes, to be compared with llama.cpp itself: each published one with few layers, and other figures.
#[must_use]
pub fn shapes() -> Vec<Shape> {
    let mut shapes = known();
    // How many layers there are tells llama.cpp which DeepSeek it is.
    for shape in shapes.iter_mut().filter(|shape| shape.architecture != "deepseek2") {
        shape.layers = shape.layers.min(13);
    }
    // With few words, what the output takes hides nothing of what layers take.
    for (at, name) in [(0, "few words"), (6, "few words, normalised heads"), (7, "few words, experts")] {
        if let Some(shape) = shapes.get(at).cloned() {
            shapes.push(Shape { name, vocabulary: 1024, ..shape });
        }
    }
    shapes
}

//! Models of Qwen 3.5, three of four layers of which carry a state, put together from their published shapes.

use std::collections::BTreeMap;

use crate::offload::gguf::{Header, Tensor, TensorType, Value};
use crate::offload::model::Model;

/// What is published of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) layers: u64,
    pub(super) embedding: u64,
    pub(super) hidden: u64,
    pub(super) heads: u64,
    pub(super) heads_kv: u64,
    /// Heads of the state, of 128 numbers each.
    pub(super) heads_state: u64,
}

/// How weights are stored: attention and states, what goes down in odd layers, and all else of layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds {
    pub(super) attention: &'static str,
    pub(super) down: &'static str,
    pub(super) others: &'static str,
}

pub(super) const QWEN35_9B: Sizes =
    Sizes { layers: 32, embedding: 4096, hidden: 12288, heads: 16, heads_kv: 4, heads_state: 32 };
pub(super) const QWEN35_27B: Sizes =
    Sizes { layers: 64, embedding: 5120, hidden: 17408, heads: 24, heads_kv: 4, heads_state: 48 };

const VOCABULARY: u64 = 248_320;
const HEAD: u64 = 256;
const STATE: u64 = 128;
const GROUPS: u64 = 16;

pub(super) fn model(sizes: &Sizes, kinds: Kinds) -> Model {
    let mut tensors = Vec::new();
    let mut add = |name: String, kind: &str, extents: Vec<u64>| {
        tensors.push(Tensor::new(name, TensorType::from_name(kind).unwrap(), extents).unwrap());
    };
    let (embedding, inner) = (sizes.embedding, sizes.heads_state * STATE);
    for layer in 0..sizes.layers {
        let mut of_layer = |name: &str, kind: &str, extents: Vec<u64>| {
            add(format!("blk.{layer}.{name}"), kind, extents);
        };
        of_layer("attn_norm.weight", "F32", vec![embedding]);
        if layer % 4 == 3 {
            of_layer("attn_q.weight", kinds.attention, vec![embedding, 2 * HEAD * sizes.heads]);
            of_layer("attn_k.weight", kinds.attention, vec![embedding, HEAD * sizes.heads_kv]);
            of_layer("attn_v.weight", kinds.attention, vec![embedding, HEAD * sizes.heads_kv]);
            of_layer("attn_q_norm.weight", "F32", vec![HEAD]);
            of_layer("attn_k_norm.weight", "F32", vec![HEAD]);
            of_layer("attn_output.weight", kinds.attention, vec![HEAD * sizes.heads, embedding]);
        } else {
            let width = inner + 2 * GROUPS * STATE;
            of_layer("attn_qkv.weight", kinds.attention, vec![embedding, width]);
            of_layer("attn_gate.weight", kinds.attention, vec![embedding, inner]);
            of_layer("ssm_conv1d.weight", "F32", vec![4, width]);
            of_layer("ssm_dt.bias", "F32", vec![sizes.heads_state]);
            of_layer("ssm_a", "F32", vec![sizes.heads_state]);
            of_layer("ssm_alpha.weight", "Q8_0", vec![embedding, sizes.heads_state]);
            of_layer("ssm_beta.weight", "Q8_0", vec![embedding, sizes.heads_state]);
            of_layer("ssm_norm.weight", "F32", vec![STATE]);
            of_layer("ssm_out.weight", kinds.attention, vec![inner, embedding]);
        }
        of_layer("post_attention_norm.weight", "F32", vec![embedding]);
        of_layer("ffn_gate.weight", kinds.others, vec![embedding, sizes.hidden]);
        of_layer("ffn_up.weight", kinds.others, vec![embedding, sizes.hidden]);
        let down = if layer % 2 == 1 { kinds.down } else { kinds.others };
        of_layer("ffn_down.weight", down, vec![sizes.hidden, embedding]);
    }
    add("token_embd.weight".to_owned(), kinds.others, vec![embedding, VOCABULARY]);
    add("output.weight".to_owned(), "Q6_K", vec![embedding, VOCABULARY]);
    add("output_norm.weight".to_owned(), "F32", vec![embedding]);
    Model::of(&[Header { metadata: metadata(sizes), tensors }]).unwrap()
}

fn metadata(sizes: &Sizes) -> BTreeMap<String, Value> {
    let numbers = [
        ("block_count", sizes.layers),
        ("context_length", 262_144),
        ("embedding_length", sizes.embedding),
        ("feed_forward_length", sizes.hidden),
        ("attention.head_count", sizes.heads),
        ("attention.head_count_kv", sizes.heads_kv),
        ("attention.key_length", HEAD),
        ("attention.value_length", HEAD),
        ("full_attention_interval", 4),
        ("ssm.conv_kernel", 4),
        ("ssm.state_size", STATE),
        ("ssm.group_count", GROUPS),
        ("ssm.time_step_rank", sizes.heads_state),
        ("ssm.inner_size", sizes.heads_state * STATE),
    ];
    let mut all: BTreeMap<String, Value> =
        numbers.into_iter().map(|(key, value)| (format!("qwen35.{key}"), Value::Unsigned(value))).collect();
    all.insert("general.architecture".to_owned(), Value::Text("qwen35".to_owned()));
    all.insert("tokenizer.ggml.tokens".to_owned(), Value::Length(VOCABULARY));
    all
}

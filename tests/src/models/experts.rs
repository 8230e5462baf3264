//! Models with experts that differ in what chooses among them, and in what computes beside them.

use super::maker::{Maker, Other};
use super::others::NORM;

const WIDE: u64 = 2048;
const LAYERS: u64 = 10;
const EXPERTS: u64 = 32;
const INNER: u64 = 768;

/// What sets an architecture apart: numbers of its head, what experts that all tokens take are as wide as, leading layers
/// without experts, and tensors of a layer besides.
#[derive(Clone, Copy)]
struct Apart<'a> {
    numbers: &'a [(&'a str, u64)],
    factors: &'a [&'a str],
    shared: u64,
    dense: u64,
    heads_kv: u64,
    more: &'a [(&'a str, &'a [u64])],
    /// Tensors of layers with experts alone.
    beside: &'a [(&'a str, &'a [u64])],
    without: &'a [&'a str],
    is_tied: bool,
}

const USUAL: Apart<'_> = Apart {
    numbers: &[("expert_feed_forward_length", INNER)],
    factors: &[],
    shared: 0,
    dense: 0,
    heads_kv: 4,
    more: &[],
    beside: &[],
    without: &[],
    is_tied: false,
};

/// What each head is normalised with.
const HEADS: [(&str, &[u64]); 2] = [("attn_q_norm", &[128]), ("attn_k_norm", &[128])];
/// The same with all of a layer's queries, keys and values from one matrix.
const FUSED: [(&str, &[u64]); 3] =
    [("attn_q_norm", &[128]), ("attn_k_norm", &[128]), ("attn_qkv", &[WIDE, WIDE + 1024])];
/// What is added to choose among experts.
const BIAS: [(&str, &[u64]); 1] = [("exp_probs_b.bias", &[EXPERTS])];

fn with_experts(architecture: &'static str, apart: Apart<'_>) -> Other {
    let numbers = [
        &[
            ("feed_forward_length", if apart.dense > 0 { 6144 } else { INNER }),
            ("expert_count", EXPERTS),
            ("expert_used_count", 4),
            ("leading_dense_block_count", apart.dense),
            ("attention.head_count", 16),
            ("attention.head_count_kv", apart.heads_kv),
            ("rope.dimension_count", 128),
        ][..],
        apart.numbers,
    ]
    .concat();
    let mut maker = Maker::new(architecture, LAYERS, WIDE, 65_536, &numbers);
    if architecture == "qwen3vlmoe" {
        maker.sections(&[24, 20, 20, 0]);
    }
    for factor in apart.factors {
        maker.factor(factor, 0.5);
    }
    if !apart.is_tied {
        maker.put("output.weight", "Q6_K", &[WIDE, 65_536]);
    }
    for layer in 0..LAYERS {
        maker.layer(layer, &[("attn_norm", &[WIDE])]);
        maker.attention(layer, WIDE, 128 * apart.heads_kv);
        maker.layer(layer, apart.more);
        if layer < apart.dense {
            maker.feed_forward(layer, 6144);
            continue;
        }
        maker.layer(layer, &[("ffn_norm", &[WIDE])]);
        maker.experts(layer, INNER, EXPERTS);
        maker.layer(layer, apart.beside);
        if apart.shared > 0 {
            maker.layer(
                layer,
                &[
                    ("ffn_gate_shexp", &[WIDE, apart.shared]),
                    ("ffn_up_shexp", &[WIDE, apart.shared]),
                    ("ffn_down_shexp", &[apart.shared, WIDE]),
                ],
            );
        }
    }
    let maker = apart.without.iter().fold(maker, |maker, name| maker.without(name));
    maker.done(NORM)
}

/// One of each.
pub(super) fn all() -> Vec<Other> {
    let sigmoid = ("expert_gating_func", 2);
    let wide = ("expert_feed_forward_length", INNER);
    vec![
        with_experts(
            "granitemoe",
            Apart {
                numbers: &[("expert_shared_feed_forward_length", 1024)],
                factors: &["logit_scale", "residual_scale", "embedding_scale", "attention.scale"],
                shared: 1024,
                is_tied: true,
                ..USUAL
            },
        ),
        with_experts(
            "bailingmoe2",
            Apart {
                numbers: &[wide, ("expert_shared_count", 1), sigmoid],
                factors: &["expert_weights_scale"],
                shared: INNER,
                dense: 1,
                more: &FUSED,
                beside: &BIAS,
                without: &["attn_q.", "attn_k.", "attn_v."],
                ..USUAL
            },
        ),
        with_experts(
            "ernie4_5-moe",
            Apart {
                numbers: &[
                    wide,
                    ("interleave_moe_layer_step", 1),
                    ("expert_shared_count", 2),
                    ("expert_shared_feed_forward_length", 1536),
                ],
                shared: 1536,
                dense: 1,
                beside: &BIAS,
                ..USUAL
            },
        ),
        with_experts("hunyuan-moe", Apart { shared: INNER, more: &HEADS, ..USUAL }),
        with_experts(
            "dots1",
            Apart {
                numbers: &[wide, ("expert_shared_count", 2), sigmoid],
                factors: &["expert_weights_scale"],
                shared: 2 * INNER,
                dense: 1,
                heads_kv: 16,
                more: &HEADS,
                beside: &BIAS,
                ..USUAL
            },
        ),
        with_experts(
            "olmoe",
            Apart { heads_kv: 16, more: &[("attn_q_norm", &[WIDE]), ("attn_k_norm", &[WIDE])], ..USUAL },
        ),
        with_experts(
            "qwen2moe",
            Apart {
                numbers: &[wide, ("expert_shared_feed_forward_length", 3072)],
                shared: 3072,
                more: &[("attn_q.bias", &[WIDE]), ("attn_k.bias", &[512]), ("attn_v.bias", &[512])],
                beside: &[("ffn_gate_inp_shexp", &[WIDE])],
                ..USUAL
            },
        ),
        with_experts(
            "deepseek",
            Apart {
                numbers: &[wide, ("expert_shared_count", 2)],
                factors: &["expert_weights_scale"],
                shared: 2 * INNER,
                dense: 1,
                heads_kv: 16,
                ..USUAL
            },
        ),
        with_experts("qwen3vlmoe", Apart { more: &HEADS, ..USUAL }),
        with_experts(
            "minimax-m2",
            Apart {
                numbers: &[wide, sigmoid],
                more: &[("attn_q_norm", &[WIDE]), ("attn_k_norm", &[512])],
                beside: &BIAS,
                ..USUAL
            },
        ),
    ]
}

//! Models that differ from Llama in a norm, a bias, a factor or the order of their parts.

use super::maker::{Maker, Other};
use super::others::NORM;

/// What sets an architecture apart: numbers of its head, tensors of a layer that it has besides, and those that it has not.
struct Apart<'a> {
    numbers: &'a [(&'a str, u64)],
    factors: &'a [&'a str],
    more: &'a [(&'a str, u64)],
    without: &'a [&'a str],
    is_tied: bool,
}

const LIKE_LLAMA: Apart<'_> = Apart { numbers: &[], factors: &[], more: &[], without: &[], is_tied: false };

fn plain(architecture: &'static str, apart: &Apart<'_>) -> Other {
    let (wide, layers, inner, words) = (3072, 12, 8192, 65_536);
    let usual = [
        ("feed_forward_length", inner),
        ("attention.head_count", 24),
        ("attention.head_count_kv", 8),
        ("rope.dimension_count", 128),
    ];
    let mut maker = Maker::new(architecture, layers, wide, words, &[&usual[..], apart.numbers].concat());
    for factor in apart.factors {
        maker.factor(factor, 0.5);
    }
    if !apart.is_tied {
        maker.put("output.weight", "Q6_K", &[wide, words]);
    }
    if apart.more.iter().any(|(name, _)| *name == "attn_norm.bias") {
        maker.put("output_norm.bias", "F32", &[wide]);
    }
    if architecture == "phi2" {
        maker.put("output.bias", "F32", &[words]);
    }
    // Factors of the frequencies that positions are rotated by: of Llama 3.1, and of Phi 3 for short and for long contexts.
    let factors: &[&str] = match architecture {
        "llama" => &["rope_freqs.weight"],
        "phi3" => &["rope_factors_long.weight", "rope_factors_short.weight"],
        _ => &[],
    };
    for name in factors {
        maker.put(name, "F32", &[64]);
    }
    for layer in 0..layers {
        maker.layer(layer, &[("attn_norm", &[wide])]);
        maker.attention(layer, wide, 1024);
        if matches!(architecture, "glm4" | "phi3") {
            // What goes up and its gate are one matrix.
            maker.layer(
                layer,
                &[("ffn_norm", &[wide]), ("ffn_up", &[wide, 2 * inner]), ("ffn_down", &[inner, wide])],
            );
        } else {
            maker.feed_forward(layer, inner);
        }
        for (name, width) in apart.more {
            maker.layer(layer, &[(name, &[*width])]);
        }
    }
    let maker = apart.without.iter().fold(maker, |maker, name| maker.without(name));
    maker.done(NORM)
}

/// One of each.
pub(super) fn all() -> Vec<Other> {
    let like = |more, without| Apart { more, without, ..LIKE_LLAMA };
    vec![
        plain("command-r", &Apart { without: &["ffn_norm"], is_tied: true, ..LIKE_LLAMA }),
        plain("ernie4_5", &LIKE_LLAMA),
        plain(
            "exaone4",
            &like(
                &[
                    ("post_attention_norm", 3072),
                    ("post_ffw_norm", 3072),
                    ("attn_q_norm", 128),
                    ("attn_k_norm", 128),
                ],
                &["attn_norm", "ffn_norm"],
            ),
        ),
        plain(
            "granite",
            &Apart {
                factors: &["logit_scale", "residual_scale", "embedding_scale", "attention.scale"],
                is_tied: true,
                ..LIKE_LLAMA
            },
        ),
        plain("hunyuan-dense", &like(&[("attn_q_norm", 128), ("attn_k_norm", 128)], &[])),
        plain("minicpm", &Apart { factors: &["logit_scale", "residual_scale", "embedding_scale"], ..LIKE_LLAMA }),
        plain("mistral3", &LIKE_LLAMA),
        plain(
            "phi2",
            &like(
                &[
                    ("attn_q.bias", 3072),
                    ("attn_k.bias", 1024),
                    ("attn_v.bias", 1024),
                    ("attn_output.bias", 3072),
                    ("attn_norm.bias", 3072),
                    ("ffn_up.bias", 8192),
                    ("ffn_down.bias", 3072),
                ],
                &["ffn_norm", "ffn_gate"],
            ),
        ),
        plain(
            "seed_oss",
            &like(
                &[
                    ("attn_q.bias", 3072),
                    ("attn_k.bias", 1024),
                    ("attn_v.bias", 1024),
                    ("post_attention_norm", 3072),
                ],
                &["ffn_norm"],
            ),
        ),
        plain("smollm3", &LIKE_LLAMA),
        plain(
            "starcoder2",
            &like(
                &[
                    ("attn_q.bias", 3072),
                    ("attn_k.bias", 1024),
                    ("attn_v.bias", 1024),
                    ("attn_output.bias", 3072),
                    ("attn_norm.bias", 3072),
                    ("ffn_norm.bias", 3072),
                    ("ffn_up.bias", 8192),
                    ("ffn_down.bias", 3072),
                ],
                &["ffn_gate"],
            ),
        ),
        plain("internlm2", &LIKE_LLAMA),
        plain("glm4", &like(&[("post_attention_norm", 3072), ("post_ffw_norm", 3072)], &[])),
        plain("llama", &LIKE_LLAMA),
        plain("phi3", &LIKE_LLAMA),
        // A file of it without factors: llama.cpp has its own.
        plain("minicpm", &LIKE_LLAMA),
    ]
}

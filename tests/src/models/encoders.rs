//! Models that make one vector of a text, and no tokens.

use nixmox_core::offload::gguf::Value;

use super::maker::{Maker, Other};

/// One of an architecture of this kind.
fn bert(architecture: &'static str) -> Other {
    let wide = 1024;
    let (is_bert, has_experts) = (architecture == "bert", architecture == "nomic-bert-moe");
    let mut maker = Maker::new(
        architecture,
        12,
        wide,
        30_522,
        &[
            ("feed_forward_length", 4096),
            ("attention.head_count", 16),
            ("attention.head_count_kv", 16),
            ("moe_every_n_layers", if has_experts { 2 } else { 0 }),
            ("expert_count", if has_experts { 8 } else { 0 }),
            ("expert_used_count", if has_experts { 2 } else { 0 }),
        ],
    );
    maker.metadata.insert("tokenizer.ggml.token_type_count".to_owned(), Value::Unsigned(2));
    if is_bert {
        maker.put("position_embd.weight", "F32", &[wide, 32_768]);
    }
    maker.put("token_types.weight", "F32", &[wide, 2]);
    maker.put("token_embd_norm.bias", "F32", &[wide]);
    for layer in 0..12 {
        maker.attention(layer, wide, wide);
        maker.layer(
            layer,
            &[
                ("attn_output_norm", &[wide]),
                ("attn_output_norm.bias", &[wide]),
                ("layer_output_norm", &[wide]),
                ("layer_output_norm.bias", &[wide]),
            ],
        );
        if architecture != "nomic-bert" {
            maker.layer(
                layer,
                &[
                    ("attn_q.bias", &[wide]),
                    ("attn_k.bias", &[wide]),
                    ("attn_v.bias", &[wide]),
                    ("attn_output.bias", &[wide]),
                ],
            );
        }
        if has_experts && layer % 2 == 1 {
            maker.experts(layer, 4096, 8);
            continue;
        }
        maker.layer(layer, &[("ffn_up", &[wide, 4096]), ("ffn_down", &[4096, wide])]);
        if architecture == "nomic-bert" {
            maker.layer(layer, &[("ffn_gate", &[wide, 4096])]);
        } else {
            maker.layer(layer, &[("ffn_up.bias", &[4096]), ("ffn_down.bias", &[wide])]);
        }
    }
    maker.without("ffn_gate_exps").done("token_embd_norm.weight")
}

/// One of each.
pub(super) fn all() -> Vec<Other> {
    vec![bert("bert"), bert("nomic-bert"), bert("nomic-bert-moe")]
}

//! Models that are built unlike the usual ones: recurrent and hybrid layers, layers that share keys and values, chunks of context.
//!
//! Owns small ones of each architecture, as llama.cpp reads them; figures that do not matter for it are those of published models.

use super::maker::{Maker, Other};
use super::{encoders, experts, newer, plain};

pub(super) const NORM: &str = "output_norm.weight";

/// What a first kind of state space takes: twice as wide as a vector.
const SPACE: [(&str, u64); 4] =
    [("ssm.conv_kernel", 4), ("ssm.inner_size", 5120), ("ssm.state_size", 16), ("ssm.time_step_rank", 160)];

fn space(maker: &mut Maker, layer: u64, is_normalised: bool) {
    let (wide, inner, state, rank) = (maker.wide, 5120, 16, 160);
    maker.layer(
        layer,
        &[
            ("attn_norm", &[wide]),
            ("ssm_in", &[wide, 2 * inner]),
            ("ssm_conv1d", &[4, inner]),
            ("ssm_conv1d.bias", &[inner]),
            ("ssm_x", &[inner, rank + 2 * state]),
            ("ssm_dt", &[rank, inner]),
            ("ssm_dt.bias", &[inner]),
            ("ssm_a", &[state, inner]),
            ("ssm_d", &[inner]),
            ("ssm_out", &[inner, wide]),
        ],
    );
    if is_normalised {
        maker.layer(layer, &[("ssm_dt_norm", &[rank]), ("ssm_b_norm", &[state]), ("ssm_c_norm", &[state])]);
    }
}

fn mamba() -> Other {
    let numbers = [&SPACE[..], &[("feed_forward_length", 0), ("attention.head_count", 0)]].concat();
    let mut maker = Maker::new("mamba", 16, 2560, 50_280, &numbers);
    (0..16).for_each(|layer| space(&mut maker, layer, false));
    maker.done(NORM)
}

fn jamba() -> Other {
    let numbers = [&SPACE[..], &[("feed_forward_length", 8192), ("attention.head_count", 20)]].concat();
    let mut maker = Maker::new("jamba", 16, 2560, 65_536, &numbers);
    maker.by_layer("attention.head_count_kv", |layer| if layer % 8 == 4 { 4 } else { 0 });
    for layer in 0..16 {
        if layer % 8 == 4 {
            maker.layer(layer, &[("attn_norm", &[2560])]);
            maker.attention(layer, 2560, 512);
        } else {
            space(&mut maker, layer, true);
        }
        maker.feed_forward(layer, 8192);
    }
    maker.done(NORM)
}

fn falcon_h1() -> Other {
    let (wide, inner, state, heads) = (2048, 3072, 256, 48);
    let mut maker = Maker::new(
        "falcon-h1",
        12,
        wide,
        65_536,
        &[
            ("feed_forward_length", 6144),
            ("attention.head_count", 8),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 128),
            ("attention.value_length", 128),
            ("rope.dimension_count", 128),
            ("ssm.conv_kernel", 4),
            ("ssm.inner_size", inner),
            ("ssm.state_size", state),
            ("ssm.time_step_rank", heads),
            ("ssm.group_count", 1),
        ],
    );
    let convolved = inner + 2 * state;
    for layer in 0..12 {
        maker.layer(
            layer,
            &[
                ("attn_norm", &[wide]),
                ("ssm_in", &[wide, inner + convolved + heads]),
                ("ssm_conv1d", &[4, convolved]),
                ("ssm_conv1d.bias", &[convolved]),
                ("ssm_dt.bias", &[heads]),
                ("ssm_a", &[1, heads]),
                ("ssm_d", &[1, heads]),
                ("ssm_out", &[inner, wide]),
            ],
        );
        maker.attention(layer, 1024, 256);
        maker.feed_forward(layer, 6144);
    }
    let mut made = maker.done(NORM);
    // This one norm has no suffix there.
    for tensor in made.header.tensors.iter_mut().filter(|tensor| tensor.name.ends_with("ffn_norm.weight")) {
        tensor.name.truncate(tensor.name.len() - ".weight".len());
    }
    made
}

fn lfm2(architecture: &'static str) -> Other {
    let wide = 2048;
    let mut maker = Maker::new(
        architecture,
        16,
        wide,
        65_536,
        &[
            ("feed_forward_length", 8192),
            ("attention.head_count", 32),
            ("rope.dimension_count", 64),
            ("shortconv.l_cache", 3),
            ("leading_dense_block_count", 2),
            ("expert_feed_forward_length", 1792),
            ("expert_count", 32),
            ("expert_used_count", 4),
            ("expert_gating_func", 2),
        ],
    );
    let is_attention = |layer| matches!(layer, 2 | 5 | 8 | 10 | 12 | 14);
    maker.by_layer("attention.head_count_kv", |layer| if is_attention(layer) { 8 } else { 0 });
    for layer in 0..16 {
        maker.layer(layer, &[("attn_norm", &[wide])]);
        if is_attention(layer) {
            maker.attention(layer, wide, 512);
            maker.layer(layer, &[("attn_q_norm", &[64]), ("attn_k_norm", &[64])]);
        } else {
            maker.layer(
                layer,
                &[
                    ("shortconv.conv", &[3, wide]),
                    ("shortconv.in_proj.weight", &[wide, 3 * wide]),
                    ("shortconv.out_proj.weight", &[wide, wide]),
                ],
            );
        }
        if architecture == "lfm2" || layer < 2 {
            maker.feed_forward(layer, 8192);
        } else {
            maker.layer(layer, &[("ffn_norm", &[wide]), ("exp_probs_b.bias", &[32])]);
            maker.experts(layer, 1792, 32);
        }
    }
    maker.done("token_embd_norm.weight")
}

fn gemma3n() -> Other {
    let (wide, part, layers, words) = (2048, 256, 30, 65_536);
    let mut maker = Maker::new(
        "gemma3n",
        layers,
        wide,
        words,
        &[
            ("feed_forward_length", 8192),
            ("attention.head_count", 8),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 256),
            ("attention.value_length", 256),
            ("rope.dimension_count", 256),
            ("attention.sliding_window", 512),
        ],
    );
    maker.put("altup_proj.weight", "Q8_0", &[wide, wide, 3]);
    maker.put("altup_unembd_proj.weight", "Q8_0", &[wide, wide, 3]);
    maker.put("per_layer_token_embd.weight", "Q8_0", &[part * layers, words]);
    maker.put("per_layer_model_proj.weight", "Q8_0", &[wide, part * layers]);
    maker.put("per_layer_proj_norm.weight", "F32", &[part]);
    for layer in 0..layers {
        maker.attention(layer, 2048, 512);
        maker.feed_forward(layer, 8192);
        maker.layer(
            layer,
            &[
                ("attn_norm", &[wide]),
                ("attn_q_norm", &[256]),
                ("attn_k_norm", &[256]),
                ("post_attention_norm", &[wide]),
                ("post_ffw_norm", &[wide]),
                ("inp_gate", &[wide, part]),
                ("proj", &[part, wide]),
                ("post_norm", &[wide]),
                ("altup_correct_coef", &[4, 4]),
                ("altup_correct_scale", &[wide]),
                ("altup_predict_coef", &[4, 16]),
                ("altup_router", &[wide, 4]),
                ("altup_router_norm", &[wide]),
                ("laurel_l", &[wide, 64]),
                ("laurel_r", &[64, wide]),
                ("laurel_post_norm", &[wide]),
            ],
        );
    }
    maker.done(NORM)
}

fn llama4() -> Other {
    let (wide, inner, experts) = (5120, 8192, 16);
    let mut maker = Maker::new(
        "llama4",
        8,
        wide,
        65_536,
        &[
            ("feed_forward_length", 16_384),
            ("expert_feed_forward_length", inner),
            ("expert_count", experts),
            ("expert_used_count", 1),
            ("interleave_moe_layer_step", 1),
            ("attention.head_count", 40),
            ("attention.head_count_kv", 8),
            ("rope.dimension_count", 128),
        ],
    );
    maker.put("output.weight", "Q6_K", &[wide, 65_536]);
    for layer in 0..8 {
        maker.attention(layer, wide, 1024);
        maker.layer(
            layer,
            &[
                ("attn_norm", &[wide]),
                ("ffn_norm", &[wide]),
                ("ffn_gate_inp", &[wide, experts]),
                ("ffn_gate_exps", &[wide, inner, experts]),
                ("ffn_up_exps", &[wide, inner, experts]),
                ("ffn_down_exps", &[inner, wide, experts]),
                ("ffn_gate_shexp", &[wide, inner]),
                ("ffn_up_shexp", &[wide, inner]),
                ("ffn_down_shexp", &[inner, wide]),
            ],
        );
    }
    maker.done(NORM)
}

fn cohere2() -> Other {
    let wide = 4096;
    let mut maker = Maker::new(
        "cohere2",
        12,
        wide,
        65_536,
        &[
            ("feed_forward_length", 14_336),
            ("attention.head_count", 32),
            ("attention.head_count_kv", 8),
            ("rope.dimension_count", 128),
            ("attention.sliding_window", 4096),
        ],
    );
    for layer in 0..12 {
        maker.layer(layer, &[("attn_norm", &[wide])]);
        maker.attention(layer, wide, 1024);
        maker.feed_forward(layer, 14_336);
    }
    let mut made = maker.done(NORM);
    // Attention and what follows it are given the same there.
    made.header.tensors.retain(|tensor| !tensor.name.contains("ffn_norm"));
    made
}

/// Its last layer guesses ahead.
fn glm4moe() -> Other {
    let (wide, inner, experts) = (4096, 1408, 32);
    let mut maker = Maker::new(
        "glm4moe",
        8,
        wide,
        65_536,
        &[
            ("nextn_predict_layers", 1),
            ("leading_dense_block_count", 1),
            ("feed_forward_length", 10_944),
            ("expert_feed_forward_length", inner),
            ("expert_count", experts),
            ("expert_used_count", 8),
            ("expert_shared_count", 1),
            ("attention.head_count", 96),
            ("attention.head_count_kv", 8),
            ("attention.key_length", 128),
            ("attention.value_length", 128),
            ("rope.dimension_count", 64),
        ],
    );
    maker.put("output.weight", "Q6_K", &[wide, 65_536]);
    for layer in 0..8 {
        maker.attention(layer, 12_288, 1024);
        maker.layer(layer, &[("attn_norm", &[wide]), ("post_attention_norm", &[wide])]);
        if layer == 0 {
            maker.feed_forward(layer, 10_944);
        } else {
            maker.layer(
                layer,
                &[
                    ("ffn_gate_inp", &[wide, experts]),
                    ("exp_probs_b.bias", &[experts]),
                    ("ffn_gate_exps", &[wide, inner, experts]),
                    ("ffn_up_exps", &[wide, inner, experts]),
                    ("ffn_down_exps", &[inner, wide, experts]),
                    ("ffn_gate_shexp", &[wide, inner]),
                    ("ffn_up_shexp", &[wide, inner]),
                    ("ffn_down_shexp", &[inner, wide]),
                ],
            );
        }
    }
    maker.layer(
        7,
        &[
            ("nextn.eh_proj.weight", &[2 * wide, wide]),
            ("nextn.enorm.weight", &[wide]),
            ("nextn.hnorm.weight", &[wide]),
        ],
    );
    let mut made = maker.done(NORM);
    made.header.tensors.retain(|tensor| !tensor.name.contains("ffn_norm"));
    made
}

/// One of each architecture that is known.
#[must_use]
pub fn others() -> Vec<Other> {
    let mut all =
        vec![mamba(), jamba(), falcon_h1(), lfm2("lfm2"), lfm2("lfm2moe"), gemma3n(), llama4(), cohere2()];
    all.push(glm4moe());
    all.extend(encoders::all());
    all.extend(newer::all());
    all.extend(plain::all());
    all.extend(experts::all());
    all
}

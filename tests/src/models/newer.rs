//! Newer hybrid models: layers with a delta rule or a scan by head, and attention every few layers.

use super::maker::{Maker, Other};
use super::others::NORM;

/// What layers with a delta rule take.
const DELTA: [(&str, u64); 5] = [
    ("ssm.conv_kernel", 4),
    ("ssm.inner_size", 4096),
    ("ssm.state_size", 128),
    ("ssm.time_step_rank", 32),
    ("ssm.group_count", 16),
];

fn delta_net(architecture: &'static str, experts: u64) -> Other {
    let (wide, layers) = (2048, 12);
    let numbers = [
        &DELTA[..],
        &[
            ("feed_forward_length", 6144),
            ("expert_feed_forward_length", 512),
            ("expert_shared_feed_forward_length", 512),
            ("expert_count", experts),
            ("expert_used_count", if experts > 0 { 8 } else { 0 }),
            ("attention.head_count", 16),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 256),
            ("attention.value_length", 256),
            ("rope.dimension_count", 64),
        ],
    ]
    .concat();
    let mut maker = Maker::new(architecture, layers, wide, 65_536, &numbers);
    maker.sections(&[11, 11, 10, 0]);
    maker.put("output.weight", "Q6_K", &[wide, 65_536]);
    for layer in 0..layers {
        maker.layer(layer, &[("attn_norm", &[wide]), ("post_attention_norm", &[wide])]);
        if layer % 4 == 3 {
            maker.layer(
                layer,
                &[
                    ("attn_q", &[wide, 8192]),
                    ("attn_k", &[wide, 512]),
                    ("attn_v", &[wide, 512]),
                    ("attn_output", &[4096, wide]),
                    ("attn_q_norm", &[256]),
                    ("attn_k_norm", &[256]),
                ],
            );
        } else {
            maker.layer(
                layer,
                &[
                    ("attn_qkv", &[wide, 8192]),
                    ("attn_gate", &[wide, 4096]),
                    ("ssm_conv1d", &[4, 8192]),
                    ("ssm_dt.bias", &[32]),
                    ("ssm_a", &[32]),
                    ("ssm_norm", &[128]),
                    ("ssm_out", &[4096, wide]),
                ],
            );
            if architecture == "qwen3next" {
                maker.layer(layer, &[("ssm_ba", &[wide, 64])]);
            } else {
                maker.layer(layer, &[("ssm_beta", &[wide, 32]), ("ssm_alpha", &[wide, 32])]);
            }
        }
        if experts == 0 {
            maker.feed_forward(layer, 6144);
        } else {
            maker.experts(layer, 512, experts);
            maker.layer(
                layer,
                &[
                    ("ffn_gate_inp_shexp", &[wide]),
                    ("ffn_gate_shexp", &[wide, 512]),
                    ("ffn_up_shexp", &[wide, 512]),
                    ("ffn_down_shexp", &[512, wide]),
                ],
            );
        }
    }
    maker.without("ffn_norm").done(NORM)
}

/// What scans by head take.
const SPACE: [(&str, u64); 5] = [
    ("ssm.conv_kernel", 4),
    ("ssm.inner_size", 4096),
    ("ssm.state_size", 128),
    ("ssm.time_step_rank", 64),
    ("ssm.group_count", 1),
];

fn space(maker: &mut Maker, layer: u64) {
    let wide = maker.wide;
    maker.layer(
        layer,
        &[
            ("ssm_in", &[wide, 8512]),
            ("ssm_conv1d", &[4, 4352]),
            ("ssm_conv1d.bias", &[4352]),
            ("ssm_dt.bias", &[64]),
            ("ssm_a", &[1, 64]),
            ("ssm_d", &[1, 64]),
            ("ssm_norm", &[4096, 1]),
            ("ssm_out", &[4096, wide]),
        ],
    );
}

/// Scans, with attention every sixth layer.
fn granite_hybrid() -> Other {
    let (wide, layers) = (2048, 12);
    let numbers =
        [&SPACE[..], &[("feed_forward_length", 8192), ("attention.head_count", 32), ("rope.dimension_count", 64)]]
            .concat();
    let mut maker = Maker::new("granitehybrid", layers, wide, 65_536, &numbers);
    maker.by_layer("attention.head_count_kv", |layer| if layer % 6 == 5 { 8 } else { 0 });
    for factor in ["residual_scale", "embedding_scale", "attention.scale"] {
        maker.factor(factor, 0.5);
    }
    for layer in 0..layers {
        maker.layer(layer, &[("attn_norm", &[wide])]);
        if layer % 6 == 5 {
            maker.attention(layer, wide, 512);
        } else {
            space(&mut maker, layer);
        }
        maker.feed_forward(layer, 8192);
    }
    maker.done(NORM)
}

/// Each layer is one of a scan, attention, and a feed-forward part.
fn nemotron_h(architecture: &'static str) -> Other {
    let (wide, layers) = (2048, 12);
    let has_experts = architecture == "nemotron_h_moe";
    let numbers = [
        &SPACE[..],
        &[
            ("attention.head_count", 32),
            ("rope.dimension_count", 64),
            ("expert_feed_forward_length", 1856),
            ("expert_shared_feed_forward_length", 3712),
            ("expert_shared_count", 1),
            ("expert_count", if has_experts { 32 } else { 0 }),
            ("expert_used_count", if has_experts { 6 } else { 0 }),
        ],
    ]
    .concat();
    let mut maker = Maker::new(architecture, layers, wide, 65_536, &numbers);
    maker.factor("attention.layer_norm_epsilon", 1e-5);
    let is_attention = |layer| layer % 6 == 4;
    maker.by_layer("attention.head_count_kv", |layer| if is_attention(layer) { 8 } else { 0 });
    maker.by_layer("feed_forward_length", |layer| if layer % 2 == 1 { 8192 } else { 0 });
    maker.put("output.weight", "Q6_K", &[wide, 65_536]);
    for layer in 0..layers {
        maker.layer(layer, &[("attn_norm", &[wide])]);
        if layer % 2 == 1 && has_experts {
            maker.experts(layer, 1856, 32);
            maker.layer(
                layer,
                &[("exp_probs_b.bias", &[32]), ("ffn_up_shexp", &[wide, 3712]), ("ffn_down_shexp", &[3712, wide])],
            );
        } else if layer % 2 == 1 {
            maker.layer(layer, &[("ffn_up", &[wide, 8192]), ("ffn_down", &[8192, wide])]);
        } else if is_attention(layer) {
            maker.attention(layer, wide, 512);
        } else {
            space(&mut maker, layer);
        }
    }
    if has_experts {
        maker.factor("expert_weights_scale", 2.5);
    }
    maker.without("ffn_gate_exps").done(NORM)
}

/// Layers with a window are narrower, the last ones use keys and values of others; `own`: numbers of each layer's own vectors.
fn gemma4(own: u64, experts: u64) -> Other {
    let (wide, layers, words) = (2560, 18, 65_536);
    let shared = if own > 0 { 6 } else { 0 };
    let mut maker = Maker::new(
        "gemma4",
        layers,
        wide,
        words,
        &[
            ("feed_forward_length", 10_240),
            ("attention.head_count", 8),
            ("attention.key_length", 512),
            ("attention.value_length", 512),
            ("attention.key_length_swa", 256),
            ("attention.value_length_swa", 256),
            ("rope.dimension_count", 512),
            ("rope.dimension_count_swa", 256),
            ("attention.sliding_window", 512),
            ("attention.shared_kv_layers", shared),
            ("embedding_length_per_layer_input", own),
            ("expert_count", experts),
            ("expert_used_count", if experts > 0 { 8 } else { 0 }),
            ("expert_feed_forward_length", 704),
        ],
    );
    let is_windowed = |layer| layer % 6 != 5;
    maker.by_layer("attention.head_count_kv", |_| 2);
    maker.by_layer("attention.sliding_window_pattern", |layer| i64::from(is_windowed(layer)));
    maker.factor("final_logit_softcapping", 30.0);
    maker.put("rope_freqs.weight", "F32", &[256]);
    if own > 0 {
        maker.put("per_layer_token_embd.weight", "Q8_0", &[own * layers, words]);
        maker.put("per_layer_model_proj.weight", "Q8_0", &[wide, own * layers]);
        maker.put("per_layer_proj_norm.weight", "F32", &[own]);
    }
    for layer in 0..layers {
        let head = if is_windowed(layer) { 256 } else { 512 };
        maker.attention(layer, 8 * head, 2 * head);
        maker.feed_forward(layer, 10_240);
        maker.layer(
            layer,
            &[
                ("attn_norm", &[wide]),
                ("attn_q_norm", &[head]),
                ("attn_k_norm", &[head]),
                ("post_attention_norm", &[wide]),
                ("post_ffw_norm", &[wide]),
                ("layer_output_scale", &[1]),
            ],
        );
        if experts > 0 {
            maker.layer(
                layer,
                &[
                    ("ffn_gate_inp", &[wide, experts]),
                    ("ffn_gate_inp.scale", &[wide]),
                    ("ffn_gate_up_exps", &[wide, 1408, experts]),
                    ("ffn_down_exps", &[704, wide, experts]),
                    ("ffn_down_exps.scale", &[experts]),
                    ("pre_ffw_norm_2", &[wide]),
                    ("post_ffw_norm_1", &[wide]),
                    ("post_ffw_norm_2", &[wide]),
                ],
            );
        }
        if own > 0 {
            maker.layer(layer, &[("inp_gate", &[wide, own]), ("proj", &[own, wide]), ("post_norm", &[wide])]);
        }
    }
    maker.done(NORM)
}

/// One of each.
pub(super) fn all() -> Vec<Other> {
    vec![
        granite_hybrid(),
        nemotron_h("nemotron_h"),
        nemotron_h("nemotron_h_moe"),
        gemma4(0, 0),
        gemma4(256, 0),
        gemma4(0, 32),
        delta_net("qwen3next", 64),
        delta_net("qwen35", 0),
        delta_net("qwen35moe", 64),
    ]
}

//! Models of logs, put together from their published shapes and the recipe of their quantization.

use std::collections::BTreeMap;

use crate::offload::gguf::{Header, Tensor, TensorType, Value};
use crate::offload::model::Model;

/// How weights are stored: which type a matrix gets, by its name and its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::offload::estimate) enum Recipe {
    Q4_0,
    Q4Ks,
    Q4Km,
    Q6K,
    Q8_0,
    F16,
    Mxfp4,
}

/// Feed-forward of a model.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::offload::estimate) struct Experts {
    pub(in crate::offload::estimate) count: u64,
    pub(in crate::offload::estimate) used: u64,
    pub(in crate::offload::estimate) hidden: u64,
    /// Experts that are always used, as one.
    pub(in crate::offload::estimate) shared: u64,
    /// Layers without experts, at the beginning.
    pub(in crate::offload::estimate) dense: u64,
}

/// What is published of a model.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::offload::estimate) struct Shape {
    pub(in crate::offload::estimate) architecture: &'static str,
    pub(in crate::offload::estimate) layers: u64,
    pub(in crate::offload::estimate) embedding: u64,
    pub(in crate::offload::estimate) hidden: u64,
    pub(in crate::offload::estimate) heads: u64,
    pub(in crate::offload::estimate) heads_kv: u64,
    /// Extent of a head; 0: by the heads that share `embedding`.
    pub(in crate::offload::estimate) head: u64,
    pub(in crate::offload::estimate) vocabulary: u64,
    pub(in crate::offload::estimate) context: u64,
    pub(in crate::offload::estimate) window: u64,
    pub(in crate::offload::estimate) is_tied: bool,
    /// Queries, keys and values have biases.
    pub(in crate::offload::estimate) has_biases: bool,
    /// Queries, keys and values are one matrix, and so are the two of feed-forward.
    pub(in crate::offload::estimate) is_fused: bool,
    pub(in crate::offload::estimate) experts: Experts,
    /// Latent attention: ranks of queries (0: none) and of keys.
    pub(in crate::offload::estimate) latent: Option<(u64, u64)>,
    /// What sees: MiB of weights as logged, side of a picture, side of a patch, channels, heads, extent.
    pub(in crate::offload::estimate) vision: Option<(f64, u64, u64, u64, u64, u64)>,
    /// The type of the output's matrix, where it is another than the recipe's.
    pub(in crate::offload::estimate) output: Option<&'static str>,
    /// The type of the matrix of values, likewise.
    pub(in crate::offload::estimate) values: Option<&'static str>,
    /// Layers that look at pictures.
    pub(in crate::offload::estimate) looking: &'static [i64],
    /// Numbers of metadata besides.
    pub(in crate::offload::estimate) more: &'static [(&'static str, u64)],
}

impl Recipe {
    fn base(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4Ks | Self::Q4Km => "Q4_K",
            Self::Q6K => "Q6_K",
            Self::Q8_0 => "Q8_0",
            Self::F16 => "F16",
            Self::Mxfp4 => "BF16",
        }
    }

    fn output(self) -> &'static str {
        match self {
            Self::Q4_0 | Self::Q4Ks | Self::Q4Km | Self::Q6K => "Q6_K",
            Self::Q8_0 | Self::F16 | Self::Mxfp4 => self.base(),
        }
    }

    /// The type of a matrix of a layer. The first and last eighth of layers, and every third between, get more bits.
    fn of(self, name: &str, layer: u64, shape: &Shape) -> &'static str {
        let eighth = shape.layers / 8;
        let more = layer < eighth || layer >= 7 * shape.layers / 8 || (layer - eighth) % 3 == 2;
        let is_down = name.starts_with("ffn_down");
        let large = shape.architecture == "llama" && shape.layers == 80;
        match self {
            Self::Q4Km if name == "attn_v.weight" && more => "Q6_K",
            Self::Q4Km if name == "attn_v.weight" && large => "Q5_K",
            Self::Q4Km if is_down && more => "Q6_K",
            Self::Q4Km if name == "attn_qkv.weight" => "Q5_K",
            Self::Q4Ks if name == "attn_v.weight" && layer < 4 => "Q5_K",
            Self::Q4Ks if is_down && layer < eighth => "Q5_K",
            Self::Mxfp4 if name.contains("_exps.weight") => "MXFP4",
            Self::Q4_0 | Self::Q4Ks | Self::Q4Km | Self::Q6K | Self::Q8_0 | Self::F16 | Self::Mxfp4 => self.base(),
        }
    }
}

/// Where rows are no whole blocks of 256, another type with as many bits is taken.
fn fitting(kind: &'static str, row: u64) -> TensorType {
    let kind = match kind {
        "Q4_K" if !row.is_multiple_of(256) => "Q5_0",
        "Q5_K" if !row.is_multiple_of(256) => "Q5_1",
        "Q6_K" if !row.is_multiple_of(256) => "Q8_0",
        kind => kind,
    };
    TensorType::from_name(kind).unwrap()
}

pub(in crate::offload::estimate) fn model(shape: &Shape, recipe: Recipe) -> Model {
    let mut tensors = Vec::new();
    let mut add = |name: String, kind: &'static str, extents: Vec<u64>| {
        tensors.push(Tensor::new(name, fitting(kind, extents[0]), extents).unwrap());
    };
    let (embedding, heads, heads_kv) = (shape.embedding, shape.heads, shape.heads_kv);
    let head = if shape.head == 0 { embedding / heads } else { shape.head };
    for layer in 0..shape.layers {
        let mut matrix = |name: &str, extents: Vec<u64>| {
            let kind = if name.ends_with("_norm.weight") || name.ends_with("bias") || name == "ffn_gate_inp.weight"
            {
                "F32"
            } else {
                shape.values.filter(|_| name == "attn_v.weight").unwrap_or_else(|| recipe.of(name, layer, shape))
            };
            add(format!("blk.{layer}.{name}"), kind, extents);
        };
        matrix("attn_norm.weight", vec![embedding]);
        matrix("ffn_norm.weight", vec![embedding]);
        if let Some((queries, keys)) = shape.latent {
            let (plain, turned) = (128, 64);
            if queries > 0 {
                matrix("attn_q_a.weight", vec![embedding, queries]);
                matrix("attn_q_b.weight", vec![queries, heads * (plain + turned)]);
            } else {
                matrix("attn_q.weight", vec![embedding, heads * (plain + turned)]);
            }
            matrix("attn_kv_a_mqa.weight", vec![embedding, keys + turned]);
            matrix("attn_kv_b.weight", vec![keys, heads * 2 * plain]);
            matrix("attn_output.weight", vec![heads * plain, embedding]);
        } else if shape.is_fused {
            let all = head * (heads + 2 * heads_kv);
            matrix("attn_qkv.weight", vec![embedding, all]);
            if shape.has_biases {
                matrix("attn_qkv.bias", vec![all]);
            }
            matrix("attn_output.weight", vec![head * heads, embedding]);
        } else {
            matrix("attn_q.weight", vec![embedding, head * heads]);
            matrix("attn_k.weight", vec![embedding, head * heads_kv]);
            matrix("attn_v.weight", vec![embedding, head * heads_kv]);
            matrix("attn_output.weight", vec![head * heads, embedding]);
            if shape.has_biases {
                matrix("attn_q.bias", vec![head * heads]);
                matrix("attn_k.bias", vec![head * heads_kv]);
                matrix("attn_v.bias", vec![head * heads_kv]);
            }
        }
        let experts = shape.experts;
        if experts.count > 0 && layer >= experts.dense {
            matrix("ffn_gate_inp.weight", vec![embedding, experts.count]);
            matrix("ffn_gate_exps.weight", vec![embedding, experts.hidden, experts.count]);
            matrix("ffn_up_exps.weight", vec![embedding, experts.hidden, experts.count]);
            matrix("ffn_down_exps.weight", vec![experts.hidden, embedding, experts.count]);
            if recipe == Recipe::Mxfp4 {
                matrix("ffn_gate_exps.bias", vec![experts.hidden, experts.count]);
                matrix("ffn_up_exps.bias", vec![experts.hidden, experts.count]);
                matrix("ffn_down_exps.bias", vec![embedding, experts.count]);
            }
            if experts.shared > 0 {
                let hidden = experts.hidden * experts.shared;
                matrix("ffn_gate_shexp.weight", vec![embedding, hidden]);
                matrix("ffn_up_shexp.weight", vec![embedding, hidden]);
                matrix("ffn_down_shexp.weight", vec![hidden, embedding]);
            }
        } else if shape.is_fused {
            matrix("ffn_up.weight", vec![embedding, 2 * shape.hidden]);
            matrix("ffn_down.weight", vec![shape.hidden, embedding]);
        } else {
            matrix("ffn_gate.weight", vec![embedding, shape.hidden]);
            matrix("ffn_up.weight", vec![embedding, shape.hidden]);
            matrix("ffn_down.weight", vec![shape.hidden, embedding]);
        }
    }
    let output = shape.output.unwrap_or_else(|| recipe.output());
    let read = if shape.is_tied { output } else { recipe.base() };
    add("token_embd.weight".to_owned(), read, vec![embedding, shape.vocabulary]);
    if !shape.is_tied {
        add("output.weight".to_owned(), output, vec![embedding, shape.vocabulary]);
    }
    add("output_norm.weight".to_owned(), "F32", vec![embedding]);
    if let Some((mib, ..)) = shape.vision {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure of a log")]
        let numbers = (mib * 1024.0 * 1024.0 / 2.0) as u64;
        add("v.blk.0.ffn_up.weight".to_owned(), "F16", vec![numbers]);
    }
    Model::of(&[Header { metadata: metadata(shape), tensors }]).unwrap()
}

fn metadata(shape: &Shape) -> BTreeMap<String, Value> {
    let architecture = shape.architecture;
    let mut all = BTreeMap::from([
        ("general.architecture".to_owned(), Value::Text(architecture.to_owned())),
        ("tokenizer.ggml.tokens".to_owned(), Value::Length(shape.vocabulary)),
    ]);
    let mut number = |key: &str, value: u64| {
        if value > 0 {
            all.insert(format!("{architecture}.{key}"), Value::Unsigned(value));
        }
    };
    number("block_count", shape.layers);
    number("embedding_length", shape.embedding);
    number("feed_forward_length", shape.hidden);
    number("attention.head_count", shape.heads);
    number("attention.head_count_kv", shape.heads_kv);
    number("attention.sliding_window", shape.window);
    number("context_length", shape.context);
    number("expert_count", shape.experts.count);
    number("expert_used_count", shape.experts.used);
    number("expert_feed_forward_length", shape.experts.hidden);
    let (key, value) = if shape.latent.is_some() { (192, 128) } else { (shape.head, shape.head) };
    number("attention.key_length", key);
    number("attention.value_length", value);
    if let Some((_, side, patch, channels, heads, extent)) = shape.vision {
        number("vision.block_count", 24);
        number("vision.image_size", side);
        number("vision.patch_size", patch);
        number("vision.num_channels", channels);
        number("vision.attention.head_count", heads);
        number("vision.embedding_length", extent);
        number("vision.max_num_tiles", 4);
    }
    for (key, value) in shape.more {
        number(key, *value);
    }
    if !shape.looking.is_empty() {
        let key = format!("{architecture}.attention.cross_attention_layers");
        all.insert(key, Value::Numbers(shape.looking.to_vec()));
    }
    all
}

const NONE: Shape = Shape {
    architecture: "llama",
    layers: 0,
    embedding: 0,
    hidden: 0,
    heads: 0,
    heads_kv: 0,
    head: 0,
    vocabulary: 0,
    context: 131_072,
    window: 0,
    is_tied: false,
    has_biases: false,
    is_fused: false,
    experts: Experts { count: 0, used: 0, hidden: 0, shared: 0, dense: 0 },
    latent: None,
    vision: None,
    output: None,
    values: None,
    looking: &[],
    more: &[],
};

pub(in crate::offload::estimate) const LLAMA_8B: Shape =
    Shape { layers: 32, embedding: 4096, hidden: 14336, heads: 32, heads_kv: 8, vocabulary: 128_256, ..NONE };
pub(in crate::offload::estimate) const LLAMA_70B: Shape =
    Shape { layers: 80, embedding: 8192, hidden: 28672, heads: 64, heads_kv: 8, vocabulary: 128_256, ..NONE };
pub(in crate::offload::estimate) const LLAMA_3B: Shape = Shape {
    layers: 28,
    embedding: 3072,
    hidden: 8192,
    heads: 24,
    heads_kv: 8,
    head: 128,
    vocabulary: 128_256,
    is_tied: true,
    ..NONE
};
pub(in crate::offload::estimate) const MISTRAL_7B: Shape = Shape { vocabulary: 32768, context: 32768, ..LLAMA_8B };
pub(in crate::offload::estimate) const TINYLLAMA: Shape =
    Shape { layers: 22, embedding: 2048, hidden: 5632, heads: 32, heads_kv: 4, vocabulary: 32000, ..NONE };
pub(in crate::offload::estimate) const SMOLLM2: Shape = Shape {
    layers: 24,
    embedding: 2048,
    hidden: 8192,
    heads: 32,
    heads_kv: 32,
    vocabulary: 49152,
    is_tied: true,
    ..NONE
};
const QWEN2: Shape = Shape { architecture: "qwen2", has_biases: true, ..NONE };
pub(in crate::offload::estimate) const LLAMA2_7B: Shape =
    Shape { hidden: 11008, heads_kv: 32, vocabulary: 32000, context: 4096, ..LLAMA_8B };
pub(in crate::offload::estimate) const GRANITE_8B: Shape =
    Shape { layers: 36, vocabulary: 49152, is_tied: true, ..LLAMA_8B };
pub(in crate::offload::estimate) const NOMIC: Shape = Shape {
    architecture: "nomic-bert",
    layers: 12,
    embedding: 768,
    hidden: 3072,
    heads: 12,
    heads_kv: 1,
    vocabulary: 30522,
    context: 2048,
    ..NONE
};
pub(in crate::offload::estimate) const QWEN2_1B: Shape = Shape {
    layers: 28,
    embedding: 1536,
    hidden: 8960,
    heads: 12,
    heads_kv: 2,
    vocabulary: 151_936,
    is_tied: true,
    ..QWEN2
};
pub(in crate::offload::estimate) const QWEN2_7B: Shape =
    Shape { layers: 28, embedding: 3584, hidden: 18944, heads: 28, heads_kv: 4, vocabulary: 152_064, ..QWEN2 };
pub(in crate::offload::estimate) const QWEN2_14B: Shape =
    Shape { layers: 48, embedding: 5120, hidden: 13824, heads: 40, heads_kv: 8, vocabulary: 152_064, ..QWEN2 };
pub(in crate::offload::estimate) const QWEN2_32B: Shape =
    Shape { layers: 64, embedding: 5120, hidden: 27648, heads: 40, heads_kv: 8, vocabulary: 152_064, ..QWEN2 };
pub(in crate::offload::estimate) const QWEN2_72B: Shape =
    Shape { layers: 80, embedding: 8192, hidden: 29568, heads: 64, heads_kv: 8, vocabulary: 152_064, ..QWEN2 };
pub(in crate::offload::estimate) const QWEN3_32B: Shape = Shape {
    architecture: "qwen3",
    layers: 64,
    embedding: 5120,
    hidden: 25600,
    heads: 64,
    heads_kv: 8,
    head: 128,
    vocabulary: 151_936,
    ..NONE
};
/// As Ollama itself makes it: matrices of values are left at 16 bits.
pub(in crate::offload::estimate) const QWEN3_32B_LIBRARY: Shape = Shape { values: Some("F16"), ..QWEN3_32B };
pub(in crate::offload::estimate) const MLLAMA_11B: Shape = Shape {
    architecture: "mllama",
    layers: 40,
    vision: Some((1763.0, 560, 14, 3, 16, 1280)),
    looking: &[3, 8, 13, 18, 23, 28, 33, 38],
    ..LLAMA_8B
};
pub(in crate::offload::estimate) const QWEN3_30B: Shape = Shape {
    architecture: "qwen3moe",
    layers: 48,
    embedding: 2048,
    hidden: 6144,
    heads: 32,
    heads_kv: 4,
    head: 128,
    vocabulary: 151_936,
    experts: Experts { count: 128, used: 8, hidden: 768, shared: 0, dense: 0 },
    ..NONE
};
pub(in crate::offload::estimate) const QWEN3_235B: Shape = Shape {
    layers: 94,
    embedding: 4096,
    hidden: 12288,
    heads: 64,
    values: Some("F16"),
    experts: Experts { count: 128, used: 8, hidden: 1536, shared: 0, dense: 0 },
    ..QWEN3_30B
};
pub(in crate::offload::estimate) const PHI4: Shape = Shape {
    architecture: "phi3",
    layers: 40,
    embedding: 5120,
    hidden: 17920,
    heads: 40,
    heads_kv: 10,
    vocabulary: 100_352,
    is_fused: true,
    ..NONE
};
pub(in crate::offload::estimate) const GLM4_9B: Shape = Shape {
    architecture: "chatglm",
    layers: 40,
    embedding: 4096,
    hidden: 13696,
    heads: 32,
    heads_kv: 2,
    vocabulary: 151_552,
    is_fused: true,
    has_biases: true,
    ..NONE
};
pub(in crate::offload::estimate) const GEMMA2_2B: Shape = Shape {
    architecture: "gemma2",
    layers: 26,
    embedding: 2304,
    hidden: 9216,
    heads: 8,
    heads_kv: 4,
    head: 256,
    vocabulary: 256_000,
    context: 8192,
    window: 4096,
    is_tied: true,
    ..NONE
};
const GEMMA3: Shape = Shape {
    architecture: "gemma3",
    head: 256,
    vocabulary: 262_144,
    window: 1024,
    is_tied: true,
    vision: Some((795.9, 896, 14, 3, 16, 1152)),
    ..NONE
};
pub(in crate::offload::estimate) const GEMMA3_4B: Shape =
    Shape { layers: 34, embedding: 2560, hidden: 10240, heads: 8, heads_kv: 4, ..GEMMA3 };
pub(in crate::offload::estimate) const GEMMA3_12B: Shape =
    Shape { layers: 48, embedding: 3840, hidden: 15360, heads: 16, heads_kv: 8, ..GEMMA3 };
pub(in crate::offload::estimate) const GEMMA3_27B: Shape =
    Shape { layers: 62, embedding: 5376, hidden: 21504, heads: 32, heads_kv: 16, head: 128, ..GEMMA3 };
pub(in crate::offload::estimate) const GEMMA3_12B_QAT: Shape =
    Shape { output: Some("F16"), vision: Some((806.2, 896, 14, 3, 16, 1152)), ..GEMMA3_12B };
pub(in crate::offload::estimate) const MISTRAL3: Shape = Shape {
    architecture: "mistral3",
    layers: 40,
    embedding: 5120,
    hidden: 32768,
    heads: 32,
    heads_kv: 8,
    head: 128,
    vocabulary: 131_072,
    vision: Some((769.3, 1540, 14, 3, 16, 1024)),
    output: Some("Q4_K"),
    values: Some("F16"),
    ..NONE
};
pub(in crate::offload::estimate) const GEMMA3_27B_QAT: Shape =
    Shape { output: Some("F16"), vision: GEMMA3_12B_QAT.vision, ..GEMMA3_27B };
pub(in crate::offload::estimate) const QWEN3_1B: Shape = Shape {
    architecture: "qwen3",
    layers: 28,
    embedding: 2048,
    hidden: 6144,
    heads: 16,
    heads_kv: 8,
    head: 128,
    vocabulary: 151_936,
    is_tied: true,
    ..NONE
};
/// As Ollama itself makes it.
pub(in crate::offload::estimate) const QWEN3_8B_LIBRARY: Shape = Shape {
    layers: 36,
    embedding: 4096,
    hidden: 12288,
    heads: 32,
    is_tied: false,
    values: Some("F16"),
    ..QWEN3_1B
};
pub(in crate::offload::estimate) const LLAMA4_SCOUT: Shape = Shape {
    architecture: "llama4",
    layers: 48,
    embedding: 5120,
    hidden: 8192,
    heads: 40,
    heads_kv: 8,
    head: 128,
    vocabulary: 202_048,
    experts: Experts { count: 16, used: 1, hidden: 8192, shared: 1, dense: 0 },
    vision: Some((1638.4, 336, 14, 3, 16, 1408)),
    ..NONE
};
/// Latent attention, whose keys all heads share.
pub(in crate::offload::estimate) const GLM4_FLASH: Shape = Shape {
    architecture: "glm4moelite",
    layers: 47,
    embedding: 2048,
    hidden: 10240,
    heads: 20,
    heads_kv: 20,
    vocabulary: 154_880,
    latent: Some((768, 512)),
    experts: Experts { count: 64, used: 4, hidden: 1536, shared: 1, dense: 1 },
    more: &[
        ("attention.key_length", 256),
        ("attention.value_length", 256),
        ("attention.key_length_mla", 576),
        ("attention.value_length_mla", 512),
    ],
    ..NONE
};
/// Three of four layers are recurrent.
pub(in crate::offload::estimate) const QWEN3_NEXT: Shape = Shape {
    architecture: "qwen3next",
    layers: 48,
    embedding: 2048,
    hidden: 5120,
    heads: 16,
    heads_kv: 2,
    head: 256,
    vocabulary: 151_936,
    experts: Experts { count: 512, used: 10, hidden: 512, shared: 1, dense: 0 },
    more: &[
        ("full_attention_interval", 4),
        ("ssm.conv_kernel", 4),
        ("ssm.inner_size", 4096),
        ("ssm.state_size", 128),
        ("ssm.group_count", 16),
    ],
    ..NONE
};
const DEEPSEEK: Shape = Shape { architecture: "deepseek2", context: 163_840, ..NONE };
pub(in crate::offload::estimate) const DEEPSEEK_LITE: Shape = Shape {
    layers: 27,
    embedding: 2048,
    hidden: 10944,
    heads: 16,
    heads_kv: 16,
    vocabulary: 102_400,
    latent: Some((0, 512)),
    experts: Experts { count: 64, used: 6, hidden: 1408, shared: 2, dense: 1 },
    ..DEEPSEEK
};
pub(in crate::offload::estimate) const DEEPSEEK_R1: Shape = Shape {
    layers: 61,
    embedding: 7168,
    hidden: 18432,
    heads: 128,
    heads_kv: 128,
    vocabulary: 129_280,
    latent: Some((1536, 512)),
    experts: Experts { count: 256, used: 8, hidden: 2048, shared: 1, dense: 3 },
    ..DEEPSEEK
};
const GPT_OSS: Shape = Shape {
    architecture: "gptoss",
    embedding: 2880,
    hidden: 2880,
    heads: 64,
    heads_kv: 8,
    head: 64,
    vocabulary: 201_088,
    window: 128,
    has_biases: true,
    ..NONE
};
pub(in crate::offload::estimate) const GPT_OSS_20B: Shape =
    Shape { layers: 24, experts: Experts { count: 32, used: 4, hidden: 2880, shared: 0, dense: 0 }, ..GPT_OSS };
pub(in crate::offload::estimate) const GPT_OSS_120B: Shape =
    Shape { layers: 36, experts: Experts { count: 128, used: 4, hidden: 2880, shared: 0, dense: 0 }, ..GPT_OSS };

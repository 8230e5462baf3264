//! What Ollama's formula takes for keys and values by layer, and for buffers to compute in.
//!
//! Buffers by architecture: a term for each buffer that is largest at some moment, in tokens computed at once (`row` is one
//! 32-bit number for each of them). With a part of the layers on the GPU, weights of the largest matrix are copied
//! there too: that is what `q4` and `q6` are for.

use std::num::Saturating;

use super::super::super::engine::Version;
use super::super::super::gguf::Value;
use super::super::super::model::Model;
use super::super::KvType;
use super::shape::{Shape, first_layer};

type N = Saturating<u64>;

const MIB: N = Saturating(1024 * 1024);

/// What the formula is asked.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Load {
    /// Tokens of context of one request.
    pub(in super::super) context: u64,
    /// Requests at the same time.
    pub(in super::super) parallel: u64,
    /// Tokens computed at once.
    pub(in super::super) batch: u64,
    /// How keys are kept.
    pub(in super::super) keys: KvType,
    /// How values are kept.
    pub(in super::super) values: KvType,
    /// Whether attention is computed in one pass.
    pub(in super::super) flash_attention: bool,
    /// Whose formula.
    pub(in super::super) version: Version,
}

/// What the formula says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Sizes {
    /// Bytes of keys and values, or of states, by layer.
    pub(in super::super) cache: Vec<u64>,
    /// Bytes to compute in on a GPU that has a part of the layers.
    pub(in super::super) partial: u64,
    /// Bytes to compute in on a GPU that has all of them.
    pub(in super::super) full: u64,
    /// Whether the formula has terms for this architecture; without, it guesses from keys and values.
    pub(in super::super) is_known: bool,
}

pub(in super::super) fn sizes(model: &Model, shape: &Shape, load: &Load) -> Sizes {
    let cache = cache(model, shape, load);
    let total = cache.iter().fold(Saturating(0), |sum: N, layer| sum + Saturating(*layer));
    let terms = Terms::new(shape, load);
    let graph = match shape.architecture.as_str() {
        "llama" => Some(terms.llama(model, shape)),
        "llama4" if load.version >= Version(0, 6, 7) => Some(terms.llama(model, shape)),
        "mllama" if load.version >= Version(0, 4, 0) => Some(terms.mllama()),
        "gemma" if load.version < Version(0, 1, 48) => Some(terms.gemma_first()),
        "gemma" => Some(terms.gemma()),
        "gemma2" if load.version >= Version(0, 1, 48) => Some(terms.gemma()),
        "gemma3" if load.version >= Version(0, 6, 0) => Some(terms.gemma()),
        "gemma3n" if load.version >= Version(0, 9, 3) => {
            let (partial, full) = terms.gemma();
            Some((partial * Saturating(4), full * Saturating(4)))
        }
        "command-r" => Some(terms.command_r()),
        "qwen2" => Some(terms.qwen2()),
        "phi2" => Some(terms.phi2()),
        "stablelm" => Some(terms.stablelm()),
        "deepseek2" if load.version >= Version(0, 1, 45) => Some(terms.deepseek2()),
        "chatglm" if load.version >= Version(0, 2, 2) => Some(terms.chatglm(model)),
        "gptoss" | "gpt-oss" if load.version >= Version(0, 11, 1) => Some(terms.gptoss(shape, load)),
        _ => None,
    };
    // Zero means "no own figure": the guess takes a sixth of keys and values for each query that shares them.
    let guess = Saturating(shape.sharing()) * total / Saturating(6);
    let (partial, full) = graph.unwrap_or((Saturating(0), Saturating(0)));
    let partial = if partial.0 == 0 { guess } else { partial };
    let full = if full.0 == 0 { partial } else { full };
    Sizes { cache, partial: partial.0, full: full.0, is_known: graph.is_some() }
}

/// Halves of a byte that a number of this type takes, as the formula counts: scales are left out.
fn half_bytes(kind: KvType) -> N {
    match kind {
        KvType::Q8_0 => Saturating(2),
        KvType::Q4_0 => Saturating(1),
        // What else is asked for is not taken on: 16 bits.
        KvType::F32 | KvType::F16 | KvType::Bf16 | KvType::Q5_1 | KvType::Q5_0 | KvType::Q4_1 | KvType::Iq4Nl => {
            Saturating(4)
        }
    }
}

/// Whether keys and values may be kept in fewer bits at all.
fn is_quantized_kv_taken(shape: &Shape, load: &Load) -> bool {
    let refuses = matches!(shape.architecture.as_str(), "gptoss" | "gpt-oss") && load.version < Version(0, 12, 4);
    load.flash_attention && load.version >= Version(0, 5, 0) && !refuses
}

fn cache(model: &Model, shape: &Shape, load: &Load) -> Vec<u64> {
    let is_taken = is_quantized_kv_taken(shape, load);
    let kept = |kind| half_bytes(if is_taken { kind } else { KvType::F16 });
    let (mut key, mut value) = (Saturating(shape.key), Saturating(shape.value));
    if load.version < Version(0, 1, 45) {
        // Heads of an own extent were not looked at.
        (key, value) = (Saturating(shape.head()), Saturating(shape.head()));
    }
    let head = key * kept(load.keys) + value * kept(load.values);
    let context = Saturating(load.context) * Saturating(load.parallel);
    let most = shape.heads_kv_max();
    let by_layer = load.version >= Version(0, 11, 11);
    let mut cache: Vec<u64> = (0..shape.layers.len())
        .map(|layer| {
            let heads = shape.heads.get(layer).copied().unwrap_or(1);
            let heads_kv = shape.heads_kv.get(layer).copied().unwrap_or(1);
            if !by_layer {
                return (context * head * Saturating(most) / Saturating(2)).0;
            }
            if heads == 0 || heads_kv == 0 {
                return shape.recurrent;
            }
            (context * head * Saturating(heads_kv) / Saturating(2)).0
        })
        .collect();
    let windowed = |tokens: N| (tokens * head * Saturating(most) / Saturating(2)).0;
    let parallel = Saturating(load.parallel);
    match shape.architecture.as_str() {
        // Every sixth layer looks at all of the context.
        "gemma3" if load.version >= Version(0, 6, 3) => {
            let window = windowed(parallel * Saturating(shape.window) + Saturating(load.batch));
            for (layer, bytes) in cache.iter_mut().enumerate() {
                if (layer + 1) % 6 != 0 {
                    *bytes = window;
                }
            }
        }
        "gptoss" | "gpt-oss" if load.version >= Version(0, 11, 1) => {
            let window = windowed(parallel * Saturating(4096) + Saturating(load.batch));
            for (layer, bytes) in cache.iter_mut().enumerate() {
                *bytes = if layer % 2 == 0 { window } else { windowed(context) };
            }
        }
        "mllama" if load.version >= Version(0, 4, 0) => {
            for layer in looking(model) {
                if let Some(bytes) = cache.get_mut(layer) {
                    *bytes = picture(shape);
                }
            }
        }
        _ => {}
    }
    if load.version < Version(0, 6, 3) {
        // One figure for all layers was shared out evenly.
        let total = cache.iter().fold(0_u64, |sum, layer| sum.saturating_add(*layer));
        let even = total.checked_div(u64::try_from(cache.len()).unwrap_or(u64::MAX)).unwrap_or(0);
        cache.fill(even);
    }
    cache
}

/// Returns the layers that look at pictures, not at tokens.
pub(in super::super) fn looking(model: &Model) -> Vec<usize> {
    match model.metadata.get("mllama.attention.cross_attention_layers") {
        Some(Value::Numbers(layers)) => layers.iter().filter_map(|layer| usize::try_from(*layer).ok()).collect(),
        Some(
            Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Text(_)
            | Value::Length(_),
        )
        | None => Vec::new(),
    }
}

/// Bytes that a layer keeps of the picture that it looks at: four tiles of 1601 patches, in 32 bits.
pub(in super::super) fn picture(shape: &Shape) -> u64 {
    let head = Saturating(shape.key) + Saturating(shape.value);
    (Saturating(shape.heads_kv_max()) * head * Saturating(4 * 1601 * 4)).0
}

/// Bytes of a matrix of so many numbers, at 4.5 bits each.
fn q4(numbers: N) -> N {
    numbers * Saturating(9) / Saturating(16)
}

/// Bytes of a matrix of so many numbers, at 6.5625 bits each.
fn q6(numbers: N) -> N {
    numbers * Saturating(105) / Saturating(128)
}

/// What terms are made of.
struct Terms {
    /// One 32-bit number for each token that is computed at once.
    row: N,
    batch: N,
    /// Tokens of context of all requests.
    context: N,
    embedding: N,
    vocabulary: N,
    heads: N,
    heads_kv: N,
    /// Extent of a head, by the vector that the heads share.
    head: N,
    /// Extent of a head of keys.
    key: N,
    version: Version,
}

const ONE: N = Saturating(1);
const TWO: N = Saturating(2);
const THREE: N = Saturating(3);
const FOUR: N = Saturating(4);

/// On a GPU that has a part of the layers, and on one that has all of them.
type Graph = (N, N);

impl Terms {
    fn new(shape: &Shape, load: &Load) -> Self {
        Self {
            row: FOUR * Saturating(load.batch),
            batch: Saturating(load.batch),
            context: Saturating(load.context) * Saturating(load.parallel),
            embedding: Saturating(shape.embedding),
            vocabulary: Saturating(shape.vocabulary),
            heads: Saturating(shape.heads_max()),
            heads_kv: Saturating(shape.heads_kv_max()),
            head: Saturating(shape.head()),
            key: Saturating(shape.key),
            version: load.version,
        }
    }

    /// Scores of so many heads against all of the context, with their mask; by token.
    fn scores(&self, heads: N) -> N {
        self.context * (ONE + heads)
    }

    /// What the output computes in.
    fn logits(&self) -> N {
        self.row * (self.embedding + self.vocabulary)
    }

    /// The same, with the output's matrix copied there.
    fn logits_copied(&self) -> N {
        self.logits() + q6(self.embedding * self.vocabulary)
    }

    fn llama(&self, model: &Model, shape: &Shape) -> Graph {
        let attention = self.row * (ONE + FOUR * self.embedding + self.scores(self.heads));
        let full = if self.version >= Version(0, 3, 10) { attention.max(self.logits()) } else { attention };
        if let Some(experts) = first_layer(model, "ffn_gate_exps.weight") {
            let keys = self.head * self.heads_kv;
            let hidden =
                TWO * Saturating(shape.feed_forward) + self.heads_kv + self.embedding + self.context + keys;
            let moved = THREE * Saturating(experts.bytes) + self.row * hidden;
            let attended = FOUR
                * (self.context * self.batch * self.heads
                    + self.context * keys
                    + self.batch * Saturating(1024)
                    + keys * self.batch);
            return (moved.max(attended), full);
        }
        if let Some(expert) = first_layer(model, "ffn_gate.0.weight") {
            let hidden = Saturating(expert.shape.get(1).copied().unwrap_or(0));
            return self.mixtral(hidden);
        }
        let keys = self.head * self.heads_kv;
        let attended = self.row * (ONE + self.embedding + self.context.max(self.embedding))
            + q4(self.embedding * self.embedding)
            + FOUR * self.context * (self.batch * self.heads + keys);
        (self.row * self.embedding + attended.max(self.logits_copied()), full)
    }

    /// The first form of files of Mixtral: a tensor for each expert.
    fn mixtral(&self, hidden: N) -> Graph {
        let scores = self.scores(self.heads);
        let full = self.row * (TWO + THREE * self.embedding + scores + TWO * self.heads_kv + hidden);
        let moved = self.row * (THREE + self.head * self.heads_kv + self.embedding + scores + hidden)
            + q4(self.embedding * self.embedding + THREE * self.embedding * self.heads_kv * hidden);
        let heads = self.heads.max(ONE);
        let keys = Saturating(6) * self.context * self.heads_kv / heads;
        let attended =
            self.row * (ONE + TWO * self.embedding + scores) + self.embedding * (keys + q4(self.embedding));
        (moved.max(attended), full)
    }

    fn mllama(&self) -> Graph {
        let queries = self.key * self.heads;
        let scores = self.scores(self.heads);
        let full = self.row * (TWO + THREE * self.embedding + queries + scores);
        let attended = FOUR
            * (self.batch * (TWO * self.embedding + ONE + scores + queries)
                + self.key * self.context * self.heads_kv);
        (attended.max(self.logits_copied()), full.max(self.logits()))
    }

    fn gemma_first(&self) -> Graph {
        let partial = self.row * (TWO * self.embedding + self.vocabulary + ONE);
        (partial + q6(self.embedding * self.vocabulary), self.logits())
    }

    fn gemma(&self) -> Graph {
        let queries = self.key * self.heads;
        let scores = self.scores(self.heads);
        let full = self.row * (TWO + scores + TWO * self.embedding + TWO * queries);
        let attended = self.row * (TWO * self.embedding + ONE + TWO * queries + scores)
            + FOUR * self.key * self.context * Saturating(8)
            + q4(self.embedding * queries);
        (attended.max(self.logits_copied()), full.max(self.logits()))
    }

    fn command_r(&self) -> Graph {
        let scores = self.scores(self.heads);
        let full = self.row * (TWO + FOUR * self.embedding + scores);
        let attended = self.row * (ONE + TWO * self.embedding + scores)
            + FOUR * self.embedding * self.context
            + q4(self.embedding * self.embedding);
        (attended.max(self.logits_copied()), full.max(self.logits()))
    }

    fn qwen2(&self) -> Graph {
        let attended = self.row * (ONE + TWO * self.embedding + self.scores(self.heads));
        let partial = attended + FOUR * self.embedding * (ONE + self.context);
        (partial.max(self.logits_copied()), attended.max(self.logits()))
    }

    fn phi2(&self) -> Graph {
        let scores = self.scores(self.heads);
        let full = self.row * (ONE + FOUR * self.embedding + scores);
        let copied = self.row * (TWO * self.embedding + self.vocabulary) + q6(self.embedding * self.vocabulary);
        let attended = self.row * (TWO + THREE * self.embedding + scores);
        let partial = if self.version >= Version(0, 1, 35) { copied.max(attended) } else { copied };
        (partial, full.max(self.logits()))
    }

    fn stablelm(&self) -> Graph {
        let full = self.row * (self.scores(self.heads) + THREE * self.embedding + TWO);
        (full.max(self.row * (self.vocabulary + TWO * self.embedding)), full)
    }

    fn deepseek2(&self) -> Graph {
        let keys = self.key * self.heads_kv;
        let scores = self.scores(self.heads_kv);
        let logits = self.row * (THREE * self.embedding + self.vocabulary);
        let full = self.row * (THREE * self.embedding + TWO + scores + TWO * keys);
        let attended = self.row * (TWO * self.embedding + ONE + TWO * keys + scores)
            + FOUR * keys * self.context
            + q4(self.embedding * keys);
        (attended.max(logits + q6(self.embedding * self.vocabulary)), full.max(logits))
    }

    fn chatglm(&self, model: &Model) -> Graph {
        let (full, partial) = (self.logits(), self.logits_copied());
        let Some(bias) = first_layer(model, "attn_qkv.bias") else {
            return (partial, full);
        };
        let all = Saturating(bias.shape.first().copied().unwrap_or(0));
        let attended = TWO * self.embedding + self.key * self.heads + self.scores(self.heads);
        let keys = FOUR * self.key * self.context;
        (
            partial.max(self.row * (ONE + attended) + keys + keys + FOUR * all),
            full.max(self.row * (TWO + attended + all)),
        )
    }

    /// A guess from keys and values as if no layer were windowed.
    fn gptoss(&self, shape: &Shape, load: &Load) -> Graph {
        if load.flash_attention && self.version >= Version(0, 11, 8) {
            let passes = FOUR * Saturating(load.parallel) + Saturating(self.context.0 >> 10) + Saturating(110);
            return (passes * MIB, Saturating(0));
        }
        let fewest = Saturating(shape.heads_kv.iter().copied().min().unwrap_or(1).max(1));
        let is_taken = is_quantized_kv_taken(shape, load);
        let kept = |kind| half_bytes(if is_taken { kind } else { KvType::F16 });
        let head = self.key * kept(load.keys) + Saturating(shape.value) * kept(load.values);
        let layers = Saturating(u64::try_from(shape.layers.len()).unwrap_or(u64::MAX));
        let total = self.context * head * self.heads_kv / TWO * layers;
        let of = |times: N| times * self.heads / fewest * total / Saturating(6);
        if self.version >= Version(0, 11, 5) {
            return (of(TWO), Saturating(0));
        }
        let full = of(FOUR);
        if self.version >= Version(0, 11, 3) { (full, full) } else { (TWO * full, full) }
    }
}

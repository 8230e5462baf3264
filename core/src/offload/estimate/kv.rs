//! What a model keeps of its context: keys and values by layer, states of recurrent layers, and how they are stored.
//!
//! Owns the sizes as llama.cpp has them (`src/llama-kv-cache*.cpp`, `src/llama-memory-recurrent.cpp`, `src/llama-hparams.cpp`).

use super::KvType;
use crate::offload::gguf::Value;
use crate::offload::model::Model;

/// Tokens that a cache is rounded up to.
const PADDING: u64 = 256;

impl KvType {
    /// All of them, with the words that llama.cpp has for them.
    const ALL: [(Self, &'static str); 9] = [
        (Self::F32, "f32"),
        (Self::F16, "f16"),
        (Self::Bf16, "bf16"),
        (Self::Q8_0, "q8_0"),
        (Self::Q5_1, "q5_1"),
        (Self::Q5_0, "q5_0"),
        (Self::Q4_1, "q4_1"),
        (Self::Q4_0, "q4_0"),
        (Self::Iq4Nl, "iq4_nl"),
    ];

    /// Returns the word for it, as `--cache-type-k` takes it.
    #[must_use]
    pub fn as_word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("f16", |(_, word)| word)
    }

    /// Returns what a word stands for; `None`: for nothing.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }

    /// Returns all words, for messages.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(_, word)| *word)
    }

    /// Returns the bytes of so many numbers; those of a quantised type lie in blocks of 32.
    #[must_use]
    pub fn bytes(self, numbers: u64) -> u64 {
        let (block, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q5_1 => (32, 24),
            Self::Q5_0 => (32, 22),
            Self::Q4_1 => (32, 20),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
        };
        numbers.div_ceil(block).saturating_mul(bytes)
    }

    /// Whether numbers lie in blocks that share a scale.
    #[must_use]
    pub fn is_quantised(self) -> bool {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => false,
            Self::Q8_0 | Self::Q5_1 | Self::Q5_0 | Self::Q4_1 | Self::Q4_0 | Self::Iq4Nl => true,
        }
    }
}

/// What a layer keeps of each token, and besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerKeeps {
    /// Heads of queries.
    pub heads: u64,
    /// Heads of keys and values.
    pub heads_kv: u64,
    /// Numbers in a key of one head.
    pub key: u64,
    /// Numbers in a value of one head; 0: values are a part of the keys.
    pub value: u64,
    /// Whether it looks at a window of the context alone.
    pub is_windowed: bool,
    /// Whether it has keys and values at all: recurrent layers have none, and some layers use those of others.
    pub has_cache: bool,
    /// Numbers of its recurrent state, of one sequence; 0: it has none.
    pub state: u64,
}

/// What a model keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// By layer.
    pub layers: Vec<LayerKeeps>,
    /// Tokens of the window of the layers that have one.
    pub window: u64,
    /// Whether keys are compressed and hold the values too (MLA).
    pub is_compressed: bool,
}

/// How many tokens a cache holds, and for how many sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    /// Tokens of each sequence.
    pub full: u64,
    /// The same of layers with a window.
    pub windowed: u64,
    /// Sequences.
    pub sequences: u64,
    /// States of recurrent layers: one for each sequence, also of those that share tokens.
    pub states: u64,
}

impl Keeps {
    /// Returns what a model keeps.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let count = model.layers.len();
        let heads = by_layer(model, "attention.head_count", 1);
        let heads_kv = model.numbers("attention.head_count_kv").unwrap_or_else(|| heads.clone());
        let embedding = model.number("embedding_length").unwrap_or(0);
        let head_max = heads.iter().copied().max().unwrap_or(1).max(1);
        let key = model.number("attention.key_length").unwrap_or(embedding / head_max);
        let value = model.number("attention.value_length").unwrap_or(embedding / head_max);
        let is_compressed = model.number("attention.key_length_mla").is_some_and(|length| length > 0);
        let (window, windowed) = windows(model);
        let cached = cached_layers(model);
        let layers = (0..count)
            .map(|index| {
                let is_windowed = windowed.get(index).copied().unwrap_or(false);
                let of = |list: &[u64]| list.get(index).copied().unwrap_or(0);
                let (has_cache, state) = recurrence(model, index, of(&heads_kv));
                LayerKeeps {
                    heads: of(&heads),
                    heads_kv: of(&heads_kv),
                    key: if is_windowed { model.number("attention.key_length_swa").unwrap_or(key) } else { key },
                    value: match (is_compressed, is_windowed) {
                        (true, _) => 0,
                        (false, true) => model.number("attention.value_length_swa").unwrap_or(value),
                        (false, false) => value,
                    },
                    is_windowed,
                    has_cache: has_cache && index < cached,
                    state,
                }
            })
            .collect();
        Self { layers, window, is_compressed }
    }

    /// Returns how many tokens are held, of a context of so many for each of so many sequences, or for as many more that share each of these.
    #[must_use]
    pub fn cells(&self, context: u64, (sequences, slots): (u64, u64), batch: u64) -> Cells {
        let (sequences, slots) = (sequences.max(1), slots.max(1));
        let full = context.max(1).div_ceil(PADDING).saturating_mul(PADDING);
        let wanted = self.window.saturating_mul(slots).saturating_add(batch).min(full);
        let windowed = wanted.div_ceil(PADDING).saturating_mul(PADDING);
        let windowed = if self.window == 0 { full } else { windowed };
        Cells { full, windowed, sequences, states: sequences.saturating_mul(slots) }
    }

    /// Returns the bytes that a layer keeps: keys, values and its state.
    #[must_use]
    pub fn layer(&self, index: usize, cells: &Cells, how: &How) -> LayerCache {
        let Some(layer) = self.layers.get(index) else { return LayerCache::default() };
        let held = if layer.is_windowed { cells.windowed } else { cells.full };
        let rows = held.saturating_mul(cells.sequences);
        let values = if how.pads_values && layer.value != 0 { self.widest_value() } else { layer.values() };
        let keys = how.keys.bytes(layer.keys()).saturating_mul(rows);
        let values = how.values.bytes(values).saturating_mul(rows);
        LayerCache {
            keys: if layer.has_cache { keys } else { 0 },
            values: if layer.has_cache { values } else { 0 },
            state: layer.state.saturating_mul(4).saturating_mul(cells.states),
        }
    }

    fn widest_value(&self) -> u64 {
        self.layers.iter().map(LayerKeeps::values).max().unwrap_or(0)
    }
}

impl LayerKeeps {
    /// Numbers in the keys of one token.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.key.saturating_mul(self.heads_kv)
    }

    /// Numbers in the values of one token.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.value.saturating_mul(self.heads_kv)
    }
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// Keys.
    pub keys: KvType,
    /// Values.
    pub values: KvType,
    /// Whether all layers have values as wide as the widest (without flash attention).
    pub pads_values: bool,
}

/// Bytes that a layer keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerCache {
    /// Keys.
    pub keys: u64,
    /// Values.
    pub values: u64,
    /// A recurrent state.
    pub state: u64,
}

impl LayerCache {
    /// Returns all of it.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.keys.saturating_add(self.values).saturating_add(self.state)
    }
}

fn by_layer(model: &Model, key: &str, default: u64) -> Vec<u64> {
    model.numbers(key).unwrap_or_else(|| vec![default; model.layers.len()])
}

/// Returns how many layers from the first on have keys and values of their own; the others use those of earlier ones.
fn cached_layers(model: &Model) -> usize {
    let all = model.layers.len();
    if model.architecture == "gemma3n" {
        return 20.min(all);
    }
    let shared = model.number("attention.shared_kv_layers").and_then(|shared| usize::try_from(shared).ok());
    all.saturating_sub(shared.unwrap_or(0))
}

/// Returns the window, and which layers have it.
fn windows(model: &Model) -> (u64, Vec<bool>) {
    let none = (0, vec![false; model.layers.len()]);
    let said = model.number("attention.sliding_window");
    // Every so many layers one looks at everything: the last of them, or the first.
    let (window, period, first) = match model.architecture.as_str() {
        "gemma2" => (said.unwrap_or(4096), 2, false),
        "llama4" if said != Some(0) => (8192, 4, false),
        "exaone4" if model.layers.len() == 64 => (4096, 4, false),
        "exaone-moe" => (128, 4, false),
        "smallthinker" if said.is_some_and(|window| window > 0) => (4096, 4, true),
        "gemma3" => (said.unwrap_or(0), 6, false),
        "gemma3n" => (said.unwrap_or(0), 5, false),
        "gpt-oss" => (said.unwrap_or(0), 2, false),
        "cohere2" | "olmo2" | "afmoe" | "mellum" => (said.unwrap_or(0), 4, false),
        "cohere2moe" | "laguna" => (said.unwrap_or(0), 4, true),
        "plamo3" => (said.unwrap_or(0), 8, false),
        // Others have one only where the file says which layers.
        "gemma4" | "mimo2" | "step35" | "granite-swa" | "lfm2" => (said.unwrap_or(0), 0, false),
        _ => return none,
    };
    if window == 0 {
        return none;
    }
    let layers = match model.value("attention.sliding_window_pattern") {
        Some(Value::Numbers(by_layer)) => (0..model.layers.len())
            .map(|index| by_layer.get(index).is_some_and(|windowed| *windowed != 0))
            .collect(),
        other => {
            let period = match other {
                Some(Value::Unsigned(period)) => usize::try_from(*period).unwrap_or(0),
                _ => period,
            };
            let is_windowed = |index: usize| match (index.checked_rem(period), first) {
                (None, _) => period != 0 || other.is_some(),
                (Some(rest), true) => rest != 0,
                (Some(rest), false) => rest.saturating_add(1) < period,
            };
            (0..model.layers.len()).map(is_windowed).collect()
        }
    };
    (window, layers)
}

/// Returns whether a layer has keys and values, and the numbers of its recurrent state.
fn recurrence(model: &Model, index: usize, heads_kv: u64) -> (bool, u64) {
    let state = state(model);
    match model.architecture.as_str() {
        "mamba" | "mamba2" | "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7" => (false, state),
        "falcon-h1" => (true, state),
        "nemotron_h" | "nemotron_h_moe" => {
            let is_feed_forward = model
                .numbers("feed_forward_length")
                .and_then(|lengths| lengths.get(index).copied())
                .is_some_and(|n| n > 0);
            match (is_feed_forward, heads_kv) {
                (true, _) => (false, 0),
                (false, 0) => (false, state),
                (false, _) => (true, 0),
            }
        }
        "qwen3next" | "qwen35" | "qwen35moe" => {
            let period =
                model.number("full_attention_interval").and_then(|n| usize::try_from(n).ok()).unwrap_or(4).max(1);
            let is_attention = index.saturating_add(1).checked_rem(period) == Some(0);
            (is_attention, if is_attention { 0 } else { state })
        }
        _ if state > 0 && heads_kv == 0 => (false, state),
        _ => (heads_kv > 0, 0),
    }
}

/// Returns the numbers of the state of a recurrent layer, of one sequence.
fn state(model: &Model) -> u64 {
    let number = |key: &str| model.number(key).unwrap_or(0);
    let embedding = number("embedding_length");
    let heads = by_layer(model, "attention.head_count", 0).into_iter().max().unwrap_or(0);
    let head = number("wkv.head_size");
    if head != 0 {
        let shifted = model.number("token_shift_count").unwrap_or(2);
        return shifted.saturating_mul(embedding).saturating_add(embedding.saturating_mul(head));
    }
    let short = number("shortconv.l_cache");
    if short != 0 {
        return embedding.saturating_mul(short.saturating_sub(1));
    }
    let convolved = number("ssm.conv_kernel").saturating_sub(1);
    let delta = number("kda.head_dim");
    if delta != 0 {
        let inner = heads.saturating_mul(delta);
        return inner.saturating_mul(3).saturating_mul(convolved).saturating_add(inner.saturating_mul(delta));
    }
    let (inner, size, groups) = (number("ssm.inner_size"), number("ssm.state_size"), number("ssm.group_count"));
    let beside = groups.saturating_mul(2).saturating_mul(size);
    convolved.saturating_mul(inner.saturating_add(beside)).saturating_add(size.saturating_mul(inner))
}

#[cfg(test)]
mod tests {
    use super::{Cells, Keeps, KvType, LayerKeeps};

    #[test]
    fn words_are_read_back_and_blocks_are_counted() {
        for word in KvType::words() {
            assert_eq!(KvType::from_word(word).map(KvType::as_word), Some(word));
        }
        assert_eq!(KvType::from_word("q9_0"), None);
        let bytes = [KvType::F16, KvType::Q8_0, KvType::Q4_0, KvType::Q5_1].map(|kind| kind.bytes(64));
        assert_eq!(bytes, [128, 68, 36, 48]);
    }

    #[test]
    fn a_window_holds_itself_and_a_batch_and_no_more_than_the_context() {
        let keeps = |window| Keeps { layers: vec![LayerKeeps::default()], window, is_compressed: false };
        assert_eq!(
            keeps(1024).cells(8000, (2, 1), 512),
            Cells { full: 8192, windowed: 1536, sequences: 2, states: 2 }
        );
        assert_eq!(
            keeps(4096).cells(2000, (1, 1), 512),
            Cells { full: 2048, windowed: 2048, sequences: 1, states: 1 }
        );
        let shared = Cells { full: 8192, windowed: 4608, sequences: 1, states: 4 };
        assert_eq!(keeps(1024).cells(8000, (1, 4), 512), shared, "four slots share one context");
        assert_eq!(keeps(0).cells(300, (1, 1), 512), Cells { full: 512, windowed: 512, sequences: 1, states: 1 });
    }
}

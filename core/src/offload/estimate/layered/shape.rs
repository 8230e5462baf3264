//! What Ollama's formulas read of a model: extents of attention by layer, and bytes by layer.

use super::super::super::gguf::{Tensor, Value};
use super::super::super::model::{Model, bytes};

/// Layers that are looked at; files with more are none that any engine loads.
const LAYERS_MAX: usize = 4096;

/// A model in the words of the formulas. All numbers are at least what Ollama takes when metadata says nothing.
#[derive(Clone, Debug)]
pub(in super::super) struct Shape {
    /// `general.architecture`.
    pub(in super::super) architecture: String,
    /// Bytes of each repeating layer.
    pub(in super::super) layers: Vec<u64>,
    /// Bytes of what makes tokens of vectors.
    pub(in super::super) output: u64,
    /// Tokens that the model was trained with in one sequence; 0: it does not say.
    pub(in super::super) context_trained: u64,
    /// Extent of a token's vector.
    pub(in super::super) embedding: u64,
    /// Extent of the hidden vector of feed-forward; the largest of all layers.
    pub(in super::super) feed_forward: u64,
    /// Tokens that there are.
    pub(in super::super) vocabulary: u64,
    /// Heads of queries by layer; 0: the layer has no attention.
    pub(in super::super) heads: Vec<u64>,
    /// Heads of keys and values by layer; 0: the layer has no attention.
    pub(in super::super) heads_kv: Vec<u64>,
    /// Extent of a head of keys.
    pub(in super::super) key: u64,
    /// Extent of a head of values.
    pub(in super::super) value: u64,
    /// Tokens that windowed layers look back; 0: there are none.
    pub(in super::super) window: u64,
    /// Bytes of a recurrent layer's states.
    pub(in super::super) recurrent: u64,
    /// Whether it makes vectors of texts, not tokens.
    pub(in super::super) is_embedding: bool,
}

impl Shape {
    pub(in super::super) fn of(model: &Model) -> Self {
        let number = |key: &str| model.number(key).unwrap_or(0);
        let layers: Vec<u64> = model.layers.iter().take(LAYERS_MAX).map(|layer| bytes(layer)).collect();
        let by_layer = |key: &str| {
            let said = model.numbers(key).unwrap_or_default();
            let rest = match said.as_slice() {
                [only] => *only,
                _ => 1,
            };
            let mut said: Vec<u64> = said;
            said.resize(layers.len(), rest);
            said
        };
        let heads = by_layer("attention.head_count");
        let heads_kv = by_layer("attention.head_count_kv");
        let embedding = number("embedding_length");
        let head = embedding.checked_div(heads.iter().copied().min().unwrap_or(1)).unwrap_or(0);
        Self {
            architecture: model.architecture.clone(),
            output: bytes(&model.output),
            context_trained: number("context_length"),
            embedding,
            feed_forward: model.numbers("feed_forward_length").and_then(|all| all.into_iter().max()).unwrap_or(0),
            vocabulary: vocabulary(model),
            key: model.number("attention.key_length").unwrap_or(head),
            value: model.number("attention.value_length").unwrap_or(head),
            window: number("attention.sliding_window"),
            recurrent: recurrent(model),
            is_embedding: model.number("pooling_type").is_some(),
            layers,
            heads,
            heads_kv,
        }
    }

    /// Heads of queries of the layer that has most.
    pub(in super::super) fn heads_max(&self) -> u64 {
        self.heads.iter().copied().max().unwrap_or(1)
    }

    /// Heads of keys of the layer that has most.
    pub(in super::super) fn heads_kv_max(&self) -> u64 {
        self.heads_kv.iter().copied().max().unwrap_or(1)
    }

    /// Queries that share a key, at most; at least 1.
    pub(in super::super) fn sharing(&self) -> u64 {
        let fewest = self.heads_kv.iter().copied().min().unwrap_or(1).max(1);
        self.heads_max().checked_div(fewest).unwrap_or(1)
    }

    /// Extent of a head, by the vector that the heads share.
    pub(in super::super) fn head(&self) -> u64 {
        let fewest = self.heads.iter().copied().min().unwrap_or(1);
        self.embedding.checked_div(fewest).unwrap_or(0)
    }

    /// Layers with the output, as engines count them.
    pub(in super::super) fn count(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Returns a tensor of the first layer.
pub(in super::super) fn first_layer<'model>(model: &'model Model, name: &str) -> Option<&'model Tensor> {
    model.layers.first()?.iter().find(|tensor| tensor.name.strip_prefix("blk.0.") == Some(name))
}

/// Tokens that there are: as many as the list has; where it was not kept, as many as rows of the matrix that reads them.
fn vocabulary(model: &Model) -> u64 {
    let listed = match model.metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Length(length)) => Some(*length),
        Some(Value::Numbers(numbers)) => u64::try_from(numbers.len()).ok(),
        Some(Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Bool(_) | Value::Text(_)) | None => {
            None
        }
    };
    let rows = || {
        let read = model.input.iter().find(|tensor| tensor.name == "token_embd.weight");
        read.and_then(|tensor| tensor.shape.get(1).copied())
    };
    listed.or_else(|| model.number("vocab_size")).or_else(rows).unwrap_or(0)
}

/// Bytes that a layer without attention remembers of one sequence: of the convolution and of the state, as 32 bits each.
fn recurrent(model: &Model) -> u64 {
    let number = |key: &str| model.number(key).unwrap_or(0);
    let inner = number("ssm.inner_size");
    let state = number("ssm.state_size");
    let shared = number("ssm.group_count").saturating_mul(state).saturating_mul(2);
    let convolution = number("ssm.conv_kernel").saturating_sub(1).saturating_mul(inner.saturating_add(shared));
    convolution.saturating_add(state.saturating_mul(inner)).saturating_mul(4)
}

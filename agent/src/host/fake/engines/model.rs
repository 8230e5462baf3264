//! Models of simulated engines: what they take, exactly.

use std::collections::BTreeMap;

use nixmox_core::offload::gguf::{Header, Tensor, TensorType, Value};

/// Bytes of a number in the models that are shown.
const NUMBER_BYTES: u64 = 4;
/// The inner extent of their tensors.
const ROW: u64 = 64;

/// A model that a simulated engine could load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeModel {
    /// Layers that there are; the output counts as one.
    pub layers: u32,
    /// Bytes of each of them.
    pub layer_bytes: u64,
    /// Bytes of each token of context, over all layers.
    pub token_bytes: u64,
    /// Bytes that it takes of a GPU once, as soon as a layer is there.
    pub overhead: u64,
    /// Tokens of context when nobody says how many.
    pub context: u32,
    /// Whether the engine tells what it is made of.
    pub is_told: bool,
}

impl FakeModel {
    /// Returns a model of so many layers of so many bytes, without anything else.
    #[must_use]
    pub fn of(layers: u32, layer_bytes: u64) -> Self {
        Self { layers, layer_bytes, token_bytes: 0, overhead: 0, context: 4096, is_told: true }
    }

    pub(super) fn size(&self, context: u32) -> u64 {
        u64::from(self.layers) * self.layer_bytes + u64::from(context) * self.token_bytes + self.overhead
    }

    pub(super) fn on_gpu(&self, layers: u32, context: u32) -> u64 {
        if layers == 0 {
            return 0;
        }
        let cache = u64::from(context) * self.token_bytes * u64::from(layers) / u64::from(self.layers.max(1));
        u64::from(layers) * self.layer_bytes + cache + self.overhead
    }

    pub(super) fn layers_within(&self, room: u64, context: u32) -> u32 {
        (0..=self.layers).rev().find(|layers| self.on_gpu(*layers, context) <= room).unwrap_or(0)
    }

    /// Returns a head that adds up to these layers.
    pub(super) fn header(&self, name: &str) -> Header {
        let blocks = self.layers.saturating_sub(1);
        let tensor = |name: String, bytes: u64| {
            let rows = bytes / NUMBER_BYTES / ROW;
            Tensor::new(name, TensorType::F32, vec![ROW, rows.max(1)]).unwrap_or_else(|fault| panic!("{fault}"))
        };
        let number = |key: &str, value: u64| (format!("llama.{key}"), Value::Unsigned(value));
        let text = |key: &str, value: &str| (format!("general.{key}"), Value::Text(value.to_owned()));
        let metadata = BTreeMap::from([
            text("architecture", "llama"),
            text("name", name),
            number("block_count", u64::from(blocks)),
            number("context_length", 128 << 10),
            number("embedding_length", ROW),
            number("feed_forward_length", 4 * ROW),
            number("attention.head_count", 1),
            number("attention.head_count_kv", 1),
        ]);
        let mut tensors = vec![tensor("token_embd.weight".to_owned(), self.layer_bytes)];
        tensors.extend((0..blocks).map(|block| tensor(format!("blk.{block}.ffn_up.weight"), self.layer_bytes)));
        tensors.push(tensor("output.weight".to_owned(), self.layer_bytes));
        Header { metadata, tensors }
    }
}

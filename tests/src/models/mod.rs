//! Models that are known by their figures: heads as the published files have them, without weights.
//!
//! Owns the shapes of some architectures and of well-known models, and files of them for llama.cpp's own programs: hollow ones,
//! as large as the model and of no size on disk. `gguf` makes models that can be run.

mod encoders;
mod experts;
mod known;
mod maker;
mod newer;
mod others;
mod plain;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use nixmox_core::offload::gguf::{Header, Tensor, TensorType, Value};
use nixmox_core::offload::model::Model;

pub use known::{known, shapes};
pub use maker::Other;
pub use others::others;
pub use write::hollow as write;

/// How the matrices of a model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All alike, the output too.
    All(&'static str),
    /// All alike but the output, which is `Q6_K` (`Q4_0`).
    Legacy(&'static str),
    /// `Q4_K_M`: half of the values and of the matrices down are `Q6_K`.
    Q4KM,
    /// `Q5_K_M`: the same over `Q5_K`.
    Q5KM,
    /// `Q4_K_S`: `Q4_K`, some of the values and matrices down `Q5_K`.
    Q4KS,
    /// As the makers of gpt-oss store it: experts MXFP4, all else 8 bits.
    Mxfp4,
}

/// What a model is built like: figures as in the file's metadata.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Layers that repeat.
    pub layers: u64,
    /// Numbers in the vector of a token.
    pub embedding: u64,
    /// Heads of queries, and of keys and values.
    pub heads: (u64, u64),
    /// Numbers in a head.
    pub head: u64,
    /// Numbers between the matrices up and down.
    pub inner: u64,
    /// Experts, those that a token takes, and numbers between their matrices; zeros: none.
    pub experts: (u64, u64, u64),
    /// Tokens.
    pub vocabulary: u64,
    /// Tokens of context that it was trained for.
    pub context: u64,
    /// Whether the output is what turns tokens into vectors.
    pub is_tied: bool,
    /// How matrices are stored.
    pub mix: Mix,
    /// Other numbers of the architecture.
    pub more: Vec<(&'static str, u64)>,
}

impl Shape {
    /// Returns the head of its file.
    ///
    /// # Panics
    /// When the shape is none that files can have.
    #[must_use]
    pub fn header(&self) -> Header {
        let mut metadata = BTreeMap::new();
        let mut put = |key: &str, value: u64| {
            metadata.insert(format!("{}.{key}", self.architecture), Value::Unsigned(value));
        };
        put("block_count", self.layers);
        put("context_length", self.context);
        put("embedding_length", self.embedding);
        put("feed_forward_length", self.inner);
        put("attention.head_count", self.heads.0);
        put("attention.head_count_kv", self.heads.1);
        put("vocab_size", self.vocabulary);
        if self.head * self.heads.0 != self.embedding {
            put("attention.key_length", self.head);
            put("attention.value_length", self.head);
        }
        if self.experts.0 > 0 {
            put("expert_count", self.experts.0);
            put("expert_used_count", self.experts.1);
            put("expert_feed_forward_length", self.experts.2);
        }
        if !self.more.iter().any(|(key, _)| *key == "rope.dimension_count") {
            put("rope.dimension_count", self.head);
        }
        for (key, value) in &self.more {
            put(key, *value);
        }
        metadata.insert("general.architecture".to_owned(), Value::Text(self.architecture.to_owned()));
        metadata.insert("tokenizer.ggml.model".to_owned(), Value::Text("none".to_owned()));
        metadata.insert(format!("{}.{}", self.architecture, epsilon(self.architecture)), Value::Float(1e-5));
        if self.architecture == "gemma2" {
            for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
                metadata.insert(format!("gemma2.{key}"), Value::Float(30.0));
            }
        }
        Header { metadata, tensors: known::tensors(self) }
    }

    /// Returns the model.
    ///
    /// # Panics
    /// When the shape is none that a model can have.
    #[must_use]
    pub fn model(&self) -> Model {
        Model::of(&[self.header()]).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Writes a hollow file of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        write::hollow(&self.header(), path)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "names are made for it")]
pub(crate) fn tensor(name: String, kind: &str, shape: &[u64]) -> Tensor {
    let kind = TensorType::from_name(kind).unwrap_or_else(|| panic!("no type {kind}"));
    Tensor::new(name.clone(), kind, shape.to_vec()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the key of what norms add to what they divide by: its name says which kind they are.
fn epsilon(architecture: &str) -> &'static str {
    match architecture {
        "bert" | "cohere2" | "command-r" | "nomic-bert" | "nomic-bert-moe" | "phi2" | "starcoder2" => {
            "attention.layer_norm_epsilon"
        }
        _ => "attention.layer_norm_rms_epsilon",
    }
}

//! Putting together a small model of an architecture, as llama.cpp reads it.

use std::collections::BTreeMap;
use std::path::Path;

use nixmox_core::offload::gguf::{Header, Tensor, Value};
use nixmox_core::offload::model::Model;

use super::{tensor, write};

/// A model that is built unlike the usual ones.
#[derive(Clone, Debug)]
pub struct Other {
    /// Its architecture.
    pub architecture: &'static str,
    /// Layers that repeat.
    pub layers: u64,
    /// The head of its file.
    pub header: Header,
}

impl Other {
    /// Returns the model.
    ///
    /// # Panics
    /// When it is none that a model can be.
    #[must_use]
    pub fn model(&self) -> Model {
        Model::of(std::slice::from_ref(&self.header))
            .unwrap_or_else(|error| panic!("{}: {error}", self.architecture))
    }

    /// Writes a hollow file of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        write::hollow(&self.header, path)
    }
}

/// Puts a model together.
pub(super) struct Maker {
    architecture: &'static str,
    layers: u64,
    pub(super) wide: u64,
    pub(super) metadata: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
}

impl Maker {
    pub(super) fn new(
        architecture: &'static str,
        layers: u64,
        wide: u64,
        words: u64,
        numbers: &[(&str, u64)],
    ) -> Self {
        let mut maker = Self { architecture, layers, wide, metadata: BTreeMap::new(), tensors: Vec::new() };
        for (key, number) in [("block_count", layers), ("context_length", 32_768), ("embedding_length", wide)] {
            maker.number(key, number);
        }
        maker.number("vocab_size", words);
        for (key, number) in numbers {
            maker.number(key, *number);
        }
        for key in [super::epsilon(architecture), "logit_scale"] {
            maker.metadata.insert(format!("{architecture}.{key}"), Value::Float(1e-5));
        }
        for (key, text) in [("general.architecture", architecture), ("tokenizer.ggml.model", "none")] {
            maker.metadata.insert(key.to_owned(), Value::Text(text.to_owned()));
        }
        maker.put("token_embd.weight", "Q6_K", &[wide, words]);
        maker
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        self.metadata.insert(format!("{}.{key}", self.architecture), Value::Unsigned(number));
    }

    pub(super) fn by_layer(&mut self, key: &str, of: impl Fn(u64) -> i64) {
        let numbers = (0..self.layers).map(of).collect();
        self.metadata.insert(format!("{}.{key}", self.architecture), Value::Numbers(numbers));
    }

    pub(super) fn put(&mut self, name: &str, kind: &str, shape: &[u64]) {
        self.tensors.push(tensor(name.to_owned(), kind, shape));
    }

    /// Tensors of a layer: those with one extent, and all that a scan reads, have 32 bits.
    pub(super) fn layer(&mut self, layer: u64, tensors: &[(&str, &[u64])]) {
        for (name, shape) in tensors {
            let is_plain = shape.len() == 1
                || ["ssm_a", "ssm_d", "ssm_conv1d", "shortconv.conv", "altup", "ssm_norm", "ffn_gate_inp"]
                    .iter()
                    .any(|start| name.starts_with(start));
            let name = if name.contains('.') || matches!(*name, "ssm_a" | "ssm_d") {
                (*name).to_owned()
            } else {
                format!("{name}.weight")
            };
            let name = if name == "shortconv.conv" { "shortconv.conv.weight".to_owned() } else { name };
            self.put(&format!("blk.{layer}.{name}"), if is_plain { "F32" } else { "Q8_0" }, shape);
        }
    }

    pub(super) fn feed_forward(&mut self, layer: u64, inner: u64) {
        let wide = self.wide;
        self.layer(
            layer,
            &[
                ("ffn_norm", &[wide]),
                ("ffn_gate", &[wide, inner]),
                ("ffn_up", &[wide, inner]),
                ("ffn_down", &[inner, wide]),
            ],
        );
    }

    pub(super) fn attention(&mut self, layer: u64, queries: u64, keys: u64) {
        let wide = self.wide;
        self.layer(
            layer,
            &[
                ("attn_q", &[wide, queries]),
                ("attn_k", &[wide, keys]),
                ("attn_v", &[wide, keys]),
                ("attn_output", &[queries, wide]),
            ],
        );
    }

    pub(super) fn factor(&mut self, key: &str, factor: f64) {
        self.metadata.insert(format!("{}.{key}", self.architecture), Value::Float(factor));
    }

    /// Experts of a layer, and what chooses among them.
    pub(super) fn experts(&mut self, layer: u64, inner: u64, experts: u64) {
        let wide = self.wide;
        self.layer(
            layer,
            &[
                ("ffn_gate_inp", &[wide, experts]),
                ("ffn_gate_exps", &[wide, inner, experts]),
                ("ffn_up_exps", &[wide, inner, experts]),
                ("ffn_down_exps", &[inner, wide, experts]),
            ],
        );
    }

    /// How numbers of a head are shared by the dimensions of a picture.
    pub(super) fn sections(&mut self, sections: &[i64]) {
        let key = format!("{}.rope.dimension_sections", self.architecture);
        self.metadata.insert(key, Value::Numbers(sections.to_vec()));
    }

    /// Takes tensors of a name out again.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| !tensor.name.contains(name));
        self
    }

    pub(super) fn done(mut self, norm: &str) -> Other {
        let wide = self.wide;
        self.put(norm, "F32", &[wide]);
        let header = Header { metadata: self.metadata, tensors: self.tensors };
        Other { architecture: self.architecture, layers: self.layers, header }
    }
}

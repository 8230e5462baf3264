//! Models that nobody trained: whole GGUF files that a real engine loads, of any size and kind, the same every time.
//!
//! Owns what is in such files; `write` owns their bytes, `weights` the numbers in them. What an engine says about them is
//! its own: their weights are chance, so is their talk.

#[cfg(test)]
mod tests;
mod weights;
mod write;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use nixmox_core::offload::gguf::{NoTensor, Tensor, TensorType};
use write::{Entry, Part};

use crate::random::Random;

/// Tokens that the vocabulary has at least for an engine to read any text: three special ones, 256 bytes, a space, 94
/// characters. With fewer, no engine loads it.
pub const LEAST_TOKENS: u32 = 354;

/// What a model is built like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `llama`; with experts, what Mixtral is.
    Llama,
    /// `qwen2`: as before, with a bias for each of queries, keys and values.
    Qwen2,
    /// `qwen3moe`: queries and keys are normalised, and all is experts.
    Qwen3Moe,
    /// `gemma`: has never an output of its own.
    Gemma,
    /// `gemma3`: five of six layers see a window only.
    Gemma3,
}

impl Architecture {
    /// Returns its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3Moe => "qwen3moe",
            Self::Gemma => "gemma",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// What a model is to be; begin with `Recipe::default()`, a `llama` of some megabytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it is built like.
    pub architecture: Architecture,
    /// Layers that repeat.
    pub layers: u32,
    /// Numbers that a token is.
    pub embedding: u32,
    /// Heads of attention.
    pub heads: u32,
    /// Heads of keys and values.
    pub heads_kv: u32,
    /// Numbers of a head; `None`: `embedding / heads`.
    pub head_length: Option<u32>,
    /// Width of the feed-forward part, of each expert where there are some.
    pub feed_forward: u32,
    /// Experts; 0: none.
    pub experts: u32,
    /// Experts that a token uses.
    pub experts_used: u32,
    /// Tokens; [`LEAST_TOKENS`] or more for an engine to load it.
    pub vocabulary: u32,
    /// Tokens of context that it was made for.
    pub context: u32,
    /// Tokens that a layer with a window sees.
    pub window: u32,
    /// How matrices are stored; norms and biases are always F32.
    pub kind: TensorType,
    /// How the output is stored; `None`: as the other matrices.
    pub output_kind: Option<TensorType>,
    /// Whether the output is the tokens once more, and not there.
    pub is_tied: bool,
    /// Into how many files it is split; 1: it is not.
    pub parts: u32,
    /// Whether weights are holes in the files, all 0: as large as any model, and of no size on disk. For estimates only.
    pub is_hollow: bool,
    /// Chooses the weights.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            architecture: Architecture::Llama,
            layers: 4,
            embedding: 128,
            heads: 4,
            heads_kv: 2,
            head_length: None,
            feed_forward: 256,
            experts: 0,
            experts_used: 0,
            vocabulary: LEAST_TOKENS,
            context: 512,
            window: 128,
            kind: TensorType::F32,
            output_kind: None,
            is_tied: false,
            parts: 1,
            is_hollow: false,
            seed: 0,
        }
    }
}

impl Recipe {
    /// Writes the model into a folder, as `NAME.gguf` or `NAME-00001-of-0000N.gguf`, and returns its files in their order.
    ///
    /// # Errors
    /// When a file cannot be written, or there is no such model (rows that are no whole blocks of its type).
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (index, part) in self.files()?.iter().enumerate() {
            let file = match self.parts {
                0 | 1 => format!("{name}.gguf"),
                parts => format!("{name}-{:05}-of-{parts:05}.gguf", index + 1),
            };
            let path = folder.join(file);
            self.write_part(part, &path)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Returns the head of each file, without the weights behind it.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn heads(&self) -> io::Result<Vec<Vec<u8>>> {
        Ok(self.files()?.iter().map(Part::head).collect())
    }

    fn write_part(&self, part: &Part, path: &Path) -> io::Result<()> {
        let head = part.head();
        let file = File::create(path)?;
        if self.is_hollow {
            file.set_len(u64::try_from(head.len()).unwrap_or(u64::MAX).saturating_add(part.data_bytes()))?;
        }
        let mut writer = BufWriter::new(file);
        writer.write_all(&head)?;
        if !self.is_hollow {
            for tensor in &part.tensors {
                // Each tensor has its own chance, so that it is the same however the model is split.
                let salt = tensor.name.bytes().fold(self.seed, |salt, byte| salt.rotate_left(7) ^ u64::from(byte));
                let padding = write::padding(tensor.bytes);
                weights::write(&mut writer, tensor, &mut Random::new(salt))?;
                writer.write_all(&vec![0; padding])?;
            }
        }
        writer.flush()
    }

    /// Returns what is in each file.
    fn files(&self) -> io::Result<Vec<Part>> {
        let mut metadata = self.metadata();
        metadata.extend(self.tokenizer());
        let tensors = self.tensors().map_err(io::Error::other)?;
        let parts = self.parts.max(1);
        let count = u32::try_from(tensors.len()).unwrap_or(u32::MAX);
        let mut files = Vec::new();
        for index in 0..parts {
            let mut metadata = if index == 0 { std::mem::take(&mut metadata) } else { Vec::new() };
            if parts > 1 {
                metadata.push(("split.no".to_owned(), Entry::U16(u16::try_from(index).unwrap_or(u16::MAX))));
                metadata.push(("split.count".to_owned(), Entry::U16(u16::try_from(parts).unwrap_or(u16::MAX))));
                metadata.push(("split.tensors.count".to_owned(), Entry::I32(count.cast_signed())));
            }
            let at = |index: u32| u64::from(count) * u64::from(index) / u64::from(parts);
            let span = usize::try_from(at(index)).unwrap_or(0)..usize::try_from(at(index + 1)).unwrap_or(0);
            files.push(Part { metadata, tensors: tensors.get(span).unwrap_or_default().to_vec() });
        }
        Ok(files)
    }

    fn head(&self) -> u32 {
        self.head_length.unwrap_or_else(|| self.embedding.checked_div(self.heads).unwrap_or(0))
    }

    fn metadata(&self) -> Vec<(String, Entry)> {
        let architecture = self.architecture.name();
        let mut entries = vec![
            ("general.architecture".to_owned(), Entry::Text(architecture.to_owned())),
            ("general.type".to_owned(), Entry::Text("model".to_owned())),
            ("general.name".to_owned(), Entry::Text(format!("chance {architecture}"))),
        ];
        let mut put = |key: &str, entry| entries.push((format!("{architecture}.{key}"), entry));
        put("block_count", Entry::U32(self.layers));
        put("context_length", Entry::U32(self.context));
        put("embedding_length", Entry::U32(self.embedding));
        put("feed_forward_length", Entry::U32(self.feed_forward));
        put("vocab_size", Entry::U32(self.vocabulary));
        put("attention.head_count", Entry::U32(self.heads));
        put("attention.head_count_kv", Entry::U32(self.heads_kv));
        put("attention.layer_norm_rms_epsilon", Entry::F32(1e-5));
        put("attention.key_length", Entry::U32(self.head()));
        put("attention.value_length", Entry::U32(self.head()));
        put("rope.dimension_count", Entry::U32(self.head()));
        if self.experts > 0 {
            put("expert_count", Entry::U32(self.experts));
            put("expert_used_count", Entry::U32(self.experts_used));
        }
        match self.architecture {
            Architecture::Qwen3Moe => put("expert_feed_forward_length", Entry::U32(self.feed_forward)),
            Architecture::Gemma3 => put("attention.sliding_window", Entry::U32(self.window)),
            Architecture::Llama | Architecture::Qwen2 | Architecture::Gemma => {}
        }
        entries
    }

    /// Returns a tokenizer that knows each byte and each ASCII character.
    fn tokenizer(&self) -> Vec<(String, Entry)> {
        const SPECIAL: [(&str, i32); 3] = [("<unk>", 2), ("<s>", 3), ("</s>", 3)];
        const NORMAL: i32 = 1;
        const UNUSED: i32 = 5;
        const BYTE: i32 = 6;
        let special = SPECIAL.into_iter().map(|(token, kind)| (token.to_owned(), kind));
        let bytes = (0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
        let space = std::iter::once(("\u{2581}".to_owned(), NORMAL));
        let characters = ('!'..='~').map(|character| (character.to_string(), NORMAL));
        let unused = (0_u32..).map(|number| (format!("<unused{number}>"), UNUSED));
        let all = special.chain(bytes).chain(space).chain(characters).chain(unused);
        let (tokens, types): (Vec<String>, Vec<i32>) =
            all.take(usize::try_from(self.vocabulary).unwrap_or(usize::MAX)).unzip();
        // Earlier tokens are more likely; special ones and bytes have no rank.
        let mut rank = 0.0;
        let scores = types.iter().map(|kind| {
            let is_ranked = matches!(*kind, NORMAL | UNUSED);
            rank -= if is_ranked { 1.0 } else { 0.0 };
            if is_ranked { rank } else { 0.0 }
        });
        let scores: Vec<f32> = scores.collect();
        let entries = [
            ("model", Entry::Text("llama".to_owned())),
            ("tokens", Entry::Texts(tokens)),
            ("scores", Entry::F32s(scores)),
            ("token_type", Entry::I32s(types)),
            ("unknown_token_id", Entry::U32(0)),
            ("bos_token_id", Entry::U32(1)),
            ("eos_token_id", Entry::U32(2)),
        ];
        entries.into_iter().map(|(key, entry)| (format!("tokenizer.ggml.{key}"), entry)).collect()
    }

    fn tensors(&self) -> Result<Vec<Tensor>, NoTensor> {
        let mut list = List { kind: self.kind, tensors: Vec::new() };
        list.matrix("token_embd", &[self.embedding, self.vocabulary])?;
        list.norm("output_norm", self.embedding)?;
        if !self.is_tied && self.architecture != Architecture::Gemma {
            let kind = std::mem::replace(&mut list.kind, self.output_kind.unwrap_or(self.kind));
            list.matrix("output", &[self.embedding, self.vocabulary])?;
            list.kind = kind;
        }
        for layer in 0..self.layers {
            self.layer(&mut list, layer)?;
        }
        Ok(list.tensors)
    }

    fn layer(&self, list: &mut List, layer: u32) -> Result<(), NoTensor> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (queries, values) = (self.heads * self.head(), self.heads_kv * self.head());
        list.norm(&name("attn_norm"), self.embedding)?;
        for (part, width) in [("attn_q", queries), ("attn_k", values), ("attn_v", values)] {
            list.matrix(&name(part), &[self.embedding, width])?;
            if self.architecture == Architecture::Qwen2 {
                list.put(format!("{}.bias", name(part)), TensorType::F32, &[width])?;
            }
        }
        list.matrix(&name("attn_output"), &[queries, self.embedding])?;
        if matches!(self.architecture, Architecture::Qwen3Moe | Architecture::Gemma3) {
            list.norm(&name("attn_q_norm"), self.head())?;
            list.norm(&name("attn_k_norm"), self.head())?;
        }
        if self.architecture == Architecture::Gemma3 {
            list.norm(&name("post_attention_norm"), self.embedding)?;
            list.norm(&name("post_ffw_norm"), self.embedding)?;
        }
        list.norm(&name("ffn_norm"), self.embedding)?;
        if self.experts == 0 {
            list.matrix(&name("ffn_gate"), &[self.embedding, self.feed_forward])?;
            list.matrix(&name("ffn_up"), &[self.embedding, self.feed_forward])?;
            list.matrix(&name("ffn_down"), &[self.feed_forward, self.embedding])
        } else {
            let router = format!("{}.weight", name("ffn_gate_inp"));
            list.put(router, TensorType::F32, &[self.embedding, self.experts])?;
            list.matrix(&name("ffn_gate_exps"), &[self.embedding, self.feed_forward, self.experts])?;
            list.matrix(&name("ffn_up_exps"), &[self.embedding, self.feed_forward, self.experts])?;
            list.matrix(&name("ffn_down_exps"), &[self.feed_forward, self.embedding, self.experts])
        }
    }
}

/// Tensors as they come up.
struct List {
    kind: TensorType,
    tensors: Vec<Tensor>,
}

impl List {
    fn matrix(&mut self, name: &str, shape: &[u32]) -> Result<(), NoTensor> {
        self.put(format!("{name}.weight"), self.kind, shape)
    }

    fn norm(&mut self, name: &str, width: u32) -> Result<(), NoTensor> {
        self.put(format!("{name}.weight"), TensorType::F32, &[width])
    }

    fn put(&mut self, name: String, kind: TensorType, shape: &[u32]) -> Result<(), NoTensor> {
        let shape = shape.iter().copied().map(u64::from).collect();
        self.tensors.push(Tensor::new(name, kind, shape)?);
        Ok(())
    }
}

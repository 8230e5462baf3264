//! The models that there are: what they are made of, and what of it lies where.
//!
//! A model is a made-up one of the architecture `llama`: its tensors follow from a few numbers, its memory from its tensors.

use serde_json::{Value, json};

/// Tokens that are computed at once.
const BATCH: u64 = 512;
/// What the driver and its libraries take for a process that uses a GPU; no engine counts it.
pub(crate) const CONTEXT_OVERHEAD: u64 = 300 << 20;

/// A model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name, with a tag.
    pub name: String,
    /// Repeating layers.
    pub blocks: u64,
    /// Width of a token's vector.
    pub embedding: u64,
    /// Heads of attention.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Width of the feed-forward part.
    pub feed_forward: u64,
    /// Tokens that there are.
    pub vocabulary: u64,
    /// Tokens of context that it was trained with.
    pub train_context: u64,
}

/// A tensor: its name, its type and its shape.
type Tensor = (String, &'static str, Vec<u64>);

impl Model {
    /// Reads `NAME BLOCKS EMBEDDING HEADS KV_HEADS FEED_FORWARD VOCABULARY TRAIN_CONTEXT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().ok_or("a model has no name")?;
        let name = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let [blocks, embedding, heads, kv_heads, feed_forward, vocabulary, train_context] = numbers[..] else {
            return Err(format!("a model is a name and seven numbers, not `{text}`"));
        };
        if numbers.contains(&0)
            || !embedding.is_multiple_of(heads)
            || !embedding.is_multiple_of(256)
            || !feed_forward.is_multiple_of(256)
        {
            return Err(format!("`{text}` makes no sense: widths are multiples of 256, and heads divide them"));
        }
        Ok(Self { name, blocks, embedding, heads, kv_heads, feed_forward, vocabulary, train_context })
    }

    /// Layers that can be on GPUs: those that repeat, and the output.
    pub fn layers(&self) -> u64 {
        self.blocks + 1
    }

    /// What it is, whatever it is called.
    pub(crate) fn digest(&self) -> String {
        // Any number that follows from what it is.
        let seed = self.name.bytes().map(u64::from).chain([self.blocks, self.embedding, self.feed_forward]);
        let hash =
            seed.fold(0xcbf2_9ce4_8422_2325_u64, |hash, value| (hash ^ value).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}").repeat(4)
    }

    fn kv_width(&self) -> u64 {
        self.embedding / self.heads * self.kv_heads
    }

    fn block(&self, index: u64) -> Vec<Tensor> {
        let (wide, kv, inner) = (self.embedding, self.kv_width(), self.feed_forward);
        [
            ("attn_norm", "F32", vec![wide]),
            ("attn_q", "Q8_0", vec![wide, wide]),
            ("attn_k", "Q8_0", vec![wide, kv]),
            ("attn_v", "Q8_0", vec![wide, kv]),
            ("attn_output", "Q8_0", vec![wide, wide]),
            ("ffn_norm", "F32", vec![wide]),
            ("ffn_gate", "Q8_0", vec![wide, inner]),
            ("ffn_up", "Q8_0", vec![wide, inner]),
            ("ffn_down", "Q8_0", vec![inner, wide]),
        ]
        .into_iter()
        .map(|(name, kind, shape)| (format!("blk.{index}.{name}.weight"), kind, shape))
        .collect()
    }

    fn input(&self) -> Vec<Tensor> {
        vec![("token_embd.weight".to_owned(), "Q8_0", vec![self.embedding, self.vocabulary])]
    }

    fn output(&self) -> Vec<Tensor> {
        vec![
            ("output_norm.weight".to_owned(), "F32", vec![self.embedding]),
            ("output.weight".to_owned(), "Q8_0", vec![self.embedding, self.vocabulary]),
        ]
    }

    /// Bytes of its file.
    pub fn file_size(&self) -> u64 {
        bytes(&self.input()) + bytes(&self.output()) + self.blocks * bytes(&self.block(0))
    }

    /// Bytes of a layer with its keys and values, for so many tokens of all requests.
    pub(crate) fn layer(&self, tokens: u64) -> u64 {
        bytes(&self.block(0)) + self.cache(tokens)
    }

    fn cache(&self, tokens: u64) -> u64 {
        2 * 2 * self.kv_width() * tokens
    }

    /// Bytes of what makes tokens of vectors.
    pub(crate) fn output_layer(&self) -> u64 {
        bytes(&self.output())
    }

    /// Bytes of buffers to compute in, on each GPU.
    pub(crate) fn compute(&self, with_output: bool) -> u64 {
        let widest = if with_output { self.vocabulary } else { 2 * self.feed_forward };
        4 * BATCH * (widest + 2 * self.embedding)
    }

    /// All memory that it takes, wherever.
    pub(crate) fn total(&self, tokens: u64) -> u64 {
        self.file_size() + self.blocks * self.cache(tokens) + self.compute(true)
    }

    pub(crate) fn details(&self) -> Value {
        json!({
            "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
            "parameter_size": format!("{}M", self.file_size() / 1_062_500), "quantization_level": "Q8_0",
        })
    }

    /// What `/api/show` says of it.
    pub(crate) fn show(&self) -> Value {
        let tensors = self
            .input()
            .into_iter()
            .chain((0..self.blocks).flat_map(|index| self.block(index)))
            .chain(self.output());
        let tensors: Vec<Value> =
            tensors.map(|(name, kind, shape)| json!({ "name": name, "type": kind, "shape": shape })).collect();
        json!({
            "modelfile": format!("FROM {}\n", self.name),
            "template": "{{ .Prompt }}",
            "details": self.details(),
            "model_info": {
                "general.architecture": "llama",
                "general.file_type": 7,
                "general.parameter_count": self.file_size() * 32 / 34,
                "llama.block_count": self.blocks,
                "llama.context_length": self.train_context,
                "llama.embedding_length": self.embedding,
                "llama.feed_forward_length": self.feed_forward,
                "llama.attention.head_count": self.heads,
                "llama.attention.head_count_kv": self.kv_heads,
                "llama.attention.layer_norm_rms_epsilon": 1e-5,
                "llama.vocab_size": self.vocabulary,
                "tokenizer.ggml.model": "gpt2",
                "tokenizer.ggml.tokens": null,
            },
            "tensors": tensors,
            "capabilities": ["completion"],
            "modified_at": "2026-01-01T00:00:00Z",
        })
    }
}

fn bytes(tensors: &[Tensor]) -> u64 {
    let size = |(_, kind, shape): &Tensor| {
        let numbers: u64 = shape.iter().product();
        if *kind == "F32" { numbers * 4 } else { numbers / 32 * 34 }
    };
    tensors.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::Model;

    #[test]
    fn what_show_says_adds_up_to_what_it_takes() {
        let model = Model::parse("big 16 4096 32 8 14336 32000 8192").expect("it is one");
        assert_eq!((model.name.as_str(), model.layers()), ("big:latest", 17));
        let show = model.show();
        let tensors = show["tensors"].as_array().expect("a list");
        assert_eq!(tensors.len(), 16 * 9 + 3);
        let numbers = |tensor: &serde_json::Value| {
            let shape = tensor["shape"].as_array().expect("a list");
            let numbers: u64 = shape.iter().filter_map(serde_json::Value::as_u64).product();
            if tensor["type"] == "F32" { numbers * 4 } else { numbers / 32 * 34 }
        };
        assert_eq!(tensors.iter().map(numbers).sum::<u64>(), model.file_size());
        assert!(
            model.total(4096) - model.total(0) == 16 * 4096 * 4 * 1024,
            "16 bits, keys and values, 8 heads of 128"
        );
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for text in ["", "a", "a 1 2 3", "a 16 4096 32 8 14336 32000 0", "a 16 4097 32 8 14336 32000 8192"] {
            assert!(Model::parse(text).is_err(), "{text}");
        }
    }
}

//! A model, as far as memory depends on it: the heads of its files, put together and sorted by where engines put tensors.
//!
//! Tensors are told apart by their names, as llama.cpp does (`src/llama-arch.cpp`): `blk.N.` (and `enc.blk.N.`,
//! `dec.blk.N.`) is layer N; some names are of the input, some of the output, and the rest belongs to no layer.

mod parts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::gguf::text::quoted;
use super::gguf::{Header, Tensor, Value};

/// Most layers that are believed; llama.cpp loads up to 512.
pub const MAX_LAYERS: u64 = 1024;

/// What turns tokens into vectors: the first words of names. `token_embd_norm` goes with it in files, though engines
/// compute it with the first layer.
const INPUT: [&str; 5] = ["token_embd", "position_embd", "token_types", "token_embd_norm", "per_layer_token_embd"];

/// What makes tokens of vectors: the first words of names.
const OUTPUT: [&str; 14] = [
    "output",
    "output_norm",
    "output_hc_fn",
    "output_hc_base",
    "output_hc_scale",
    "output_hc_norm",
    "output_hc_down",
    "output_hc_up",
    "output_res_score",
    "cls",
    "decision",
    "dense_2",
    "dense_3",
    "altup_proj",
];

/// The same, of names with more than one word.
const OUTPUT_LONG: [&str; 4] = ["enc.output_norm", "dec.output_norm", "altup_unembd_proj", "nextn.post_projection"];

/// Architectures that make no tokens, only one vector of a text: they have no output, and do not use the tokens for one.
const ENCODERS: [&str; 8] =
    ["bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe"];

/// What sees or hears: the first words of names.
const PROJECTOR: [&str; 4] = ["v", "a", "mm", "s"];

/// A model: what all formulas begin with.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its architecture, such as `llama` (`general.architecture`).
    pub architecture: String,
    /// Its name, as its maker calls it; `None`: it has none.
    pub name: Option<String>,
    /// The tensors of each repeating layer (`blk.N.`), from the first on; as many as `block_count` says, with the layers
    /// that guess ahead (`nextn_predict_layers`), or as the decoder has, where that is more. One that computes nothing
    /// has none.
    pub layers: Vec<Vec<Tensor>>,
    /// What turns tokens into vectors (`token_embd`, and what goes with it); stays in the machine's memory.
    pub input: Vec<Tensor>,
    /// What makes tokens of vectors (`output`, `output_norm`); `token_embd` once more where there is no `output.weight`.
    /// Models for embeddings such as `bert` make no tokens: they have none of both, and this may be empty.
    pub output: Vec<Tensor>,
    /// Whether `output` is `token_embd` once more.
    pub is_tied: bool,
    /// What sees pictures or hears (`v.`, `a.`, `mm.`, `s.`), as far as it lies in the same file.
    pub projector: Vec<Tensor>,
    /// What else there is, such as `rope_freqs`.
    pub others: Vec<Tensor>,
    /// All metadata, without arrays that are too long to be kept; of several files, that of the first.
    pub metadata: BTreeMap<String, Value>,
}

/// Why heads of files are no model that can be estimated: one clean line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAModel(pub String);

impl Model {
    /// Puts a model together from the heads of its files, in any order; one, where it is not split.
    ///
    /// # Errors
    /// When something is missing, there twice, or makes no sense.
    pub fn of(files: &[Header]) -> Result<Self, NotAModel> {
        let (first, tensors) = parts::joined(files)?;
        let architecture = architecture(first)?.to_owned();
        let metadata = first.metadata.clone();
        let name = first.text("general.name").map(str::to_owned);
        let mut model = Self {
            architecture,
            name,
            layers: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            is_tied: false,
            projector: Vec::new(),
            others: Vec::new(),
            metadata,
        };
        let count = model.layer_count()?;
        model.layers = (0..count).map(|_| Vec::new()).collect();
        for tensor in tensors {
            model.place(tensor)?;
        }
        model.check_layers()?;
        model.tie()?;
        Ok(model)
    }

    /// Returns a whole number of the architecture, such as `block_count`, whatever the architecture is called; `None`: it
    /// is not there, is an array, or is no whole number of 0 or more.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.as_unsigned()
    }

    /// Returns such a number of each layer, where it is one for all of them or an array by layer: as many as `layers`.
    /// `None` also where the array is shorter than that, or has a negative entry.
    #[must_use]
    pub fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        match self.value(key)? {
            Value::Unsigned(number) => Some(vec![*number; self.layers.len()]),
            Value::Numbers(numbers) => {
                let numbers = numbers.get(..self.layers.len())?;
                numbers.iter().map(|number| u64::try_from(*number).ok()).collect()
            }
            Value::Signed(_) | Value::Float(_) | Value::Bool(_) | Value::Text(_) | Value::Length(_) => None,
        }
    }

    /// Returns a value of the architecture; `None`: it is not there.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.architecture))
    }

    /// Returns the bytes of all tensors in its files: what is tied counts once.
    #[must_use]
    pub fn weights(&self) -> u64 {
        let output =
            if self.is_tied { bytes(&self.output).saturating_sub(self.tied_bytes()) } else { bytes(&self.output) };
        let groups = [bytes(&self.input), output, bytes(&self.projector), bytes(&self.others)];
        let layers = self.layers.iter().map(|layer| bytes(layer));
        layers.chain(groups).fold(0, u64::saturating_add)
    }

    fn tied_bytes(&self) -> u64 {
        self.output.iter().find(|tensor| tensor.name == TOKENS).map_or(0, |tensor| tensor.bytes)
    }

    /// Returns how many layers there have to be.
    fn layer_count(&self) -> Result<u64, NotAModel> {
        let Some(count) = self.number("block_count") else {
            let key = quoted(&format!("{}.block_count", self.architecture));
            return Err(NotAModel(format!("does not say how many layers it has: {key} is missing, or no number")));
        };
        let count = count.max(self.number("decoder_block_count").unwrap_or(0));
        if count == 0 || count > MAX_LAYERS {
            return Err(NotAModel(format!("claims {count} layers, and 1 to {MAX_LAYERS} can be")));
        }
        Ok(count)
    }

    /// Puts a tensor where it belongs.
    fn place(&mut self, tensor: Tensor) -> Result<(), NotAModel> {
        if let Some(index) = layer_of(&tensor.name) {
            let count = u64::try_from(self.layers.len()).unwrap_or(u64::MAX);
            let layer = usize::try_from(index).ok().and_then(|index| self.layers.get_mut(index));
            // Some files have the layers that guess ahead on top of `block_count`; no engine loads them then.
            let ahead = self.metadata.get(&format!("{}.nextn_predict_layers", self.architecture));
            let ahead = if let Some(Value::Unsigned(ahead)) = ahead { *ahead } else { 0 };
            match layer {
                Some(layer) => layer.push(tensor),
                None if index.checked_sub(count).is_some_and(|beyond| beyond < ahead) => self.others.push(tensor),
                None => {
                    let name = quoted(&tensor.name);
                    return Err(NotAModel(format!("tensor {name} is beyond its {count} layers")));
                }
            }
            return Ok(());
        }
        let word = tensor.name.split('.').next().unwrap_or_default();
        let is_long = OUTPUT_LONG.iter().any(|name| tensor.name.strip_prefix(name).is_some_and(ends_word));
        if INPUT.contains(&word) {
            self.input.push(tensor);
        } else if OUTPUT.contains(&word) || is_long {
            self.output.push(tensor);
        } else if PROJECTOR.contains(&word) && tensor.name.contains('.') {
            self.projector.push(tensor);
        } else {
            self.others.push(tensor);
        }
        Ok(())
    }

    /// Refuses a model of which a layer is missing.
    fn check_layers(&self) -> Result<(), NotAModel> {
        let missing: Vec<usize> = (0..self.layers.len()).filter(|index| self.is_missing(*index)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let (layers, all) = (missing.len(), self.layers.len());
        Err(NotAModel(if layers == 1 {
            format!("has no tensor of layer {first} (`blk.{first}.`), of {all} layers")
        } else {
            format!(
                "has no tensor of {layers} of its {all} layers, layer {first} (`blk.{first}.`) the first of them"
            )
        }))
    }

    /// Returns whether a layer has no tensors, though it computes something.
    fn is_missing(&self, index: usize) -> bool {
        let is_none = |key: &str| {
            self.numbers(key).and_then(|numbers| numbers.get(index).copied()).is_some_and(|number| number == 0)
        };
        self.layers.get(index).is_none_or(Vec::is_empty)
            // Where a search for a smaller model took a layer out, it has neither heads nor a feed-forward part.
            && !(is_none("attention.head_count") && is_none("feed_forward_length"))
    }

    /// Finds the tokens, and uses them once more where there is no output.
    fn tie(&mut self) -> Result<(), NotAModel> {
        let Some(tokens) = self.input.iter().find(|tensor| tensor.name == TOKENS) else {
            return Err(NotAModel(format!("has no tensor `{TOKENS}`")));
        };
        let has_output = self.output.iter().any(|tensor| tensor.name == "output.weight");
        if !has_output && !ENCODERS.contains(&self.architecture.as_str()) {
            self.output.push(tokens.clone());
            self.is_tied = true;
        }
        Ok(())
    }
}

/// The tensor of all tokens.
const TOKENS: &str = "token_embd.weight";

/// Returns the bytes of all of these.
#[must_use]
pub fn bytes(tensors: &[Tensor]) -> u64 {
    tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
}

/// Returns the architecture of a model; what is something else is named.
fn architecture(header: &Header) -> Result<&str, NotAModel> {
    if header.is_projector() {
        let advice = "name the model that it belongs to";
        return Err(NotAModel(format!("is a projector (mmproj), not a model: {advice}")));
    }
    match header.text("general.type") {
        None | Some("model") => {}
        Some(other) => return Err(NotAModel(format!("is of type {}, not a model", quoted(other)))),
    }
    match header.text("general.architecture") {
        None | Some("") => Err(NotAModel("does not say its architecture (`general.architecture`)".to_owned())),
        Some(other @ ("controlvector" | "adapter")) => Err(NotAModel(format!("is a {other}, not a model"))),
        Some(architecture) => Ok(architecture),
    }
}

/// Returns the layer of a tensor, by its name; `None`: it is of none.
fn layer_of(name: &str) -> Option<u64> {
    let rest = ["blk.", "enc.blk.", "dec.blk."].iter().find_map(|start| name.strip_prefix(start))?;
    let (number, _) = rest.split_once('.')?;
    // A sign, which `parse` would take, is in no name.
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    // More digits than a number can have are beyond all layers.
    (!number.is_empty()).then(|| number.parse().unwrap_or(u64::MAX))
}

/// Returns whether what follows in a name is another word, or nothing.
fn ends_word(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.')
}

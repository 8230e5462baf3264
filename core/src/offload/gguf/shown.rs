//! What an engine says of a model over HTTP (`model_info` and `tensors` of Ollama's `/api/show`), as the head of a file.

use super::read::{MAX_KEY, MAX_KEYS, MAX_TENSORS};
use super::text::quoted;
use super::{Header, MAX_KEPT_ENTRIES, MAX_KEPT_TEXT, NoTensor, Tensor, TensorType, Value};

/// A tensor as it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The name of its type, such as `Q4_K`, in any case.
    pub kind: &'a str,
    /// Its extent by dimension, the innermost first.
    pub shape: &'a [u64],
}

/// Why what is said makes no head: one clean line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotShown(pub String);

impl Header {
    /// Makes a head of what an engine says. Values that are nothing (arrays, where nobody asked for them) are left out.
    ///
    /// # Errors
    /// When there is more than a file may have, or a tensor cannot be.
    pub fn shown<'a>(
        metadata: &serde_json::Map<String, serde_json::Value>,
        tensors: impl IntoIterator<Item = ShownTensor<'a>>,
    ) -> Result<Self, NotShown> {
        let mut header = Self::default();
        if u64::try_from(metadata.len()).is_ok_and(|keys| keys > MAX_KEYS) {
            return Err(NotShown(format!("has {} keys, and {MAX_KEYS} are the most", metadata.len())));
        }
        for (key, value) in metadata {
            if u64::try_from(key.len()).is_ok_and(|bytes| bytes > MAX_KEY) {
                return Err(NotShown(format!("key {} is longer than {MAX_KEY} bytes", quoted(key))));
            }
            if let Some(value) = Value::shown(value) {
                header.metadata.insert(key.clone(), value);
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for ShownTensor { name, kind, shape } in tensors {
            if u64::try_from(names.len()).is_ok_and(|count| count >= MAX_TENSORS) {
                return Err(NotShown(format!("has more than {MAX_TENSORS} tensors, which are the most")));
            }
            let type_of = TensorType::from_name(kind).ok_or_else(|| {
                NotShown(format!("tensor {} is of type {}, which there is not", quoted(name), quoted(kind)))
            })?;
            let tensor = Tensor::new(name, type_of, shape.to_vec()).map_err(|NoTensor(fault)| NotShown(fault))?;
            if !names.insert(name) {
                return Err(NotShown(format!("tensor {} is there twice", quoted(name))));
            }
            header.tensors.push(tensor);
        }
        Ok(header)
    }
}

impl Value {
    /// Returns a value as a file would have it; `None`: it is nothing, or an object.
    fn shown(value: &serde_json::Value) -> Option<Self> {
        Some(match value {
            serde_json::Value::Null | serde_json::Value::Object(_) => return None,
            serde_json::Value::Bool(truth) => Self::Bool(*truth),
            serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => Self::Unsigned(number),
                (None, Some(number), _) => Self::Signed(number),
                (None, None, number) => Self::Float(number?),
            },
            serde_json::Value::String(text) => match u64::try_from(text.len()).ok()? {
                bytes if bytes > MAX_KEPT_TEXT => Self::Length(bytes),
                _ => Self::Text(text.clone()),
            },
            serde_json::Value::Array(entries) => {
                let count = u64::try_from(entries.len()).ok()?;
                let numbers = || entries.iter().map(whole).collect::<Option<Vec<i64>>>();
                let numbers = if count <= MAX_KEPT_ENTRIES { numbers() } else { None };
                numbers.map_or(Self::Length(count), Self::Numbers)
            }
        })
    }
}

/// Returns a whole number or a truth.
fn whole(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_bool().map(i64::from))
}

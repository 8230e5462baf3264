//! From models and what runs them to the wire. Loses nothing that memory depends on; the way back, with its checks, is `offload_into_model`.

use nixmox_core::model::{self, Word};
use nixmox_core::offload::gguf;

use crate::from_model::milliseconds;
use crate::{ModelTensor, ModelValue, Offload, OffloadModelReply};

impl From<&model::Offload> for Offload {
    fn from(offload: &model::Offload) -> Self {
        Self {
            engine: offload.engine.as_word().to_owned(),
            url: offload.url.clone(),
            keep: offload.keep.clone(),
            idle_unload_ms: offload.idle_unload.map(milliseconds),
            context: offload.context,
            request_grace_ms: offload.request_grace.map(milliseconds),
            cpu_fallback: offload.cpu_fallback.as_word().to_owned(),
        }
    }
}

impl From<&gguf::Header> for OffloadModelReply {
    /// Returns what a model is made of; how it would be loaded is not said there.
    fn from(header: &gguf::Header) -> Self {
        Self {
            metadata: header.metadata.iter().map(|(key, value)| ModelValue::of(key, value)).collect(),
            tensors: header.tensors.iter().map(ModelTensor::from).collect(),
            ..Self::default()
        }
    }
}

impl ModelValue {
    /// Returns a value of metadata under its key.
    #[must_use]
    pub fn of(key: &str, value: &gguf::Value) -> Self {
        let mut wire = Self { key: key.to_owned(), ..Self::default() };
        match value {
            gguf::Value::Unsigned(number) => match i64::try_from(*number) {
                Ok(number) => wire.number = Some(number),
                // Seeds and hashes; nothing that memory depends on is that large.
                Err(_) => wire.text = Some(number.to_string()),
            },
            gguf::Value::Signed(number) => wire.number = Some(*number),
            // JSON has no infinity, and nothing that is not a number.
            gguf::Value::Float(fraction) if fraction.is_finite() => wire.fraction = Some(*fraction),
            gguf::Value::Float(fraction) => wire.text = Some(fraction.to_string()),
            gguf::Value::Bool(truth) => wire.truth = Some(*truth),
            gguf::Value::Text(text) => wire.text = Some(text.clone()),
            gguf::Value::Numbers(numbers) => wire.numbers = Some(numbers.clone()),
            gguf::Value::Length(length) => wire.length = Some(*length),
        }
        wire
    }
}

impl From<&gguf::Tensor> for ModelTensor {
    fn from(tensor: &gguf::Tensor) -> Self {
        Self { name: tensor.name.clone(), kind: tensor.kind.number(), shape: tensor.shape.clone() }
    }
}

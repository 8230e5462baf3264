//! What a model is made of, on its way from this child to the agent.

use std::collections::BTreeMap;

use nixmox_core::offload::gguf::{Header, Tensor, TensorType, Value};
use serde::{Deserialize, Serialize};

/// The head of a model's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Metadata by key.
    pub metadata: BTreeMap<String, HeadValue>,
    /// The tensors, in the order of the file.
    pub tensors: Vec<HeadTensor>,
}

/// A value of metadata; see [`Value`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are those of `gguf::Value`")]
pub enum HeadValue {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Numbers(Vec<i64>),
    Length(u64),
}

/// A tensor: its name, the number of its type, and its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadTensor(pub String, pub u32, pub Vec<u64>);

impl From<Header> for Head {
    fn from(header: Header) -> Self {
        let tensor = |tensor: Tensor| HeadTensor(tensor.name, tensor.kind.number(), tensor.shape);
        Self {
            metadata: header.metadata.into_iter().map(|(key, value)| (key, value.into())).collect(),
            tensors: header.tensors.into_iter().map(tensor).collect(),
        }
    }
}

impl Head {
    /// Returns the head as core has it.
    ///
    /// # Errors
    /// When a tensor cannot be.
    pub fn into_header(self) -> Result<Header, String> {
        let tensor = |HeadTensor(name, number, shape): HeadTensor| {
            let kind = TensorType::from_number(number).ok_or_else(|| format!("there is no type {number}"))?;
            Tensor::new(name, kind, shape).map_err(|fault| fault.to_string())
        };
        Ok(Header {
            metadata: self.metadata.into_iter().map(|(key, value)| (key, value.into())).collect(),
            tensors: self.tensors.into_iter().map(tensor).collect::<Result<_, String>>()?,
        })
    }
}

impl From<Value> for HeadValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Unsigned(number) => Self::Unsigned(number),
            Value::Signed(number) => Self::Signed(number),
            // JSON has no others.
            Value::Float(number) => Self::Float(if number.is_finite() { number } else { 0.0 }),
            Value::Bool(truth) => Self::Bool(truth),
            Value::Text(text) => Self::Text(text),
            Value::Numbers(numbers) => Self::Numbers(numbers),
            Value::Length(count) => Self::Length(count),
        }
    }
}

impl From<HeadValue> for Value {
    fn from(value: HeadValue) -> Self {
        match value {
            HeadValue::Unsigned(number) => Self::Unsigned(number),
            HeadValue::Signed(number) => Self::Signed(number),
            HeadValue::Float(number) => Self::Float(number),
            HeadValue::Bool(truth) => Self::Bool(truth),
            HeadValue::Text(text) => Self::Text(text),
            HeadValue::Numbers(numbers) => Self::Numbers(numbers),
            HeadValue::Length(count) => Self::Length(count),
        }
    }
}

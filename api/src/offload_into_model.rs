//! From the wire to models and what runs them: everything from outside is checked here, and every fault is named.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_core::model::{self, Word};
use nixmox_core::offload::gguf::{self, TensorType};

use crate::into_model::Faults;
use crate::rule::{self, quoted};
use crate::{ModelTensor, ModelValue, Offload, OffloadModelReply};

/// The shortest time that a model may stay loaded unasked, in milliseconds.
const IDLE_MIN_MS: u64 = 1000;

/// Reads what runs models in a service.
pub(crate) fn offload(wire: Offload, faults: &mut Faults) -> Option<model::Offload> {
    let Offload { engine, url, keep, idle_unload_ms, context, request_grace_ms, cpu_fallback } = wire;
    let engine = faults.keep("offload.engine", model::Engine::from_word(&engine));
    let url = match model::Offload::url_fault(&url) {
        None => Some(url),
        Some(why) => faults.keep("offload.url", Err(format!("{}: {why}", quoted(&url)))),
    };
    let keep = faults.each("offload.keep", keep, |faults, key, name| match model::Offload::name_fault(&name) {
        None => Some(name),
        Some(why) => faults.keep(key, Err(why)),
    });
    faults.unique("offload.keep", keep.iter().flatten().map(|name| rule::shown(name)));
    let mut time = |key: &str, milliseconds: Option<u64>, min: u64, max: Duration| match milliseconds {
        None => Some(None),
        Some(time) if Duration::from_millis(time) > max => {
            faults.keep(key, Err(format!("{time} ms is longer than {} h", max.as_secs() / 3600)))
        }
        Some(time) => faults.keep(key, rule::duration(time, min)).map(Some),
    };
    let idle_unload = time("offload.idle_unload", idle_unload_ms, IDLE_MIN_MS, model::Offload::IDLE_MAX);
    let request_grace = time("offload.request_grace", request_grace_ms, 0, model::Offload::GRACE_MAX);
    if context.is_some_and(|context| !model::Offload::CONTEXT.contains(&context)) {
        let (least, most) = (model::Offload::CONTEXT.start(), model::Offload::CONTEXT.end());
        faults.add("offload.context", format!("it is not from {least} to {most}"));
    }
    let cpu_fallback = faults.keep("offload.cpu_fallback", model::CpuFallback::from_word(&cpu_fallback));
    Some(model::Offload {
        engine: engine?,
        url: url?,
        keep: keep?,
        idle_unload: idle_unload?,
        context,
        request_grace: request_grace?,
        cpu_fallback: cpu_fallback?,
    })
}

impl OffloadModelReply {
    /// Returns what a model is made of, as its engine says.
    ///
    /// # Errors
    /// What makes no sense, in one line.
    pub fn header(&self) -> Result<gguf::Header, String> {
        let mut metadata = BTreeMap::new();
        for value in &self.metadata {
            if metadata.insert(value.key.clone(), value.value()?).is_some() {
                return Err(format!("the key {} is there twice", quoted(&value.key)));
            }
        }
        let tensors = self.tensors.iter().map(ModelTensor::tensor).collect::<Result<_, _>>()?;
        Ok(gguf::Header { metadata, tensors })
    }
}

impl ModelValue {
    fn value(&self) -> Result<gguf::Value, String> {
        let Self { key, number, fraction, truth, text, numbers, length } = self;
        let number = number.map(|number| match u64::try_from(number) {
            Ok(number) => gguf::Value::Unsigned(number),
            Err(_) => gguf::Value::Signed(number),
        });
        let values = [
            number,
            fraction.map(gguf::Value::Float),
            truth.map(gguf::Value::Bool),
            text.clone().map(gguf::Value::Text),
            numbers.clone().map(gguf::Value::Numbers),
            length.map(gguf::Value::Length),
        ];
        let mut values = values.into_iter().flatten();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (_, _) => Err(format!("the key {} has not exactly one value", quoted(key))),
        }
    }
}

impl ModelTensor {
    fn tensor(&self) -> Result<gguf::Tensor, String> {
        let Some(kind) = TensorType::from_number(self.kind) else {
            let name = quoted(&self.name);
            return Err(format!("the tensor {name} is of type {}, which is not known here", self.kind));
        };
        gguf::Tensor::new(self.name.clone(), kind, self.shape.clone()).map_err(|fault| fault.to_string())
    }
}

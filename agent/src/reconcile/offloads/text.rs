//! Steps of engines as lines for people.

use nixmox_core::offload::arbiter::{Setting, Step};
use nixmox_core::offload::estimate::Layers;

/// Returns a step's name, for figures.
pub(super) fn word(step: &Step) -> &'static str {
    match step {
        Step::Unload { .. } => "model-unload",
        Step::Load { .. } => "model-load",
    }
}

/// Returns a step as a line for people.
pub(super) fn asked(step: &Step) -> String {
    match step {
        Step::Unload { model } => format!("unload {model}"),
        Step::Load { model, setting: Setting { layers, context }, keep: _ } => {
            let layers = match layers {
                Layers::Auto => "as many layers on GPUs as fit".to_owned(),
                Layers::Exactly(0) => "on the CPU".to_owned(),
                Layers::Exactly(1) => "1 layer on GPUs".to_owned(),
                Layers::Exactly(layers) => format!("{layers} layers on GPUs"),
            };
            let context = context.map(|tokens| format!(", context {tokens}")).unwrap_or_default();
            format!("load {model} ({layers}{context})")
        }
    }
}

/// Returns what is told of a step that begins.
pub(super) fn begins(step: &Step, why: &str) -> String {
    if why.is_empty() { format!("{} begins", asked(step)) } else { format!("{} begins: {why}", asked(step)) }
}

/// Returns what is told of a step that is over.
pub(super) fn is_over(step: &Step, result: &Result<(), String>) -> String {
    match result {
        Ok(()) => format!("{} is done", asked(step)),
        Err(cause) => format!("{} failed: {cause}", asked(step)),
    }
}

//! What logs of Ollama say: figures as they are logged, rounded to a tenth of their unit.

mod before_0_7;
mod from_0_12_11;
mod from_0_7;

use super::shapes::{self as s, Recipe, Shape};
use crate::offload::engine::Version;
use crate::offload::estimate::KvType;

/// A load that was logged. `0.0`: the log does not say.
pub(super) struct Case {
    pub(super) model: &'static str,
    pub(super) shape: Shape,
    pub(super) recipe: Recipe,
    /// The version that wrote it, or one with the same formula, by the date and the lines of its source.
    pub(super) version: Version,
    /// Tokens of context of one request, and requests at the same time.
    pub(super) context: (u32, u32),
    pub(super) batch: u32,
    pub(super) kind: KvType,
    pub(super) flash_attention: bool,
    /// Layers that were asked for.
    pub(super) asked: Option<u32>,
    /// GiB that are free, by GPU; where the log does not say, enough, and its layers are not compared.
    pub(super) free: &'static [f64],
    /// Layers on GPUs, by GPU.
    pub(super) layers: &'static [u32],
    /// GiB on GPUs, by GPU: `memory.required.allocations`, or the sum of what is on a device.
    pub(super) memory: &'static [f64],
    /// GiB of everything: `memory.required.full` or `total memory`.
    pub(super) total: f64,
    /// MiB of keys and values: all of them.
    pub(super) cache: f64,
    /// MiB to compute in: with all layers, and with a part of them; of Ollama's own runner, on the first device.
    pub(super) graph: (f64, f64),
    /// GiB of repeating layers, without keys and values.
    pub(super) repeating: f64,
}

/// The defaults of what is said of each case.
const C: Case = Case {
    model: "",
    shape: s::LLAMA_8B,
    recipe: Recipe::Q4_0,
    version: Version(0, 0, 0),
    context: (2048, 1),
    batch: 512,
    kind: KvType::F16,
    flash_attention: false,
    asked: None,
    free: &[],
    layers: &[],
    memory: &[],
    total: 0.0,
    cache: 0.0,
    graph: (0.0, 0.0),
    repeating: 0.0,
};

/// MiB of a GiB.
const G: f64 = 1024.0;

/// Returns all of them, oldest versions first.
pub(super) fn all() -> impl Iterator<Item = &'static Case> {
    [before_0_7::CASES, from_0_7::CASES, from_0_12_11::CASES].into_iter().flatten()
}

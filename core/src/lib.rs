//! What NixMox decides: values in, values out.
//!
//! Owns the manifest's grammar, the model of what is desired and observed, the plan that leads from one
//! to the other, the health and restart state machines, the trial of what is new, and who is given what of the GPUs. Does no IO, reads no clock, starts no thread:
//! times and observations are arguments.
//!
//! Data goes one way: `manifest` → `model::Desired` → `plan` (with `model::Observed`) → `model::Plan`.

pub mod closure;
pub mod compare;
pub mod container;
pub mod gpu;
pub mod health;
pub mod manifest;
pub mod model;
pub mod network;
pub mod offload;
pub mod oom;
pub mod plan;
#[cfg(feature = "planted")]
pub mod planted;
pub mod restart;
pub mod slice;
pub mod status;
pub mod trial;

//! Models on the GPUs: what an engine does with memory, how much of a model fits, and who gives memory back when.
//!
//! Owns every decision about what runs models in services as values. How an engine is asked is the agent's (`host::engine`); who
//! may have how much is `gpu`'s: its grants are the budgets here.
//!
//! ```text
//! file or /api/show ─▶ gguf::Header ─▶ model::Model ─▶ estimate: layers and memory, by the formula of the engine's version
//!                                                         │
//! grant (budget), NVML (used), EngineSeen ────────────────┴──▶ arbiter: one step at a time ─▶ Unload · Load · …
//!                                                              watchdog: a model that should be on the GPU and is not
//! ```

pub mod arbiter;
pub mod engine;
pub mod estimate;
pub mod gguf;
pub mod model;
pub mod seen;
pub mod watchdog;

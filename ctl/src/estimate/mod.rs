//! What becomes of a model with so much video memory, and what would with another setting.
//!
//! Reads models that lie in files; what is known of a model, and every formula, is `nixmox_core::offload`'s. Values out: the command
//! asks, `render` writes.

mod alternatives;
mod file;
mod outcome;

pub(crate) use file::{FileError, read};
pub(crate) use outcome::{Alternative, Case, Enough, Outcome, Place};

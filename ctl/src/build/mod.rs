//! From what a manifest names to store paths, as the user: nothing here runs as root or decides what a system contains.
//!
//! ```text
//! SystemRef ──flake, module──▶ nix eval, nix build --dry-run ──derivations──▶ one nix build ──store paths──▶ Service
//!     └── link, store path, adopted ──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What is built is kept from the garbage collector by links (`roots`) until whoever asked drops them.

mod closure;
mod error;
mod evaluate;
mod flake;
mod git;
mod log;
mod module;

mod options;
mod roots;
mod run;
mod systems;
mod view;

pub(crate) use closure::Closures;
pub(crate) use error::BuildError;
#[cfg(test)]
pub(crate) use error::Failure;
pub(crate) use log::{Amount, Log, Work};
pub(crate) use options::NixOptions;
pub(crate) use roots::Roots;
pub(crate) use systems::{Extent, build};

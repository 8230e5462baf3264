//! What the integration tests on a real systemd have in common.
//!
//! Owns how a test talks to a host that it booted: a stack in a folder, the agent's status from outside, and what
//! systemd and the kernel say without the agent. Boots nothing: that is `nixmox_testbed`'s. Decides nothing about
//! what is right: that is each test's. `gguf` makes models that engines load. `gpu_check` is for machines with a GPU,
//! which no test depends on.

pub mod agent;
pub mod by_hand;
pub mod containers;
pub mod gguf;
pub mod gpu_check;
pub mod models;
pub mod nixos;
pub mod operator;
pub mod random;
mod say;
pub mod shared;
pub mod stack;

pub use say::say;

//! A simulator of Ollama, for tests: what it answers over HTTP, and what its models do to video memory.
//!
//! Owns behaviour as far as memory depends on it: which layers go where, who waits for whom, when memory comes back. Computes
//! nothing: a request lasts as long as it is told to. Made of Ollama's documented behaviour and of what its source says is so, in no
//! word of either.
//!
//! ```text
//!  HTTP ─▶ api (routes) ─▶ engine (runners, one load at a time, timers) ─▶ gpus: what processes hold, and what is free
//!                                                                             │ two files in the guest's root
//!                              host: compose, which writes what NVML tells ◀──┘
//! ```
#![allow(
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "a tool of tests: errors are texts for people, and say what was asked in vain"
)]

mod api;
mod compose;
mod config;
mod engine;
mod gpus;
mod http;
mod library;
mod place;
mod time;

pub use compose::{Composed, compose_for_ever, compose_once};
pub use config::Config;
pub use engine::{Counters, Engine};
pub use gpus::{Gpu, Gpus, Held, Here, Inside};
pub use http::serve;
pub use library::Model;

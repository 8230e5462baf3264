//! The client: reads a stack's manifest, has its systems built, asks the agent, and shows what comes of it.
//!
//! Data goes one way: arguments → `manifest` → `build` → `client` → `progress` → `render` → `output`. What is to
//! happen is decided by the agent alone; nothing here changes the host. `commands` has one file per subcommand;
//! `output` is the only module that writes to the terminal. The library form serves the tests, which run whole
//! commands with fixed surroundings.

#![forbid(unsafe_code)]

mod analyze;
mod attend;
mod build;
mod cli;
mod client;
mod commands;
mod completion;
mod context;
mod error;
mod estimate;
mod follow;
mod graph;
mod import;
mod journal;
mod machine;
mod manifest;
mod moment;
mod output;
mod pager;
mod progress;
mod render;
mod top;
mod transfer;
mod why;

pub use cli::main_with_environment;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

//! One file per subcommand: its arguments, its help, and what it does.
//!
//! A command composes what lies below (`manifest`, `build`, `client`, `estimate`, `follow`, `render`) and decides nothing about
//! the host. [`selection`] is what several of them ask: which stack is meant.

pub(crate) mod analyze;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod cp;
pub(crate) mod diff;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod generations;
pub(crate) mod gpu;
pub(crate) mod graph;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod module;
pub(crate) mod offload;
pub(crate) mod paths;
pub(crate) mod plan;
mod request;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rollback;
mod run;
pub(crate) mod schema;
mod selection;
pub(crate) mod shell;
mod stack_file;
pub(crate) mod stacks;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod up;
pub(crate) mod why;

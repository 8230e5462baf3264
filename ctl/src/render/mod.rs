//! Values in, text out: nothing here asks, waits or prints.

mod build;
mod chain;
mod closure;
mod diff;
mod events;
mod failure;
mod frame;
mod generations;
mod graph;
mod import;
mod log;
mod logs;
mod paths;
mod plan;
pub(crate) mod quantity;
mod report;
mod stacks;
pub(crate) mod state;
mod status;
mod style;
pub(crate) mod table;
pub(crate) mod text;
mod why;

pub(crate) use build::{build, build_line, build_summary};
pub(crate) use chain::chain;
pub(crate) use closure::closure;
pub(crate) use diff::{Systems, diff};
pub(crate) use events::{event_json, event_line};
pub(crate) use failure::{blocked, failure};
pub(crate) use frame::frame;
pub(crate) use generations::generations;
pub(crate) use graph::{dot, graph};
pub(crate) use import::{import, import_json};
pub(crate) use log::{log_line, plan_line, subject_line};
pub(crate) use logs::Lines;
pub(crate) use paths::paths;
pub(crate) use plan::{Inside, plan, plan_notes};
pub(crate) use quantity::{elapsed, limit};
pub(crate) use report::Report;
pub(crate) use stacks::stacks;
pub(crate) use status::{counts, status, status_in_short};
pub(crate) use style::{Paint, Style};
#[cfg(test)]
pub(crate) use text::width;
pub(crate) use text::{clean, clean_in_place, counted, of_program, plain};
pub(crate) use why::why;

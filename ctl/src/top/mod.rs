//! What the services use, live: figures of the agent made into rates, a table of them, and a screen to look at it.
//!
//! ```text
//!   two answers of `Usage` ──rates──▶ Sample ┐
//!                                            ├─scene──▶ Scene ──frame──▶ lines ──▶ terminal
//!   Watch ──Mirror──▶ Status ────────────────┘            ▲
//!   keys ──────────────view (state + key → state)─────────┘
//! ```
//!
//! `rates`, `scene`, `view`, `frame` and `keys` are values in, values out; `live` waits and `terminal` sets the terminal.
//! Drawn by hand, as the lines of all other commands are: ratatui with crossterm adds 0.22 MiB to an empty program.

mod columns;
mod frame;
mod interval;
mod keys;
mod live;
mod rates;
mod scene;
mod terminal;
mod view;

pub(crate) use columns::table;
pub(crate) use interval::Interval;
pub(crate) use live::live;
pub(crate) use rates::{Sample, Sampler};
pub(crate) use scene::rows;
pub(crate) use view::{Sort, View};

#[cfg(test)]
mod tests;

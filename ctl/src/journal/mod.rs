//! Lines of journals: taken from the agent's pipes, understood, and brought into one order.
//!
//! ```text
//! agent ─ sources, pipes ─▶ session ─ lines ─▶ entry ─▶ merge (by time, each source in its own order) ─▶ whoever prints
//!                              ▲                              │
//!                              └───── cursors, anew ──────────┘  after a restart of the agent, or of a container
//! ```
//!
//! Owns that every line is seen once; how it looks is `render`'s.

mod entry;
mod event;
mod merge;
mod reader;
mod session;

pub(crate) use entry::Entry;
pub(crate) use event::Event;
pub(crate) use reader::{End, Reader, Step};

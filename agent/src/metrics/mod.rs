//! Figures for Prometheus: a page of text over HTTP, on loopback or a Unix socket, where the settings ask for it.
//!
//! Owns the page's text, its numbers that nobody else keeps (how long things took), and the sockets. What is on the page
//! comes from a `Source`, which the reconcile task's handle is. Nobody who reads it is known, at least on loopback, so a
//! page says what is used and how services are, and nothing else: no probe's answer, no log, no path.
//!
//! ```text
//! Listen (settings) ─▶ listener ─▶ serve ─▶ one short task per connection ─▶ http: request ─▶ answer
//!                                    └────▶ pages: at most one of a form in a second ─▶ Source ─▶ families, text
//! reconcile ─▶ Recorder (durations, restarts) ───────────────────────────────────────────▲
//! ```

mod families;
mod gpus;
mod histogram;
mod http;
mod listen;
mod models;
mod own;
mod pages;
mod records;
mod serve;
#[cfg(test)]
mod tests;
mod text;

pub use families::Page;
#[cfg(feature = "testing")]
pub use families::shown;
pub use listen::{Listen, Listener, bind};
pub use records::{Recorder, Records};
pub use serve::{Limits, Source, serve};

//! The manifest: text to model.
//!
//! Owns the grammar of `nixmox.toml` and `service.toml`, what is said about mistakes in them, the JSON Schema and
//! the reference page. Reads no file: the caller brings texts and gets values.
//!
//! ```text
//! text ─parse_stack──▶ StackDocument ─includes()─▶ the caller reads these files
//! text ─parse_service▶ ServiceDocument ┐
//!                        StackDocument ┴─resolve──▶ Stack of Declared services, or every Diagnostic
//!                              Declared ─with_system──▶ model::Service
//! ```

mod check;
mod diagnostic;
mod document;
mod form;
mod host;
mod reference;
mod resolve;
mod schema;
mod source;
pub mod v1;
mod value;

pub use diagnostic::{Diagnostic, Place, Severity};
pub use document::{Include, ServiceDocument, StackDocument, parse_service, parse_stack};
pub use form::{Absence, Change, Entry, Key, List, Located, Map, Table};
pub use host::{HostConflict, HostView, check_dependents, check_host};
pub use reference::reference;
pub use resolve::{Declared, Stack, SystemRef, resolve};
pub use schema::{service_schema, stack_schema};
pub use source::{SourceFile, Span};

#[cfg(test)]
mod tests;

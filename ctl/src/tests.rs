//! Whole commands against a simulated agent: every output, every exit code.

mod advice;
mod builds;
mod changes;
mod completion;
mod errors;
mod examples;
mod gpu;
mod graph;
mod help;
mod history;
mod import;
mod includes;
mod manifests;
mod manual;
mod offload;
mod options;
mod top;
mod views;
mod why;

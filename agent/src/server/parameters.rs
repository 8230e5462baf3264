//! What each method is asked with. A word that is not known is refused, so that nobody is left in the belief that it counted.

use nixmox_api::{CopyRequest, EventsRequest, ExecRequest, GpuFitRequest, LogsRequest, Request};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameOrAll {
    #[serde(default)]
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) model: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GpuFit {
    pub(super) request: GpuFitRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Names {
    pub(super) names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    pub(super) names: Vec<String>,
    pub(super) with_dependents: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stack {
    pub(super) stack: String,
    pub(super) names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Two {
    pub(super) from: u64,
    pub(super) to: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    pub(super) stack: String,
    #[serde(default)]
    pub(super) to: Option<u64>,
    pub(super) names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requested {
    pub(super) request: Request,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Execution {
    pub(super) request: ExecRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    pub(super) request: CopyRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    pub(super) request: LogsRequest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    pub(super) request: EventsRequest,
}

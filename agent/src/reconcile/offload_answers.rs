//! Answers about models: what engines have loaded, what is decided about it, and what a model is made of.

use nixmox_api::{AgentError, OffloadModelReply, OffloadsReply};

use super::gpus::Seen;
use super::handle::Places;
use crate::host::Host;

/// What answers are made of, beside a look.
#[derive(Clone, Debug, Default)]
pub(super) struct OffloadScene {}

/// Returns what runs models in services.
pub(super) fn offloads(_seen: &Seen, _scene: &OffloadScene) -> OffloadsReply {
    OffloadsReply::default()
}

/// Returns what a model of a service is made of.
pub(super) async fn model<H: Host>(
    _host: &H,
    (_scene, _places): (&OffloadScene, &Places),
    _name: &str,
    _model: String,
) -> Result<OffloadModelReply, AgentError> {
    Ok(OffloadModelReply::default())
}

//! What lasts in a guest, for the one who attends it. Nothing of the host is changed by it, so it is no affair of the
//! reconcile task: a guest that stops ends it.

use nixmox_api::{AgentError, CopyReply, CopyRequest, ExecReply, ExecRequest};
use nixmox_core::model::ContainerName;

use super::chain;
use crate::host::{Host, SessionError};
use crate::server::Attended;

/// Begins a command in a container.
pub(super) async fn exec<H: Host>(
    host: &H,
    name: &ContainerName,
    request: ExecRequest,
) -> Result<Attended<ExecReply>, AgentError> {
    valid(request.problems())?;
    let session = host.exec(name, request).await.map_err(|error| refused(&error))?;
    let (end, name) = (session.end, name.clone());
    Ok(Attended {
        first: ExecReply::default(),
        descriptors: session.descriptors,
        end: Box::pin(async move { Ok(end.await.unwrap_or_else(|_lost| lost(&name))) }),
    })
}

/// Begins a copy out of a container or into it.
pub(super) async fn copy<H: Host>(
    host: &H,
    name: &ContainerName,
    request: CopyRequest,
) -> Result<Attended<CopyReply>, AgentError> {
    valid(request.problems())?;
    let session = host.copy(name, request).await.map_err(|error| refused(&error))?;
    let (end, name) = (session.end, name.clone());
    let lost = move |_closed| CopyReply {
        failure: Some(format!("`{name}` was lost, and what was copied is not known")),
        ..CopyReply::default()
    };
    Ok(Attended {
        first: CopyReply::default(),
        descriptors: session.descriptors,
        end: Box::pin(async move { Ok(end.await.unwrap_or_else(lost)) }),
    })
}

fn valid(problems: Vec<String>) -> Result<(), AgentError> {
    if problems.is_empty() { Ok(()) } else { Err(AgentError::Invalid { problems, hint: String::new() }) }
}

/// Says that nobody knows how a command ended.
fn lost(name: &ContainerName) -> ExecReply {
    ExecReply::failed("ended", format!("`{name}` was lost, and how the command ended is not known"), "")
}

fn refused(error: &SessionError) -> AgentError {
    AgentError::Refused { reason: chain(error), hint: error.hint() }
}

//! Another NixOS system in a running guest: asked of the guest itself, and noted on the host, so that the next agent knows it.

use std::time::Duration;

use nixmox_core::container::{switch_mark, switched};
use nixmox_core::model::{Assigned, ContainerName, InvocationId, Spec, SpecField, System};

use super::Live;
use super::start::set_profile;
use crate::guest_helper::{Question, Request};
use crate::host::files::{self, Durability};
use crate::host::nspawn::{self, Start};
use crate::host::paths::Paths;
use crate::host::systemd::UnitProperties;
use crate::host::{StepError, nix};

/// How long a guest may take: a database that is migrated on the way takes its time. Its own systemd ends it then.
const LIMIT: Duration = Duration::from_mins(15);
/// A store path is no secret.
const MODE: u32 = 0o644;

/// Returns what a unit's main process was started with, or its guest was switched to since.
pub(super) fn runs(paths: &Paths, name: &ContainerName, unit: &UnitProperties) -> Start {
    match nspawn::started_with(unit.main_pid()) {
        Start::With(spec) => {
            let mark = files::read(&paths.switch_mark(name));
            let invocation = unit.invocation().map(|id| id.to_string()).unwrap_or_default();
            Start::With(switched(spec, &invocation, mark.as_deref()))
        }
        start @ (Start::Gone | Start::Outside(_)) => start,
    }
}

impl Live {
    /// Switches a running guest to its declared system, where it runs another.
    ///
    /// The mark comes first: whatever happens from here on, nobody takes the guest for what it was.
    pub(super) async fn switch_guest(
        &self,
        assigned: &Assigned,
        spec: &Spec,
        unit: &UnitProperties,
    ) -> Result<(), StepError> {
        let name = &assigned.service.name;
        let System::Store(system) = &assigned.service.system else { return Ok(()) };
        let (owner, read) = (name.clone(), unit.clone());
        let Start::With(runs) = self.blocking(move |paths| Ok(runs(paths, &owner, &read))).await? else {
            return Ok(());
        };
        let Some(invocation) = unit.invocation().filter(|_| runs.differences(spec) == [SpecField::System]) else {
            return Ok(());
        };
        let failed = |result: String| StepError::SwitchFailed { unit: name.unit(), result };
        let program = self.paths.store_path(system);
        if !self.blocking(move |_| Ok(nix::takes_another(&program))).await? {
            return Err(failed("the new system has no switch-to-configuration".to_owned()));
        }
        self.mark(name, invocation, None).await?;
        let leader = self.leader(name).await?.ok_or_else(|| failed("the container does not run".to_owned()))?;
        let request = Request {
            leader,
            unit: name.unit(),
            timeout_ms: u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX),
            question: Question::Switch(system.to_string()),
        };
        let answer = self.guests.order(&request).await;
        if !answer.healthy {
            return Err(failed(answer.output));
        }
        self.mark(name, invocation, Some(spec)).await?;
        let (owner, system) = (name.clone(), system.clone());
        self.blocking(move |paths| {
            set_profile(paths, &owner, &system);
            Ok(())
        })
        .await
    }

    async fn mark(&self, name: &ContainerName, of: InvocationId, to: Option<&Spec>) -> Result<(), StepError> {
        let (owner, text) = (name.clone(), switch_mark(of, to));
        let write = move |paths: &Paths| {
            files::replace(&paths.switch_mark(&owner), &text, MODE, Durability::Runtime).map(drop)
        };
        self.blocking(write).await
    }
}

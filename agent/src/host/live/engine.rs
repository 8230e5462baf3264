//! What runs models in a container: asked through a helper in the guest's network.

use std::time::Duration;

use nixmox_core::model::{ContainerName, Offload};
use nixmox_core::offload::arbiter::Step;
use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::seen::EngineSeen;
use tokio::time::timeout;

use super::Live;
use crate::chain::chain;
use crate::guest_helper::engine::{Answered, What};
use crate::host::StepError;
use crate::host::engine::{self, LOOK_LIMIT, SHOW_LIMIT};

/// How long the host may take to say which process is the guest's first.
const LEADER_LIMIT: Duration = Duration::from_secs(5);

impl Live {
    pub(super) async fn look_at_engine_of(&self, name: &ContainerName, offload: &Offload) -> EngineSeen {
        engine::seen(offload, self.ask_engine(name, offload, What::Look, LOOK_LIMIT).await)
    }

    pub(super) async fn show_model_of(
        &self,
        name: &ContainerName,
        offload: &Offload,
        model: &str,
    ) -> Result<Header, StepError> {
        let asked = self.ask_engine(name, offload, What::Show(model.to_owned()), SHOW_LIMIT).await;
        let told = asked.and_then(|answered| match answered {
            Answered::Model(head) => head.into_header(),
            Answered::Failed(why) => Err(why),
            Answered::View(_) | Answered::Done => Err("the answer is to another question".to_owned()),
        });
        told.map_err(|why| engine::engine_error(name, offload.engine, &format!("show {model}"), &why))
    }

    pub(super) async fn change_model_of(
        &self,
        name: &ContainerName,
        offload: &Offload,
        step: &Step,
    ) -> Result<(), StepError> {
        let (what, limit) = engine::of_step(offload, step);
        let done = self.ask_engine(name, offload, what, limit).await.and_then(|answered| match answered {
            Answered::Done => Ok(()),
            Answered::Failed(why) => Err(why),
            Answered::View(_) | Answered::Model(_) => Err("the answer is to another question".to_owned()),
        });
        done.map_err(|why| engine::engine_error(name, offload.engine, &engine::words_of(step), &why))
    }

    /// Asks an engine; returns why that was not possible, in words.
    async fn ask_engine(
        &self,
        name: &ContainerName,
        offload: &Offload,
        what: What,
        limit: Duration,
    ) -> Result<Answered, String> {
        let leader = timeout(LEADER_LIMIT, self.leader(name)).await;
        let leader = leader.map_err(|_late| "the host's systemd does not answer".to_owned())?;
        let leader =
            leader.map_err(|error| chain(&error))?.ok_or_else(|| "the container does not run".to_owned())?;
        self.guests.engine(leader, name.unit(), engine::asked(offload, what), limit).await
    }
}

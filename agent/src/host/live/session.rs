//! What lasts in a guest: from a request to an order to the child that enters.

use nixmox_core::model::ContainerName;
use serde::de::DeserializeOwned;

use super::Live;
use crate::guest_helper::session::{Order, Work};
use crate::host::{Session, SessionError};

impl Live {
    /// Begins work in a guest, whose end is a `T`.
    pub(super) async fn begin<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &ContainerName,
        work: Work,
    ) -> Result<Session<T>, SessionError> {
        let leader = self.leader(name).await.map_err(SessionError::Host)?;
        let leader = leader.ok_or_else(|| SessionError::NotRunning(name.clone()))?;
        self.sessions.begin(name, &Order { leader, unit: name.unit(), work }).await
    }
}

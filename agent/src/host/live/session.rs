//! What lasts in a guest: from a request to an order to the child that enters.

use nixmox_api::{ExecReply, ExecRequest};
use nixmox_core::model::ContainerName;

use super::Live;
use crate::guest_helper::session::{Order, Work};
use crate::host::{Session, SessionError};

impl Live {
    pub(super) async fn exec_in(
        &self,
        name: &ContainerName,
        request: ExecRequest,
    ) -> Result<Session<ExecReply>, SessionError> {
        let leader = self.leader(name).await.map_err(SessionError::Host)?;
        let leader = leader.ok_or_else(|| SessionError::NotRunning(name.clone()))?;
        let order = Order { leader, unit: name.unit(), work: Work::Exec(request) };
        self.sessions.begin(name, &order).await
    }
}

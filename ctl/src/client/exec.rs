//! Running a command in a container: a call whose first reply hands descriptors over, and whose last one is its end.

use std::os::fd::OwnedFd;

use nixmox_api::{AgentError, ExecReply, ExecRequest};
use serde::Serialize;
use zlink::Call;

use super::{CALL, Client, ClientError};

/// `Exec` as it goes over the wire. The proxy's stream borrows its connection, and ends it where it is dropped.
#[derive(Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
enum Method<'a> {
    #[serde(rename = "io.nixmox.Agent.Exec")]
    Exec { request: &'a ExecRequest },
}

impl Client {
    /// Begins a command; returns what is handed over: its terminal, or the ends for its input, output and errors.
    pub(crate) async fn exec(&mut self, request: &ExecRequest) -> Result<Vec<OwnedFd>, ClientError> {
        let call = Call::new(Method::Exec { request }).set_more(true);
        let begin = async {
            self.connection.send_call(&call, Vec::new()).await.map_err(ClientError::from_wire)?;
            let (_begun, descriptors) = self.exec_reply().await?;
            Ok(descriptors)
        };
        match tokio::time::timeout(CALL, begin).await {
            Ok(handed) => handed,
            Err(_elapsed) => Err(ClientError::Silent { seconds: CALL.as_secs() }),
        }
    }

    /// Waits for the end of the command that was begun.
    pub(crate) async fn exec_ended(&mut self) -> Result<ExecReply, ClientError> {
        self.exec_reply().await.map(|(reply, _descriptors)| reply)
    }

    async fn exec_reply(&mut self) -> Result<(ExecReply, Vec<OwnedFd>), ClientError> {
        let reply = self.connection.receive_reply::<ExecReply, AgentError>().await;
        let (reply, descriptors) = reply.map_err(ClientError::from_wire)?;
        let reply = reply.map_err(ClientError::Agent)?.into_parameters();
        let missing = || ClientError::Foreign { source: zlink::Error::MissingParameters };
        Ok((reply.ok_or_else(missing)?, descriptors))
    }
}

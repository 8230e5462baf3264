//! What lasts in a container: a call whose first reply hands descriptors over, and whose last one is its end.

use std::fmt::Debug;
use std::os::fd::OwnedFd;

use nixmox_api::{AgentError, CopyReply, CopyRequest, ExecReply, ExecRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zlink::Call;

use super::{CALL, Client, ClientError};

/// The calls as they go over the wire. The proxy's stream borrows its connection, and what lasts is waited for later.
#[derive(Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
enum Method<'a> {
    #[serde(rename = "io.nixmox.Agent.Exec")]
    Exec { request: &'a ExecRequest },
    #[serde(rename = "io.nixmox.Agent.Copy")]
    Copy { request: &'a CopyRequest },
}

impl Client {
    /// Begins a command; returns what is handed over: its terminal, or the ends for its input, output and errors.
    pub(crate) async fn exec(&mut self, request: &ExecRequest) -> Result<Vec<OwnedFd>, ClientError> {
        self.begin::<ExecReply>(Method::Exec { request }).await
    }

    /// Waits for the end of the command that was begun.
    pub(crate) async fn exec_ended(&mut self) -> Result<ExecReply, ClientError> {
        self.reply().await.map(|(reply, _descriptors)| reply)
    }

    /// Begins a copy; returns the end of its pipe.
    pub(crate) async fn copy(&mut self, request: &CopyRequest) -> Result<OwnedFd, ClientError> {
        let mut handed = self.begin::<CopyReply>(Method::Copy { request }).await?;
        handed.pop().ok_or(ClientError::Foreign { source: zlink::Error::MissingParameters })
    }

    /// Waits for the end of the copy that was begun.
    pub(crate) async fn copy_ended(&mut self) -> Result<CopyReply, ClientError> {
        self.reply().await.map(|(reply, _descriptors)| reply)
    }

    async fn begin<T: DeserializeOwned + Debug>(
        &mut self,
        method: Method<'_>,
    ) -> Result<Vec<OwnedFd>, ClientError> {
        let call = Call::new(method).set_more(true);
        let begin = async {
            self.connection.send_call(&call, Vec::new()).await.map_err(ClientError::from_wire)?;
            let (_begun, descriptors) = self.reply::<T>().await?;
            Ok(descriptors)
        };
        match tokio::time::timeout(CALL, begin).await {
            Ok(handed) => handed,
            Err(_elapsed) => Err(ClientError::Silent { seconds: CALL.as_secs() }),
        }
    }

    async fn reply<T: DeserializeOwned + Debug>(&mut self) -> Result<(T, Vec<OwnedFd>), ClientError> {
        let reply = self.connection.receive_reply::<T, AgentError>().await;
        let (reply, descriptors) = reply.map_err(ClientError::from_wire)?;
        let reply = reply.map_err(ClientError::Agent)?.into_parameters();
        let missing = || ClientError::Foreign { source: zlink::Error::MissingParameters };
        Ok((reply.ok_or_else(missing)?, descriptors))
    }
}

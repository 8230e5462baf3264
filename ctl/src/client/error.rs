//! Why a call failed, for whom the fault is, and what to do.

use std::io;
use std::path::PathBuf;

use nixmox_api::AgentError;
use zlink::varlink_service;

/// Why a call to the agent failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no socket.
    #[error("the agent does not run: {socket} is missing", socket = socket.display())]
    Missing {
        /// Where it should be.
        socket: PathBuf,
    },
    /// Nobody listens on the socket.
    #[error("the agent does not run: nobody listens on {socket}", socket = socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket may not be opened.
    #[error("you may not open {socket}", socket = socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be reached for another reason.
    #[error("cannot connect to {socket}", socket = socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection ended before the answer came.
    #[error("the connection to the agent broke off")]
    Lost {
        /// How.
        #[source]
        source: zlink::Error,
    },
    /// No answer came in time.
    #[error("the agent did not answer within {seconds} s")]
    Silent {
        /// How long it was waited.
        seconds: u64,
    },
    /// The agent does not know the method.
    #[error("the agent does not know {method}")]
    Unknown {
        /// The method, without its interface.
        method: String,
    },
    /// The agent speaks, and not as this client expects.
    #[error("the agent answered with something that this nixmoxctl does not understand")]
    Foreign {
        /// What it said.
        #[source]
        source: zlink::Error,
    },
    /// The agent refused.
    #[error("the agent refused")]
    Agent(AgentError),
}

impl ClientError {
    /// Tells a broken connection from an answer that cannot be read.
    pub(crate) fn from_wire(error: zlink::Error) -> Self {
        match error {
            zlink::Error::VarlinkService(refused) => match refused.inner() {
                varlink_service::Error::MethodNotFound { method } => {
                    let name = method.rsplit('.').next().unwrap_or_default();
                    Self::Unknown { method: name.to_owned() }
                }
                _ => Self::Foreign { source: zlink::Error::VarlinkService(refused) },
            },
            zlink::Error::Json(_)
            | zlink::Error::InvalidUtf8(_)
            | zlink::Error::InvalidName(_)
            | zlink::Error::MissingParameters
            | zlink::Error::UnknownErrorReply(_)
            | zlink::Error::BufferOverflow => Self::Foreign { source: error },
            // The type is open-ended; what is left are failures of the socket.
            _ => Self::Lost { source: error },
        }
    }

    /// Returns whether the same attempt may succeed a moment later: the agent or its socket is being started.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Refused { .. } | Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Denied { .. }
            | Self::Silent { .. }
            | Self::Unknown { .. }
            | Self::Foreign { .. }
            | Self::Agent(_) => false,
        }
    }
}

//! Why a command ended otherwise than asked: the exit code, and the text in the one voice of all complaints.

mod agent;

use std::io;
use std::path::PathBuf;

use nixmox_api::AgentError;

use crate::build::BuildError;
use crate::client::ClientError;
use crate::estimate::FileError;
use crate::import::{ImportError, WriteError};
use crate::machine::Machine;
use crate::manifest::ManifestError;
use crate::render::Report;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done,
    /// It failed, and has said why.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// `plan --exit-code`: something would change.
    WouldChange,
    /// The agent cannot be reached.
    Unreachable,
    /// The caller may not do that.
    NotPermitted,
    /// Ctrl-C: the watching stopped, the deployment goes on. 128 and SIGINT, as a shell has it.
    Interrupted,
    /// As a command in a container ended.
    Of(u8),
    /// The reader of the output went away. 128 and SIGPIPE, as a shell has it.
    OutputClosed,
}

impl Exit {
    /// Returns the process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::WouldChange => 3,
            Self::Unreachable => 4,
            Self::NotPermitted => 5,
            Self::Interrupted => 130,
            Self::Of(code) => code,
            Self::OutputClosed => 141,
        }
    }
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// The agent cannot be reached, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A system could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Somebody stopped it while the agent was asked.
    #[error("stopped before the agent has answered")]
    Stopped,
    /// The arguments are well formed and make no sense here.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Stacks could not be made as declared; why was said.
    #[error("not as declared: {}", stacks.join(", "))]
    NotAsDeclared {
        /// Their names.
        stacks: Vec<String>,
    },
    /// A name that was given is not there.
    #[error("there is no {kind} `{name}`")]
    Unknown {
        /// `service` or `stack`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The nearest name, or those there are; may be empty.
        hint: String,
    },
    /// There is nothing yet that could be started, stopped or restarted.
    #[error("{what}")]
    NotUp {
        /// Which stack is not there.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A generation of somebody else replaced the one that was watched.
    #[error("generation {newer} by {by} replaced generation {watched} before it was carried out")]
    Superseded {
        /// The generation that was watched.
        watched: u64,
        /// The generation that replaced it.
        newer: u64,
        /// Who made it.
        by: String,
    },
    /// The generation did not become healthy, and the agent went back to the last good one.
    #[error("generation {from} did not become healthy and was rolled back to {to}")]
    RolledBack {
        /// The generation that failed.
        from: u64,
        /// The generation whose services came back.
        to: u64,
        /// The generation that they are in now.
        generation: u64,
        /// Why it failed, in one line per service.
        reasons: Vec<String>,
        /// Services that are not well now either.
        not_well: Vec<String>,
    },
    /// It took longer than `--timeout`.
    #[error("not done within {limit}; the deployment goes on")]
    Late {
        /// The limit as text.
        limit: String,
        /// What is not done yet.
        pending: Vec<String>,
    },
    /// A file of another program could not be understood.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The files of an import could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file could not be read or written.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A saved plan could not be understood.
    #[error("{path} is not a plan that this nixmoxctl can read", path = path.display())]
    PlanFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is no model that can be estimated.
    #[error(transparent)]
    ModelFile(#[from] FileError),
    /// What is known of a model is not enough to estimate it.
    #[error("{what}")]
    NotAModel {
        /// What is missing.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The person at the terminal said no, or nobody was there to ask.
    #[error("{what}")]
    Declined {
        /// What was not done.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A command could not be run in a container.
    #[error("{what}")]
    NotRun {
        /// Why.
        what: String,
        /// What to do; may be empty.
        hint: String,
        /// How the process ends.
        code: u8,
    },
    /// A copy failed on this side.
    #[error("{what}")]
    Copy {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A copy failed on the container's side.
    #[error("{what}")]
    CopyFailed {
        /// Why.
        what: String,
    },
    /// A command ended while no agent was there to see how.
    #[error("the command ended, and how is not known: the agent was restarted meanwhile")]
    EndUnknown {
        /// How the connection to it ended.
        #[source]
        source: ClientError,
    },
    /// The terminal cannot be handed through.
    #[error("cannot set up the terminal")]
    Terminal(#[source] io::Error),
    /// Nothing more can be written to stdout or stderr.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
    /// The asynchronous runtime could not be set up.
    #[error("cannot set up the program")]
    Runtime(#[source] io::Error),
}

/// What surrounds a failure, looked at once it has happened.
#[derive(Debug)]
pub(crate) struct Circumstances<'a> {
    /// The machine that the client runs on.
    pub(crate) machine: &'a Machine,
    /// The agent's version; `None`: not asked for, or not told.
    pub(crate) agent_version: Option<String>,
}

impl CtlError {
    /// Returns how the process ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(client) => match client {
                ClientError::Missing { .. }
                | ClientError::Refused { .. }
                | ClientError::Unreachable { .. }
                | ClientError::Lost { .. }
                | ClientError::Silent { .. } => Exit::Unreachable,
                ClientError::Denied { .. } | ClientError::Agent(AgentError::NotPermitted { .. }) => {
                    Exit::NotPermitted
                }
                ClientError::Unknown { .. } | ClientError::Foreign { .. } | ClientError::Agent(_) => Exit::Failed,
            },
            Self::Usage { .. } => Exit::Usage,
            Self::Build(BuildError::Interrupted) | Self::Stopped => Exit::Interrupted,
            Self::NotRun { code, .. } => Exit::Of(*code),
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            Self::Manifest(_)
            | Self::Build(_)
            | Self::Unknown { .. }
            | Self::NotUp { .. }
            | Self::NotAsDeclared { .. }
            | Self::Superseded { .. }
            | Self::RolledBack { .. }
            | Self::Late { .. }
            | Self::Import(_)
            | Self::Write(_)
            | Self::File { .. }
            | Self::PlanFile { .. }
            | Self::ModelFile(_)
            | Self::NotAModel { .. }
            | Self::Declined { .. }
            | Self::EndUnknown { .. }
            | Self::Copy { .. }
            | Self::CopyFailed { .. }
            | Self::Terminal(_)
            | Self::Output(_)
            | Self::Runtime(_) => Exit::Failed,
        }
    }

    /// Returns whether the versions of both sides may be what is wrong.
    pub(crate) fn is_of_versions(&self) -> bool {
        let Self::Client(error) = self else { return false };
        match error {
            ClientError::Unknown { .. } | ClientError::Foreign { .. } => true,
            // What is wrong with how it was said, and not with what was meant.
            ClientError::Agent(AgentError::Invalid { problems, .. }) => {
                problems.iter().any(|problem| problem.starts_with("parameters: "))
            }
            ClientError::Agent(_)
            | ClientError::Missing { .. }
            | ClientError::Refused { .. }
            | ClientError::Denied { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Lost { .. }
            | ClientError::Silent { .. } => false,
        }
    }

    /// Returns the complaint.
    pub(crate) fn report(&self, about: &Circumstances<'_>) -> Report {
        let report = Report::new(self.to_string()).causes(self);
        match self {
            Self::Client(client) => agent::client_report(client, about),
            Self::Manifest(manifest) => manifest.report(),
            Self::Build(build) => build.report(about.machine),
            Self::Usage { hint, .. }
            | Self::Declined { hint, .. }
            | Self::Unknown { hint, .. }
            | Self::NotRun { hint, .. }
            | Self::NotAModel { hint, .. }
            | Self::NotUp { hint, .. } => report.row("try", hint),
            Self::Superseded { .. } | Self::NotAsDeclared { .. } | Self::Stopped => {
                report.row("try", "nixmoxctl status")
            }
            Self::RolledBack { from, to, generation, reasons, not_well } => {
                let now = format!("generation {generation}: the services that changed are as in {to} again");
                let now = match not_well.as_slice() {
                    [] => format!("{now}, and healthy"),
                    names => format!("{now}; not healthy: {}", names.join(", ")),
                };
                report
                    .rows("why", reasons)
                    .row("now", now)
                    .row("try", format!("see what changed: nixmoxctl diff {to} {from}"))
                    .row("", "keep what fails, to look into it: nixmoxctl up --no-rollback")
            }
            Self::Late { pending, .. } => report.row("open", pending.join(", ")).row("try", "nixmoxctl status"),
            Self::ModelFile(file) => report.row("try", file.hint()),
            Self::PlanFile { .. } => report.row("try", "make it anew: nixmoxctl plan -o FILE"),
            Self::File { action: "read", .. } => {
                report.row("try", "see that the file is there, and that you may read it")
            }
            Self::File { .. } => report.row("try", "name a file in a folder that you may write to"),
            Self::Import(import) => report.row("try", import.hint()),
            Self::Write(WriteError::Exists { .. }) => {
                report.row("try", "another folder: -o DIR").row("", "--force replaces files")
            }
            Self::Write(WriteError::Io { .. }) => report.row("try", "name a folder that you may write to: -o DIR"),
            Self::Copy { .. }
            | Self::CopyFailed { .. }
            | Self::EndUnknown { .. }
            | Self::Terminal(_)
            | Self::Output(_)
            | Self::Runtime(_) => report,
        }
    }
}

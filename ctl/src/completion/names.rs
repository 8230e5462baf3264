//! The names that are there to choose from: of services and stacks, as the agent or the stack file has them.
//!
//! Asked while somebody waits at a prompt: neither may take longer than [`LIMIT`], whatever does not answer.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{ArgMatches, Command};
use clap_complete::engine::CompletionCandidate;
use nixmox_api::{ServiceStatus, Status};

use crate::client::Client;
use crate::context::block_on;
use crate::manifest;

/// How long a lookup may take. Longer than an agent under load needs, and not yet felt as waiting.
const LIMIT: Duration = Duration::from_millis(300);

/// Where the names of services come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The host, or the stack file where the host cannot be asked.
    Host,
    /// The stack file: what is not on the host yet can be meant.
    StackFile,
    /// The stack file, without what the host still holds: that is refused.
    Removed,
}

/// A name, and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    name: String,
    about: String,
}

/// What was typed so far that says where to look.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    file: Option<PathBuf>,
    stack: Option<String>,
    socket: PathBuf,
    folder: PathBuf,
    /// Names that stand in the line already.
    given: Vec<String>,
}

impl Source {
    /// Returns where the names of a command come from.
    pub(super) fn of(command: &str) -> Self {
        match command {
            "up" | "plan" | "check" | "config" => Self::StackFile,
            "rm" => Self::Removed,
            _ => Self::Host,
        }
    }
}

impl Named {
    /// Returns it as a candidate, if the word that was begun can become it.
    pub(super) fn candidate(self, begun: &OsStr) -> Option<CompletionCandidate> {
        let begins = self.name.as_bytes().starts_with(begun.as_encoded_bytes());
        begins.then(|| CompletionCandidate::new(self.name).help(Some(self.about.into())))
    }
}

impl Lookup {
    /// Reads the options out of the words before the cursor, as far as they make sense.
    pub(super) fn of(command: &Command, words: &[OsString], folder: &Path) -> Self {
        let matches = command.clone().ignore_errors(true).try_get_matches_from(words).unwrap_or_default();
        // As deep as commands lie in each other.
        let mut below = &matches;
        while let Some((_, deeper)) = below.subcommand() {
            below = deeper;
        }
        let given = values::<String>(below, "names").into_iter().chain(values(below, "name"));
        Self {
            file: values(below, "file").pop().map(at_home),
            stack: values(below, "stack").pop(),
            socket: values(below, "socket").pop().unwrap_or_else(|| nixmox_api::SOCKET.into()),
            folder: folder.to_owned(),
            given: given.collect(),
        }
    }

    /// Returns the services that can be meant, without those that were named already.
    pub(super) fn services(&self, source: Source) -> Vec<Named> {
        let mut found: Vec<Named> = match source {
            Source::Host => self.on_host().map_or_else(|| self.declared(), |status| self.running(&status)),
            Source::StackFile => self.declared(),
            Source::Removed => {
                let held = self.on_host().map(|status| status.services).unwrap_or_default();
                let is_held = |named: &Named| held.iter().any(|service| service.name == named.name);
                self.declared().into_iter().filter(|named| !is_held(named)).collect()
            }
        };
        found.retain(|named| !self.given.contains(&named.name));
        found
    }

    /// Returns the stacks of the host; none where it cannot be asked.
    pub(super) fn stacks(&self) -> Vec<Named> {
        let stacks = self.on_host().into_iter().flat_map(|status| status.stacks);
        stacks.map(|stack| Named { name: stack.name, about: stack.file }).collect()
    }

    fn on_host(&self) -> Option<Status> {
        let socket = self.socket.clone();
        // One attempt: who waits at a prompt does not wait for an agent that is being started.
        let status = async move { Ok(Client::connect_once(&socket).await?.status().await?) };
        within_limit(move || block_on(status).ok()).flatten()
    }

    fn running(&self, status: &Status) -> Vec<Named> {
        let is_meant = |stack: &str| self.stack.as_deref().is_none_or(|meant| meant == stack);
        let meant = status.services.iter().filter(|service| is_meant(&service.stack));
        let about = |service: &ServiceStatus| format!("{}, of {}", service.state.word(), service.stack);
        meant.map(|service| Named { name: service.name.clone(), about: about(service) }).collect()
    }

    fn declared(&self) -> Vec<Named> {
        let (file, folder) = (self.file.clone(), self.folder.clone());
        let names = within_limit(move || manifest::service_names(file.as_deref(), &folder));
        names.unwrap_or_default().into_iter().map(|name| Named { name, about: "declared".to_owned() }).collect()
    }
}

/// Returns a path with the `~` replaced that a shell would replace, once the line is done.
fn at_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(below), Some(home)) => Path::new(&home).join(below),
        (Ok(_) | Err(_), _) => path,
    }
}

/// Returns the values of an argument; none where this command does not have it.
fn values<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Vec<T> {
    matches.try_get_many::<T>(id).ok().flatten().into_iter().flatten().cloned().collect()
}

/// Returns what a lookup finds; `None`: nothing in time. One that hangs is left behind; the process ends in a moment.
fn within_limit<T: Send + 'static>(find: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(find()));
    receiver.recv_timeout(LIMIT).ok()
}

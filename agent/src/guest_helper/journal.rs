//! `nixmox-agent log-reader`: the child that becomes `journalctl` on one journal.
//!
//! Owns what must be so before: limits, no privileges beyond reading, and for the journal of a guest a view of nothing
//! but that (see `view`). What `journalctl` prints goes to whoever holds the other end of its standard output; neither
//! this program nor the agent ever looks at it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities,
};
use serde::{Deserialize, Serialize};

use super::be_the_first_to_go;
use super::view::{self, Hosts, Place};

/// Memory of its own that a reader may have; the files that it reads are mapped and do not count. A field of an entry
/// may be 64 MiB long, and compressed.
const DATA_MAX: u64 = 512 << 20;
/// Descriptors: one per journal file, with a margin.
const FILES_MAX: u64 = 4096;
/// How much a reader gives way to what the host is for.
const NICENESS: i32 = 10;
/// The user and the group who own nothing (`DEFAULT_OVERFLOWUID` of the kernel; `nobody`).
const NOBODY: u32 = 65534;
/// How often it is looked for a journal that a guest has not made yet.
const LOOK: Duration = Duration::from_secs(1);

/// What one reader is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The guest whose journal it is; `None`: the host's own.
    pub guest: Option<Guest>,
    /// Whether a guest that has no journal yet is waited for.
    pub follow: bool,
    /// The arguments for `journalctl`.
    pub arguments: Vec<String>,
}

/// Where the journal of a guest is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name, for complaints.
    pub name: String,
    /// While it runs.
    pub running: Option<Running>,
    /// Where it lies while it does not run.
    pub at_rest: Vec<Place>,
}

/// A guest that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its PID 1, as the host counts.
    pub leader: u32,
    /// The unit that the leader must be in: a process id may belong to another process by now.
    pub unit: String,
}

/// Becomes `journalctl`; returns only where there is no journal to read.
///
/// # Errors
/// When the journal cannot be reached, or there is no `journalctl`.
pub fn read(reading: &str) -> io::Result<()> {
    let Reading { guest, follow, arguments } = serde_json::from_str(reading)?;
    restrict()?;
    let mut command = Command::new("journalctl");
    if let Some(guest) = guest {
        // Of a network it has no need either.
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)?;
        let hosts = Hosts::of(Path::new("/"), &guest.name);
        let root = loop {
            let found = view::of(&guest, &hosts).map_err(|error| named(&guest.name, &error))?;
            match found {
                view::Found::Journal(root) => break root,
                view::Found::NotYet if follow => std::thread::sleep(LOOK),
                view::Found::NotYet | view::Found::Never => return Ok(()),
            }
        };
        // Below a root, journals of any machine id are read: a guest has had more than one.
        command.arg(format!("--root={root}"));
    }
    give_up_privileges()?;
    // A courtesy; the unit's KillMode= ends it as well. Another user's process has to ask for it anew.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let error = command.args(arguments).exec();
    let missing = error.kind() == io::ErrorKind::NotFound;
    let hint = if missing { ": it comes with systemd; is it in the agent's PATH?" } else { "" };
    Err(io::Error::new(error.kind(), format!("cannot run journalctl: {error}{hint}")))
}

/// Bounds what a reader takes, and ends it with the agent.
fn restrict() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_DATA, DATA_MAX, DATA_MAX)?;
    setrlimit(Resource::RLIMIT_NOFILE, FILES_MAX, FILES_MAX)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    rustix::process::nice(NICENESS)?;
    be_the_first_to_go();
    // For as long as a journal is waited for.
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Leaves the program that is executed next, as a user who is nobody, only the right to read what is root's: a guest may
/// have written the files that it parses.
///
/// Nothing else is left to be had either: the right is the only one in the bounding set, and passed on as an ambient one,
/// since nobody has none of their own (capabilities(7), "Transformation of capabilities during `execve()`").
fn give_up_privileges() -> io::Result<()> {
    for capability in CapabilitySet::all().difference(CapabilitySet::DAC_READ_SEARCH).iter() {
        match remove_capability_from_bounding_set(capability) {
            // A kernel that does not know it yet.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_keep_capabilities(true)?;
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    let left = CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, CapabilitySets { effective: left, permitted: left, inheritable: left })?;
    Ok(configure_capability_in_ambient_set(left, true)?)
}

fn named(guest: &str, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("the journal of `{guest}`: {error}"))
}

//! What a command reads and writes: a terminal of the guest, or three pipes.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::pipe2;
use nixmox_api::ExecTerminal;
use zbus::{Fd, Variant};

use super::terminal::Terminal;
use crate::guest_helper::Trouble;

/// The two sides of what a command reads and writes.
pub(super) struct Streams {
    /// The client's: the terminal, or the ends for input, output and errors.
    pub(super) handed: Vec<OwnedFd>,
    /// The command's.
    pub(super) guests: Guests,
}

/// The command's side.
pub(super) enum Guests {
    /// A terminal, by its path in the guest.
    Terminal {
        path: String,
        kind: String,
        /// The terminal itself: it would hang up while nobody has it open yet.
        _open: OwnedFd,
    },
    Pipes {
        input: OwnedFd,
        output: OwnedFd,
        errors: OwnedFd,
    },
}

impl Streams {
    /// Opens a terminal of the guest whose root this is, or pipes. To be called as the guest's root, whose they are then.
    pub(super) fn open(root: &OwnedFd, terminal: Option<&ExecTerminal>) -> Result<Self, Trouble> {
        let Some(wanted) = terminal else { return Self::pipes().map_err(Trouble::Io) };
        let Terminal { master, slave, path } = Terminal::open(root, wanted)?;
        let guests = Guests::Terminal { path, kind: wanted.kind.clone(), _open: slave };
        Ok(Self { handed: vec![master], guests })
    }

    fn pipes() -> io::Result<Self> {
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            // Whoever the command runs as may open `/dev/stdout` anew (proc_pid_fd(5)); nobody else has a way to it.
            fchmod(&read, Mode::from_bits_truncate(0o666))?;
            Ok((read, write))
        };
        let (input, writes) = pipe()?;
        let (reads, output) = pipe()?;
        let (reads_errors, errors) = pipe()?;
        Ok(Self { handed: vec![writes, reads, reads_errors], guests: Guests::Pipes { input, output, errors } })
    }
}

impl Guests {
    /// Returns the properties of a unit whose command has it, as systemd.exec(5) names them.
    pub(super) fn properties(&self) -> Vec<(&'static str, Variant<'_>)> {
        match self {
            Self::Terminal { path, .. } => vec![
                ("StandardInput", Variant::from("tty")),
                ("StandardOutput", Variant::from("tty")),
                ("StandardError", Variant::from("tty")),
                ("TTYPath", Variant::from(path.as_str())),
            ],
            Self::Pipes { input, output, errors } => vec![
                ("StandardInputFileDescriptor", Variant::from(Fd::from(input))),
                ("StandardOutputFileDescriptor", Variant::from(Fd::from(output))),
                ("StandardErrorFileDescriptor", Variant::from(Fd::from(errors))),
            ],
        }
    }

    /// Returns the kind of the terminal, if there is one.
    pub(super) fn terminal_kind(&self) -> Option<&str> {
        match self {
            Self::Terminal { kind, .. } => Some(kind),
            Self::Pipes { .. } => None,
        }
    }
}

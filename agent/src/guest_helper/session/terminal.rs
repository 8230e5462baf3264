//! A pseudo terminal of the guest: of its own `/dev/pts`, so that its programs find it there (pts(4)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::libc::DEVPTS_SUPER_MAGIC;
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};
use nixmox_api::ExecTerminal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::guest_helper::Trouble;

/// Where a guest has the maker of its terminals.
const MAKER: &str = "dev/pts/ptmx";
/// The device number of every such maker (`TTYAUX_MAJOR`, devices.txt of the kernel).
const MAKER_DEVICE: (u64, u64) = (5, 2);

/// A pseudo terminal.
pub(super) struct Terminal {
    /// The side of the person.
    pub(super) master: OwnedFd,
    /// The side of the command.
    pub(super) slave: OwnedFd,
    /// The path of the command's side in the guest.
    pub(super) path: String,
}

impl Terminal {
    /// Makes a terminal in the guest whose root this is.
    pub(super) fn open(root: &OwnedFd, wanted: &ExecTerminal) -> Result<Self, Trouble> {
        let maker = maker(root)?;
        let make = || -> io::Result<Self> {
            // proc_pid_fd(5): what was looked at is opened, whatever its path is by now.
            let path = format!("/proc/self/fd/{}", maker.as_raw_fd());
            let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            let master = open(path.as_str(), flags, Mode::empty())?;
            unlockpt(&master)?;
            // Not by its path, which is the guest's to choose.
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave = ioctl_tiocgptpeer(&master, flags)?;
            tcsetwinsize(
                &master,
                Winsize { ws_row: wanted.rows, ws_col: wanted.columns, ws_xpixel: 0, ws_ypixel: 0 },
            )?;
            let mut settings = tcgetattr(&slave)?;
            // A line is edited by characters, not by bytes (termios(3)).
            settings.input_modes |= InputModes::IUTF8;
            tcsetattr(&slave, OptionalActions::Now, &settings)?;
            let path = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
            Ok(Self { master, slave, path })
        };
        make().map_err(Trouble::NoTerminal)
    }
}

/// Finds what makes terminals, without opening anything else that a guest may have put in its place: opening a device
/// can have effects.
fn maker(root: &OwnedFd) -> Result<OwnedFd, Trouble> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let failed = |errno: Errno| Trouble::NoTerminal(errno.into());
    let maker = openat2(root, MAKER, how).map_err(failed)?;
    let device = fstat(&maker).map_err(failed)?.st_rdev;
    let kind = fstatfs(&maker).map_err(failed)?.filesystem_type();
    if (major(device), minor(device)) == MAKER_DEVICE && kind == FsType(DEVPTS_SUPER_MAGIC) {
        Ok(maker)
    } else {
        Err(Trouble::NoTerminal(io::Error::other(format!("/{MAKER} is not what makes terminals"))))
    }
}

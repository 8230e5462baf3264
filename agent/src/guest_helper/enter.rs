//! A guest, held by descriptors of its leader's `/proc` directory.
//!
//! The directory stays that process's: once the process is gone, everything below it is an error, and never another
//! process that got its number.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::Trouble;

/// Where cgroup v2 is mounted: file-hierarchy(7).
const CGROUPS: &str = "/sys/fs/cgroup";
/// Longest `/proc/PID/cgroup` that is read.
const CGROUP_BYTES_MAX: u64 = 16 * 1024;

/// A running guest.
pub(super) struct Guest {
    /// `/proc/PID` of the leader.
    leader: OwnedFd,
}

impl Guest {
    /// Opens the guest of this leader, which must be in this unit.
    pub(super) fn open(leader: u32, unit: &str) -> Result<Self, Trouble> {
        let guest = Self { leader: process(leader)? };
        if is_in(&guest.leader, unit) { Ok(guest) } else { Err(Trouble::Gone) }
    }

    /// Moves this process into the guest's network namespace; the file system stays the host's.
    pub(super) fn enter_network(&self) -> Result<(), Trouble> {
        let namespace = openat(&self.leader, "ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        namespace.and_then(|fd| setns(fd, CloneFlags::CLONE_NEWNET)).map_err(entering)
    }

    /// Moves this process into the guest's mount namespace, and to the guest's root.
    pub(super) fn enter_mounts(&self) -> Result<(), Trouble> {
        let namespace = openat(&self.leader, "ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        namespace.and_then(|fd| setns(fd, CloneFlags::CLONE_NEWNS)).map_err(entering)
    }

    /// Moves this process into a cgroup of the guest's unit: device rules are for whoever is below that (cgroup v2, "Device controller").
    pub(super) fn enter_cgroup(&self, unit: &str) -> Result<(), Trouble> {
        let text = cgroups(&self.leader).map_err(Trouble::Enter)?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).ok_or(Trouble::Gone)?;
        let (above, _) = path.split_once(&format!("/{unit}")).ok_or(Trouble::Gone)?;
        // nspawn's own has processes and is none of the guest's, which could freeze its. Without it, the leader's.
        let of_nspawn = format!("{CGROUPS}{above}/{unit}/supervisor/cgroup.procs");
        let of_leader = format!("{CGROUPS}{path}/cgroup.procs");
        // 0 is whoever writes it.
        std::fs::write(of_nspawn, "0").or_else(|_| std::fs::write(of_leader, "0")).map_err(Trouble::Enter)
    }

    /// Makes this process root as the guest has it: in its user namespace, where it has one. Its services look at
    /// the credentials of whoever connects.
    pub(super) fn become_its_root(&self) -> Result<(), Trouble> {
        let namespace = |process: &OwnedFd| readlinkat(process, "ns/user").map_err(entering);
        let own = open("/proc/self", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(entering)?;
        if namespace(&self.leader)? == namespace(&own)? {
            return Ok(());
        }
        let fd = openat(&self.leader, "ns/user", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let enter = || -> nix::Result<()> {
            setns(fd?, CloneFlags::CLONE_NEWUSER)?;
            let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
            setgroups(&[group])?;
            setresgid(group, group, group)?;
            setresuid(user, user, user)
        };
        enter().map_err(entering)
    }

    /// Opens the guest's root, below which everything is to be resolved with `RESOLVE_IN_ROOT`.
    pub(super) fn root(&self) -> Result<OwnedFd, Trouble> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.leader, "root", flags, Mode::empty()).map_err(entering)
    }

    /// Connects to the first of these sockets that there is, as the guest's root; `None` when there is none.
    ///
    /// The path is resolved inside the guest's root, so a planted link leads nowhere else, and whoever listens must be
    /// a process of the guest: a socket of the host may be bound into it.
    pub(super) fn connect(&self, paths: &[&'static str]) -> Result<Option<(usize, UnixStream)>, Trouble> {
        let root = self.root()?;
        let mut found = None;
        for (index, path) in paths.iter().enumerate() {
            let how = OpenHow::new()
                .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            match openat2(&root, *path, how) {
                Ok(socket) => {
                    found = Some((index, *path, socket));
                    break;
                }
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(entering(errno)),
            }
        }
        let Some((index, path, socket)) = found else { return Ok(None) };
        self.become_its_root()?;
        // proc_pid_fd(5): the link leads to what the descriptor holds, whatever its path is by now.
        let stream = match UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())) {
            Ok(stream) => stream,
            // A socket file of a service that is gone, or something that is no socket.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(Trouble::Io(error)),
        };
        let peer = getsockopt(&stream, sockopt::PeerCredentials).map_err(entering)?;
        if self.is_of_guest(peer.pid()) { Ok(Some((index, stream))) } else { Err(Trouble::Stranger(path)) }
    }

    /// Returns whether a process counts processes as the guest does.
    fn is_of_guest(&self, pid: i32) -> bool {
        let namespace = |process: &OwnedFd| readlinkat(process, "ns/pid").ok();
        let Ok(peer) = u32::try_from(pid).map_err(|_| ()).and_then(|pid| process(pid).map_err(drop)) else {
            return false;
        };
        namespace(&peer).is_some_and(|peer| Some(peer) == namespace(&self.leader))
    }
}

/// Returns whether a process is in a unit or below it: guests have cgroups of their own.
fn is_in(process: &OwnedFd, unit: &str) -> bool {
    // proc_pid_cgroup(5): hierarchy:controllers:path.
    let paths = |text: String| {
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| path.split('/').any(|p| p == unit))
    };
    cgroups(process).is_ok_and(paths)
}

/// Reads which cgroups a process is in.
fn cgroups(process: &OwnedFd) -> std::io::Result<String> {
    let fd = openat(process, "cgroup", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(fd).take(CGROUP_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns the addresses at which a service of the guest may listen, in the order in which they are tried: loopback,
/// then those of its interfaces. To be called in its network namespace.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    for address in interfaces {
        // A link-local address needs the interface as well, and no service listens on that alone.
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !link_local && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Opens `/proc/PID`.
fn process(pid: u32) -> Result<OwnedFd, Trouble> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(format!("/proc/{pid}").as_str(), flags, Mode::empty()).map_err(entering)
}

fn entering(errno: Errno) -> Trouble {
    match errno {
        Errno::ENOENT | Errno::ESRCH => Trouble::Gone,
        other => Trouble::Enter(other.into()),
    }
}

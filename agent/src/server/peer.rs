//! Who is at the other end of a connection, as the kernel wrote it down when it was made.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};

/// The most groups that a process can have (`NGROUPS_MAX`, limits.h(0p); credentials(7)).
const GROUPS_MAX: usize = 65536;

/// The process that connected. It may have ended since, or have handed the connection on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The process id, for the log; 0 when it is in a PID namespace that the agent does not see.
    pub pid: i32,
    /// The supplementary group ids, in no order.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Reads who connected (unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`).
    ///
    /// # Errors
    ///
    /// When the socket is not a connected Unix socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        let groups = peer_groups(socket)?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid(), groups })
    }

    /// Returns whether the process was in a group.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Reads the supplementary groups. zlink can too, but loops for ever over a peer with more than 128 of them, which
/// any user with subordinate ids can be.
fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        let room = groups.len();
        let mut size = libc::socklen_t::try_from(room * size_of::<libc::gid_t>()).map_err(io::Error::other)?;
        #[allow(unsafe_code, reason = "neither std nor nix reads SO_PEERGROUPS")]
        // SAFETY: the kernel writes at most `size` bytes, which is the length of the buffer, and only whole group
        // ids, for which any bits will do; it reads and writes `size`, which lives until the call returns.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        let error = io::Error::last_os_error();
        let needed = size as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        // With ERANGE the kernel says how many there are, and that number never changes: the second call succeeds.
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= room || needed > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_who_made_the_socket() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
        let mut groups: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut read = peer.groups.clone();
        groups.sort_unstable();
        read.sort_unstable();
        assert_eq!(read, groups);
    }
}

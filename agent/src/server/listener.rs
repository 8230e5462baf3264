//! The listening socket: from systemd, or bound by ourselves where there is no socket unit.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};
use nix::unistd::{Gid, chown};

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// `$LISTEN_FDS` and its companions cannot be read.
    #[error("cannot read the sockets that systemd passed")]
    Environment(#[source] io::Error),
    /// systemd passed something else than one listening Unix socket.
    #[error("systemd passed {0} instead of one listening Unix socket")]
    NotOurs(&'static str),
    /// Another agent listens there.
    #[error("another agent listens on `{0}`")]
    InUse(PathBuf),
    /// The path is taken by something that is not a socket.
    #[error("`{0}` is not a socket")]
    NotASocket(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on `{path}`")]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Takes the socket that systemd listens on for us (`sd_listen_fds(3)`); `None` when it passed none.
///
/// May be called once: it takes ownership of the descriptor.
///
/// # Errors
///
/// When something was passed that is not one listening Unix stream socket.
pub fn from_systemd() -> Result<Option<UnixListener>, ListenerError> {
    let mut passed = sd_notify::listen_fds().map_err(ListenerError::Environment)?;
    let Some(descriptor) = passed.next() else { return Ok(None) };
    if passed.next().is_some() {
        return Err(ListenerError::NotOurs("several sockets"));
    }
    let socket = take(descriptor)?;
    let family = getsockname::<SockaddrStorage>(descriptor).ok().and_then(|address| address.family());
    if family != Some(AddressFamily::Unix) {
        return Err(ListenerError::NotOurs("a socket of another family"));
    }
    if getsockopt(&socket, sockopt::AcceptConn) != Ok(true) {
        return Err(ListenerError::NotOurs("a socket that does not listen"));
    }
    Ok(Some(UnixListener::from(socket)))
}

/// Takes a descriptor that this process was started with.
fn take(descriptor: RawFd) -> Result<OwnedFd, ListenerError> {
    #[allow(unsafe_code, reason = "systemd passes descriptors as numbers")]
    // SAFETY: only borrowed for the call, which fails when the number is no open descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    if fcntl(borrowed, FcntlArg::F_GETFD).is_err() {
        return Err(ListenerError::NotOurs("a closed descriptor"));
    }
    #[allow(unsafe_code, reason = "systemd passes descriptors as numbers")]
    // SAFETY: the descriptor is open, and by sd_listen_fds(3) it was passed for this process to own; nothing else here
    // takes one from there.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(owned)
}

/// Listens on a path, for everybody: who may do what is decided by who they are. The folder must exist.
///
/// What a killed agent left there is replaced.
///
/// # Errors
///
/// When another agent listens there, or the path cannot be bound.
pub fn bind(path: &Path) -> Result<UnixListener, ListenerError> {
    bind_for(path, 0o666, None)
}

/// Listens on a path, for its owner, and for a group and others as far as `mode` says.
///
/// # Errors
///
/// As [`bind`].
pub(crate) fn bind_for(path: &Path, mode: u32, group: Option<Gid>) -> Result<UnixListener, ListenerError> {
    let failed = |source| ListenerError::Bind { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenerError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ListenerError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Before others may connect.
    chown(path, None, group).map_err(|errno| failed(errno.into()))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_a_killed_agent_left_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(bind(&path).unwrap());
        let listener = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert!(matches!(bind(&path), Err(ListenerError::InUse(_))));
        drop(listener);
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        fs::write(&path, "keep").unwrap();
        assert!(matches!(bind(&path), Err(ListenerError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "keep");
    }
}

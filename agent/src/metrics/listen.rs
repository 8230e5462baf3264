//! Where pages are given: an address on loopback, or a Unix socket. Nothing else is taken.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Gid;
use serde::Deserialize;

use crate::server::{self, ListenerError};

/// The longest path of a Unix socket in bytes (unix(7): `sun_path` without its zero byte).
const PATH_MAX: usize = 107;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// An address on loopback, with a port. Every user of this machine can read there, in its containers on the host's
    /// network too.
    Loopback(SocketAddr),
    /// A socket, by its absolute path. Root and the group `nixmox` can read there.
    Socket(PathBuf),
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// On loopback.
    Loopback(TcpListener),
    /// In a file system.
    Socket(UnixListener),
}

/// Why a text says no place to listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It is an address that other machines reach.
    #[error(
        "`{0}` is not loopback, so other machines could read the figures; say `127.0.0.1:{port}` or a path such as \
         `/run/nixmox/metrics.sock`, and let others in through a proxy that asks who they are",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    /// Any port would do, and nobody would know which.
    #[error("`{0}` has no port; say which, such as `127.0.0.1:19558`")]
    NoPort(SocketAddr),
    /// The path is too long for a socket, or leads up.
    #[error("`{}` cannot be a socket: a path without `..`, of at most {PATH_MAX} bytes, such as `/run/nixmox/metrics.sock`", .0.display())]
    BadPath(PathBuf),
    /// It is neither.
    #[error(
        "`{0}` is neither an address with a port, such as `127.0.0.1:19558`, nor an absolute path, such as `/run/nixmox/metrics.sock`"
    )]
    Neither(String),
}

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had.
    #[error("cannot listen on `{address}`: {source}; is another program there (`ss -lntp`)?")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("{0}; the agent may write below /run and /var/lib/nixmox, and the folder must be there")]
    Socket(String),
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match (address.ip().is_loopback(), address.port()) {
                (false, _) => Err(ListenError::NotLoopback(address)),
                (true, 0) => Err(ListenError::NoPort(address)),
                (true, _) => Ok(Self::Loopback(address)),
            };
        }
        let path = Path::new(&text);
        if !path.is_absolute() {
            return Err(ListenError::Neither(text));
        }
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !plain || text.len() > PATH_MAX || text.ends_with('/') || text.contains('\0') {
            return Err(ListenError::BadPath(path.to_owned()));
        }
        Ok(Self::Socket(path.to_owned()))
    }
}

/// Listens; on a socket for root and the group `observers`, or for root alone. One that a killed agent left behind is replaced.
///
/// # Errors
/// When the place is taken, or cannot be made.
pub fn bind(listen: &Listen, observers: Option<Gid>) -> Result<Listener, BindError> {
    match listen {
        Listen::Loopback(address) => match TcpListener::bind(address) {
            Ok(listener) => Ok(Listener::Loopback(listener)),
            Err(source) => Err(BindError::Address { address: *address, source }),
        },
        Listen::Socket(path) => {
            listen_on(path, observers).map(Listener::Socket).map_err(|error| BindError::Socket(chain(&error)))
        }
    }
}

fn listen_on(path: &Path, observers: Option<Gid>) -> Result<UnixListener, ListenerError> {
    let mode = if observers.is_some() { 0o660 } else { 0o600 };
    server::bind_for(path, mode, observers)
}

/// Returns an error with its causes, in one line.
fn chain(error: &ListenerError) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn loopback_and_paths_are_taken_and_nothing_else() {
        let read = |text: &str| Listen::try_from(text.to_owned());
        for good in ["127.0.0.1:19558", "127.8.0.1:1", "[::1]:19558"] {
            assert!(matches!(read(good), Ok(Listen::Loopback(_))), "{good}");
        }
        assert!(matches!(read("/run/nixmox/metrics.sock"), Ok(Listen::Socket(_))));
        for bad in ["0.0.0.0:1", "192.168.1.7:1", "[::]:1", "[::ffff:127.0.0.1]:1", "[fe80::1]:1"] {
            let error = read(bad).unwrap_err();
            assert!(matches!(error, ListenError::NotLoopback(_)), "{bad}");
            assert!(error.to_string().contains("say `127.0.0.1:1` or a path"), "{error}");
        }
        assert!(matches!(read("127.0.0.1:0"), Err(ListenError::NoPort(_))));
        for bad in ["", "localhost:1", "19558", "127.0.0.1", "run/metrics.sock", "@metrics"] {
            assert!(matches!(read(bad), Err(ListenError::Neither(_))), "{bad}");
        }
        let long = format!("/{}", "x".repeat(PATH_MAX));
        for bad in ["/run/../etc/x", "/run/", "/", long.as_str(), "/run/\0x"] {
            assert!(matches!(read(bad), Err(ListenError::BadPath(_))), "{bad}");
        }
    }

    #[test]
    fn a_socket_is_for_root_and_one_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let gid = nix::unistd::getegid();
        for (group, mode) in [(Some(gid), 0o660), (None, 0o600)] {
            drop(listen_on(&path, group).unwrap());
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!((metadata.permissions().mode() & 0o777, metadata.gid()), (mode, gid.as_raw()));
        }
    }

    #[test]
    fn a_place_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(&Listen::Loopback(address), None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on `{address}`: ")), "{error}");
        let error = bind(&Listen::Socket("/nonexistent/x".into()), None).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on `/nonexistent/x`: "), "{error}");
    }
}

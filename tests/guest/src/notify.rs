//! What a guest says to its manager, and the real-time signals that it hears from it.

use std::{env, io, os::unix::net::UnixDatagram};

/// Sends `READY=1` to `$NOTIFY_SOCKET`; nothing when there is none.
pub(crate) fn ready() -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(b"READY=1", path).map(|_| ())
}

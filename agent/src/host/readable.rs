//! A descriptor that says when it has something to read: inotify instances, netlink sockets.
//!
//! Owns the one call that tokio declares unsafe. What is read is of no interest: the descriptor only wakes.

#![allow(unsafe_code, reason = "AsyncFd can only be made with a promise about its descriptor")]

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Larger than one inotify event or netlink message of those asked for.
const READ_BYTES: usize = 4096;

/// A non-blocking descriptor, registered with the runtime.
#[derive(Debug)]
pub(super) struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Registers a descriptor that does not block; must be called on the runtime.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` answered.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd is open and the same from here to its drop, and the AsyncFd owns it alone.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        registered.map(Self).map_err(io::Error::from)
    }

    /// Waits until there is something to read, and leaves it there. Cancel-safe.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub(super) async fn ready(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Reads all there is, and forgets it.
    pub(super) fn drain(&self) {
        let mut buffer = [0; READ_BYTES];
        loop {
            // Only `WouldBlock` clears readiness; after any other end the next wait returns at once.
            match self.0.try_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, &mut buffer)?)) {
                Ok(1..) => {}
                // A netlink socket that lost messages says so once; that is as good as one of them.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn wakes_once_for_what_was_written_and_waits_for_more() {
        let (mut write, read) = UnixStream::pair().unwrap();
        read.set_nonblocking(true).unwrap();
        let readable = Readable::new(read.into()).unwrap();
        write.write_all(b"one, two").unwrap();
        readable.ready().await.unwrap();
        readable.drain();
        let wait = tokio::time::timeout(Duration::from_millis(50), readable.ready());
        assert!(wait.await.is_err(), "drained, so it waits");
        write.write_all(b"three").unwrap();
        readable.ready().await.unwrap();
    }
}

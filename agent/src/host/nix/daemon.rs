//! One question to Nix's daemon: whether a store path is valid. That its files are there does not say so: a build or a copy that was
//! interrupted leaves some, and nothing keeps them.
//!
//! Owns as much of the daemon's protocol as that takes (nix, `worker-protocol`): numbers of 64 bits, little endian; texts with their
//! length before them, filled up to eight bytes. It is spoken as of version 1.32, which has none of what came later to negotiate.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nixmox_core::model::StorePath;

/// How long the daemon may take for one answer.
const LIMIT: Duration = Duration::from_secs(10);
const HELLO: u64 = 0x6e69_7863;
const HELLO_BACK: u64 = 0x6478_696f;
const VERSION: u64 = 0x120;
const IS_VALID_PATH: u64 = 1;
/// What the daemon says before an answer: that there is nothing more to say.
const LAST: u64 = 0x616c_7473;

/// A connection to the daemon.
pub(in crate::host) struct Daemon(UnixStream);

impl Daemon {
    /// Connects to the daemon behind a socket.
    ///
    /// # Errors
    /// When nobody listens there, or somebody else.
    pub(in crate::host) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut daemon = Self(stream);
        daemon.send(&[HELLO])?;
        if daemon.number()? != HELLO_BACK {
            return Err(unexpected("it is not Nix's daemon"));
        }
        let _version = daemon.number()?;
        // No processor to stay on, no disk space to keep.
        daemon.send(&[VERSION, 0, 0])?;
        daemon.last()?;
        Ok(daemon)
    }

    /// Returns whether a store path is valid.
    ///
    /// # Errors
    /// When the daemon does not answer, or not so.
    pub(in crate::host) fn is_valid(&mut self, path: &StorePath) -> io::Result<bool> {
        let text = path.as_str().as_bytes();
        let mut message = IS_VALID_PATH.to_le_bytes().to_vec();
        message.extend((text.len() as u64).to_le_bytes());
        message.extend(text);
        message.resize(message.len().next_multiple_of(8), 0);
        self.0.write_all(&message)?;
        self.last()?;
        Ok(self.number()? != 0)
    }

    fn send(&mut self, numbers: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.0.write_all(&bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Takes what comes before an answer. Neither question is one on which the daemon has anything to report.
    fn last(&mut self) -> io::Result<()> {
        if self.number()? == LAST { Ok(()) } else { Err(unexpected("it answered with something else")) }
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A daemon that says these numbers whatever it is asked, and returns what it heard.
    fn daemon(says: &'static [u64]) -> (tempfile::TempDir, thread::JoinHandle<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let heard = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let bytes: Vec<u8> = says.iter().flat_map(|number| number.to_le_bytes()).collect();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard
        });
        (dir, heard)
    }

    #[test]
    fn it_says_what_is_valid() {
        let path: StorePath = format!("/nix/store/{}-web", "a".repeat(32)).parse().unwrap();
        let (dir, heard) = daemon(&[HELLO_BACK, 0x126, LAST, LAST, 1, LAST, 0]);
        let mut daemon = Daemon::connect(&dir.path().join("socket")).unwrap();
        assert!(daemon.is_valid(&path).unwrap());
        assert!(!daemon.is_valid(&path).unwrap());
        drop(daemon);
        // 47 bytes are filled up to 48.
        assert_eq!(heard.join().unwrap().len(), 8 * 4 + 2 * (8 + 8 + 48));
    }

    #[test]
    fn who_says_something_else_is_not_believed() {
        for says in [&[][..], &[7], &[HELLO_BACK], &[HELLO_BACK, 0x126, 0x6378_7470]] {
            let (dir, _) = daemon(says);
            assert!(Daemon::connect(&dir.path().join("socket")).is_err(), "{says:?}");
        }
        assert!(Daemon::connect(Path::new("/nowhere")).is_err());
    }
}

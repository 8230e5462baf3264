//! The host's side of a copy, done by this process as its user: what is read and written here is what the user may read
//! and write, and the agent has no part in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nixmox_api::CopyReply;
use nixmox_tree::{PackError, Report, Target, UnpackError, pack, unpack};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::geteuid;

use crate::error::CtlError;

/// The bits of a mode that come out of a container: what its root makes `setuid` is nothing that runs so here.
const MODES: u32 = 0o1777;

/// Why a copy failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// For a reason on this side.
    Here { what: String, source: io::Error },
    /// The other side takes no more, or sends no more.
    There,
}

impl Failed {
    pub(crate) fn here(what: impl Into<String>, source: io::Error) -> Self {
        Self::Here { what: what.into(), source }
    }
}

/// Where a copy comes from.
pub(crate) enum Source {
    /// A tar on standard input.
    Stream,
    /// An object, open as a path alone, and its name; `.` for the content of a folder.
    Object { path: PathBuf, object: OwnedFd, name: OsString },
}

impl Source {
    /// Opens what is to be copied.
    pub(crate) fn open(folder: &Path, text: &OsStr, follow: bool) -> Result<Self, CtlError> {
        if text == "-" {
            return Ok(Self::Stream);
        }
        let (path, ending) = (folder.join(text), Ending::of(text));
        let name =
            path.file_name().filter(|_| ending != Ending::Content).map_or_else(|| ".".into(), OsStr::to_owned);
        let follow = follow || ending != Ending::Name || name == ".";
        let flags = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let object = openat(CWD, folder.join(text), OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty());
        let failed = |source| CtlError::File { action: "read", path: path.clone(), source };
        let object = object.map_err(|errno| failed(errno.into()))?;
        Ok(Self::Object { path, object, name })
    }

    /// Writes it into a pipe, and closes that.
    pub(crate) fn give(self, to: OwnedFd) -> Result<CopyReply, Failed> {
        let mut to = BufWriter::new(File::from(to));
        match self {
            Self::Stream => {
                // Not through the buffer of this process, which belongs to whoever asks questions.
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|source| Failed::here("cannot read standard input", source))?;
                through(&mut File::from(stdin), to.get_mut(), "read standard input")
            }
            Self::Object { path, object, name } => match pack(object.as_fd(), name.as_encoded_bytes(), &mut to) {
                Ok(report) => Ok(reply(report)),
                Err(PackError::Read(source)) => {
                    Err(Failed::here(format!("cannot read {}", path.display()), source))
                }
                Err(PackError::Kind(what)) => Err(Failed::here(
                    format!("cannot copy {}", path.display()),
                    io::Error::other(format!("it is {what}")),
                )),
                Err(PackError::Write(_)) => Err(Failed::There),
            },
        }
    }
}

/// Where a copy goes.
pub(crate) enum Destination {
    /// As a tar to standard output.
    Stream,
    /// Below this folder.
    Folder {
        path: PathBuf,
        folder: OwnedFd,
        /// What it is called there; absent: by its own name.
        name: Option<OsString>,
        must_be_folder: bool,
        must_be_file: bool,
    },
}

impl Destination {
    /// Finds where a copy goes, as cp(1) does: into a folder that is there, else under this name.
    pub(crate) fn find(folder: &Path, text: &OsStr) -> Result<Self, CtlError> {
        if text == "-" {
            if io::stdout().is_terminal() {
                return Err(CtlError::Usage {
                    what: "a tar is not written to a terminal".to_owned(),
                    hint: "nixmoxctl cp NAME:PATH - | tar -t, or nixmoxctl cp NAME:PATH .".to_owned(),
                });
            }
            return Ok(Self::Stream);
        }
        let path = folder.join(text);
        // Also behind a link: whoever types `/dev/stdout` does not want a file in its place.
        if path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            return Err(CtlError::Usage {
                what: format!("{} is there, and is no file", path.display()),
                hint: "write - for a tar on standard output, or name a file".to_owned(),
            });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| openat(CWD, path, flags, Mode::empty());
        if let Ok(folder) = open(&path) {
            return Ok(Self::Folder { path, folder, name: None, must_be_folder: false, must_be_file: false });
        }
        let failed =
            |path: &Path, source: io::Error| CtlError::File { action: "write to", path: path.to_owned(), source };
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(&path, io::ErrorKind::NotFound.into()));
        };
        let folder = open(above).map_err(|errno| failed(above, errno.into()))?;
        let (name, must_be_file) = (Some(name.to_owned()), path.symlink_metadata().is_ok());
        let must_be_folder = Ending::of(text) != Ending::Name;
        Ok(Self::Folder { path, folder, name, must_be_folder, must_be_file })
    }

    /// Takes the name in a folder that is there from the path that is asked for: what comes has not to choose it. The content
    /// of a folder has names of its own.
    pub(crate) fn of(mut self, asked: &str) -> Self {
        if let Self::Folder { name: name @ None, .. } = &mut self
            && Ending::of(OsStr::new(asked)) != Ending::Content
        {
            *name = Path::new(asked).file_name().map(OsStr::to_owned);
        }
        self
    }

    /// Reads it from a pipe to the end.
    pub(crate) fn take(self, from: OwnedFd) -> Result<CopyReply, Failed> {
        let mut from = File::from(from);
        let Self::Folder { path, folder, name, must_be_folder, must_be_file } = self else {
            return through(&mut from, &mut io::stdout().lock(), "write the result");
        };
        let target = Target {
            folder: folder.as_fd(),
            name: name.as_deref(),
            must_be_folder,
            must_be_file,
            owners: geteuid().is_root(),
            modes: MODES,
        };
        let shown = path.display();
        match unpack(&mut BufReader::new(from), target) {
            Ok(report) => Ok(reply(report)),
            Err(UnpackError::Stream(_)) => Err(Failed::There),
            Err(UnpackError::Folder) => {
                Err(Failed::here(format!("cannot copy a folder to {shown}"), io::ErrorKind::NotADirectory.into()))
            }
            Err(UnpackError::NoFolder) => {
                Err(Failed::here(format!("cannot copy into {shown}"), io::ErrorKind::NotFound.into()))
            }
            Err(UnpackError::Write { path, source }) => {
                let written = crate::render::clean(&path.to_string_lossy());
                Err(Failed::here(format!("cannot write {written} below {shown}"), source))
            }
        }
    }
}

/// How a path ends, which says what of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Name,
    /// A `/`: a folder is meant, and what a link leads to.
    Slash,
    /// `.` or `..`: what is in a folder.
    Content,
}

impl Ending {
    fn of(text: &OsStr) -> Self {
        match text.as_encoded_bytes().rsplit(|byte| *byte == b'/').next() {
            Some(b"") => Self::Slash,
            Some(b"." | b"..") => Self::Content,
            Some(_) | None => Self::Name,
        }
    }
}

/// Copies a stream as it is; what is in it, the other side knows.
fn through(from: &mut impl io::Read, to: &mut impl io::Write, what: &str) -> Result<CopyReply, Failed> {
    let mut buffer = vec![0; 64 * 1024];
    let is_from_here = what.starts_with("read");
    let failed = |is_here: bool, source| {
        if is_here { Failed::here(format!("cannot {what}"), source) } else { Failed::There }
    };
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => to
                .write_all(buffer.get(..read).unwrap_or_default())
                .map_err(|error| failed(!is_from_here, error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(is_from_here, error)),
        }
    }
    to.flush().map_err(|error| failed(!is_from_here, error))?;
    Ok(CopyReply { objects: u64::MAX, bytes: u64::MAX, ..CopyReply::default() })
}

fn reply(report: Report) -> CopyReply {
    let Report { objects, bytes, skipped, skipped_more } = report;
    CopyReply { objects, bytes, skipped, skipped_more, failure: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in a folder after a copy of `asked` into it, where the stream has an object of this name.
    fn taken(asked: &str, sent: &[u8]) -> Vec<OsString> {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "content").unwrap();
        std::fs::create_dir(&to).unwrap();
        let destination = Destination::find(dir.path(), OsStr::new("to")).unwrap().of(asked);
        let (read, write) = io::pipe().unwrap();
        pack(File::open(&from).unwrap().as_fd(), sent, &mut File::from(OwnedFd::from(write))).unwrap();
        assert!(destination.take(read.into()).is_ok());
        std::fs::read_dir(to).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn what_comes_does_not_choose_its_name() {
        assert_eq!(taken("/etc/hosts", b"hosts"), ["hosts"]);
        assert_eq!(taken("/etc/hosts", b".bashrc"), ["hosts"]);
        assert_eq!(taken("/etc/ssl/", b".bashrc"), ["ssl"]);
        assert_eq!(taken("/etc/.", b"./of-a-folder"), ["of-a-folder"], "its content was asked for");
    }
}

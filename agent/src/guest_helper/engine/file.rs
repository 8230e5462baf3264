//! Models in files of the guest, which may put anything there: only regular files are read, beneath its root, and of them the head.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nixmox_core::offload::gguf::{self, Fault, Header, Source, Split};

use super::Head;
use crate::guest_helper::Trouble;

/// Most files that a model is split into.
const PARTS_MAX: u32 = 256;
/// Metadata that is about a part, and not about the model.
const OF_A_PART: &str = "split.";

/// Reads the heads of a model's files as one.
pub(super) fn read(root: &OwnedFd, path: &str) -> Result<Head, Trouble> {
    if !Path::new(path).is_absolute() {
        let text = format!("its model is `{path}`, from wherever it was started; give it an absolute path");
        return Err(Trouble::Engine(text));
    }
    let mut whole = Header::default();
    for part in parts(path)? {
        let header = read_part(root, &part)?;
        // The first says what the model is.
        if whole.metadata.is_empty() {
            whole.metadata = header.metadata;
        }
        whole.tensors.extend(header.tensors);
    }
    whole.metadata.retain(|key, _| !key.starts_with(OF_A_PART));
    Ok(whole.into())
}

/// Returns the files of a model, by the name of one of them.
fn parts(path: &str) -> Result<Vec<String>, Trouble> {
    let Some(split) = Split::of(path) else { return Ok(vec![path.to_owned()]) };
    let count = split.count();
    if count > PARTS_MAX {
        return Err(Trouble::Engine(format!("its model is in {count} files, and {PARTS_MAX} are the most")));
    }
    Ok((1..=count).map(|number| split.part(number)).collect())
}

fn read_part(root: &OwnedFd, path: &str) -> Result<Header, Trouble> {
    let failed = |error: std::io::Error| Trouble::Path(path.to_owned(), error);
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let held = openat2(root, path, how).map_err(|errno| failed(errno.into()))?;
    let mode = fstat(&held).map_err(|errno| failed(errno.into()))?.st_mode;
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(failed(std::io::Error::other("it is no regular file")));
    }
    // proc_pid_fd(5): the link leads to what the descriptor holds, whatever its path is by now.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(format!("/proc/self/fd/{}", held.as_raw_fd()).as_str(), flags, Mode::empty());
    let file = File::from(file.map_err(|errno| failed(errno.into()))?);
    gguf::read(&mut Front(BufReader::new(file))).map_err(|fault| match fault {
        Fault::Source(error) => failed(error),
        Fault::Content(what) => failed(std::io::Error::other(what)),
    })
}

/// A file from its beginning on.
struct Front(BufReader<File>);

impl Source for Front {
    type Error = std::io::Error;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Self::Error> {
        match self.0.read_exact(buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, Self::Error> {
        let left = self.0.get_ref().metadata()?.len().saturating_sub(self.0.stream_position()?);
        let Some(bytes) = i64::try_from(bytes).ok().filter(|_| bytes <= left) else {
            self.0.seek(SeekFrom::End(0))?;
            return Ok(false);
        };
        self.0.seek_relative(bytes)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

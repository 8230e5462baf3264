//! Unpacking: a stream becomes objects below a folder.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod,
    fchown, fstat, futimens, mkdirat, openat, openat2, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::header::{self, Entry, Kind, padding};
use crate::report::Report;

/// How much is written at once.
const CHUNK: usize = 64 * 1024;
/// Longest path that is made (`PATH_MAX` of limits.h(0p)).
const PATH_MAX: usize = 4095;

/// Where a stream goes, and how much of what it says of its objects counts.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The folder below which everything is made.
    pub folder: BorrowedFd<'a>,
    /// What the first object is called there; absent: as the stream has it.
    pub name: Option<&'a OsStr>,
    /// Whether the first object must be a folder: one was asked for by a final `/`.
    pub must_be_folder: bool,
    /// Whether the first object cannot be a folder: a file is there.
    pub must_be_file: bool,
    /// Whether owners are set; only root can.
    pub owners: bool,
    /// The bits of a mode that are kept.
    pub modes: u32,
}

/// Why unpacking ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream broke off, or is none.
    #[error("what arrives is not whole")]
    Stream(#[source] io::Error),
    /// The first object is a folder, where none can be.
    #[error("a folder cannot take the place of a file")]
    Folder,
    /// The first object is a file, where a folder was asked for.
    #[error("there is no such folder")]
    NoFolder,
    /// A file cannot be written any further.
    #[error("cannot write {}", path.display())]
    Write {
        /// The path in the stream.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Unpacks a stream below a folder.
///
/// Whatever the stream says and whoever changes the folder meanwhile: nothing is made outside of it, no link is
/// followed, and what is there is replaced and never written into. A file appears under its name when it is whole.
///
/// # Errors
/// When the stream is broken or cannot be put there at all. What cannot be made is skipped.
pub fn unpack(input: &mut impl Read, target: Target<'_>) -> Result<Report, UnpackError> {
    let mut unpacking = Unpacking { target, report: Report::default(), open: Vec::new(), is_first: true, made: 0 };
    while let Some(entry) = header::read(input).map_err(UnpackError::Stream)? {
        if unpacking.is_first {
            let is_folder = entry.kind == Kind::Folder;
            if is_folder && target.must_be_file {
                return Err(UnpackError::Folder);
            }
            if !is_folder && target.must_be_folder {
                return Err(UnpackError::NoFolder);
            }
        }
        let mut content = Content { left: entry.size(), input };
        unpacking.entry(&entry, &mut content)?;
        content.discard(entry.size()).map_err(UnpackError::Stream)?;
        unpacking.is_first = false;
    }
    unpacking.close(0);
    Ok(unpacking.report)
}

/// The content of an entry.
struct Content<'a, R> {
    input: &'a mut R,
    left: u64,
}

impl<R: Read> Content<'_, R> {
    /// Reads what is left of it, and what fills it up to whole blocks.
    fn discard(self, size: u64) -> io::Result<()> {
        let rest = self.left.saturating_add(padding(size).len() as u64);
        let read = io::copy(&mut self.input.take(rest), &mut io::sink())?;
        if read == rest { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(buffer.len()).min(buffer.len());
        let chunk = buffer.get_mut(..room).unwrap_or_default();
        if chunk.is_empty() {
            return Ok(0);
        }
        let read = loop {
            match self.input.read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Entry {
    fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size } | Kind::Other { size, .. } => size,
            Kind::Folder | Kind::Link { .. } => 0,
        }
    }
}

/// A folder that was made, and gets its mode and time when all that is below it is there.
struct Made {
    path: PathBuf,
    folder: OwnedFd,
    entry: Entry,
}

struct Unpacking<'a> {
    target: Target<'a>,
    report: Report,
    /// Folders that were made, each below the one before.
    open: Vec<Made>,
    is_first: bool,
    /// Temporary names so far.
    made: u64,
}

/// Why an object was not made.
enum Trouble {
    Skip(String),
    End(UnpackError),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Skip(io::Error::from(errno).to_string())
    }
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, content: &mut Content<'_, R>) -> Result<(), UnpackError> {
        match self.make(entry, content) {
            Ok(()) => Ok(()),
            Err(Trouble::Skip(why)) => {
                self.report.skip(&entry.path, why);
                Ok(())
            }
            Err(Trouble::End(error)) => Err(error),
        }
    }

    fn make<R: Read>(&mut self, entry: &Entry, content: &mut Content<'_, R>) -> Result<(), Trouble> {
        let path = self.path(&entry.path)?;
        // The first object of the content of a folder is the target itself.
        let Some(name) = path.file_name() else { return Ok(()) };
        let above = path.parent().unwrap_or(Path::new(""));
        let still_open = self.open.iter().take_while(|made| above.starts_with(&made.path)).count();
        self.close(still_open);
        let folder = self.folder(above)?;
        let folder = folder.as_ref().map_or(self.target.folder, AsFd::as_fd);
        match &entry.kind {
            Kind::Folder => self.make_folder(folder, name, &path, entry)?,
            Kind::File { .. } => self.make_file(folder, name, entry, content)?,
            Kind::Link { target } => self.make_link(folder, name, target, entry)?,
            Kind::Other { what, .. } => return Err(Trouble::Skip(format!("it is {what}"))),
        }
        self.report.objects = self.report.objects.saturating_add(1);
        Ok(())
    }

    /// Returns where an object belongs below the target; empty for the target itself.
    fn path(&self, path: &[u8]) -> Result<PathBuf, Trouble> {
        let out = || Trouble::Skip("its path leads out".to_owned());
        if path.starts_with(b"/") || path.len() > PATH_MAX || path.contains(&0) {
            return Err(out());
        }
        let is_of_content = path == b"." || path.starts_with(b"./");
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        if names.clone().any(|name| name == b"..") {
            return Err(out());
        }
        let mut whole = PathBuf::new();
        if let Some(name) = self.target.name {
            whole.push(name);
            if !is_of_content {
                names.next();
            }
        }
        for name in names {
            whole.push(OsStr::from_bytes(name));
        }
        Ok(whole)
    }

    /// Opens a folder below the target, made before or there already; `None`: the target itself. No link is followed on
    /// the way, whoever has planted it meanwhile.
    fn folder(&self, path: &Path) -> Result<Option<OwnedFd>, Trouble> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            openat2(self.target.folder, path, flags, Mode::empty(), resolve)
        };
        match open(path) {
            // Streams of other programs need not have a folder before what is in it.
            Err(Errno::NOENT) => {
                let above = self.folder(path.parent().unwrap_or(Path::new("")))?;
                let above = above.as_ref().map_or(self.target.folder, AsFd::as_fd);
                match mkdirat(above, path.file_name().unwrap_or_default(), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                Ok(Some(open(path)?))
            }
            Err(Errno::LOOP | Errno::NOTDIR) => {
                Err(Trouble::Skip("a folder above it is none, or a link".to_owned()))
            }
            opened => Ok(Some(opened?)),
        }
    }

    fn make_folder(
        &mut self,
        above: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        entry: &Entry,
    ) -> Result<(), Trouble> {
        let made = match mkdirat(above, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if made {
            let folder = openat(above, name, flags, Mode::empty())?;
            self.open.push(Made { path: path.to_owned(), folder, entry: entry.clone() });
            return Ok(());
        }
        // One that is there stays as it is.
        match openat(above, name, flags | OFlags::PATH, Mode::empty()) {
            Ok(_there) => Ok(()),
            Err(_other) => Err(Trouble::Skip("something that is no folder is there".to_owned())),
        }
    }

    fn make_file<R: Read>(
        &mut self,
        above: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
        content: &mut Content<'_, R>,
    ) -> Result<(), Trouble> {
        let temporary = self.temporary();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(above, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        let mut write = |file: &mut std::fs::File| -> Result<u64, UnpackError> {
            let mut buffer = vec![0; CHUNK];
            let mut written = 0_u64;
            loop {
                let read = content.next(&mut buffer).map_err(UnpackError::Stream)?;
                if read == 0 {
                    return Ok(written);
                }
                let failed = |source| UnpackError::Write { path: OsStr::from_bytes(&entry.path).into(), source };
                file.write_all(buffer.get(..read).unwrap_or_default()).map_err(failed)?;
                written = written.saturating_add(read as u64);
            }
        };
        let finished = write(&mut file).map_err(Trouble::End).and_then(|written| {
            self.settle(file.as_fd(), entry);
            may_replace(above, name)?;
            // A link or a file that is there is replaced, not followed (rename(2)).
            renameat(above, &temporary, above, name)?;
            Ok(written)
        });
        match finished {
            Ok(written) => {
                self.report.bytes = self.report.bytes.saturating_add(written);
                Ok(())
            }
            Err(trouble) => {
                // It is ours, or somebody has taken it away.
                let _gone = unlinkat(above, &temporary, AtFlags::empty());
                Err(trouble)
            }
        }
    }

    fn make_link(
        &mut self,
        above: BorrowedFd<'_>,
        name: &OsStr,
        target: &[u8],
        entry: &Entry,
    ) -> Result<(), Trouble> {
        let temporary = self.temporary();
        symlinkat(OsStr::from_bytes(target), above, &temporary)?;
        if self.target.owners
            && let Err(errno) = own_link(above, &temporary, entry)
        {
            self.report.skip(&entry.path, format!("its owner: {}", io::Error::from(errno)));
        }
        // A link has no other use of its time than to be shown.
        let _shown = utimensat(above, &temporary, &times(entry), AtFlags::SYMLINK_NOFOLLOW);
        let replaced = may_replace(above, name).and_then(|()| Ok(renameat(above, &temporary, above, name)?));
        if replaced.is_err() {
            let _gone = unlinkat(above, &temporary, AtFlags::empty());
        }
        replaced
    }

    /// Gives folders that are whole their owner, mode and time, and leaves so many open.
    fn close(&mut self, count: usize) {
        while self.open.len() > count {
            let Some(Made { folder, entry, .. }) = self.open.pop() else { return };
            self.settle(folder.as_fd(), &entry);
        }
    }

    /// Sets owner, mode and time of something that was made.
    fn settle(&mut self, object: BorrowedFd<'_>, entry: &Entry) {
        let mut owned = true;
        if self.target.owners {
            let (user, group) = owners(entry);
            if let Err(errno) = fchown(object, user, group) {
                self.report.skip(&entry.path, format!("its owner: {}", io::Error::from(errno)));
                owned = false;
            }
        }
        // After the owner, whose change takes bits away.
        if let Err(errno) = fchmod(object, mode(entry.mode & self.target.modes, owned)) {
            self.report.skip(&entry.path, format!("its mode: {}", io::Error::from(errno)));
        }
        if let Err(errno) = futimens(object, &times(entry)) {
            self.report.skip(&entry.path, format!("its time: {}", io::Error::from(errno)));
        }
    }

    /// A name that nothing has yet: for what is not whole.
    fn temporary(&mut self) -> String {
        self.made = self.made.wrapping_add(1);
        format!(".nixmox-{}-{}", std::process::id(), self.made)
    }
}

/// Refuses to take away what is no file: a device, FIFO or socket that is there has others who use it.
fn may_replace(above: BorrowedFd<'_>, name: &OsStr) -> Result<(), Trouble> {
    let Ok(stat) = statat(above, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        // A folder is in the way of rename(2) itself.
        _ => return Ok(()),
    };
    Err(Trouble::Skip(format!("{what} is there")))
}

/// Gives a link its owner, and nothing that somebody has put in its place.
fn own_link(above: BorrowedFd<'_>, name: &str, entry: &Entry) -> rustix::io::Result<()> {
    let link = openat(above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&link)?.st_mode) != FileType::Symlink {
        return Err(Errno::STALE);
    }
    let (user, group) = owners(entry);
    chownat(&link, c"", user, group, AtFlags::EMPTY_PATH)
}

/// Returns the mode of an object; of one that is not its owner's, without the bits that would lend whoever runs it the
/// rights of whom it belongs to instead.
fn mode(wanted: u32, owned: bool) -> Mode {
    let lent = Mode::SUID | Mode::SGID;
    let wanted = Mode::from_raw_mode(wanted);
    if owned { wanted } else { wanted.difference(lent) }
}

/// Returns the owners; `None` for the number that chown(2) takes for none.
fn owners(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    let known = |id: u32| (id != u32::MAX).then_some(id);
    (known(entry.user).map(Uid::from_raw), known(entry.group).map(Gid::from_raw))
}

fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanoseconds) = entry.time;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_get_its_owner_lends_nobodys_rights() {
        assert_eq!(mode(0o6755, true), Mode::from_raw_mode(0o6755));
        assert_eq!(mode(0o7755, false), Mode::from_raw_mode(0o1755));
    }
}

//! Packing: an object and all that is below it become a stream.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat};

use crate::header::{self, Entry, Kind, ZEROS, padding};
use crate::report::Report;

/// Deepest folder below the first: each costs a descriptor.
const DEPTH_MAX: usize = 200;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// `PROC_SUPER_MAGIC`, `SYSFS_MAGIC`, `CGROUP2_SUPER_MAGIC`, `CGROUP_SUPER_MAGIC` and `DEVPTS_SUPER_MAGIC` of statfs(2).
const OF_THE_KERNEL: [i64; 5] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x0027_e0eb, 0x1cd1];

/// Why packing ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The object itself cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The object is nothing that can be copied.
    #[error("it is {0}")]
    Kind(&'static str),
    /// Nobody takes the stream.
    #[error("the other side takes no more")]
    Write(#[source] io::Error),
}

/// Packs an object, and what is below it, under a name; `.` for the content of a folder alone.
///
/// The object may be open as a path alone (`O_PATH`), and may be a link, which is then packed as such. Whatever changes
/// meanwhile: nothing that is not below it is read, and no device or FIFO is opened.
///
/// # Errors
/// When the object itself cannot be read, or nobody takes the stream. What is below it and cannot be read is skipped.
pub fn pack(object: BorrowedFd<'_>, name: &[u8], out: &mut impl Write) -> Result<Report, PackError> {
    let stat = fstat(object).map_err(|errno| PackError::Read(errno.into()))?;
    // Such a file says that it is empty, and is not.
    if fstatfs(object).is_ok_and(|system| OF_THE_KERNEL.contains(&system.f_type)) {
        return Err(PackError::Kind("the kernel's, as all of /proc and /sys is"));
    }
    let mut packing = Packing { out, report: Report::default(), path: name.to_vec(), depth: 0 };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = reopened(object, OFlags::RDONLY).map_err(PackError::Read)?;
            packing.file(file, &stat)?;
        }
        FileType::Directory => {
            let folder = openat(object, c".", FOLDER, Mode::empty()).map_err(|e| PackError::Read(e.into()))?;
            packing.folder(&folder, &stat)?;
        }
        FileType::Symlink => {
            let target = readlinkat(object, c"", Vec::new()).map_err(|errno| PackError::Read(errno.into()))?;
            packing.link(target, &stat)?;
        }
        other => return Err(PackError::Kind(word(other))),
    }
    packing.out.write_all(&ZEROS).and_then(|()| packing.out.write_all(&ZEROS)).map_err(PackError::Write)?;
    packing.out.flush().map_err(PackError::Write)?;
    Ok(packing.report)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Packing<'a, W> {
    out: &'a mut W,
    report: Report,
    /// Of the object that is being packed.
    path: Vec<u8>,
    depth: usize,
}

impl<W: Write> Packing<'_, W> {
    /// Packs what is below a folder by this name.
    fn below(&mut self, folder: &OwnedFd, name: &CString) -> Result<(), PackError> {
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(name.as_bytes());
        let packed = self.named(folder, name);
        if let Err(Trouble::Skip(why)) = &packed {
            self.report.skip(&self.path, why);
        }
        self.path.truncate(length);
        match packed {
            Err(Trouble::End(error)) => Err(error),
            Ok(()) | Err(Trouble::Skip(_)) => Ok(()),
        }
    }

    fn named(&mut self, folder: &OwnedFd, name: &CString) -> Result<(), Trouble> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                // It may be another one by now, and opening a device or a FIFO can have effects: looked at first.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let object = openat(folder, name, flags, Mode::empty())?;
                let stat = fstat(&object)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Trouble::Skip("it changed meanwhile".to_owned()));
                }
                let file =
                    reopened(object.as_fd(), OFlags::RDONLY).map_err(|error| Trouble::Skip(error.to_string()))?;
                self.file(file, &stat)?;
            }
            FileType::Directory => {
                let below = openat(folder, name, FOLDER, Mode::empty())?;
                let stat = fstat(&below)?;
                if self.depth == DEPTH_MAX {
                    return Err(Trouble::Skip(format!("deeper than {DEPTH_MAX} folders")));
                }
                if fstatfs(&below).is_ok_and(|system| OF_THE_KERNEL.contains(&system.f_type)) {
                    return Err(Trouble::Skip("it is the kernel's".to_owned()));
                }
                self.depth += 1;
                let packed = self.folder(&below, &stat);
                self.depth -= 1;
                packed?;
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new())?;
                self.link(target, &stat)?;
            }
            other => return Err(Trouble::Skip(format!("it is {}", word(other)))),
        }
        Ok(())
    }

    fn folder(&mut self, folder: &OwnedFd, stat: &Stat) -> Result<(), PackError> {
        self.header(Kind::Folder, stat)?;
        let entries = match Dir::read_from(folder) {
            Ok(entries) => entries,
            Err(errno) => {
                self.report.skip(&self.path, io::Error::from(errno));
                return Ok(());
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => self.below(folder, &entry.file_name().to_owned())?,
                Err(errno) => {
                    self.report.skip(&self.path, io::Error::from(errno));
                    break;
                }
            }
        }
        Ok(())
    }

    fn link(&mut self, target: CString, stat: &Stat) -> Result<(), PackError> {
        self.header(Kind::Link { target: target.into_bytes() }, stat)
    }

    /// Packs a file as long as it was when it was looked at.
    fn file(&mut self, file: OwnedFd, stat: &Stat) -> Result<(), PackError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.header(Kind::File { size }, stat)?;
        let mut file = std::fs::File::from(file);
        let mut buffer = vec![0; CHUNK];
        let mut left = size;
        let mut trouble = None;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let chunk = buffer.get_mut(..room).unwrap_or_default();
            let read = match file.read(chunk) {
                Ok(0) => {
                    trouble = Some("it became shorter meanwhile; zeros stand for the rest".to_owned());
                    None
                }
                Ok(read) => Some(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    trouble = Some(format!("{error}; zeros stand for the rest"));
                    None
                }
            };
            // The header has promised so many bytes.
            let Some(read) = read else {
                io::copy(&mut io::repeat(0).take(left), self.out).map_err(PackError::Write)?;
                break;
            };
            self.out.write_all(chunk.get(..read).unwrap_or_default()).map_err(PackError::Write)?;
            left = left.saturating_sub(read as u64);
        }
        self.out.write_all(padding(size)).map_err(PackError::Write)?;
        self.report.bytes = self.report.bytes.saturating_add(size);
        if let Some(trouble) = trouble {
            self.report.skip(&self.path, trouble);
        }
        Ok(())
    }

    fn header(&mut self, kind: Kind, stat: &Stat) -> Result<(), PackError> {
        let entry = Entry {
            path: self.path.clone(),
            kind,
            mode: stat.st_mode & 0o7777,
            user: stat.st_uid,
            group: stat.st_gid,
            time: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        };
        self.report.objects = self.report.objects.saturating_add(1);
        header::write(&entry, self.out).map_err(PackError::Write)
    }
}

/// Why an object below the first was not packed.
enum Trouble {
    Skip(String),
    End(PackError),
}

impl From<PackError> for Trouble {
    fn from(error: PackError) -> Self {
        Self::End(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Skip(io::Error::from(errno).to_string())
    }
}

/// Opens what is open as a path alone; `proc_pid_fd(5)`: that very object, whatever its path is by now.
fn reopened(object: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", object.as_raw_fd());
    Ok(openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown => "of an unknown kind",
    }
}

//! A copy out of a guest or into it, as the guest's root, who may not do more there than in the guest.
//!
//! The path that was asked for is resolved inside the guest's root; below it nothing is followed at all. What goes
//! through the pipe is `nixmox_tree`'s.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nixmox_api::{CopyReply, CopyRequest};
use nixmox_tree::{Report, Target, pack, unpack};

use crate::guest_helper::Trouble;
use crate::host::line;

/// Every bit of a mode, `setuid` among them: it is the guest's own affair.
const MODES: u32 = 0o7777;

/// A copy whose ends are open.
pub(super) enum Copy {
    Out { object: OwnedFd, name: Vec<u8>, to: File },
    Into { target: Place, from: File },
}

/// Where a copy goes in the guest.
pub(super) struct Place {
    folder: OwnedFd,
    name: Option<String>,
    must_be_folder: bool,
    must_be_file: bool,
}

impl Copy {
    /// Opens both ends; returns what the client is handed too. To be called as the guest's root.
    pub(super) fn open(root: &OwnedFd, request: &CopyRequest) -> Result<(Self, OwnedFd), Trouble> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| Trouble::Io(errno.into()))?;
        if request.into {
            let target = Place::open(root, request)?;
            return Ok((Self::Into { target, from: read.into() }, write));
        }
        let path = Path::new(&request.path);
        let content_alone = request.path.ends_with("/.") || path.file_name().is_none();
        let follow = request.follow || content_alone || request.path.ends_with('/');
        let flags = if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let object = resolve(root, &request.path, flags).map_err(|errno| absent(request, errno))?;
        let name = match path.file_name() {
            Some(name) if !content_alone => name.as_encoded_bytes().to_vec(),
            Some(_) | None => b".".to_vec(),
        };
        Ok((Self::Out { object, name, to: write.into() }, read))
    }

    /// Copies until the end.
    pub(super) fn run(self) -> CopyReply {
        match self {
            Self::Out { object, name, to } => {
                let mut to = BufWriter::new(to);
                reply(pack(object.as_fd(), &name, &mut to))
            }
            Self::Into { target, from } => {
                let target = Target {
                    folder: target.folder.as_fd(),
                    name: target.name.as_ref().map(AsRef::as_ref),
                    must_be_folder: target.must_be_folder,
                    must_be_file: target.must_be_file,
                    owners: true,
                    modes: MODES,
                };
                reply(unpack(&mut BufReader::new(from), target))
            }
        }
    }
}

impl Place {
    /// Finds where a copy goes, as cp(1) does: into a folder that is there, else under this name.
    fn open(root: &OwnedFd, request: &CopyRequest) -> Result<Self, Trouble> {
        let path = request.path.as_str();
        match resolve(root, path, OFlag::O_DIRECTORY) {
            Ok(folder) => return Ok(Self { folder, name: None, must_be_folder: false, must_be_file: false }),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(errno) => return Err(absent(request, errno)),
        }
        let must_be_folder = path.ends_with('/') || path.ends_with("/.");
        let (above, name) = match (Path::new(path).parent(), Path::new(path).file_name()) {
            (Some(above), Some(name)) => (above, name.to_string_lossy().into_owned()),
            _ => return Err(absent(request, Errno::ENOENT)),
        };
        let above_text = above.to_string_lossy();
        let folder = resolve(root, &above_text, OFlag::O_DIRECTORY)
            .map_err(|errno| Trouble::Path(above_text.clone().into_owned(), errno.into()))?;
        let must_be_file = resolve(&folder, &name, OFlag::O_NOFOLLOW).is_ok();
        Ok(Self { folder, name: Some(name), must_be_folder, must_be_file })
    }
}

/// Opens a path as the guest sees it, as a path alone.
fn resolve(root: &OwnedFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

fn absent(request: &CopyRequest, errno: Errno) -> Trouble {
    Trouble::Path(request.path.clone(), errno.into())
}

fn reply<E: std::error::Error>(copied: Result<Report, E>) -> CopyReply {
    match copied {
        Ok(Report { objects, bytes, skipped, skipped_more }) => {
            CopyReply { objects, bytes, skipped, skipped_more, failure: None }
        }
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            CopyReply { failure: Some(line::clean(&format!("{error}{cause}"))), ..CopyReply::default() }
        }
    }
}

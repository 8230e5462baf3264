//! The immutable flag of a file (`chattr +i`, `ioctl_iflags(2)`).
//!
//! The two calls have no safe form in the `nix` crate; this module is that form.

#![allow(unsafe_code, reason = "ioctl(2) is unsafe by itself; each request is wrapped with its type here")]

use std::os::fd::{AsFd, AsRawFd};

mod request {
    // linux/fs.h. The kernel reads and writes an int, whatever the header says: ioctl_iflags(2), NOTES.
    nix::ioctl_read_bad!(
        get_flags,
        nix::request_code_read!(b'f', 1, size_of::<nix::libc::c_long>()),
        nix::libc::c_int
    );
    nix::ioctl_write_ptr_bad!(
        set_flags,
        nix::request_code_write!(b'f', 2, size_of::<nix::libc::c_long>()),
        nix::libc::c_int
    );
}

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL`: each of them keeps a file from being removed.
const KEPT: nix::libc::c_int = 0x10 | 0x20;

/// Clears the flags that keep an open file or folder from being removed; returns whether there was one to clear.
pub(super) fn clear(file: impl AsFd) -> bool {
    let fd = file.as_fd().as_raw_fd();
    let mut flags = 0;
    // SAFETY: the descriptor is open for the whole call, and `flags` is the int that the kernel writes.
    let read = unsafe { request::get_flags(fd, &raw mut flags) };
    if read.is_err() || flags & KEPT == 0 {
        return false;
    }
    flags &= !KEPT;
    // SAFETY: the descriptor is open for the whole call, and `flags` is the int that the kernel reads.
    unsafe { request::set_flags(fd, &raw const flags) }.is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_file_that_was_made_immutable_can_be_removed_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::create_dir(&path).unwrap();
        let chattr = std::process::Command::new("chattr").arg("+i").arg(&path).status();
        if !chattr.is_ok_and(|status| status.success()) {
            // Needs root and a file system with such flags; the testbed has both.
            return;
        }
        std::fs::remove_dir(&path).unwrap_err();
        let file = File::open(&path).unwrap();
        assert!(clear(&file));
        assert!(!clear(&file));
        std::fs::remove_dir(&path).unwrap();
    }
}

//! Files and users of a testbed.
//!
//! Files are written through the machine's view of the host's root, so they can be put in before it boots.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::bed::Testbed;

impl Testbed {
    /// The machine's path of an absolute path inside. Follows no link: do not use it on paths that a guest may have written.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.root().join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Writes a file with these permission bits; creates its folder.
    pub fn write_file(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = self.path(inside);
        make_parent(&path)?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))
    }

    /// Reads a file as text.
    pub fn read_file(&self, inside: impl AsRef<Path>) -> Result<String> {
        let path = self.path(inside);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Copies a file or a folder, with permissions and links, to a path inside; replaces what is there.
    pub fn copy_in(&self, from: impl AsRef<Path>, inside: impl AsRef<Path>) -> Result<()> {
        copy(from.as_ref(), &self.path(inside))
    }

    /// Adds a user who is in these groups, which must exist.
    pub fn add_user(&self, name: &str, groups: &[&str]) -> Result<()> {
        self.succeed(&format!("useradd --create-home --shell /bin/bash --groups '{}' {name}", groups.join(",")))
            .map(|_| ())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
    make_parent(to)?;
    if meta.is_symlink() {
        let target = fs::read_link(from)?;
        let _ = fs::remove_file(to);
        std::os::unix::fs::symlink(target, to).with_context(|| format!("cannot link {}", to.display()))
    } else if meta.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
        for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else {
        // A program that runs cannot be written to; a new file in its place can.
        let _ = fs::remove_file(to);
        fs::copy(from, to)
            .map(|_| ())
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    }
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().with_context(|| format!("{} has no parent folder", path.display()))?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))
}

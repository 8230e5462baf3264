//! The driver's user space, as guests are given it: `/run/nixmox/gpu/VENDOR`, which is bound into a container.
//!
//! The text of a container's conf file names that path alone, whatever the driver; what it leads to is decided here, before each
//! start. Libraries and module must be of one version (NVIDIA's README, "Installed components"), and on NixOS the libraries change
//! with a switch, the module with a reboot.
//!
//! ```text
//! NixOS    VENDOR ──▶ what /run/opengl-driver leads to, or that of the booted system: whichever fits the loaded module
//! others   VENDOR ──▶ VENDOR.N/lib/libcuda.so.1 ──▶ /run/host/gpu/0/x86_64-linux-gnu/libcuda.so.550.54.14 (as a guest sees it)
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nixmox_core::gpu::grant::{LIBRARIES_INSIDE, USER_SPACE_INSIDE};
use nixmox_core::model::{GpuMount, Grant, Vendor};

use super::version;
use crate::host::StepError;
use crate::host::files;
use crate::host::paths::Paths;

/// Where NixOS has the user space of GPUs: guests are shown theirs at the same place.
const DRIVER_LINK: &str = USER_SPACE_INSIDE;
/// What the system that was booted had there (tmpfiles.d(5)).
const BOOTED_TMPFILES: &str = "/run/booted-system/etc/tmpfiles.d";
/// Libraries of NVIDIA's driver, by the beginnings of their names. GL's own dispatcher and CUDA's toolkit (`libcudart`) are the guest's.
const DRIVER_LIBRARIES: [&str; 9] = [
    "libcuda.so",
    "libcudadebugger.so",
    "libnvidia-",
    "libnvcuvid",
    "libnvoptix",
    "libGLX_nvidia",
    "libEGL_nvidia",
    "libGLESv",
    "libvdpau_nvidia",
];
/// Most entries of a folder of libraries that are looked at.
const ENTRIES_MAX: usize = 64 * 1024;
/// Most files of tmpfiles.d that are read.
const TMPFILES_MAX: usize = 256;
/// Such folders that are made between two boots: one for each change of the driver.
const FOLDERS_MAX: u32 = 1000;
/// The start of a program or library of this machine's word size (elf(5)).
const ELF: [u8; 5] = [0x7f, b'E', b'L', b'F', if cfg!(target_pointer_width = "64") { 2 } else { 1 }];
const FOLDER_MODE: u32 = 0o755;

/// Makes what a grant's mounts are bound from, and checks that all of it is there: nspawn starts nothing on a source that is
/// missing, and does not say which.
///
/// # Errors
/// `GpuDriverMismatch`, `GpuLibraryMissing`, `GpuMountMissing`, `File`.
pub(in crate::host) fn prepare(paths: &Paths, grant: &Grant) -> Result<(), StepError> {
    let folder = paths.gpu_dir();
    let is_ours = |mount: &&GpuMount| paths.host_path(&mount.source).starts_with(&folder);
    for mount in grant.mounts.iter().filter(is_ours) {
        let current = || {
            let led = fs::canonicalize(paths.host_path(Path::new(DRIVER_LINK)));
            led.map_err(|_nowhere| StepError::GpuLibraryMissing { path: PathBuf::from(DRIVER_LINK) })
        };
        let is_collected = grant.mounts.iter().any(|mount| mount.target.starts_with(LIBRARIES_INSIDE));
        let target = match grant.vendor {
            Vendor::Nvidia if is_collected => collected(paths, grant, &mount.source)?,
            Vendor::Nvidia => fitting(paths, current()?)?,
            Vendor::Amd | Vendor::Intel => current()?,
        };
        lead(&paths.host_path(&mount.source), &target)?;
    }
    match grant.mounts.iter().find(|mount| !paths.host_path(&mount.source).exists()) {
        Some(mount) => Err(StepError::GpuMountMissing { path: mount.source.clone() }),
        None => Ok(()),
    }
}

/// Returns the user space of this system or the booted one that fits the loaded module.
fn fitting(paths: &Paths, current: PathBuf) -> Result<PathBuf, StepError> {
    let module = version::of_module(paths);
    let version = |space: &Path| version::of_libraries(&space.join("lib"));
    let fits = |space: &PathBuf| {
        let library = version(space);
        // Without a version to compare, one that is there at all.
        library.is_some() && module.as_ref().is_none_or(|module| library.as_ref() == Some(module))
    };
    if fits(&current) {
        return Ok(current);
    }
    if let Some(booted) = booted(paths).filter(fits) {
        tracing::info!(space = %booted.display(), "the user space of the booted system fits the loaded module");
        return Ok(booted);
    }
    Err(match module.zip(version(&current)) {
        Some((module, library)) => StepError::GpuDriverMismatch { module, library },
        None => StepError::GpuLibraryMissing { path: Path::new(DRIVER_LINK).join("lib") },
    })
}

/// Returns what the booted system has for [`DRIVER_LINK`].
fn booted(paths: &Paths) -> Option<PathBuf> {
    let entries = fs::read_dir(paths.host_path(Path::new(BOOTED_TMPFILES))).ok()?;
    let files = entries.take(TMPFILES_MAX).flatten().map(|entry| entry.path());
    let mut texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let argument = texts.find_map(|text| text.lines().find_map(link_of))?;
    fs::canonicalize(paths.host_path(Path::new(&argument))).ok()
}

/// Reads a line of tmpfiles.d(5) that links [`DRIVER_LINK`]: type, path, mode, user, group, age, argument, in quotes or without.
pub(crate) fn link_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    let is_link = words.next()?.starts_with('L');
    let is_driver = words.next()? == DRIVER_LINK;
    let argument = words.nth(4)?;
    (is_link && is_driver && argument.starts_with('/')).then(|| argument.to_owned())
}

/// Collects the driver's libraries among those of the host into a folder of links that lead where a guest sees them.
fn collected(paths: &Paths, grant: &Grant, name: &Path) -> Result<PathBuf, StepError> {
    let bound: Vec<(PathBuf, &Path)> = grant
        .mounts
        .iter()
        .filter(|mount| mount.target.starts_with(LIBRARIES_INSIDE))
        .filter_map(|mount| Some((fs::canonicalize(paths.host_path(&mount.source)).ok()?, mount.target.as_path())))
        .collect();
    let links = libraries(&bound);
    // What programs are given, where several lie there: an upgrade may leave old ones behind.
    let led =
        links.get(version::LIBRARY_LINK).and_then(|path| version::of_library_file(path.file_name()?.to_str()?));
    let library = led.or_else(|| version::newest(links.keys().filter_map(|name| version::of_library_file(name))));
    match (version::of_module(paths), library) {
        (Some(module), Some(library)) if module != library => {
            return Err(StepError::GpuDriverMismatch { module, library: library.to_owned() });
        }
        (_, Some(_)) => {}
        (_, None) => {
            let path = grant.mounts.iter().find(|mount| mount.target.starts_with(LIBRARIES_INSIDE));
            let path = path.map_or(Path::new("/usr/lib"), |mount| &mount.source).to_owned();
            return Err(StepError::GpuLibraryMissing { path });
        }
    }
    let link = paths.host_path(name);
    if let Ok(there) = fs::canonicalize(&link)
        && read_links(&there.join("lib")).is_ok_and(|found| found == links)
    {
        return Ok(there);
    }
    write_links(&link, &links)
}

/// Returns the links: the name of a library, and what it is for a guest that has these folders bound. The first of a name counts.
fn libraries(bound: &[(PathBuf, &Path)]) -> BTreeMap<String, PathBuf> {
    let mut links = BTreeMap::new();
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    for (folder, _) in bound {
        for folder in [folder.join(&multiarch), folder.clone()] {
            let entries = fs::read_dir(&folder).into_iter().flatten().take(ENTRIES_MAX).flatten();
            for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_drivers)) {
                let Some(path) = fs::canonicalize(entry.path()).ok().filter(|path| is_library(path)) else {
                    continue;
                };
                let Some(inside) = inside(bound, &path) else { continue };
                // By the name of the file as well, which tells its version.
                for name in [Some(entry.file_name().as_os_str()), path.file_name()].into_iter().flatten() {
                    links.entry(name.to_string_lossy().into_owned()).or_insert_with(|| inside.clone());
                }
            }
        }
    }
    links
}

/// Returns whether a name is one of the driver's libraries.
fn is_drivers(name: &str) -> bool {
    let known = DRIVER_LIBRARIES.iter().any(|start| name.starts_with(start)) && name.contains(".so");
    known && (!name.starts_with("libGLESv") || name.contains("_nvidia."))
}

/// Returns whether this is a library that programs of this machine load, and not one of another word size.
fn is_library(path: &Path) -> bool {
    // Looked at before it is opened, so that no FIFO is.
    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut start = [0; ELF.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == ELF
}

/// Returns where a guest sees a path.
fn inside(bound: &[(PathBuf, &Path)], path: &Path) -> Option<PathBuf> {
    bound.iter().find_map(|(source, target)| Some(target.join(path.strip_prefix(source).ok()?)))
}

fn read_links(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let read =
        |entry: fs::DirEntry| Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_link(entry.path())?));
    fs::read_dir(folder)?.map(|entry| entry.and_then(read)).collect()
}

/// Writes a folder of links beside `link`, under a name of its own: containers that run still have the one before.
fn write_links(link: &Path, links: &BTreeMap<String, PathBuf>) -> Result<PathBuf, StepError> {
    let parent = link.parent().unwrap_or(Path::new("/"));
    files::make_directory(parent, FOLDER_MODE)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StepError::File { action: "create", path, source }
    };
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.new"));
    files::remove_directory(&beside)?;
    let lib = beside.join("lib");
    files::make_directory(&lib, FOLDER_MODE)?;
    for (name, target) in links {
        let path = lib.join(name);
        symlink(target, &path).map_err(failed(&path))?;
    }
    let free = (1..=FOLDERS_MAX).map(|number| parent.join(format!("{name}.{number}"))).find(|path| !path.exists());
    let folder = free.ok_or_else(|| failed(link)(io::ErrorKind::AlreadyExists.into()))?;
    fs::rename(&beside, &folder).map_err(failed(&folder))?;
    Ok(folder)
}

/// Makes a link lead somewhere, in one step.
fn lead(link: &Path, target: &Path) -> Result<(), StepError> {
    if fs::read_link(link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let failed = |source| StepError::File { action: "create", path: link.to_owned(), source };
    let parent = link.parent().unwrap_or(Path::new("/"));
    files::make_directory(parent, FOLDER_MODE)?;
    let beside = parent.join(format!(".{}.link", link.file_name().unwrap_or_default().to_string_lossy()));
    files::remove(&beside)?;
    symlink(target, &beside).and_then(|()| fs::rename(&beside, link)).map_err(failed)
}

#[cfg(test)]
mod tests;

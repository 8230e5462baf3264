//! Versions of NVIDIA's driver: of the module that is loaded, and of a user space, which must be the same.

use std::path::Path;

use crate::host::paths::Paths;

/// Longest text that is a version.
const VERSION_LENGTH_MAX: usize = 32;
/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 16 * 1024;
/// The library by which a user space tells its version: its file is called after it.
const LIBRARY: &str = "libcuda.so.";
/// What programs ask for, which leads to that file.
pub(crate) const LIBRARY_LINK: &str = "libcuda.so.1";

/// Returns the version of the loaded module; `None`: none is loaded.
pub(crate) fn of_module(paths: &Paths) -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(paths.kernel(path)).ok();
    let of_sysfs = read("/sys/module/nvidia/version").map(|text| text.trim().to_owned());
    of_sysfs.filter(|text| is_version(text)).or_else(|| of_text(&read("/proc/driver/nvidia/version")?))
}

/// Reads `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun ...`, or `... Open Kernel Module for x86_64  550.54.14 ...`.
fn of_text(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let (_, after) = line.split_once("Kernel Module")?;
    after.split_whitespace().find(|word| is_version(word)).map(str::to_owned)
}

/// Returns the version of the user space in a folder of libraries; `None`: it has none.
pub(super) fn of_libraries(folder: &Path) -> Option<String> {
    let of_path = |path: &Path| Some(of_library_file(path.file_name()?.to_str()?)?.to_owned());
    // What programs are given, where several lie there.
    if let Some(version) = folder.join(LIBRARY_LINK).canonicalize().ok().and_then(|path| of_path(&path)) {
        return Some(version);
    }
    let entries = std::fs::read_dir(folder).ok()?.take(ENTRIES_MAX).flatten();
    newest(entries.filter_map(|entry| of_path(&entry.path())))
}

/// Returns the newest of some versions, by their numbers: as texts, 570.86.16 is above 570.124.06.
pub(crate) fn newest<T: AsRef<str>>(versions: impl Iterator<Item = T>) -> Option<T> {
    // So many digits that they are no number are no version of anything.
    versions.max_by_key(|version| {
        version.as_ref().split('.').map(|part| part.parse().unwrap_or_default()).collect::<Vec<u64>>()
    })
}

/// Returns the version in the name of a library's file, as `libcuda.so.535.54.03`.
pub(crate) fn of_library_file(name: &str) -> Option<&str> {
    name.strip_prefix(LIBRARY).filter(|version| is_version(version))
}

/// Returns whether a text is numbers with dots between them, of which a library's own, `1`, has none.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('.') && text.len() <= VERSION_LENGTH_MAX && text.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn both_kinds_of_module_tell_their_version() {
        for (text, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\nGCC version: gcc 12.3.0\n",
                Some("535.54.03"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (x@y)\n",
                Some("550.54.14"),
            ),
            ("GCC version:  gcc 12.3.0\n", None),
            ("", None),
        ] {
            assert_eq!(of_text(text).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn the_module_that_is_loaded_is_asked_first() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        assert_eq!(of_module(&paths), None);
        for folder in ["proc/driver/nvidia", "sys/module/nvidia"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(
            dir.path().join("proc/driver/nvidia/version"),
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  1.2  x\n",
        )
        .unwrap();
        assert_eq!(of_module(&paths).as_deref(), Some("1.2"));
        fs::write(dir.path().join("sys/module/nvidia/version"), "(null)\n").unwrap();
        assert_eq!(of_module(&paths).as_deref(), Some("1.2"));
        fs::write(dir.path().join("sys/module/nvidia/version"), "3.4\n").unwrap();
        assert_eq!(of_module(&paths).as_deref(), Some("3.4"));
    }

    #[test]
    fn a_user_space_tells_its_version_by_the_name_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_libraries(dir.path()), None);
        fs::write(dir.path().join("libcuda.so.535.54.03"), "").unwrap();
        fs::write(dir.path().join("libcuda.so.99.1.x"), "").unwrap();
        assert_eq!(of_libraries(dir.path()).as_deref(), Some("535.54.03"));
        fs::write(dir.path().join("libcuda.so.535.154.05"), "").unwrap();
        assert_eq!(of_libraries(dir.path()).as_deref(), Some("535.154.05"), "by numbers");
        let other = dir.path().join("store");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("libcuda.so.520.1"), "").unwrap();
        symlink(other.join("libcuda.so.520.1"), dir.path().join("libcuda.so.1")).unwrap();
        assert_eq!(of_libraries(dir.path()).as_deref(), Some("520.1"), "what programs are given");
    }
}

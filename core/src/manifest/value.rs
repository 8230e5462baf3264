//! Values that have to survive the way into a container: paths and flags.
//!
//! The template reads flags from an environment file and expands them unquoted, so the shell splits them at
//! blanks and takes `*?[` for patterns; systemd reads quotes and backslashes in that file its own way
//! (systemd.exec(5), `EnvironmentFile=`). What cannot pass unharmed is refused here.

use std::path::{Component, Path, PathBuf};

use super::form::Misfit;

/// Longest path that the kernel takes, without the final NUL (`PATH_MAX`).
const PATH_LENGTH_MAX: usize = 4095;

/// Paths in a container that are not the manifest's to fill, with all that is below them, and whose they are.
const OWNED: [(&str, &str); 6] = [
    ("/nix", "the template binds the host's store there"),
    ("/proc", "systemd-nspawn mounts it; see `capabilities`"),
    ("/sys", "systemd-nspawn mounts it"),
    ("/dev", "systemd-nspawn makes it; write `devices` for a device node"),
    ("/run/host", "systemd-nspawn passes things of the host there"),
    ("/run/systemd", "the guest's systemd keeps its state there"),
];

/// Refuses characters that do not survive the way through the conf file.
pub(super) fn carried(text: &str) -> Result<(), Misfit> {
    let lost = |c: char| c.is_whitespace() || c.is_control() || "\"'`\\*?[]".contains(c);
    let Some((at, c)) = text.char_indices().find(|(_, c)| lost(*c)) else { return Ok(()) };
    let name = match c {
        ' ' => "a blank".to_owned(),
        c if c.is_whitespace() || c.is_control() => format!("`{}`", c.escape_default()),
        c => format!("`{c}`"),
    };
    let misfit = Misfit::new(format!("{name} cannot occur here")).at(at..at + c.len_utf8());
    Err(misfit.help("the container's conf file has no quoting for blanks, quotes, backslashes and `*?[]`"))
}

/// Returns the absolute path that a text means in a folder, with `.` and `..` resolved by the text alone.
pub(super) fn lexical(folder: &Path, text: &str) -> PathBuf {
    let mut path = PathBuf::from("/");
    for component in folder.join(text).components() {
        match component {
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
        }
    }
    path
}

/// Returns the absolute path on the host that a text means in a file of this folder.
///
/// `.` and `..` are resolved by the text alone: systemd asks for paths without them.
pub(super) fn host_path(folder: &Path, text: &str) -> Result<PathBuf, Misfit> {
    if text.is_empty() {
        return Err(Misfit::new("the path is empty"));
    }
    let home = text == "~" || text.starts_with("~/");
    if home || text.starts_with('$') || text.contains("${") {
        let misfit = Misfit::new(format!("`{text}`: neither `~` nor variables are expanded"));
        return Err(misfit.help("write an absolute path, or one relative to this file"));
    }
    let path = lexical(folder, text);
    match path.to_str() {
        Some(path) => carried(path).map_err(|misfit| {
            // The culprit may be in the folder's name: then the whole text is to blame.
            carried(text).err().unwrap_or(Misfit {
                part: None,
                message: format!("`{path}`: {}", misfit.message),
                ..misfit
            })
        })?,
        None => return Err(Misfit::new("the folder of this file is not UTF-8")),
    }
    if path.as_os_str().len() > PATH_LENGTH_MAX {
        return Err(Misfit::new("the path is longer than 4095 bytes"));
    }
    Ok(path)
}

/// Returns the absolute path in a container that a text means.
pub(super) fn container_path(text: &str) -> Result<PathBuf, Misfit> {
    if !text.starts_with('/') {
        let misfit = Misfit::new(format!("`{text}` is not an absolute path in the container"));
        return Err(misfit.help(format!("for example \"/{}\"", text.trim_start_matches("./"))));
    }
    carried(text)?;
    if text.split('/').any(|part| part == "..") {
        return Err(Misfit::new(format!("`{text}` climbs with `..`")).help("write the path it leads to"));
    }
    if text.len() > PATH_LENGTH_MAX {
        return Err(Misfit::new("the path is longer than 4095 bytes"));
    }
    // `components` drops doubled and trailing slashes and `.`.
    let path: PathBuf = Path::new(text).components().collect();
    if path == Path::new("/") || path == Path::new("/run") {
        let misfit = Misfit::new(format!("`{}` cannot be a target as a whole", path.display()));
        return Err(misfit.help("name a folder in it"));
    }
    if let Some((owned, why)) = OWNED.iter().find(|(owned, _)| path.starts_with(owned)) {
        let misfit = Misfit::new(format!("`{owned}` in the container is taken"));
        return Err(misfit.help((*why).to_owned()));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_is_relative_to_its_folder_and_has_no_dots() {
        let path = |text| host_path(Path::new("/etc/stack"), text).ok().map(|path| path.display().to_string());
        assert_eq!(path("./data/"), Some("/etc/stack/data".to_owned()));
        assert_eq!(path("../x//y/."), Some("/etc/x/y".to_owned()));
        assert_eq!(path("/srv/a:b"), Some("/srv/a:b".to_owned()));
        assert_eq!(path("../../../.."), Some("/".to_owned()));
        for text in ["", "~/x", "$HOME/x", "a b", "a\tb", "a\"b", "a\\b", "a*", "a[0]", "a\u{a0}b"] {
            assert_eq!(path(text), None, "{text}");
        }
    }

    #[test]
    fn a_folder_with_a_blank_is_blamed_as_a_whole() {
        let misfit = host_path(Path::new("/my stack"), "data").unwrap_err();
        assert_eq!((misfit.part, misfit.message.contains("/my stack/data")), (None, true));
    }

    #[test]
    fn a_target_is_absolute_and_not_one_of_nspawns() {
        let path = |text| container_path(text).ok().map(|path| path.display().to_string());
        assert_eq!(path("/var//lib/./x/"), Some("/var/lib/x".to_owned()));
        assert_eq!(path("/nixos"), Some("/nixos".to_owned()));
        for text in
            ["", "var", "/", "//", "/a/../b", "/nix/store/x", "/nix", "/proc", "/dev/shm", "/run/host/x", "/run/"]
        {
            assert_eq!(path(text), None, "{text}");
        }
    }
}

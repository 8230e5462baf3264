//! What `system` names of a flake: where the flake is, and which of its outputs is meant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name of a flake's file.
pub(super) const FILE: &str = "flake.nix";

/// What of a NixOS configuration a container runs.
const TOPLEVEL: &str = "config.system.build.toplevel";

/// A flake, as nix is asked about it. The same flake is the same value, as far as that is known without nix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flake {
    /// The folder that nix runs in.
    pub(super) folder: PathBuf,
    /// The reference, relative to that folder.
    pub(super) reference: String,
}

/// Which output is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Output {
    /// A name: a NixOS configuration if the flake has one of that name, else what nix finds under it, which is a package.
    Named(String),
    /// A NixOS configuration, as in `nixosConfigurations.web`.
    Configuration(String),
    /// Anything else, as nix finds it.
    Path(String),
}

impl Flake {
    /// Returns the flake of a reference in a manifest that lies in a folder.
    pub(super) fn of(folder: &Path, reference: &str) -> Self {
        // Services in folders of their own name the flake above them, each by its own `.`.
        let is_plain = !reference.contains(['?', ':']);
        match find(folder, reference).filter(|_| is_plain) {
            Some(found) => Self { folder: found, reference: ".".to_owned() },
            None => Self { folder: folder.to_owned(), reference: reference.to_owned() },
        }
    }

    /// Returns what nix builds, given the names of the flake's NixOS configurations.
    pub(super) fn installable(&self, output: &Output, configurations: &BTreeSet<String>) -> String {
        let reference = &self.reference;
        match output {
            Output::Named(name) if configurations.contains(name) => {
                format!("{reference}#nixosConfigurations.{name}.{TOPLEVEL}")
            }
            Output::Configuration(name) => format!("{reference}#nixosConfigurations.{name}.{TOPLEVEL}"),
            Output::Named(path) | Output::Path(path) => format!("{reference}#{path}"),
        }
    }
}

impl Output {
    /// Reads what stands behind the `#`.
    pub(super) fn of(attribute: &str) -> Self {
        if is_name(attribute) {
            return Self::Named(attribute.to_owned());
        }
        match attribute.strip_prefix("nixosConfigurations.") {
            Some(name) if is_name(name) || is_quoted(name) => Self::Configuration(name.to_owned()),
            Some(_) | None => Self::Path(attribute.to_owned()),
        }
    }
}

/// Whether it is one name, and not a path of several.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-'".contains(c))
}

fn is_quoted(text: &str) -> bool {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('"'))
}

/// Returns the folder of the flake that a reference names, as nix finds it: a folder on this machine, or the nearest one
/// above it with a `flake.nix`. `None`: it is elsewhere, or is taken without git.
pub(super) fn find(folder: &Path, reference: &str) -> Option<PathBuf> {
    let reference = reference.split(['#', '?', '^']).next().unwrap_or_default();
    let path = reference.strip_prefix("git+file:").unwrap_or(reference);
    let is_path = path.is_empty() || path.starts_with(['.', '/']);
    let begin = folder.join(path).canonicalize().ok().filter(|_| is_path)?;
    for folder in begin.ancestors() {
        if folder.join(FILE).is_file() {
            return Some(folder.to_owned());
        }
        // nix looks no further than the repository.
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a flake in `a`, and a folder `b` below that.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().canonicalize().unwrap();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::write(path.join("a/flake.nix"), "").unwrap();
        (top, path)
    }

    #[test]
    fn the_flake_is_found_as_nix_finds_it() {
        let (_kept, top) = folders();
        let (a, b) = (top.join("a"), top.join("a/b"));
        for (folder, installable) in [
            (&a, ".#x"),
            (&a, "#x"),
            (&b, ".#x"),
            (&top, "./a#x"),
            (&top, "./a?dir=b#x"),
            (&b, &format!("{}#x", a.display())),
            (&b, &format!("git+file:{}#x", a.display())),
        ] {
            assert_eq!(find(folder, installable).as_ref(), Some(&a), "{installable}");
        }
        for elsewhere in ["github:x/y#z", "nixpkgs#hello", "path:.#x", "./nope#x"] {
            assert_eq!(find(&a, elsewhere), None, "{elsewhere}");
        }
        assert_eq!(find(&top, ".#x"), None);
        std::fs::create_dir(b.join(".git")).unwrap();
        assert_eq!(find(&b, ".#x"), None, "beyond the repository");
    }

    #[test]
    fn a_flake_is_one_from_wherever_it_is_named() {
        let (_kept, top) = folders();
        let (a, b) = (top.join("a"), top.join("a/b"));
        let one = Flake { folder: a.clone(), reference: ".".to_owned() };
        for (folder, reference) in
            [(&a, "."), (&b, "."), (&b, ".."), (&top, "./a"), (&top, &a.display().to_string())]
        {
            assert_eq!(Flake::of(folder, reference), one, "{reference}");
        }
        // What nix alone understands stays as it is, in its own folder.
        for reference in ["github:x/y", "nixpkgs", "path:.", ".?dir=c", "git+file:."] {
            let kept = Flake { folder: b.clone(), reference: reference.to_owned() };
            assert_eq!(Flake::of(&b, reference), kept);
        }
    }

    #[test]
    fn a_name_is_a_configuration_before_it_is_a_package() {
        let flake = Flake { folder: "/srv".into(), reference: "github:x/y".to_owned() };
        let configurations = BTreeSet::from(["web".to_owned(), "db".to_owned()]);
        let installable = |attribute: &str| flake.installable(&Output::of(attribute), &configurations);
        for (attribute, wanted) in [
            ("web", "nixosConfigurations.web.config.system.build.toplevel"),
            ("cache", "cache"),
            ("nixosConfigurations.web", "nixosConfigurations.web.config.system.build.toplevel"),
            ("nixosConfigurations.\"a.b\"", "nixosConfigurations.\"a.b\".config.system.build.toplevel"),
            // Whoever writes a path means it.
            ("packages.x86_64-linux.web", "packages.x86_64-linux.web"),
            ("nixosConfigurations.web.config.system.build.vm", "nixosConfigurations.web.config.system.build.vm"),
            ("nixosConfigurations.\"a\".\"b\"", "nixosConfigurations.\"a\".\"b\""),
            ("nixosConfigurations.", "nixosConfigurations."),
            ("web^out", "web^out"),
        ] {
            assert_eq!(installable(attribute), format!("github:x/y#{wanted}"));
        }
    }
}

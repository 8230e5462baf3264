//! `system = "./service.nix"`: a NixOS module, evaluated as the configuration of a container with the nixpkgs of the host and
//! our guest module.

use std::fmt::Write as _;
use std::path::Path;

use nixmox_core::model::ContainerName;

use crate::machine::Machine;

/// Where the NixOS module of NixMox links to the nixpkgs that the host is made of.
pub(super) const NIXPKGS: &str = "/etc/nixmox/nixpkgs";
/// Where it puts the guest module that fits its agent.
pub(super) const GUEST: &str = "/etc/nixmox/guest.nix";

/// The function that evaluates modules.
const FUNCTION: &str = include_str!("module.nix");
/// The guest module of this version, for hosts that bring none.
const GUEST_MODULE: &str = include_str!("../../../nixos-module/guest.nix");

/// Whether nix finds `<nixpkgs>`: in `NIX_PATH`, or where it looks without.
pub(super) const IS_NIXPKGS_FOUND: &str = "(builtins.tryEval <nixpkgs>).success";

/// Returns whether the host names its nixpkgs itself; else nix is to look for one.
pub(super) fn is_nixpkgs_there(machine: &Machine) -> bool {
    machine.file(NIXPKGS).exists()
}

/// Returns the expression of the systems of these modules: a list in their order.
pub(super) fn expression<'a>(
    machine: &Machine,
    modules: impl Iterator<Item = (&'a Path, &'a ContainerName)>,
) -> String {
    let nixpkgs = if is_nixpkgs_there(machine) { path(&machine.file(NIXPKGS)) } else { "<nixpkgs>".to_owned() };
    let guest = machine.file(GUEST);
    let guest = if guest.exists() { path(&guest) } else { GUEST_MODULE.to_owned() };
    let mut list = String::new();
    for (file, name) in modules {
        // Writing to a String cannot fail.
        let _ = write!(list, " {{ file = {}; name = {}; }}", path(file), string(name.as_str()));
    }
    format!("({FUNCTION}) ({nixpkgs}) ({guest}) [{list} ]")
}

/// Returns a path as an expression of it: a literal path takes no blanks. Links are followed here, since nix follows none on
/// the way to what it imports.
fn path(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    format!("(/. + {})", string(&real.display().to_string()))
}

/// Returns a text as a string of the Nix language.
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' | '$' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_of_a_file_is_code() {
        assert_eq!(string(r#"/srv/a b/${x}"\.nix"#), r#""/srv/a b/\${x}\"\\.nix""#);
    }

    #[test]
    fn the_host_brings_nixpkgs_and_guest_module_or_nix_looks_and_ours_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::below(root.path(), "/nonexistent".into());
        let name: ContainerName = "web".parse().unwrap();
        let module = (Path::new("/srv/web.nix"), &name);
        let text = expression(&machine, [module].into_iter());
        assert!(text.contains("(<nixpkgs>)") && text.contains(GUEST_MODULE), "{text}");
        assert!(text.ends_with("[ { file = (/. + \"/srv/web.nix\"); name = \"web\"; } ]"), "{text}");

        let pkgs = root.path().canonicalize().unwrap().join("pkgs");
        std::fs::create_dir(&pkgs).unwrap();
        std::fs::create_dir_all(root.path().join("etc/nixmox")).unwrap();
        std::os::unix::fs::symlink(&pkgs, root.path().join("etc/nixmox/nixpkgs")).unwrap();
        std::fs::write(root.path().join("etc/nixmox/guest.nix"), "{ }").unwrap();
        let text = expression(&machine, [module].into_iter());
        assert!(text.contains(&format!("((/. + \"{}\"))", pkgs.display())), "the link is followed: {text}");
        assert!(!text.contains(GUEST_MODULE) && text.contains("etc/nixmox/guest.nix"), "{text}");
    }
}

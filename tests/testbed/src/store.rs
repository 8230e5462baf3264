//! Systems in a testbed's Nix store, added by the host's own Nix: valid paths with a hash, a size and an entry in its database.

use std::{fmt::Write as _, fs, os::unix::fs::symlink};

use anyhow::{Context, Result, ensure};

use crate::{
    bed::Testbed,
    behaviour::Behaviour,
    build::{guest_binary, workspace_root},
};

/// Where systems are put together before they are added, inside.
const STAGE: &str = "/var/tmp/testbed-systems";
/// Keeps the shared guest program: an added path has no references, so nothing else would keep it from garbage collection.
const GUEST_ROOT: &str = "/nix/var/nix/gcroots/testbed/static-guest";
/// The same for the shell that builds and guests use.
const BUSYBOX_ROOT: &str = "/nix/var/nix/gcroots/testbed/busybox";
/// A flake of systems of static guests; the names between `@` are replaced.
const FLAKE: &str = include_str!("../assets/guests-flake.nix");
/// The stand-in for nixpkgs, in the workspace.
const STAND_IN: &str = "nixos-module/tests/stand-in";
/// What evaluates a NixOS configuration with it to the system of a static guest.
const EVALUATE: &str = include_str!("../assets/eval-config.nix");

impl Testbed {
    /// Puts the system of a static guest into the host's store and returns its store path. The host must be booted.
    pub fn static_guest(&self, name: &str, behaviour: &Behaviour) -> Result<String> {
        let mut paths = self.static_guests(&[(name, behaviour)])?;
        paths.pop().context("one system gives one path")
    }

    /// Like [`Testbed::static_guest`], for many at once; the paths come in the order of the systems.
    pub fn static_guests(&self, systems: &[(&str, &Behaviour)]) -> Result<Vec<String>> {
        let program = self.guest_program()?;
        let mut staged = Vec::new();
        for (index, (name, behaviour)) in systems.iter().enumerate() {
            let inside = format!("{STAGE}/{index}/nixos-system-{name}");
            self.write_file(format!("{inside}/behaviour"), behaviour.to_text(), 0o644)?;
            let init = self.path(format!("{inside}/init"));
            let _ = fs::remove_file(&init);
            symlink(format!("{program}/bin/guest"), &init)
                .with_context(|| format!("cannot link {}", init.display()))?;
            staged.push(inside);
        }
        let paths = self.store_add(&staged)?;
        self.succeed(&format!("rm -rf {STAGE}"))?;
        Ok(paths)
    }

    /// Writes a flake to a folder inside whose packages are systems of static guests, for tests that build.
    ///
    /// It needs no input and no network; each build takes under a second.
    pub fn static_guest_flake(&self, inside: &str, systems: &[(&str, &Behaviour)]) -> Result<()> {
        self.static_guest_flake_with(inside, systems, &[], "")
    }

    /// Like [`Testbed::static_guest_flake`], with NixOS configurations beside the packages, and lines of Nix that add further
    /// packages: they may use `guest`, `shell` and what is in the flake.
    pub fn static_guest_flake_with(
        &self,
        inside: &str,
        packages: &[(&str, &Behaviour)],
        configurations: &[(&str, &Behaviour)],
        more: &str,
    ) -> Result<()> {
        let lines = |systems: &[(&str, &Behaviour)]| {
            let mut lines = String::new();
            for (name, behaviour) in systems {
                let text = behaviour.to_text();
                let _ = writeln!(lines, "      {name} = guest \"{name}\" ''\n{text}'';");
            }
            lines
        };
        let flake = self.with_programs(FLAKE)?;
        let flake = flake.replace("@packages@", &(lines(packages) + more));
        let flake = flake.replace("@configurations@", &lines(configurations));
        self.write_file(format!("{inside}/flake.nix"), flake, 0o644)
    }

    /// Puts the stand-in for nixpkgs into a folder inside: with its `nixos/lib/eval-config.nix` modules are evaluated as NixOS
    /// evaluates them, and make systems of static guests. `guest.behaviour` has the lines of [`Behaviour::to_text`].
    pub fn stand_in_nixpkgs(&self, inside: &str) -> Result<()> {
        self.copy_in(workspace_root().join(STAND_IN), inside)?;
        let library = self.path(format!("{inside}/nixos/lib"));
        fs::rename(library.join("eval-config.nix"), library.join("evaluate.nix"))
            .with_context(|| format!("cannot rename eval-config.nix in {}", library.display()))?;
        self.write_file(format!("{inside}/nixos/lib/eval-config.nix"), self.with_programs(EVALUATE)?, 0o644)
    }

    /// Returns a Nix file with the store paths of the programs that builds use.
    fn with_programs(&self, text: &str) -> Result<String> {
        Ok(text.replace("@guest@", &self.guest_program()?).replace("@busybox@", &self.busybox()?))
    }

    /// Returns the store path of a static busybox, adding it at the first call.
    fn busybox(&self) -> Result<String> {
        self.rooted(BUSYBOX_ROOT, |staged| {
            self.succeed(&format!("mkdir -p {staged}/bin && cp /usr/bin/busybox {staged}/bin/")).map(|_| ())
        })
    }

    /// Adds files or folders of the host to its store; the paths come in the order of the arguments.
    pub fn store_add(&self, inside: &[String]) -> Result<Vec<String>> {
        let argv: Vec<&str> = ["nix-store", "--add"].into_iter().chain(inside.iter().map(String::as_str)).collect();
        let output = self.exec(&argv)?;
        ensure!(output.success(), "nix-store --add failed: {output}");
        let paths: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
        ensure!(paths.len() == inside.len(), "nix-store --add answered {} paths for {}", paths.len(), inside.len());
        Ok(paths)
    }

    /// Returns the store path of the guest program, adding it at the first call.
    fn guest_program(&self) -> Result<String> {
        self.rooted(GUEST_ROOT, |staged| self.copy_in(guest_binary()?, format!("{staged}/bin/guest")))
    }

    /// Returns what a garbage collector's root points to; fills a folder, adds it and makes the root when there is none.
    fn rooted(&self, root: &str, fill: impl FnOnce(&str) -> Result<()>) -> Result<String> {
        let known = self.exec(&["readlink", root])?;
        if known.success() {
            return Ok(known.stdout.trim_end().to_owned());
        }
        let name = root.rsplit('/').next().unwrap_or(root);
        let staged = format!("{STAGE}/{name}");
        fill(&staged)?;
        let path = self.store_add(&[staged])?.pop().context("one folder gives one path")?;
        self.succeed(&format!("mkdir -p $(dirname {root}); ln -sfn {path} {root}"))?;
        Ok(path)
    }
}

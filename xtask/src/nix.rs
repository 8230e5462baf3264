//! `cargo xtask nix`: the flake and the NixOS module, evaluated where nixpkgs cannot be had.
//!
//! ```text
//!  .nix files ──▶ parse, format, dead code                                    (files)
//!  flake.nix, template ──▶ nix flake check                                    (flake)
//!  tests/good, tests/bad ──▶ evaluation ─┬─▶ texts, compared                  (cases)
//!                                        ├─▶ manifests and settings, built    (cases)
//!                                        ├─▶ systemd-analyze                  (units)
//!                                        └─▶ compared with systemd/           (mirror)
//!  vm-tests ──▶ pyflakes, mypy, calls that both test drivers have             (scripts)
//!  options ──▶ docs/module.md; `nixmoxctl schema` ──▶ manifest/schema.json    (reference)
//! ```
//!
//! nixpkgs is a stand-in of ours, unless a real one, or its `lib`, is given.

mod cases;
mod evaluation;
mod files;
mod flake;
mod mirror;
mod reference;
mod scripts;
mod units;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nixmox_testbed::{Build, NixRoot};

use crate::step::{Tally, announce};
pub(crate) use evaluation::Nixpkgs;

/// What to evaluate with.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A nixpkgs, or a folder with its `lib`, in place of the stand-in
    #[arg(long, value_name = "PATH")]
    nixpkgs: Option<PathBuf>,
}

/// Runs every check, also after a failure, and says at the end what failed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut tally = Tally::default();
    test(&mut tally, &Nixpkgs::find(arguments.nixpkgs.as_deref())?)?;
    Ok(tally.finish())
}

/// Runs the checks as steps of a test.
pub(crate) fn test(tally: &mut Tally, nixpkgs: &Nixpkgs) -> Result<()> {
    let begin = announce("nix");
    let root = NixRoot::prepare(nixpkgs.path())?;
    let programs = Build::Debug.programs()?.context("a build without programs")?;
    let folder = root.bring("programs", &programs.ctl)?;
    root.bring("programs", &programs.agent)?;
    println!("== nix: ready, {:.1} s", begin.elapsed().as_secs_f32());

    tally.verify("nix: every file parses", || files::parse(&root));
    tally.verify("nix: format", files::format);
    tally.verify("nix: dead code", files::dead_code);
    tally.verify("nix: lock file", || flake::lock(&root));
    tally.verify("nix: flake", || flake::flake(&root, nixpkgs));
    tally.verify("nix: template", || flake::template(&root, nixpkgs));

    let mut good = None;
    tally.verify("nix: good configurations", || {
        good = Some(cases::good(&root, nixpkgs)?);
        Ok(())
    });
    tally.verify("nix: manifests and settings are built", || cases::built(&root, nixpkgs, &folder));
    tally.verify("nix: bad configurations", || cases::bad(&root, nixpkgs, &folder));
    if let Some(good) = good {
        tally.verify("nix: texts of good configurations", || cases::texts(&good, nixpkgs));
        tally.verify("nix: systemd's opinion of the units", || units::verify(&root, &good));
        tally.verify("nix: exposure of the units", || units::security(&root, &good));
        tally.verify("nix: the module beside systemd/", || mirror::compare(&good, nixpkgs));
    } else {
        tally.skipped.push("units of the module: a good configuration is not good".to_owned());
    }
    tally.attempt("nix: test scripts", |tally| {
        let scripts = scripts::Scripts::prepare(&root)?;
        tally.verify("nix: names in test scripts", || scripts.names());
        tally.verify("nix: types in test scripts", || scripts.types());
        tally.verify("nix: test scripts that NixOS cannot run", || scripts.left_out());
        tally.verify("nix: checks of the flake beside test scripts", || scripts.checks(&root, nixpkgs));
        tally.verify("nix: calls of our test driver", || scripts.calls());
        Ok(())
    });
    tally.verify("nix: options page", || reference::page(&root, nixpkgs));
    tally.verify("nix: what the options page shows", || reference::shown(&root, nixpkgs));
    tally.verify("nix: keys of the manifest", || reference::schema(&programs));
    Ok(())
}

//! `cargo xtask testbed`: a booted testbed and a shell, or a script, in it.

use std::process::ExitCode;

use anyhow::Result;
use nixmox_testbed::{Build, HOMELAB_DIR, Options, Testbed};

/// What to boot and what to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave our programs out; the units are there
    #[arg(long)]
    plain: bool,
    /// Install the release build
    #[arg(long, conflicts_with = "plain")]
    release: bool,
    /// Run this script instead of an interactive shell; its exit status is ours
    #[arg(short = 'c', value_name = "SCRIPT")]
    script: Option<String>,
}

/// Boots, runs and removes.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let build = match (arguments.plain, arguments.release) {
        (true, _) => Build::None,
        (false, true) => Build::Release,
        (false, false) => Build::Debug,
    };
    let bed = Testbed::boot(&Options::new("shell").build(build))?;
    bed.install_homelab()?;
    let code = if let Some(script) = &arguments.script {
        bed.interactive(&["bash", "-c", script])?
    } else {
        println!("A host with systemd, machined and Nix; the homelab lies in {HOMELAB_DIR}. Ctrl-D ends it.");
        bed.interactive(&["bash", "-c", &format!("cd {HOMELAB_DIR} && exec bash -i")])?
    };
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

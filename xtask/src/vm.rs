//! `cargo xtask vm`: scenarios on a virtual machine with a kernel of its own.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use nixmox_testbed::{Vm, scenarios};

use crate::step::{Tally, announce};

/// Which scenarios to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Names of files in `vm-tests/scenarios`, such as `limits_memory`; none: all of them
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

/// Runs the scenarios, also after a failure, and says at the end what failed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let all = scenarios()?;
    let unknown: Vec<&String> = arguments.scenarios.iter().filter(|name| !all.contains(name)).collect();
    ensure!(unknown.is_empty(), "there is no such scenario: {unknown:?}; there are: {}", all.join(", "));
    let asked = if arguments.scenarios.is_empty() { &all } else { &arguments.scenarios };
    let mut tally = Tally::default();
    test(&mut tally, asked)?;
    Ok(tally.finish())
}

/// Runs scenarios as steps of a test. One at a time: a machine uses both cores.
pub(crate) fn test(tally: &mut Tally, scenarios: &[String]) -> Result<()> {
    let begin = announce("virtual machine");
    let vm = Vm::prepare()?;
    println!("== virtual machine: ready, {:.1} s", begin.elapsed().as_secs_f32());
    for scenario in scenarios {
        tally.verify(&format!("scenario {scenario}"), || vm.run(scenario));
    }
    Ok(())
}

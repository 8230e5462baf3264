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
    let is_asked = |file: &String| {
        arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|name| *file == format!("{name}.py"))
    };
    let asked: Vec<String> = all.iter().filter(|file| is_asked(file)).cloned().collect();
    ensure!(
        asked.len() >= arguments.scenarios.len() && !asked.is_empty(),
        "there is no such scenario; there are: {}",
        all.join(", ").replace(".py", "")
    );
    let mut tally = Tally::default();
    test(&mut tally, &asked)?;
    Ok(tally.finish())
}

/// Runs scenarios as steps of a test. One at a time: a machine uses both cores.
pub(crate) fn test(tally: &mut Tally, scenarios: &[String]) -> Result<()> {
    let begin = announce("virtual machine");
    let vm = Vm::prepare()?;
    println!("== virtual machine: ready, {:.1} s", begin.elapsed().as_secs_f32());
    for scenario in scenarios {
        let name = format!("scenario {}", scenario.trim_end_matches(".py"));
        tally.verify(&name, || vm.run(scenario));
    }
    Ok(())
}

//! The program `nixmoxctl`: hands the arguments and the surroundings to the library, and the exit code back.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(nixmoxctl::main_with_environment())
}

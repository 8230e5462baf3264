//! Models on a GPU with the whole agent, on a real systemd: simulators of Ollama take video memory of a stand-in for NVML and give it back
//! late, so that what the agent decides comes back to it as what the driver tells.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod demand;
mod engines;
mod fallback;
mod machine;
mod silence;
#[path = "../gpu/stand_in.rs"]
#[allow(dead_code, reason = "shared with the tests of the host's adapter")]
mod stand_in;
mod yields;

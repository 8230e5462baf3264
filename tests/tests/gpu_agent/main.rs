//! GPUs with the whole agent, on a real systemd: a stand-in for NVML, and nodes that device rules refuse as they refuse those of a
//! GPU. What a guest can open is told by a process of the guest.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod access;
mod doctor;
mod machine;
mod memory;
#[path = "../gpu/stand_in.rs"]
#[allow(dead_code, reason = "shared with the tests of the host's adapter")]
mod stand_in;
mod trouble;

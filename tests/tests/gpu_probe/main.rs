//! Looks at the GPUs of made-up machines: the child is a process as on a real one, its NVML a stand-in, its `/proc`, `/sys` and `/dev` a folder.
//!
//! `machine` makes them; each other file has one kind of what is found.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

mod cdi;
mod check;
mod faults;
mod hangs;
mod machine;
mod nvidia;
mod sysfs;

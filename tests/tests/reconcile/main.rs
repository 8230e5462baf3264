//! The agent's one task in process: requests, a simulated host that goes wrong, and deaths at every point.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

mod death;
mod declare;
mod disk;
mod drift;
mod ends;
mod events;
mod gpus;
mod holds;
mod host;
mod jobs;
mod machine;
mod metrics;
mod offload;
mod oom;
mod plans;
mod ports;
mod pressure;
mod restarts;
mod scale;
mod slices;
mod switches;
mod trials;
mod up;

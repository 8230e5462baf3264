//! The agent's one task in process: requests, a simulated host that goes wrong, and deaths at every point.

mod declare;
mod disk;
mod drift;
mod events;
mod holds;
mod host;
mod jobs;
mod machine;
mod plans;
mod restarts;
mod scale;
mod up;

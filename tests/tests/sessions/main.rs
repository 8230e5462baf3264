//! Commands, shells and copies in real containers on a real systemd, as operators use them: exit codes, streams, users,
//! a terminal, and guests that mean harm.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

mod copy;
mod exec;
mod house;
mod person;
mod roles;
mod terminal;

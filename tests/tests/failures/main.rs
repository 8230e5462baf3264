//! What an operator sees when something is wrong: `nixmoxctl up` ends with 1 and names the cause and the way out, the rest of the
//! stack is healthy and untouched meanwhile, and `up` succeeds once the cause is gone.
//!
//! Every scenario is a real `up` on a real systemd. Those that disturb one service share a host; those that disturb the host, its
//! disks above all, have one each.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

mod boot;
mod declared;
mod disk;
mod fault;
mod guest;
mod taken;

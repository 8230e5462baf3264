//! The wire, in process: the real server on a socket of its own, a made-up agent behind it, real clients.
//!
//! `access`: who may do what. `hostile`: what one client can do to itself and not to others. `crowd`: many clients,
//! many users. `watch`: streams. `attend`: what lasts. `log`: what is written down, and what never is.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]
#![allow(clippy::needless_pass_by_value, reason = "JSON made on the spot reads better without `&`")]

mod access;
mod attend;
mod crowd;
mod fake;
mod harness;
mod hostile;
mod log;
mod watch;

//! What the service manager is told (`sd_notify(3)`): READY, STATUS, WATCHDOG, STOPPING.
//!
//! Without a service manager every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the agent serves.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Says what the agent is doing, in one line for `systemctl status`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// Says that the agent is alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Says that the agent ends.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Returns how often the watchdog wants to hear: half of `WatchdogSec=`; `None` without one.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("sd_notify: {error}");
    }
}

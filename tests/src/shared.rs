//! One booted host for the tests of a file that run at the same time, and one lock for what they must not do at once.
//!
//! The host ends with its last user, so nothing is left behind when the tests are over; a test that comes later boots another one.
#![allow(
    clippy::missing_errors_doc,
    reason = "every function fails for the same reason: the testbed did not do what was asked; the message says which"
)]

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Result;
use nixmox_testbed::{Behaviour, Options, Testbed};

/// Longest time until an agent that was just started answers.
const AGENT_LIMIT: Duration = Duration::from_mins(2);

/// A place for a host that several tests use; make it a `static`.
#[derive(Debug)]
pub struct Shared {
    homelab: bool,
    bed: Mutex<Weak<Host>>,
}

impl Shared {
    /// An empty place, for a host without the homelab's systems.
    #[must_use]
    pub const fn new() -> Self {
        Self { homelab: false, bed: Mutex::new(Weak::new()) }
    }

    /// An empty place, for a host whose store has guests that boot.
    #[must_use]
    pub const fn with_homelab() -> Self {
        Self { homelab: true, bed: Mutex::new(Weak::new()) }
    }

    /// Returns the host, booting it when nobody uses one.
    pub fn host(&self, name: &str) -> Result<Arc<Host>> {
        // A test that failed while it booted says nothing about the next one.
        let mut place = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = place.upgrade() {
            return Ok(host);
        }
        let host = Arc::new(if self.homelab { Host::with_homelab(name)? } else { Host::boot(name)? });
        *place = Arc::downgrade(&host);
        Ok(host)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

/// A booted host whose agent answers.
#[derive(Debug)]
pub struct Host {
    bed: Testbed,
    /// Systems are put together in one folder.
    staging: Mutex<()>,
}

impl Host {
    /// Boots a host without the homelab's systems and waits for its agent.
    pub fn boot(name: &str) -> Result<Self> {
        Self::with(&Options::new(name).without_homelab())
    }

    /// Boots a host with the homelab's systems and waits for its agent.
    pub fn with_homelab(name: &str) -> Result<Self> {
        Self::with(&Options::new(name))
    }

    fn with(options: &Options) -> Result<Self> {
        let bed = Testbed::boot(options)?;
        bed.wait_until("nixmoxctl --all status", AGENT_LIMIT)?;
        Ok(Self { bed, staging: Mutex::new(()) })
    }

    /// Like [`Testbed::static_guest`]; several threads may call it.
    pub fn guest(&self, name: &str, behaviour: &Behaviour) -> Result<String> {
        let _one = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        self.bed.static_guest(name, behaviour)
    }
}

impl Deref for Host {
    type Target = Testbed;

    fn deref(&self) -> &Testbed {
        &self.bed
    }
}

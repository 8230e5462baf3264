//! A digest of the host's state, by which a plan made for another state is refused.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::model::{ActiveState, ConfFile, Container, Desired, DropIn, Observed};

/// A digest of everything a plan depends on that does not change by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// A text that is not a fingerprint: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fingerprint of a host's state")]
pub struct InvalidFingerprint(pub String);

/// Returns the digest of the current generation and of what is observed of every container.
///
/// It changes with the generation, with holds, and with what runs, with which specification, files, limits and
/// results. It does not change with health, back-off, jobs, invocations or how long something runs: a plan made a
/// minute ago is still the plan. `desired` is the generation in force, not the one that is proposed.
#[must_use]
pub fn fingerprint(desired: &Desired, observed: &Observed) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(&desired.generation.to_le_bytes());
    for name in desired.holds.keys() {
        add(name.as_str().as_bytes());
    }
    for (name, container) in &observed.containers {
        add(b"container");
        add(name.as_str().as_bytes());
        add_container(&mut add, container);
    }
    Fingerprint(hash.finalize().into())
}

fn add_container(add: &mut impl FnMut(&[u8]), container: &Container) {
    let runs = match container.active {
        // On its way is as good as there: the same plan leads on from both.
        ActiveState::Activating | ActiveState::Active => "runs",
        ActiveState::Inactive | ActiveState::Deactivating | ActiveState::Failed => "stopped",
    };
    add(runs.as_bytes());
    add(container.started_with.as_ref().map_or(String::new(), ToString::to_string).as_bytes());
    match &container.conf {
        ConfFile::Absent => add(b"absent"),
        ConfFile::Foreign => add(b"foreign"),
        ConfFile::Link => add(b"link"),
        ConfFile::Ours(text) => add(text.as_bytes()),
    }
    match &container.drop_in {
        DropIn::Absent => add(b"absent"),
        DropIn::Ours(text) => add(text.as_bytes()),
    }
    add(&[u8::from(container.reload_pending)]);
    add(format!("{:?}", container.limits).as_bytes());
    add(format!("{:?}", container.devices).as_bytes());
    let done = container.exit.as_ref().filter(|exit| exit.succeeded()).and_then(|exit| exit.spec.as_ref());
    add(done.map_or(String::new(), ToString::to_string).as_bytes());
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let invalid = || InvalidFingerprint(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

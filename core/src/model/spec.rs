//! The fingerprint of everything about a service that only a restart can change.
//!
//! It travels as `NIXMOX_SPEC=` in the conf file into the environment of nspawn, where `/proc/PID/environ`
//! of a running container tells what that container was started with. One short hash per group of fields,
//! so that a plan can name what changed without any other record.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A group of fields that only a restart can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecField {
    /// The system's store path.
    System,
    /// Network mode, bridge and addresses.
    Network,
    /// Mounts.
    Mounts,
    /// Memory file systems.
    Tmpfs,
    /// Credential names and paths.
    Credentials,
    /// Environment.
    Environment,
    /// Capabilities.
    Capabilities,
    /// Whether the root is ephemeral.
    Ephemeral,
    /// User namespace.
    PrivateUsers,
    /// Device nodes bound at the start (their access rules are live).
    Devices,
    /// What a share of the GPUs needs of a start: the driver's user space, and environment.
    Gpu,
    /// Extra flags of nspawn.
    NspawnFlags,
    /// The slice of the unit.
    Slice,
}

impl SpecField {
    /// Every field, in the order in which reasons are shown.
    pub const ALL: [Self; 13] = [
        Self::System,
        Self::Network,
        Self::Mounts,
        Self::Tmpfs,
        Self::Credentials,
        Self::Environment,
        Self::Capabilities,
        Self::Ephemeral,
        Self::PrivateUsers,
        Self::Devices,
        Self::Gpu,
        Self::NspawnFlags,
        Self::Slice,
    ];

    /// Returns the manifest's word for it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Network => "network",
            Self::Mounts => "mounts",
            Self::Tmpfs => "tmpfs",
            Self::Credentials => "credentials",
            Self::Environment => "environment",
            Self::Capabilities => "capabilities",
            Self::Ephemeral => "ephemeral",
            Self::PrivateUsers => "private_users",
            Self::Devices => "devices",
            Self::Gpu => "gpu",
            Self::NspawnFlags => "nspawn_flags",
            Self::Slice => "slice",
        }
    }
}

/// The fingerprint: a hash of 32 bits per field. Fields at their default are left out, so that a field added
/// by a later version changes no fingerprint of a service that does not use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec(BTreeMap<SpecField, u32>);

impl Spec {
    /// Returns the fingerprint made of these hashes.
    #[must_use]
    pub fn new(hashes: BTreeMap<SpecField, u32>) -> Self {
        Self(hashes)
    }

    /// Returns the hash of a field; `None`: it is at its default.
    #[must_use]
    pub fn get(&self, field: SpecField) -> Option<u32> {
        self.0.get(&field).copied()
    }

    /// Returns it with another hash of a field; `None`: the field's default.
    #[must_use]
    pub fn with(mut self, field: SpecField, hash: Option<u32>) -> Self {
        match hash {
            Some(hash) => self.0.insert(field, hash),
            None => self.0.remove(&field),
        };
        self
    }

    /// Returns the fields in which two fingerprints differ, in display order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<SpecField> {
        SpecField::ALL.into_iter().filter(|field| self.0.get(field) != other.0.get(field)).collect()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, hash)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}:{hash:08x}", field.key())?;
        }
        Ok(())
    }
}

impl FromStr for Spec {
    type Err = ();

    /// Reads what `Display` wrote. An unknown field (of a newer agent) makes it unreadable: the container
    /// then counts as started with something else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let entry = |part: &str| {
            let (key, hash) = part.split_once(':')?;
            let field = SpecField::ALL.into_iter().find(|field| field.key() == key)?;
            Some((field, u32::from_str_radix(hash, 16).ok()?))
        };
        text.split(',').filter(|part| !part.is_empty()).map(entry).collect::<Option<_>>().map(Self).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_and_names_what_differs() {
        let old = Spec::new(BTreeMap::from([(SpecField::System, 1), (SpecField::Mounts, 0xdead_beef)]));
        let new = Spec::new(BTreeMap::from([(SpecField::System, 1), (SpecField::Network, 7)]));
        assert_eq!(old.to_string().parse(), Ok(old.clone()));
        assert_eq!(old.differences(&new), [SpecField::Network, SpecField::Mounts]);
        assert!("system:1,telepathy:2".parse::<Spec>().is_err());
    }
}

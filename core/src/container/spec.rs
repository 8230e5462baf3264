//! The fingerprint of a service: which bytes are hashed for which field.
//!
//! The encoding is written out by hand and held by a golden test: were it to change between versions, an upgrade
//! of the agent would restart every container. Numbers are 64 bits, little endian; a text is its length as a
//! number, then its bytes; an optional or tagged value starts with a number of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::model::{
    Addresses, Assigned, Grant, Network, OPTIONAL_NODES, PrivateUsers, Service, Spec, SpecField, System, Word,
};

/// Returns the fingerprint of everything about a service that only a restart can change.
///
/// An adopted container has an empty one: its owner, not we, says what it is started with.
#[must_use]
pub fn spec(assigned: &Assigned) -> Spec {
    let System::Store(system) = &assigned.service.system else { return Spec::default() };
    let service = &assigned.service;
    let mut fields = BTreeMap::from([
        (SpecField::System, Encoder::new().text(system.as_str()).finish()),
        (SpecField::Network, network(assigned)),
        (SpecField::Slice, Encoder::new().text(service.stack.as_str()).finish()),
    ]);
    let mut add_list = |field, is_empty: bool, encoder: Encoder| {
        if !is_empty {
            fields.insert(field, encoder.finish());
        }
    };
    let mounts = service.mounts.iter().fold(Encoder::new(), |encoder, mount| {
        encoder.path(&mount.source).path(&mount.target).number(mount.read_only.into())
    });
    add_list(SpecField::Mounts, service.mounts.is_empty(), mounts);
    // No size is written 0: a memory file system of no size is of no use to anybody.
    let tmpfs = service.tmpfs.iter().fold(Encoder::new(), |encoder, tmpfs| {
        encoder.path(&tmpfs.target).number(tmpfs.size.map_or(0, |size| size.0))
    });
    add_list(SpecField::Tmpfs, service.tmpfs.is_empty(), tmpfs);
    let credentials =
        service.credentials.iter().fold(Encoder::new(), |encoder, (name, path)| encoder.text(name).path(path));
    add_list(SpecField::Credentials, service.credentials.is_empty(), credentials);
    let environment =
        service.environment.iter().fold(Encoder::new(), |encoder, (name, value)| encoder.text(name).text(value));
    add_list(SpecField::Environment, service.environment.is_empty(), environment);
    let capabilities = service.capabilities.iter().fold(Encoder::new(), |encoder, name| encoder.text(name));
    add_list(SpecField::Capabilities, service.capabilities.is_empty(), capabilities);
    let devices = service.devices.iter().fold(Encoder::new(), |encoder, device| encoder.path(&device.path));
    add_list(SpecField::Devices, service.devices.is_empty(), devices);
    let flags = service.nspawn_flags.iter().fold(Encoder::new(), |encoder, flag| encoder.text(flag));
    add_list(SpecField::NspawnFlags, service.nspawn_flags.is_empty(), flags);
    if let Some(grant) = assigned.gpu.grant() {
        fields.insert(SpecField::Gpu, gpu(service, grant));
    }
    if service.ephemeral {
        fields.insert(SpecField::Ephemeral, Encoder::new().number(1).finish());
    }
    match service.private_users {
        PrivateUsers::No => {}
        PrivateUsers::Pick => {
            fields.insert(SpecField::PrivateUsers, Encoder::new().number(1).finish());
        }
    }
    Spec::new(fields)
}

/// What a start alone can give a container of its GPUs: the vendor's user space, environment, and nodes where they cannot be bound
/// while it runs. What is mounted is not part of it, for that changes with the host's driver and counts from the next start.
fn gpu(service: &Service, grant: &Grant) -> u32 {
    let needed: Vec<_> =
        grant.environment.iter().filter(|(name, _)| !service.environment.contains_key(*name)).collect();
    let encoder = Encoder::new().text(grant.vendor.as_word()).number(needed.len() as u64);
    let encoder = needed.into_iter().fold(encoder, |encoder, (name, value)| encoder.text(name).text(value));
    match service.private_users {
        PrivateUsers::No => encoder.finish(),
        // machined binds nothing into a container with users of its own (`BindMountMachine`, org.freedesktop.machine1(5)).
        // Nothing is restarted for what it goes without.
        PrivateUsers::Pick => {
            let is_needed =
                |node: &&PathBuf| !OPTIONAL_NODES.iter().any(|optional| node.as_path() == Path::new(optional));
            grant.nodes.iter().filter(is_needed).fold(encoder, |encoder, node| encoder.path(node)).finish()
        }
    }
}

fn network(assigned: &Assigned) -> u32 {
    let encoder = match &assigned.service.network {
        // The assigned addresses say all: fixing one that was assigned before changes nothing.
        Network::Private { address: _ } => match assigned.addresses {
            Some(Addresses { host, local }) => {
                Encoder::new().number(0).number(host.to_bits().into()).number(local.to_bits().into())
            }
            None => Encoder::new().number(0),
        },
        Network::Bridge(bridge) => Encoder::new().number(1).text(bridge),
        Network::Host => Encoder::new().number(2),
    };
    encoder.finish()
}

/// Feeds a hash with values whose borders can be told apart.
struct Encoder(Sha256);

impl Encoder {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(number.to_le_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut encoder = self.number(bytes.len() as u64);
        encoder.0.update(bytes);
        encoder
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn path(self, path: &Path) -> Self {
        self.bytes(path.as_os_str().as_encoded_bytes())
    }

    fn finish(self) -> u32 {
        let [a, b, c, d, ..] = <[u8; 32]>::from(self.0.finalize());
        u32::from_be_bytes([a, b, c, d])
    }
}

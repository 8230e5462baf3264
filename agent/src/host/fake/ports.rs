//! Who listens on the host's ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use nixmox_core::container::is_on_host_network;
use nixmox_core::model::{ConfFile, ContainerName, Port};

use super::{Fake, State};
use crate::host::StepError;

impl Fake {
    /// Lets somebody listen on a port of the host: a container while it runs on the host's network, or `None`, another
    /// program.
    pub fn listen(&self, port: u16, by: Option<&ContainerName>) {
        self.state().listeners.insert(port, by.cloned());
    }
}

impl State {
    /// Checks that nobody but those that are about to end listens on these ports.
    pub(super) fn check_ports(&self, ports: &[Port], ending: &BTreeSet<ContainerName>) -> Result<(), StepError> {
        for port in ports {
            let owner = match self.listeners.get(&port.host_port) {
                None => continue,
                Some(Some(name)) if ending.contains(name) || !self.is_on_host_network(name) => continue,
                Some(Some(name)) => name.to_string(),
                Some(None) => "another program".to_owned(),
            };
            return Err(StepError::PortTaken {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                port: port.host_port,
                protocol: port.protocol,
                owner,
            });
        }
        Ok(())
    }

    fn is_on_host_network(&self, name: &ContainerName) -> bool {
        self.containers.get(name).is_some_and(|container| {
            let on_host = match &container.seen.conf {
                ConfFile::Ours(text) => is_on_host_network(text),
                ConfFile::Absent | ConfFile::Foreign | ConfFile::Link => false,
            };
            on_host && container.active().has_processes()
        })
    }
}

//! A published port whose listener is a service itself.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, Operation};
use nixmox_agent::server::Control;
use nixmox_api::{AgentError, Request};
use nixmox_core::model::{Network, Service};

use crate::declare::{Declare, service};
use crate::machine::{Machine, anna, name, on_a_machine, request};

/// A service on the host's network; it listens on the port that these tests are about.
fn listener(machine: &Machine, text: &str) -> Service {
    machine.host.listen(8080, Some(&name(text)));
    Service { network: Network::Host, ..service(text) }
}

#[test]
fn a_service_that_goes_on_keeps_its_port() {
    on_a_machine(async |machine| {
        let old = listener(machine, "old");
        machine.up(std::slice::from_ref(&old)).await;
        machine.until_well().await;
        let refused = machine.apply(request(&[old, service("new").port(8080)])).await.unwrap_err();
        let AgentError::Refused { reason, .. } = refused else { panic!("{refused:?}") };
        assert!(reason.starts_with("new: port 8080/tcp is taken: old listens"), "{reason}");
    });
}

#[test]
fn a_port_passes_on_when_its_listener_has_stopped_by_the_same_plan() {
    on_a_machine(async |machine| {
        let old = listener(machine, "old");
        machine.host.behave(&name("old"), Behaviour { stop_time: Duration::from_secs(10), ..Behaviour::default() });
        machine.up(&[old]).await;
        machine.until_well().await;
        let request = Request { prune: true, ..request(&[service("new").port(8080), service("other")]) };
        machine.agent().apply(request, anna()).await.unwrap();
        machine
            .until("the other one waits for nobody", |_| machine.count(&Operation::Start(name("other"))) == 1)
            .await;
        assert_eq!(machine.count(&Operation::Start(name("new"))), 0);
        machine.until_well().await;
        assert_eq!(machine.count(&Operation::Start(name("new"))), 1, "no start before its time");
    });
}

#[test]
fn a_service_publishes_the_port_that_it_listened_on_itself() {
    on_a_machine(async |machine| {
        let web = listener(machine, "web");
        machine.up(&[web]).await;
        machine.until_well().await;
        machine.up(&[service("web").port(8080)]).await;
        machine.until_well().await;
        assert_eq!(machine.count(&Operation::Start(name("web"))), 2);
    });
}

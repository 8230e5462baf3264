//! The agent looks when something happened, not all the time.

use std::time::Duration;

use nixmox_core::model::{Condition, Service};

use crate::declare::{Declare, service};
use crate::machine::on_a_machine;

#[test]
fn three_hundred_services_take_as_many_looks_as_there_are_events() {
    on_a_machine(async |machine| {
        let stack: Vec<Service> = (0..300)
            .map(|n| {
                let web = service(&format!("web{n}"));
                if n < 10 { web } else { web.needs(&format!("web{}", n % 10), Condition::Started) }
            })
            .collect();
        machine.up(&stack).await;
        machine.until_well().await;
        assert_eq!(machine.host.broken_gates(), []);
        // Each is started, becomes active and answers; some of that falls together.
        let looks = machine.host.looks();
        assert!(looks < 3 * 300, "{looks} looks");
        machine.pass(Duration::from_secs(20)).await;
        assert!(machine.host.looks() - looks < 10, "{} looks in 20 idle seconds", machine.host.looks() - looks);
    });
}

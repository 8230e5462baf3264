//! Pressure as a part of a health check: beside another question or alone, and never where the kernel does not count it.

use std::time::Duration;

use nixmox_agent::host::fake::{Behaviour, HealthBehaviour};
use nixmox_api::ServiceState;
use nixmox_core::model::{OnUnhealthy, PressureMax, Probe, Service};

use crate::declare::{Declare, service};
use crate::machine::{name, on_a_machine, request};

/// Asked every 5 seconds; more than a fifth of the time is too much.
fn pressed(probe: Probe) -> Service {
    let mut web = service("web").checked(OnUnhealthy::Report);
    if let Some(check) = &mut web.health {
        check.probe = probe;
        check.pressure = PressureMax { memory: "20%".parse().ok(), ..PressureMax::default() };
    }
    web
}

#[test]
fn pressure_above_its_maximum_is_a_failed_probe_and_below_it_is_none() {
    for probe in [Probe::Tcp(80), Probe::Ready] {
        on_a_machine(async |machine| {
            machine.up(&[pressed(probe.clone())]).await;
            machine.until_well().await;
            machine.host.press(&name("web"), 20.0);
            machine.pass(Duration::from_mins(1)).await;
            assert_eq!(machine.service("web").await.state, ServiceState::Healthy);
            machine.host.press(&name("web"), 33.4);
            machine.pass(Duration::from_secs(6)).await;
            assert_eq!(machine.service("web").await.state, ServiceState::Healthy, "one failure is no three");
            let ill = machine.until_state("web", ServiceState::Unhealthy).await;
            assert_eq!(ill.reason, "memory pressure 34% (some, avg10) above 20%");
            assert_eq!(ill.probe, ill.reason);
            machine.host.press(&name("web"), 0.0);
            machine.until_state("web", ServiceState::Healthy).await;
        });
    }
}

#[test]
fn a_failed_question_is_told_and_not_the_pressure() {
    on_a_machine(async |machine| {
        machine.host.behave(&name("web"), Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
        machine.host.press(&name("web"), 90.0);
        machine.up(&[pressed(Probe::Tcp(80))]).await;
        let ill = machine.until_state("web", ServiceState::Unhealthy).await;
        assert_eq!(ill.reason, "simulated -> 503");
    });
}

#[test]
fn where_the_kernel_counts_none_a_plan_warns_and_nothing_fails() {
    on_a_machine(async |machine| {
        machine.host.press(&name("web"), 90.0);
        machine.host.count_no_pressure();
        let applied = machine.apply(request(&[pressed(Probe::Ready), service("other")])).await.unwrap();
        let warnings: Vec<_> =
            applied.plan.warnings.iter().map(|w| (w.service.as_str(), w.text.as_str())).collect();
        let [(about, text)] = warnings[..] else { panic!("{warnings:?}") };
        assert!(
            about == "web" && text.contains("does not count pressure") && text.contains("memory 20%"),
            "{text}"
        );
        machine.until_well().await;
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.service("web").await.state, ServiceState::Healthy);
    });
    on_a_machine(async |machine| {
        let applied = machine.apply(request(&[pressed(Probe::Ready)])).await.unwrap();
        assert!(applied.plan.warnings.is_empty(), "{:?}", applied.plan.warnings);
    });
}

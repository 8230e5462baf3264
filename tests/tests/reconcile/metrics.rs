//! What a page of metrics says of what the agent did: counted and timed as it was done.

use std::time::Duration;

use nixmox_agent::host::fake::Behaviour;
use nixmox_agent::metrics::{self, Source};
use nixmox_core::model::OnUnhealthy;

use crate::declare::{Declare, service};
use crate::machine::{Machine, name, on_a_machine};

/// Fails unless the page has these lines.
async fn assert_page(machine: &Machine, lines: &[&str]) {
    let page = metrics::shown(&machine.agent().page().await);
    for line in lines {
        assert!(page.lines().any(|of| of == *line), "`{line}` is not on the page:\n{page}");
    }
}

#[test]
fn steps_are_timed_and_starts_after_the_first_are_restarts() {
    on_a_machine(async |machine| {
        let slow = Behaviour { start_time: Duration::from_secs(2), failing_starts: 1, ..Behaviour::default() };
        machine.host.behave(&name("db"), slow);
        machine.up(&[service("db").checked(OnUnhealthy::Report), service("web")]).await;
        machine.until_well().await;
        // Two starts of `db`, of which the first failed, and one of `web`.
        assert_page(
            machine,
            &[
                "nixmox_service_state{name=\"db\",stack=\"cloud\",state=\"healthy\"} 1",
                "nixmox_service_state{name=\"db\",stack=\"cloud\",state=\"failed\"} 0",
                "nixmox_service_healthy{name=\"web\",stack=\"cloud\"} 1",
                "nixmox_step_duration_seconds_count{step=\"start\"} 3",
                "nixmox_step_failures_total{step=\"start\"} 1",
                "nixmox_step_duration_seconds_bucket{step=\"start\",le=\"1.0\"} 1",
                "nixmox_step_duration_seconds_bucket{step=\"start\",le=\"2.5\"} 3",
                "nixmox_service_restarts_total{name=\"db\",stack=\"cloud\"} 1",
                "nixmox_service_restarts_total{name=\"web\",stack=\"cloud\"} 0",
            ],
        )
        .await;
        machine.restart(&["web"]).await.unwrap();
        machine.until_well().await;
        assert_page(machine, &["nixmox_service_restarts_total{name=\"web\",stack=\"cloud\"} 1"]).await;
        machine.restart_agent().await;
        machine.until_well().await;
        // Another agent counts anew, as a counter may.
        assert_page(machine, &["nixmox_service_restarts_total{name=\"web\",stack=\"cloud\"} 0"]).await;
    });
}

#[test]
fn what_is_taken_away_is_on_no_page_and_begins_anew() {
    on_a_machine(async |machine| {
        machine.up(&[service("web")]).await;
        machine.until_well().await;
        machine.restart(&["web"]).await.unwrap();
        machine.until_well().await;
        machine.down().await;
        machine.until("nothing is left", |status| status.services.is_empty() && !status.host.busy).await;
        let page = metrics::shown(&machine.agent().page().await);
        assert!(!page.contains("name=\"web\""), "{page}");
        machine.up(&[service("web")]).await;
        machine.until_well().await;
        assert_page(machine, &["nixmox_service_restarts_total{name=\"web\",stack=\"cloud\"} 0"]).await;
    });
}

//! Everything that is known about why a service is in the state it is in.

use nixmox_api::{ServiceState, ServiceStatus};

use super::failure::{declared_at, probe};
use super::quantity::age;
use super::report::Report;
use super::state;
use super::style::{Paint, Style};
use crate::context::Moment;

/// Returns the text about a service.
pub(crate) fn why(service: &ServiceStatus, moment: &Moment, width: Option<usize>, style: Style) -> String {
    let (symbol, word, paint) = state::of_state(service.state);
    let since =
        service.since.map(|at| format!(" for {}", age(moment.now().saturating_sub(at)))).unwrap_or_default();
    let name = style.paint(Paint::Bold, &service.name);
    let head = format!("{} {name}   {word}{since}\n", style.paint(paint, symbol));
    let of_health = service.state == ServiceState::Unhealthy;
    let drift = service.drift.iter().map(|drift| drift.what.as_str());
    let restarts = if service.restarts > 0 { service.restarts.to_string() } else { String::new() };
    let rows = Report::new("")
        .row("why", &service.reason)
        .row("waits", service.waits_for.join(", "))
        .row("probe", probe(service))
        .rows("drift", drift)
        .row(
            "again",
            match restarts.as_str() {
                "" => String::new(),
                times => format!("started anew {times} times since it was last well"),
            },
        )
        .row("held", service.held_by.as_ref().map(|by| format!("by {by}")).unwrap_or_default())
        .rows("log", &service.log)
        .row("from", declared_at(service, of_health))
        .row("try", &service.hint)
        .row("more", format!("journalctl -u container@{}.service", service.name));
    head + &rows.rows_text(width, style)
}

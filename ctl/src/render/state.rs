//! States and changes as a symbol, a word and a colour.

use nixmox_api::ServiceState;

use super::style::Paint;

/// Returns a state's symbol, word and colour.
pub(crate) fn of_state(state: ServiceState) -> (&'static str, &'static str, Paint) {
    match state {
        ServiceState::Healthy => ("●", "healthy", Paint::Good),
        ServiceState::Unhealthy => ("✗", "unhealthy", Paint::Bad),
        ServiceState::Starting => ("…", "starting", Paint::Busy),
        ServiceState::Waiting => ("…", "waiting", Paint::Busy),
        ServiceState::Stopping => ("…", "stopping", Paint::Busy),
        ServiceState::Stopped => ("○", "stopped", Paint::Dim),
        ServiceState::Failed => ("✗", "failed", Paint::Bad),
        ServiceState::Completed => ("✓", "completed", Paint::Good),
    }
}

/// Returns the symbol and colour of a change, by its word on the wire or the verb; `?` for one that is not known.
pub(crate) fn of_change(word: &str) -> (&'static str, Paint) {
    match word {
        "unchanged" => ("=", Paint::Dim),
        "create" | "start" => ("+", Paint::Good),
        "live" => ("~", Paint::Busy),
        "restart" => ("!", Paint::Busy),
        "remove" | "down" => ("-", Paint::Bad),
        "hold" | "stop" => ("○", Paint::Dim),
        "blocked" => ("…", Paint::Busy),
        _ => ("?", Paint::Plain),
    }
}

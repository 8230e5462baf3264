//! States and changes as a symbol, a word and a colour.

use nixmox_api::ServiceState;

use super::style::Paint;

/// Returns a state's symbol, word and colour.
pub(crate) fn of_state(state: ServiceState) -> (&'static str, &'static str, Paint) {
    let (symbol, paint) = match state {
        ServiceState::Healthy => ("●", Paint::Good),
        ServiceState::Unhealthy | ServiceState::Failed => ("✗", Paint::Bad),
        ServiceState::Starting | ServiceState::Waiting | ServiceState::Stopping => ("…", Paint::Busy),
        ServiceState::Stopped => ("○", Paint::Dim),
        ServiceState::Completed => ("✓", Paint::Good),
    };
    (symbol, state.word(), paint)
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

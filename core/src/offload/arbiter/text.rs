//! Words of the reasons that are given.

use std::time::Duration;

use super::super::estimate::Layers;
use super::Setting;

/// Returns a span of time for people: `40 s`, `4 min`, `3 h`.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Returns how a model is loaded: `on the CPU`, `with 20 of 33 layers`, `with a context of 4096`; empty: as the engine likes.
pub(super) fn how(setting: Setting, all: Option<u32>) -> String {
    let layers = match (setting.layers, all) {
        (Layers::Auto, _) => String::new(),
        (Layers::Exactly(0), _) => return "on the CPU".to_owned(),
        (Layers::Exactly(layers), Some(all)) if layers >= all => format!("with all of its {all} layers"),
        (Layers::Exactly(layers), Some(all)) => format!("with {layers} of {all} layers"),
        (Layers::Exactly(layers), None) => format!("with {layers} layers"),
    };
    match (layers.as_str(), setting.context) {
        ("", Some(context)) => format!("with a context of {context}"),
        (_, Some(context)) => format!("{layers} and a context of {context}"),
        (_, None) => layers,
    }
}

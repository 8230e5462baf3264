//! Capabilities by name (capabilities(7)).

use schemars::json_schema;

use crate::manifest::diagnostic::did_you_mean;
use crate::manifest::form::{Misfit, Text, schema};
use crate::model::CAPABILITIES;

/// The name of a capability, such as `CAP_NET_ADMIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub &'static str);

schema!(Capability, json_schema!({ "type": "string", "enum": CAPABILITIES.as_slice() }));

impl Text for Capability {
    const EXPECTED: &'static str = "a capability such as `\"CAP_NET_ADMIN\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        if let Some(name) = CAPABILITIES.iter().find(|name| **name == text) {
            return Ok(Self(name));
        }
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let misfit = Misfit::new(format!("unknown capability `{text}`"));
        Err(match did_you_mean(&full, CAPABILITIES) {
            Some(name) => misfit.help(format!("did you mean `{name}`?")),
            None if full == "CAP_ALL" => misfit.help("name each one that the service needs"),
            None => misfit.help("capabilities(7) has their names"),
        })
    }
}

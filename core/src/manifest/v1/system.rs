//! What a container's root runs, as text.

use std::path::Path;

use schemars::json_schema;

use crate::manifest::form::{Misfit, Text, schema};
use crate::model::StorePath;

/// What a container's root runs, as written: paths are relative to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// A flake output, such as `.#postgres` or `github:owner/repository#attribute`.
    Flake(String),
    /// A file with a NixOS module, such as `./postgres.nix`.
    Module(String),
    /// A path that leads into the store, such as `./result`.
    Link(String),
    /// A store path.
    StorePath(StorePath),
}

schema!(
    System,
    json_schema!({
        "type": "string",
        "examples": [".#postgres", "./postgres.nix", "./result", "github:owner/repository#postgres"]
    })
);

impl Text for System {
    const EXPECTED: &'static str = "a flake output such as `\".#postgres\"`, a NixOS module such as `\"./postgres.nix\"`, or a path into the store";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        if text.is_empty() {
            return Err(Misfit::new(format!("expected {}", Self::EXPECTED)));
        }
        if text.chars().any(char::is_control) {
            return Err(Misfit::new("control characters are not allowed here"));
        }
        if let Some((reference, attribute)) = text.split_once('#') {
            if reference.is_empty() || attribute.is_empty() {
                let misfit = Misfit::new(format!("`{text}` does not name a flake and its output"));
                return Err(misfit.help("write FLAKE#OUTPUT, for example `.#postgres`"));
            }
            // nix would take it for an option.
            if reference.starts_with('-') {
                return Err(Misfit::new(format!("`{reference}` is not a flake")));
            }
            return Ok(Self::Flake(text.to_owned()));
        }
        let module = Path::new(text).extension().is_some_and(|extension| extension == "nix");
        if text.starts_with("/nix/store/") && !module {
            return text.parse().map(Self::StorePath).map_err(|error: crate::model::InvalidStorePath| {
                Misfit::new(error.to_string())
                    .help("the container's system is a whole store path, not a file in one")
            });
        }
        if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') {
            return Ok(if module { Self::Module(text.to_owned()) } else { Self::Link(text.to_owned()) });
        }
        let misfit = Misfit::new(format!("`{text}` is neither a flake output nor a path"));
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        Err(if plain {
            misfit.help(format!("write `.#{text}` for an output of this folder's flake, `./{text}` for a path"))
        } else {
            misfit.help(format!("expected {}", Self::EXPECTED))
        })
    }
}

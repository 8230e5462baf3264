//! `environment` and `env_file`: variables of a service.

use std::collections::BTreeMap;

use super::Surroundings;
use super::shape::{Log, items, pairs};
use super::volumes::Places;
use crate::import::interpolate::Variables;
use crate::import::yaml::{Node, Scalar, Value};
use crate::import::{dotenv, secret};

/// A variable of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) struct Variable {
    /// Its value. Nothing of a secret is written or printed.
    pub(in crate::import) value: String,
    /// Whether it is a secret, by its name, its value, or what went into it.
    pub(in crate::import) is_secret: bool,
    /// The line of the Compose file; of `env_file` for those of a file.
    pub(in crate::import) line: usize,
}

/// The variables of a service by name.
pub(in crate::import) type Environment = BTreeMap<String, Variable>;

/// Returns the variables of `environment`.
pub(super) fn read(node: &Node, variables: &Variables<'_>, log: &mut Log<'_>) -> Environment {
    let mut environment = Environment::new();
    for pair in pairs("environment", node, log) {
        if !is_name(&pair.name) {
            // What stands there may be anything, so it is not repeated.
            log.not_mapped("environment", pair.line, "this is not the name of a variable", "");
            continue;
        }
        // A name alone takes the value it has here; without one it is not set.
        let Some(value) =
            pair.value.or_else(|| variables.get(&pair.name).map(|text| Scalar { text, is_secret: false }))
        else {
            continue;
        };
        environment.insert(pair.name.clone(), variable(&pair.name, value, pair.line));
    }
    environment
}

/// Returns the variables of the files that `env_file` names; a later file goes before an earlier one.
pub(super) fn read_files(
    node: &Node,
    places: &Places<'_>,
    surroundings: &Surroundings<'_>,
    log: &mut Log<'_>,
) -> Environment {
    let mut environment = Environment::new();
    let nodes = if matches!(node.value, Value::List(_)) { node.items() } else { std::slice::from_ref(node) };
    for node in nodes {
        let is_optional = node.get("required").is_some_and(|required| !super::shape::is_true(required));
        let path = node.get("path").and_then(Node::text).map(ToOwned::to_owned);
        let path = path.or_else(|| Some(items("env_file", node, log).into_iter().next()?.text));
        let Some(path) = path else { continue };
        let text = places.host_path(&path).map(|path| (surroundings.read)(path.as_ref()));
        match text {
            Some(Ok(text)) => match dotenv::parse(&text) {
                Ok(read) => {
                    for found in read.into_iter().filter(|found| is_name(&found.name)) {
                        let value = Scalar { text: found.value, is_secret: false };
                        environment.insert(found.name.clone(), variable(&found.name, value, node.line));
                    }
                }
                Err(fault) => {
                    let reason = format!("line {} of it is not understood: {}", fault.line, fault.what);
                    log.not_mapped("env_file", node.line, &reason, &fault.hint);
                }
            },
            Some(Err(_)) if is_optional => {}
            Some(Err(error)) => {
                let way_out = "put the file in its place and import again, or write the settings into service.nix";
                log.not_mapped("env_file", node.line, &format!("it cannot be read: {error}"), way_out);
            }
            None => log.not_mapped("env_file", node.line, "its path cannot be used", ""),
        }
    }
    environment
}

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(known)
}

fn variable(name: &str, value: Scalar, line: usize) -> Variable {
    let is_secret = value.is_secret || secret::is_name(name) || secret::is_value(&value.text);
    // An empty value hides nothing.
    Variable { is_secret: is_secret && !value.text.is_empty(), value: value.text, line }
}

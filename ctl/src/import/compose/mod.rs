//! A Compose file: its project, and what is read of each service whatever its image is.
//!
//! The grammar is that of the Compose specification as far as a manifest has something for it. What is not read is
//! said, with its line. What an image means is `catalog`'s to know.

mod depends_on;
mod environment;
mod health;
mod limits;
mod ports;
mod quantity;
mod service;
mod shape;
mod unsupported;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use super::finding::Findings;
use super::interpolate::Variables;
use super::yaml::{Fault, Node, Value};
use service::Around;
use volumes::Places;

pub(super) use depends_on::{Condition, Dependency};
pub(super) use environment::{Environment, Variable};
pub(super) use health::Probe;

pub(super) use quantity::{duration, size};
pub(super) use service::{Command, Service};
pub(super) use shape::Log;
pub(super) use volumes::{Tmpfs, Volume};

/// What an import asks of the outside.
pub(crate) struct Surroundings<'a> {
    /// The value of an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// What is read of a Compose file.
#[derive(Debug)]
pub(super) struct Project {
    /// The stack's name.
    pub(super) name: String,
    /// The services that can be mapped, in the order of the file.
    pub(super) services: Vec<Service>,
    /// How many services the file has.
    pub(super) services_count: usize,
}

/// Files of the project by the name that its services know them by.
#[derive(Debug, Default)]
struct Files {
    secrets: BTreeMap<String, String>,
    configs: BTreeMap<String, String>,
}

/// Reads a Compose file's tree, in which variables are put in already.
pub(super) fn read(
    root: &Node,
    folder: &Path,
    variables: &Variables<'_>,
    surroundings: &Surroundings<'_>,
    findings: &mut Findings,
) -> Result<Project, Fault> {
    if !matches!(root.value, Value::Map(_)) {
        let what = format!("the file is {}, where Compose has a mapping", root.kind());
        return Err(Fault::new(root.line, what, "a Compose file begins with `services:`"));
    }
    let Some(declared) = root.get("services").filter(|services| !services.entries().is_empty()) else {
        return Err(Fault::new(1, "the file has no services", "a Compose file has a mapping `services`"));
    };
    let name = project_name(root, folder, variables);
    let (devices, foreign) = volumes_of(root, findings);
    let places = Places { folder, home: variables.get("HOME"), stack: &name, devices: &devices, foreign: &foreign };
    let files = Files {
        secrets: files_of(root, "secrets", &places, findings),
        configs: files_of(root, "configs", &places, findings),
    };
    rest_of(root, findings);
    let around = Around { places: &places, files: &files, surroundings, variables };
    let mut names = BTreeSet::new();
    let mut services = Vec::new();
    for (key, node) in declared.entries() {
        let mut log = Log { findings, service: &key.text };
        let Some(name) = host_name(&key.text).filter(|name| names.insert(name.clone())) else {
            log.not_mapped(
                "image",
                key.line,
                "no name for it is left that is a host name",
                "rename it and import again",
            );
            continue;
        };
        if let Some(service) = service::read(key, name, node, &around, &mut log) {
            if service.name != service.compose_name {
                let reason = format!("it is called `{}`: a service's name is its host name", service.name);
                log.changed("services", key.line, &reason, "change its old name where others use it as an address");
            }
            services.push(service);
        }
    }
    Ok(Project { name, services, services_count: declared.entries().len() })
}

/// Returns the name of the stack, as Compose finds the project's: `name`, the variable, the folder.
fn project_name(root: &Node, folder: &Path, variables: &Variables<'_>) -> String {
    let named = root.get("name").and_then(Node::text).map(ToOwned::to_owned);
    let named = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).or(named);
    let folder = || folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = named.or_else(folder).unwrap_or_default();
    host_name(&name).unwrap_or_else(|| "imported".to_owned())
}

/// Returns the host name that is nearest to a name; `None`: there is none.
fn host_name(name: &str) -> Option<String> {
    let plain: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    let plain = plain.trim_matches('-');
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    let is_taken = plain.chars().all(|c| c.is_ascii_digit())
        || plain.strip_prefix("0x").is_some_and(is_number)
        || matches!(plain, "localhost" | "gateway");
    match plain {
        "" => None,
        plain if is_taken => Some(format!("my-{plain}")),
        plain => Some(plain.to_owned()),
    }
}

/// Returns the volumes that have a host path of their own, and those that cannot be a folder of the host.
fn volumes_of(root: &Node, findings: &mut Findings) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut devices, mut foreign) = (BTreeMap::new(), BTreeMap::new());
    for (key, node) in root.get("volumes").map(Node::entries).unwrap_or_default() {
        let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or_default().to_owned();
        let options = node.get("driver_opts");
        let device = text(options.and_then(|options| options.get("device")));
        let kind = text(options.and_then(|options| options.get("type")));
        let driver = text(node.get("driver"));
        if kind == "none" && device.starts_with('/') {
            devices.insert(key.text.clone(), device.trim_end_matches('/').to_owned());
        } else if !matches!(driver.as_str(), "" | "local") || !matches!(kind.as_str(), "" | "none") {
            foreign.insert(key.text.clone(), "it is a volume of a driver, not a folder of the host".to_owned());
        }
        if node.get("external").is_some_and(|external| shape::is_true(external) || !external.entries().is_empty()) {
            let way_out = "docker volume inspect says where its content is: copy it into the new folder";
            findings.changed(
                None,
                ("volumes", key.line),
                &format!("`{}` was made outside of this file; a new folder takes its place", key.text),
                way_out,
            );
        }
    }
    (devices, foreign)
}

/// Returns the files that `secrets` or `configs` of the project name.
fn files_of(
    root: &Node,
    kind: &'static str,
    places: &Places<'_>,
    findings: &mut Findings,
) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (key, node) in root.get(kind).map(Node::entries).unwrap_or_default() {
        if let Some(path) = node.get("file").and_then(Node::text).and_then(|file| places.host_path(file)) {
            files.insert(key.text.clone(), path);
        } else {
            let table = if kind == "secrets" { "credentials" } else { "mounts" };
            let reason = format!("`{}` is not a file on the host", key.text);
            findings.not_mapped(None, (kind, key.line), &reason, &format!("write `{table}` in service.toml"));
        }
    }
    files
}

/// Tells what else stands at the root.
fn rest_of(root: &Node, findings: &mut Findings) {
    for (key, node) in root.entries() {
        let together = "put it together first: docker compose config | nixmoxctl import compose -";
        let (reason, way_out) = match key.text.as_str() {
            "name" | "version" | "services" | "volumes" | "secrets" | "configs" => continue,
            name if name.starts_with("x-") => continue,
            "networks" if node.entries().len() <= 1 => continue,
            "networks" => (
                "the services of a stack have one network, and reach each other on every port",
                "two stacks are two files; `networks` keeps nothing apart here",
            ),
            "include" => ("other Compose files are not read", together),
            "models" => ("there is no container engine that runs models", "a service with services.ollama"),
            _ => ("Compose has no such key that is known here", "look for a mistake in its name"),
        };
        findings.not_mapped(None, (&key.text, key.line), reason, way_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_the_nearest_host_name() {
        let of = |name| host_name(name);
        for (name, expected) in
            [("my_db", "my-db"), ("Web.1", "web-1"), ("_x_", "x"), ("80", "my-80"), ("localhost", "my-localhost")]
        {
            assert_eq!(of(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(of("__"), None);
        assert_eq!(of(&"a".repeat(100)).map(|name| name.len()), Some(60));
    }
}

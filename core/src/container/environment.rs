//! Environment: the file that gives a guest's services theirs, and nspawn's, which tells what it was started with.

use std::fmt::Write as _;

use super::Uncarriable;
use crate::model::{Assigned, Spec, StorePath};

/// Returns the drop-in for the guest's service manager that sets the environment of every service in the guest;
/// `None` when the container has no environment.
///
/// `DefaultEnvironment=` (systemd-system.conf(5)) reaches services, where `--setenv=` reaches only PID 1. A static
/// guest, which has no service manager, sees the file but nobody sets its environment from it.
///
/// # Errors
///
/// When a name is not one of an environment variable, or a value has a control character.
pub fn environment_file(assigned: &Assigned) -> Result<Option<String>, Uncarriable> {
    let environment = assigned.environment();
    if environment.is_empty() {
        return Ok(None);
    }
    let mut text = String::from("# Written by nixmox-agent.\n[Manager]\n");
    for (name, value) in environment {
        let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !valid {
            return Err(Uncarriable::new(
                "the name of a variable",
                name,
                "only letters, digits and `_` are allowed",
            ));
        }
        // systemd drops assignments with other control characters (environ_is_valid), and a line break would
        // be a setting of its own.
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Uncarriable::new("the value of a variable", value, "it contains a control character"));
        }
        // Quoting as in systemd.syntax(7); `%` starts a specifier.
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('\t', "\\t");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "DefaultEnvironment=\"{name}={value}\"");
    }
    Ok(Some(text))
}

/// Returns what a container was started with, from the environment of its nspawn (`/proc/PID/environ`: variables
/// separated by zero bytes); `None` when NixMox did not start it or a newer version did.
#[must_use]
pub fn spec_of_environ(environ: &[u8]) -> Option<Spec> {
    variable(environ, b"NIXMOX_SPEC=")?.parse().ok()
}

/// Returns the system that a container of somebody else was started with, from the same environment; `None`: that of its profile.
#[must_use]
pub fn system_of_environ(environ: &[u8]) -> Option<StorePath> {
    variable(environ, b"SYSTEM_PATH=")?.parse().ok()
}

fn variable<'a>(environ: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let value = environ.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(name))?;
    std::str::from_utf8(value).ok()
}

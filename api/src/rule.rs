//! What a text from outside must look like before the agent, which is root, works with it.
//!
//! Grammar only: whether a conf file or a unit can carry a value is `nixmox_core::container`'s to say, and whether
//! services fit together is the manifest's and the planner's.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nixmox_core::model::{
    AddressPool, CAPABILITIES, ContainerName, InvalidName, InvalidPool, Owner, StackName, StorePath,
};

/// `PATH_MAX` with its final zero byte (limits.h(0p)).
const PATH_LENGTH_MAX: usize = 4095;
/// `NAME_MAX` (limits.h(0p)); also the longest name of a unit (systemd.unit(5)).
const NAME_LENGTH_MAX: usize = 255;
/// `IFNAMSIZ` of the kernel with its final zero byte.
const INTERFACE_LENGTH_MAX: usize = 15;
/// The longest name of a user that systemd takes (`UT_NAMESIZE` of utmp(5)).
const USER_LENGTH_MAX: usize = 31;
/// `MAX_ARG_STRLEN` of the kernel: the longest argument or environment string of a process.
const ARGUMENT_LENGTH_MAX: usize = 128 * 1024 - 1;
/// The longest URL and command that a health check may ask for; a probe runs every few seconds.
const PROBE_LENGTH_MAX: usize = 8 * 1024;
/// Longer than any wait that makes sense, short enough for every sum of two.
const DURATION_MAX: Duration = Duration::from_hours(24 * 366);

/// Returns a text for a message: shortened, and without characters that a terminal would act on.
pub(crate) fn shown(text: &str) -> String {
    const LENGTH_MAX: usize = 80;
    match text.char_indices().nth(LENGTH_MAX) {
        None => text.escape_debug().to_string(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default().escape_debug()),
    }
}

/// Returns a text for a message, as [`shown`] has it, in quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// Reads the name of a container.
pub(crate) fn container(text: &str) -> Result<ContainerName, String> {
    text.parse().map_err(|InvalidName { text, why }| format!("{} is not a name: {why}", quoted(&text)))
}

/// Reads the name of a stack.
pub(crate) fn stack(text: &str) -> Result<StackName, String> {
    text.parse().map_err(|InvalidName { text, why }| format!("{} is not a name: {why}", quoted(&text)))
}

/// Reads who declares a stack.
pub(crate) fn owner(text: &str) -> Result<Owner, String> {
    text.parse().map_err(|InvalidName { text, why }| format!("{} names nobody: {why}", quoted(&text)))
}

/// Reads a store path.
pub(crate) fn store_path(text: &str) -> Result<StorePath, String> {
    text.parse().map_err(|_| format!("{} is not a path directly inside /nix/store", quoted(text)))
}

/// Reads a pool of addresses.
pub(crate) fn address_pool(text: &str) -> Result<AddressPool, String> {
    text.parse().map_err(|error: InvalidPool| match error {
        InvalidPool::Form(text) => format!("{} is not a range of addresses such as 10.233.0.0/16", quoted(&text)),
        error @ (InvalidPool::Prefix(_) | InvalidPool::HostBits { .. }) => error.to_string(),
    })
}

/// Reads an absolute path; `//`, `/./` and a final `/` are dropped, `..` is refused.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    let refuse = |why: &str| Err(format!("{} {why}", quoted(text)));
    if !text.starts_with('/') {
        return refuse("is not an absolute path");
    }
    if text.len() > PATH_LENGTH_MAX {
        return refuse("is longer than a path can be");
    }
    if text.contains(char::is_control) {
        return refuse("contains a control character");
    }
    if Path::new(text).components().any(|part| part == Component::ParentDir) {
        return refuse("contains `..`");
    }
    Ok(Path::new(text).components().collect())
}

/// Reads a path that is resolved inside a container, where it may lead anywhere: absolute.
pub(crate) fn guest_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        Err(format!("{} is not an absolute path", quoted(text)))
    } else if text.len() > PATH_LENGTH_MAX {
        Err(format!("{} is longer than a path can be", quoted(text)))
    } else if text.contains('\0') {
        Err(format!("{} contains a zero byte", quoted(text)))
    } else {
        Ok(())
    }
}

/// Reads a path inside a container: absolute, and not the root itself.
pub(crate) fn target(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    if path.parent().is_none() { Err("a container's root cannot be mounted over".to_owned()) } else { Ok(path) }
}

/// Reads a device node: a path below `/dev`.
pub(crate) fn device(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    let below = path.starts_with("/dev") && path.components().count() > 2;
    if below { Ok(path) } else { Err(format!("{} is not below /dev", quoted(text))) }
}

/// Reads what is allowed with a device: a non-empty part of `rwm`, in that order.
pub(crate) fn device_access(text: String) -> Result<String, String> {
    let valid = ["r", "w", "m", "rw", "rm", "wm", "rwm"].contains(&text.as_str());
    if valid { Ok(text) } else { Err(format!("{} is not a part of `rwm`", quoted(&text))) }
}

/// Reads the name of a credential, which is a file name (systemd.exec(5), `LoadCredential=`).
pub(crate) fn credential_name(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    name(text, NAME_LENGTH_MAX, allowed, "letters, digits, `-`, `.` and `_`")
}

/// Reads the name of an environment variable.
pub(crate) fn variable_name(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{} begins with a digit", quoted(text)));
    }
    name(text, NAME_LENGTH_MAX, allowed, "letters, digits and `_`")
}

/// Reads the name of a network interface, as `dev_valid_name` of the kernel has it, in ASCII.
pub(crate) fn interface(text: String) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    name(&text, INTERFACE_LENGTH_MAX, allowed, "letters, digits, `-`, `.` and `_`")?;
    Ok(text)
}

/// Reads the name of a unit of the guest (systemd.unit(5)).
pub(crate) fn unit(text: String) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    name(&text, NAME_LENGTH_MAX, allowed, "letters, digits and `:-_.\\@`")?;
    let valid = text.split_once('.').is_some_and(|(prefix, suffix)| !prefix.is_empty() && !suffix.is_empty());
    if valid { Ok(text) } else { Err(format!("{} is not the name of a unit", quoted(&text))) }
}

/// Reads the URL of a health check.
pub(crate) fn url(text: String) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or_default();
    let valid = text.len() <= PROBE_LENGTH_MAX
        && !rest.is_empty()
        && !rest.starts_with('/')
        && text.chars().all(|c| c.is_ascii_graphic());
    if valid { Ok(text) } else { Err(format!("{} is not an http:// URL", quoted(&text))) }
}

/// Reads a command: not empty, and every word one that can be passed to a process.
pub(crate) fn command(words: Vec<String>) -> Result<Vec<String>, String> {
    let length: usize = words.iter().map(String::len).sum();
    match words.first() {
        None => Err("a command has at least one word".to_owned()),
        Some(program) if program.is_empty() => Err("the program's name is empty".to_owned()),
        Some(_) if length > PROBE_LENGTH_MAX => Err("the command is too long".to_owned()),
        Some(_) if words.iter().any(|word| word.contains('\0')) => Err("it contains a zero byte".to_owned()),
        Some(_) => Ok(words),
    }
}

/// Reads the value of an environment variable.
pub(crate) fn variable_value(text: &str) -> Result<(), String> {
    if text.len() > ARGUMENT_LENGTH_MAX {
        Err("the value is longer than an environment can carry".to_owned())
    } else if text.contains(|c: char| c.is_control() && c != '\t') {
        // Not shown: it may be a secret, though secrets belong into credentials.
        Err("the value contains a control character".to_owned())
    } else {
        Ok(())
    }
}

/// Reads a capability.
pub(crate) fn capability(text: String) -> Result<String, String> {
    if CAPABILITIES.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(format!("{} is not a capability (capabilities(7))", quoted(&text)))
    }
}

/// Reads a flag of systemd-nspawn(1).
pub(crate) fn nspawn_flag(text: String) -> Result<String, String> {
    if text.starts_with('-') && text.len() <= PATH_LENGTH_MAX {
        Ok(text)
    } else {
        Err(format!("{} is not a flag", quoted(&text)))
    }
}

/// Reads a duration of at least `min` milliseconds.
pub(crate) fn duration(milliseconds: u64, min: u64) -> Result<Duration, String> {
    let time = Duration::from_millis(milliseconds);
    if milliseconds < min {
        Err(format!("{milliseconds} ms is shorter than {min} ms"))
    } else if time > DURATION_MAX {
        Err(format!("{milliseconds} ms is longer than a year"))
    } else {
        Ok(time)
    }
}

/// Reads a port.
pub(crate) fn port(number: u16) -> Result<u16, String> {
    if number == 0 { Err("0 is not a port".to_owned()) } else { Ok(number) }
}

/// Reads a count of at least 1.
pub(crate) fn count(number: u32) -> Result<u32, String> {
    if number == 0 { Err("it must be at least 1".to_owned()) } else { Ok(number) }
}

/// Reads a user of a container, by name or number.
pub(crate) fn user(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.starts_with(['-', '.']) {
        return Err(format!("{} is not the name of a user", quoted(text)));
    }
    name(text, USER_LENGTH_MAX, allowed, "letters, digits, `-`, `.` and `_`")
}

/// Reads the kind of a terminal: the name of an entry of terminfo(5).
pub(crate) fn terminal_kind(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    name(text, NAME_LENGTH_MAX, allowed, "letters, digits, `-`, `.`, `_` and `+`")
}

fn name(text: &str, length_max: usize, allowed: fn(char) -> bool, rule: &str) -> Result<(), String> {
    let why = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > length_max {
        format!("is longer than {length_max} characters")
    } else if !text.chars().all(allowed) {
        format!("has other characters than {rule}")
    } else if text == "." || text == ".." {
        "is not a name".to_owned()
    } else {
        return Ok(());
    };
    Err(format!("{} {why}", quoted(text)))
}

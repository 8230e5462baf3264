//! `volumes` and `tmpfs`: what lies where in the container.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::quantity;
use super::shape::{Log, items};
use crate::import::yaml::{Node, Value};

/// A host path in the container, under the path that the image knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) struct Volume {
    /// The host path; absolute.
    pub(in crate::import) source: String,
    /// The path in the image; absolute.
    pub(in crate::import) target: String,
    /// Whether the container may only read it.
    pub(in crate::import) is_read_only: bool,
    /// Whether it was a volume of Compose's, which is made when it is missing.
    pub(in crate::import) is_named: bool,
    /// Where it stands.
    pub(in crate::import) line: usize,
}

/// A memory file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) struct Tmpfs {
    /// The path in the image; absolute.
    pub(in crate::import) target: String,
    /// How much it may hold, in bytes.
    pub(in crate::import) size: Option<u64>,
    /// Where it stands.
    pub(in crate::import) line: usize,
}

/// What is known of the project when a service's volumes are read.
#[derive(Debug)]
pub(in crate::import) struct Places<'a> {
    /// The folder that relative paths are relative to.
    pub(in crate::import) folder: &'a Path,
    /// Whose `~` is.
    pub(in crate::import) home: Option<String>,
    /// The stack, for the folders of its volumes.
    pub(in crate::import) stack: &'a str,
    /// The volumes of the project that have a host path of their own, by name.
    pub(in crate::import) devices: &'a BTreeMap<String, String>,
    /// Volumes that cannot be host folders, by name, with the reason.
    pub(in crate::import) foreign: &'a BTreeMap<String, String>,
}

impl Places<'_> {
    /// Returns the absolute host path that a text means; `None`: no path, or not one that a manifest can hold.
    pub(in crate::import) fn host_path(&self, text: &str) -> Option<String> {
        let path = match text.strip_prefix('~') {
            Some(rest) => PathBuf::from(format!("{}{rest}", self.home.as_deref()?)),
            None => self.folder.join(text),
        };
        let mut plain = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
                Component::ParentDir => {
                    plain.pop();
                }
                Component::Normal(name) => plain.push(name),
            }
        }
        plain.to_str().filter(|path| is_carried(path)).map(ToOwned::to_owned)
    }

    /// Returns the folder of a volume of Compose's.
    fn volume(&self, name: &str) -> String {
        match self.devices.get(name) {
            Some(device) => device.clone(),
            None => format!("/srv/{}/{name}", self.stack),
        }
    }
}

/// Whether a path reaches systemd-nspawn unharmed: `core` refuses all others in a manifest.
fn is_carried(path: &str) -> bool {
    !path.chars().any(|c| c.is_whitespace() || c.is_control() || "\"'`\\*?[]".contains(c))
}

/// What is wrong with a path that a manifest cannot hold.
const NOT_CARRIED: &str = "blanks, quotes, backslashes and `*?[]` cannot occur in the paths of a container";

/// Returns the volumes and the memory file systems of `volumes`.
pub(super) fn read(node: &Node, places: &Places<'_>, log: &mut Log<'_>) -> (Vec<Volume>, Vec<Tmpfs>) {
    if !matches!(node.value, Value::List(_) | Value::Null) {
        log.misshapen("volumes", node, "a list");
    }
    let (mut volumes, mut tmpfs) = (Vec::new(), Vec::new());
    for item in node.items() {
        match &item.value {
            Value::Scalar(scalar) => volumes.extend(short(&scalar.text, item.line, places, log)),
            Value::Map(_) if item.get("type").and_then(Node::text) == Some("tmpfs") => {
                tmpfs.extend(long_tmpfs(item, log));
            }
            Value::Map(_) => volumes.extend(long(item, places, log)),
            Value::Null | Value::List(_) => log.misshapen("volumes", item, "a text or a mapping"),
        }
    }
    (volumes, tmpfs)
}

fn short(text: &str, line: usize, places: &Places<'_>, log: &mut Log<'_>) -> Option<Volume> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        // Without a source, Docker makes a volume that nobody can find again: here the container's root keeps it.
        [_] => return None,
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        [] | [_, ..] => {
            log.not_mapped("volumes", line, "it is not SOURCE:TARGET[:OPTIONS]", "write `mounts` in service.toml");
            return None;
        }
    };
    let is_read_only = options.split(',').any(|option| option == "ro");
    let written = Written { source, target, is_read_only, subpath: "" };
    volume(written, line, places, log)
}

fn long(node: &Node, places: &Places<'_>, log: &mut Log<'_>) -> Option<Volume> {
    let text = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default();
    let source = text("source");
    match text("type") {
        "volume" if source.is_empty() => return None,
        "volume" | "bind" => {}
        _ => {
            let way_out = "write `mounts` in service.toml";
            log.not_mapped("volumes", node.line, "only binds, volumes and memory file systems are known", way_out);
            return None;
        }
    }
    let subpath = node.get("volume").and_then(|volume| volume.get("subpath")).and_then(Node::text);
    let is_read_only = node.get("read_only").is_some_and(super::shape::is_true);
    let written = Written { source, target: text("target"), is_read_only, subpath: subpath.unwrap_or_default() };
    volume(written, node.line, places, log)
}

/// A volume as it is written.
#[derive(Clone, Copy)]
struct Written<'a> {
    source: &'a str,
    target: &'a str,
    is_read_only: bool,
    subpath: &'a str,
}

fn volume(written: Written<'_>, line: usize, places: &Places<'_>, log: &mut Log<'_>) -> Option<Volume> {
    let mut refuse = |reason: &str, way_out: &str| {
        log.not_mapped("volumes", line, reason, way_out);
        None
    };
    if written.source.ends_with("docker.sock") || written.source.ends_with("podman.sock") {
        return refuse("there is no container engine whose socket could be had", "");
    }
    if matches!(written.target, "/etc/localtime" | "/etc/timezone") {
        return refuse(
            "the guest has a time zone of its own",
            "set the variable TZ, or `time.timeZone` in service.nix",
        );
    }
    let target = written.target.trim_end_matches('/');
    if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
        return refuse("its target is not an absolute path in the container", "write `mounts` in service.toml");
    }
    let owned = ["/nix", "/proc", "/sys", "/dev", "/run/host", "/run/systemd"];
    if target == "/run" || owned.iter().any(|owned| Path::new(target).starts_with(owned)) {
        return refuse("this path of the container belongs to systemd-nspawn", "`devices` is for device nodes");
    }
    let is_path = written.source.starts_with(['/', '.', '~']);
    let source = if is_path {
        places.host_path(written.source)
    } else if let Some(reason) = places.foreign.get(written.source) {
        return refuse(reason, "mount it on the host, and name the folder under `mounts` in service.toml");
    } else {
        let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let is_name = written.source.chars().all(known) && !written.source.is_empty();
        is_name.then(|| places.volume(written.source))
    };
    let below = written.subpath.trim_matches('/');
    let source = source.map(|source| if below.is_empty() { source } else { format!("{source}/{below}") });
    match source.filter(|source| is_carried(source) && is_carried(target) && !below.contains("..")) {
        Some(source) => Some(Volume {
            source,
            target: target.to_owned(),
            is_read_only: written.is_read_only,
            is_named: !is_path && !places.devices.contains_key(written.source),
            line,
        }),
        None => refuse(NOT_CARRIED, "rename the folder, and write `mounts` in service.toml"),
    }
}

/// Returns the memory file systems of `tmpfs`.
pub(super) fn read_tmpfs(node: &Node, log: &mut Log<'_>) -> Vec<Tmpfs> {
    let texts = items("tmpfs", node, log);
    let read = |item: super::shape::Item| {
        let (target, options) = item.text.split_once(':').unwrap_or((&item.text, ""));
        let size = options.split(',').find_map(|option| option.strip_prefix("size="));
        tmpfs(target, size, item.line, log)
    };
    texts.into_iter().filter_map(read).collect()
}

fn long_tmpfs(node: &Node, log: &mut Log<'_>) -> Option<Tmpfs> {
    let target = node.get("target").and_then(Node::text).unwrap_or_default();
    let size = node.get("tmpfs").and_then(|tmpfs| tmpfs.get("size")).and_then(Node::text);
    tmpfs(target, size, node.line, log)
}

fn tmpfs(target: &str, size: Option<&str>, line: usize, log: &mut Log<'_>) -> Option<Tmpfs> {
    let target = target.trim_end_matches('/');
    // The guest's systemd has memory file systems there anyway.
    if matches!(target, "/run" | "/tmp" | "/dev/shm") {
        return None;
    }
    let owned = ["/nix", "/proc", "/sys", "/dev", "/run/host", "/run/systemd"];
    let is_owned = owned.iter().any(|owned| Path::new(target).starts_with(owned));
    if !target.starts_with('/') || is_owned || !is_carried(target) || target.split('/').any(|part| part == "..") {
        log.not_mapped("tmpfs", line, "this path of the container cannot be a memory file system", "");
        return None;
    }
    let size = size.and_then(quantity::bytes).filter(|bytes| *bytes > 0);
    Some(Tmpfs { target: target.to_owned(), size, line })
}

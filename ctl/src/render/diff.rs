//! What differs between two generations, service by service.
//!
//! ```text
//! 41 -> 42
//! ~ nextcloud
//!     system             nixos-system-nextcloud-29 (1.2G) -> nixos-system-nextcloud-30 (1.3G, +96M)
//!                        ~ nextcloud 29.0.1 -> 30.0.2 (+90M)
//!     limits.memory_max  1G -> 2G
//!     mounts             + /srv/photos:/photos
//! + wiki                 nixos-system-wiki (800M)
//! - blog
//! ~ [stack] cloud
//!     limits.memory_max  + 4G
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nixmox_api::{DiffReply, Difference, ServiceDiff, StackDiff};
use nixmox_core::closure::ClosureDifference;

use super::closure::closure;

use super::quantity::size as bytes;
use super::style::{Paint, Style};
use super::text;

/// What is known of the systems that differ.
#[derive(Debug, Default)]
pub(crate) struct Systems {
    /// Closure sizes in bytes by store path, where they are known.
    pub(crate) sizes: BTreeMap<String, u64>,
    /// What differs inside, by service.
    pub(crate) inside: BTreeMap<String, ClosureDifference>,
}

/// The blanks before a difference.
const INDENT: usize = 4;

/// Returns the text of what differs.
pub(crate) fn diff(
    reply: &DiffReply,
    (from, to): (u64, u64),
    systems: &Systems,
    width: Option<usize>,
    style: Style,
) -> String {
    let stacks: Vec<ServiceDiff> = reply.stacks.iter().flatten().map(of_stack).collect();
    if reply.services.is_empty() && stacks.is_empty() {
        return format!("nothing differs between the generations {from} and {to}\n");
    }
    let mut out = format!("{}\n", style.paint(Paint::Dim, &format!("{from} -> {to}")));
    for service in reply.services.iter().chain(&stacks) {
        let (symbol, paint) = match service.change.as_str() {
            "added" => ("+", Paint::Good),
            "removed" => ("-", Paint::Bad),
            _ => ("~", Paint::Plain),
        };
        let name = style.paint(Paint::Bold, &text::clean(&service.name));
        let _ = writeln!(out, "{} {name}", style.paint(paint, symbol));
        for (key, line) in lines(service, systems) {
            let key = text::left(&text::clean(&key), key_width(service));
            let room = width.map(|width| width.saturating_sub(INDENT + text::width(&key) + 2));
            for (index, part) in text::wrap(&text::clean(&line), room).into_iter().enumerate() {
                let key = if index == 0 { key.clone() } else { " ".repeat(text::width(&key)) };
                let _ = writeln!(out, "{}{}  {part}", " ".repeat(INDENT), style.paint(Paint::Dim, &key));
            }
        }
    }
    out
}

/// Returns what differs of a stack itself in the form of a service.
fn of_stack(stack: &StackDiff) -> ServiceDiff {
    ServiceDiff {
        name: format!("[stack] {}", stack.name),
        stack: stack.name.clone(),
        change: "changed".to_owned(),
        system_from: None,
        system_to: None,
        differences: stack.differences.clone(),
    }
}

fn key_width(service: &ServiceDiff) -> usize {
    service.differences.iter().map(|difference| text::width(&difference.key)).max().unwrap_or(0).max("system".len())
}

/// Returns the lines about a service, each with its key.
fn lines(service: &ServiceDiff, systems: &Systems) -> Vec<(String, String)> {
    let size = |path: &Option<String>| path.as_ref().and_then(|path| systems.sizes.get(path)).copied();
    let mut lines = Vec::new();
    if service.system_from != service.system_to {
        let (from, to) = (size(&service.system_from), size(&service.system_to));
        let old = service.system_from.as_deref().map(|path| named(path, from, None));
        let new = service.system_to.as_deref().map(|path| named(path, to, from));
        let line = match (old, new) {
            (Some(old), Some(new)) => format!("{old} -> {new}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => String::new(),
        };
        lines.push(("system".to_owned(), line));
        // Its first line is the sizes, which are told already.
        let inside = systems.inside.get(&service.name).map(closure).unwrap_or_default();
        lines.extend(inside.into_iter().skip(1).map(|line| (String::new(), line)));
    }
    let others = service.differences.iter().filter(|difference| difference.key != "system");
    lines.extend(others.map(|Difference { key, from, to }| {
        let line = match (from.as_str(), to.as_str()) {
            ("", to) => format!("+ {to}"),
            (from, "") => format!("- {from}"),
            (from, to) => format!("{from} -> {to}"),
        };
        (key.clone(), line)
    }));
    lines
}

/// Returns a system with the size of all that it needs, and how much more that is than before.
fn named(path: &str, size: Option<u64>, before: Option<u64>) -> String {
    let Some(size) = size else { return path.to_owned() };
    let more = match before {
        Some(before) if size > before => format!(", +{}", bytes(size - before)),
        Some(before) if size < before => format!(", -{}", bytes(before - size)),
        Some(_) | None => String::new(),
    };
    format!("{path} ({}{more})", bytes(size))
}

//! The paths that a Rust file uses: its `use` lines and the paths in its code, made absolute.
//!
//! A reader for this workspace, not for every Rust: macros are read as plain text, `#[cfg(test)] mod` blocks are left
//! out, and a name that was imported stands for where it came from.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the module that a file is, such as `nixmox_agent::server::session`; `None` for files whose imports no floor
/// is about: tests and examples.
pub(crate) fn module_of(file: &str) -> Option<String> {
    let (folder, rest) = file.split_once("/src/")?;
    let name = match folder {
        "core" => "nixmox_core",
        "tree" => "nixmox_tree",
        "api" => "nixmox_api",
        "agent" => "nixmox_agent",
        "ctl" => "nixmoxctl",
        "xtask" => "xtask",
        _ => return None,
    };
    let rest = rest.strip_suffix(".rs")?;
    let segments: Vec<&str> = rest.split('/').filter(|segment| !matches!(*segment, "mod" | "lib")).collect();
    if segments.iter().any(|segment| matches!(*segment, "tests" | "testing" | "properties")) {
        return None;
    }
    Some([&[name], segments.as_slice()].concat().join("::"))
}

/// Returns the absolute paths that a file uses: of this crate, of others and of `std`.
pub(crate) fn used_paths(text: &str, module: &str) -> BTreeSet<String> {
    let code = without_tests(&without_text(text));
    let mut imported = BTreeMap::new();
    let mut paths = BTreeSet::new();
    let mut rest = code.as_str();
    let mut others = String::new();
    while let Some(start) = find_word(rest, "use") {
        others.push_str(&rest[..start]);
        let end = rest[start..].find(';').map_or(rest.len(), |end| start + end);
        expand(rest[start + 3..end].trim(), "", &mut |path, name| {
            let path = absolute(&path, module, &BTreeMap::new());
            imported.insert(name, path.clone());
            paths.insert(path);
        });
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    others.push_str(rest);
    // A path in the code counts when its beginning is known: a crate, this crate, or something that was imported.
    for path in inline_paths(&others) {
        let first = path.split("::").next().unwrap_or_default();
        if imported.contains_key(first) || ["crate", "super", "self", "std"].contains(&first) || is_crate(first) {
            paths.insert(absolute(&path, module, &imported));
        }
    }
    // What is imported as a module and used below is told more exactly by the use; both stay, since an import alone
    // is a use too, except where it only abbreviates the longer path.
    let longer: Vec<String> = paths.iter().cloned().collect();
    paths.retain(|path| !longer.iter().any(|long| long.starts_with(&format!("{path}::"))));
    paths
}

/// Crates whose use in the middle of code is noticed.
fn is_crate(name: &str) -> bool {
    matches!(
        name,
        "nixmox_core"
            | "nixmox_api"
            | "nixmox_agent"
            | "nixmoxctl"
            | "tokio"
            | "zbus"
            | "zlink"
            | "nix"
            | "procfs"
            | "tracing"
    )
}

/// Replaces comments and the insides of strings and characters by blanks.
fn without_text(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with('"') {
            string(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br") {
            raw_string(rest)
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            code.push_str(&rest[..next]);
            at += next;
        } else {
            code.push(' ');
            at += skipped;
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a raw string; 0 when this is no raw string but a word.
fn raw_string(text: &str) -> usize {
    let start = text.trim_start_matches('b');
    let Some(start) = start.strip_prefix('r') else { return 0 };
    let hashes = start.len() - start.trim_start_matches('#').len();
    let Some(inside) = start[hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = text.len() - inside.len();
    inside.find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// Returns the length of a character; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => {
            text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Leaves out `#[cfg(test)] mod ... { ... }`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, from) = rest.split_at(start);
        kept.push_str(before);
        let body = from.find(['{', ';']).unwrap_or(from.len());
        if from[body..].starts_with('{') {
            let mut depth = 0;
            let end = from[body..].char_indices().find_map(|(at, c)| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                (depth == 0).then_some(body + at + 1)
            });
            rest = &from[end.unwrap_or(from.len())..];
        } else {
            rest = from.get(body + 1..).unwrap_or_default();
        }
    }
    kept.push_str(rest);
    kept
}

/// Returns where a word stands by itself.
fn find_word(code: &str, word: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    while let Some(at) = code[from..].find(word).map(|at| from + at) {
        let before = code[..at].chars().next_back().is_some_and(part);
        let after = code[at + word.len()..].chars().next().is_some_and(part);
        if !before && !after {
            return Some(at);
        }
        from = at + word.len();
    }
    None
}

/// Takes a `use` tree apart; `found` gets each path with the name that it has in the file.
fn expand(tree: &str, prefix: &str, found: &mut impl FnMut(String, String)) {
    let tree = tree.trim().trim_start_matches("::");
    if let Some(open) = tree.find('{') {
        let inside = tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]);
        let prefix = format!("{prefix}{}", tree[..open].trim());
        let mut depth = 0;
        let mut start = 0;
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let part = inside[start..at].trim();
                    if !part.is_empty() {
                        expand(part, &prefix, found);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path.trim(), Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let path = format!("{prefix}{path}");
    let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
    let name = alias.unwrap_or_else(|| path.rsplit("::").next().unwrap_or_default().to_owned());
    found(path, name);
}

/// Returns every `a::b` of the code.
fn inline_paths(code: &str) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.split(|c| !part(c))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"))
        .map(str::to_owned)
        .collect()
}

/// Makes a path absolute, from the module in which it stands and what that imports.
fn absolute(path: &str, module: &str, imported: &BTreeMap<String, String>) -> String {
    let mut segments: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut base: Vec<&str> = Vec::new();
    match segments.first().copied() {
        Some("crate") => {
            base.extend(module.split("::").next());
            segments.remove(0);
        }
        Some("self" | "super") => {
            base.extend(module.split("::"));
            while let Some(&first @ ("self" | "super")) = segments.first() {
                segments.remove(0);
                if first == "super" {
                    base.pop();
                }
            }
        }
        Some(first) => {
            if let Some(full) = imported.get(first) {
                base.extend(full.split("::"));
                segments.remove(0);
            }
        }
        None => {}
    }
    base.extend(segments);
    base.join("::")
}

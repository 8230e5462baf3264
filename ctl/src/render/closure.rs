//! What differs inside a system, as lines.
//!
//! ```text
//! inside: 812M -> 824M (+12M)
//! + jq 1.7.1 (+1M)
//! - icu 73.2 (-38M)
//! ~ postgresql 17.2 -> 17.5 (+600K)
//! ```

use nixmox_core::closure::{ClosureDifference, Package, PackageDifference};

use super::quantity::size;

/// The packages that are named at most.
const PACKAGES_MAX: usize = 12;

/// Returns the lines: the size of all first, then the packages, those that change the size most where not all are named.
pub(crate) fn closure(difference: &ClosureDifference) -> Vec<String> {
    let ClosureDifference { packages, from, to } = difference;
    let change = change(*from, *to);
    let all = match change.as_str() {
        "" => format!("inside: {}", size(*to)),
        change => format!("inside: {} -> {}{change}", size(*from), size(*to)),
    };
    let mut named: Vec<&PackageDifference> = packages.iter().collect();
    named.sort_by_key(|package| {
        let (from, to) = package.sizes();
        std::cmp::Reverse(from.abs_diff(to))
    });
    named.truncate(PACKAGES_MAX);
    named.sort_by(|a, b| a.name.cmp(&b.name));
    let more = packages.len().saturating_sub(PACKAGES_MAX);
    let more = (more > 0).then(|| format!("and {}", super::counted(more, "other package")));
    std::iter::once(all).chain(named.into_iter().map(package)).chain(more).collect()
}

fn package(package: &PackageDifference) -> String {
    let PackageDifference { name, from, to } = package;
    let (old, new) = package.sizes();
    let change = change(old, new);
    match (from.as_ref().map(versions), to.as_ref().map(versions)) {
        (None, new) => format!("+ {name}{}{change}", new.unwrap_or_default()),
        (Some(old), None) => format!("- {name}{old}{change}"),
        (Some(old), Some(new)) if old == new => format!("~ {name}{new}{change}"),
        (Some(old), Some(new)) => format!("~ {name}{} ->{}{change}", or_none(old), or_none(new)),
    }
}

/// Returns the versions of a package, each behind a blank or a comma; nothing where it has none.
fn versions(package: &Package) -> String {
    let known: Vec<&str> =
        package.versions.iter().map(String::as_str).filter(|version| !version.is_empty()).collect();
    if known.is_empty() { String::new() } else { format!(" {}", known.join(", ")) }
}

fn or_none(versions: String) -> String {
    if versions.is_empty() { " no version".to_owned() } else { versions }
}

/// Returns how much more or less it is, behind a blank; nothing where it is as much.
fn change(from: u64, to: u64) -> String {
    match to.checked_sub(from) {
        Some(0) => String::new(),
        Some(more) => format!(" (+{})", size(more)),
        None => format!(" (-{})", size(from.saturating_sub(to))),
    }
}

#[cfg(test)]
mod tests {
    use nixmox_core::closure::difference;

    use super::*;

    #[test]
    fn packages_are_told_with_versions_and_sizes_and_the_smallest_changes_are_counted() {
        let path = |name: &str| format!("/nix/store/{}-{name}", "a".repeat(32));
        let from = [("postgresql-17.2", 60_000_000), ("icu-73.2", 38 << 20), ("etc", 100), ("glibc-2.40", 1)]
            .map(|(name, size)| (path(name), size));
        let to = [("postgresql-17.5", 60_600_000), ("jq-1.7.1", 1 << 20), ("etc-1", 100), ("glibc-2.40", 1)]
            .map(|(name, size)| (path(name), size));
        let lent =
            |list: &[(String, u64)]| list.iter().map(|(path, size)| (path.clone(), *size)).collect::<Vec<_>>();
        let told = |from: &[(String, u64)], to: &[(String, u64)]| {
            let (from, to) = (lent(from), lent(to));
            closure(&difference(
                from.iter().map(|(p, s)| (p.as_str(), *s)),
                to.iter().map(|(p, s)| (p.as_str(), *s)),
            ))
        };
        let wanted = [
            "inside: 95M -> 59M (-36M)",
            "~ etc no version -> 1",
            "- icu 73.2 (-38M)",
            "+ jq 1.7.1 (+1M)",
            "~ postgresql 17.2 -> 17.5 (+586K)",
        ];
        assert_eq!(told(&from, &to), wanted);
        let many: Vec<(String, u64)> = (0..20).map(|n| (path(&format!("p{n}-1")), n << 20)).collect();
        let lines = told(&[], &many);
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (14, Some("and 8 other packages")));
        assert!(
            lines.contains(&"+ p19 1 (+19M)".to_owned()) && !lines.iter().any(|line| line.contains("p1 ")),
            "{lines:?}"
        );
        assert_eq!(told(&from, &from), ["inside: 95M"]);
    }
}

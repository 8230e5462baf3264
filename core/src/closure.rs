//! What differs between two closures: packages that came, went or changed their version, and what that is in size.
//!
//! A closure is a list of store paths with their own sizes. Names and versions are parsed from the paths as nix does it for
//! `nix store diff-closures`: a version begins at the first dash that no letter follows.

use std::collections::{BTreeMap, BTreeSet};

/// A change of size that is not worth a line, in bytes; as nix has it.
const SIZE_CHANGE_MIN: u64 = 8 * 1024;

/// The outputs of a package that are told from its name, as far as they are usual.
const OUTPUTS: [&str; 9] = ["bin", "debug", "dev", "devdoc", "doc", "info", "lib", "man", "static"];

/// What differs between two closures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosureDifference {
    /// Every package that differs, by name; names are unique.
    pub packages: Vec<PackageDifference>,
    /// The size of the first, in bytes.
    pub from: u64,
    /// The size of the second, in bytes.
    pub to: u64,
}

/// What differs of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageDifference {
    /// Its name.
    pub name: String,
    /// What it is in the first closure; `None`: it is not there.
    pub from: Option<Package>,
    /// What it is in the second; `None`: it is not there. At least one of both is.
    pub to: Option<Package>,
}

/// A package in a closure, with all its outputs and versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its versions, sorted and unique; one is empty where a path has none. Not empty.
    pub versions: BTreeSet<String>,
    /// The size of its paths, in bytes.
    pub size: u64,
}

/// Returns what differs between two closures, each a list of store paths with their own sizes in bytes; a path that is listed
/// twice counts once.
#[must_use]
pub fn difference<'a>(
    from: impl IntoIterator<Item = (&'a str, u64)>,
    to: impl IntoIterator<Item = (&'a str, u64)>,
) -> ClosureDifference {
    let (from, to): (BTreeMap<&str, u64>, BTreeMap<&str, u64>) =
        (from.into_iter().collect(), to.into_iter().collect());
    let size = |paths: &BTreeMap<&str, u64>| paths.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
    let (from_size, to_size) = (size(&from), size(&to));
    let (mut from, to) = (packages(from), packages(to));
    let mut all = Vec::new();
    for (name, to) in to {
        all.push(PackageDifference { from: from.remove(&name), to: Some(to), name });
    }
    all.extend(from.into_iter().map(|(name, from)| PackageDifference { name, from: Some(from), to: None }));
    all.retain(PackageDifference::is_one);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    ClosureDifference { packages: all, from: from_size, to: to_size }
}

impl PackageDifference {
    /// Returns its sizes in both closures, in bytes.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64) {
        let size = |package: &Option<Package>| package.as_ref().map_or(0, |package| package.size);
        (size(&self.from), size(&self.to))
    }

    /// Whether it is worth a line.
    fn is_one(&self) -> bool {
        let (from, to) = self.sizes();
        let versions = |package: &Option<Package>| package.as_ref().map(|package| package.versions.clone());
        versions(&self.from) != versions(&self.to) || from.abs_diff(to) >= SIZE_CHANGE_MIN
    }
}

fn packages(paths: BTreeMap<&str, u64>) -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for (path, size) in paths {
        let (name, version) = name_and_version(path);
        let package = packages.entry(name.to_owned()).or_default();
        package.versions.insert(version.to_owned());
        package.size = package.size.saturating_add(size);
    }
    packages
}

/// Returns the name of what a store path holds, without the store's folder, the hash and what marks a derivation.
#[must_use]
pub fn name_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".drv").unwrap_or(name);
    match name.split_once('-') {
        Some((hash, name)) if hash.len() == 32 => name,
        Some(_) | None => name,
    }
}

/// Returns the name and the version of the package that a store path is of, without the output; the version may be empty.
#[must_use]
pub fn name_and_version(path: &str) -> (&str, &str) {
    let name = name_of(path);
    // Only behind a version: `foo-man` may well be the name of a package.
    let bare = name.rsplit_once('-').filter(|(_, output)| OUTPUTS.contains(output)).map(|(bare, _)| parsed(bare));
    match bare {
        Some((name, version)) if !version.is_empty() => (name, version),
        Some(_) | None => parsed(name),
    }
}

/// `DrvName` of nix: the version begins behind the first dash that no letter follows.
fn parsed(name: &str) -> (&str, &str) {
    let begins =
        |(at, _): &(usize, &str)| name.as_bytes().get(at + 1).is_some_and(|next| !next.is_ascii_alphabetic());
    match name.match_indices('-').find(begins) {
        Some((at, _)) => (name.get(..at).unwrap_or_default(), name.get(at + 1..).unwrap_or_default()),
        None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(name: &str) -> String {
        format!("/nix/store/{}-{name}", "a".repeat(32))
    }

    #[test]
    fn names_and_versions_are_told_apart_as_nix_does() {
        for (name, wanted) in [
            ("postgresql-17.2", ("postgresql", "17.2")),
            ("postgresql-17.2-lib", ("postgresql", "17.2")),
            ("nixos-system-web-25.11.20251101.abcdef0", ("nixos-system-web", "25.11.20251101.abcdef0")),
            ("nixos-system-web", ("nixos-system-web", "")),
            ("source", ("source", "")),
            ("unit-sshd.service", ("unit-sshd.service", "")),
            ("systemd-minimal-257.1-man", ("systemd-minimal", "257.1")),
            ("foo-man", ("foo-man", "")),
            ("python3.12-requests-2.32", ("python3.12-requests", "2.32")),
            ("a-_1", ("a", "_1")),
            ("a-", ("a-", "")),
            ("", ("", "")),
        ] {
            assert_eq!(name_and_version(&path(name)), wanted, "{name}");
        }
        assert_eq!(name_of("/nix/store/p9402j1zf7h2yskiv8236y73b6jygxni-inner-1.2.drv"), "inner-1.2");
        assert_eq!(name_of("no-store-path"), "no-store-path");
    }

    #[test]
    fn packages_come_go_and_change() {
        let list = |names: &[(&str, u64)]| names.iter().map(|(name, size)| (path(name), *size)).collect::<Vec<_>>();
        let (from, to) = (
            list(&[
                ("postgresql-17.2", 5000),
                ("postgresql-17.2-lib", 100),
                ("icu-74", 3000),
                ("etc", 10),
                ("glibc-2.40", 7),
            ]),
            list(&[
                ("postgresql-17.5", 5500),
                ("postgresql-17.5-lib", 100),
                ("jq-1.7", 20),
                ("etc", 10 + 8192),
                ("glibc-2.40", 9),
            ]),
        );
        let refer =
            |list: &[(String, u64)]| list.iter().map(|(path, size)| (path.clone(), *size)).collect::<Vec<_>>();
        let (from, to) = (refer(&from), refer(&to));
        let difference = super::difference(
            from.iter().map(|(path, size)| (path.as_str(), *size)),
            to.iter().map(|(path, size)| (path.as_str(), *size)),
        );
        let package = |versions: &[&str], size| {
            Some(Package { versions: versions.iter().map(|version| (*version).to_owned()).collect(), size })
        };
        let one = |name: &str, from, to| PackageDifference { name: name.to_owned(), from, to };
        let wanted = vec![
            one("etc", package(&[""], 10), package(&[""], 10 + 8192)),
            one("icu", package(&["74"], 3000), None),
            one("jq", None, package(&["1.7"], 20)),
            one("postgresql", package(&["17.2"], 5100), package(&["17.5"], 5600)),
        ];
        assert_eq!(difference, ClosureDifference { packages: wanted, from: 8117, to: 13_831 });
    }

    /// A closure: few names, versions and sizes, so that they meet.
    fn closure() -> impl Strategy<Value = BTreeMap<String, u64>> {
        let name = (
            prop_oneof![Just("a"), Just("b"), Just("c-d")],
            prop_oneof![Just(""), Just("-1"), Just("-2"), Just("-2-dev")],
        );
        let entry = (name, 0..3_u8, prop_oneof![0..10_u64, 8000..20_000_u64, Just(u64::MAX / 4)]);
        proptest::collection::vec(entry, 0..8).prop_map(|entries| {
            let path = |((name, version), hash, size): ((&str, &str), u8, u64)| {
                (format!("/nix/store/{}-{name}{version}", hash.to_string().repeat(32)), size)
            };
            entries.into_iter().map(path).collect()
        })
    }

    fn of(from: &BTreeMap<String, u64>, to: &BTreeMap<String, u64>) -> ClosureDifference {
        let list = |paths: &BTreeMap<String, u64>| {
            paths.iter().map(|(path, size)| (path.clone(), *size)).collect::<Vec<_>>()
        };
        let (from, to) = (list(from), list(to));
        difference(from.iter().map(|(p, s)| (p.as_str(), *s)), to.iter().map(|(p, s)| (p.as_str(), *s)))
    }

    proptest! {
        /// What is not in the difference is the same in both, but for a few bytes; what is, leads from one to the other.
        #[test]
        fn a_difference_leads_from_one_closure_to_the_other(from in closure(), to in closure()) {
            let found = of(&from, &to);
            let versions = |paths: &BTreeMap<String, u64>| {
                let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for path in paths.keys() {
                    let (name, version) = name_and_version(path);
                    versions.entry(name.to_owned()).or_default().insert(version.to_owned());
                }
                versions
            };
            let mut carried = versions(&from);
            for package in &found.packages {
                prop_assert_eq!(carried.remove(&package.name), package.from.as_ref().map(|package| package.versions.clone()));
                carried.extend(package.to.as_ref().map(|to| (package.name.clone(), to.versions.clone())));
            }
            prop_assert_eq!(carried, versions(&to));
            // No package that differs by more than a little is left out.
            let left = |paths: &BTreeMap<String, u64>| {
                let told: BTreeSet<&str> = found.packages.iter().map(|package| package.name.as_str()).collect();
                let paths = paths.iter().filter(|(path, _)| !told.contains(name_and_version(path).0));
                paths.fold(0_u64, |sum, (_, size)| sum.saturating_add(*size))
            };
            prop_assert!(left(&from).abs_diff(left(&to)) < 3 * SIZE_CHANGE_MIN);
        }

        #[test]
        fn the_way_back_is_the_mirror_image_and_nothing_differs_from_itself(from in closure(), to in closure()) {
            let back = of(&to, &from);
            let turned = back.packages.into_iter().map(|PackageDifference { name, from, to }| PackageDifference { name, from: to, to: from });
            prop_assert_eq!(of(&from, &to), ClosureDifference { packages: turned.collect(), from: back.to, to: back.from });
            prop_assert!(of(&from, &from).packages.is_empty());
        }
    }
}

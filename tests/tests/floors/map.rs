//! What ARCHITECTURE.md says: the folders, and the tests that hold the invariants.

use std::collections::{BTreeMap, BTreeSet};

/// Tests that the map names and that are still to be written. The list only becomes shorter.
pub(crate) const NOT_YET: &[&str] = &[];

/// Returns the top-level folders that the table of folders names.
pub(crate) fn folders(map: &str) -> BTreeSet<String> {
    map.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("/`"))
        .map(|(folder, _)| folder.to_owned())
        .collect()
}

/// Returns the tests that the table below a heading of a page names in its last column, as the table has them.
pub(crate) fn tests(page: &str, heading: &str) -> BTreeSet<String> {
    let below = page.split(&format!("## {heading}\n")).nth(1).unwrap_or_default();
    let table = below.split("\n## ").next().unwrap_or_default();
    let last_column = |line: &str| Some(line.strip_prefix('|')?.strip_suffix('|')?.rsplit('|').next()?.to_owned());
    table
        .lines()
        .filter_map(last_column)
        .flat_map(|column| column.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Returns whether a test is there: `file::test`, or a module of tests alone.
pub(crate) fn exists(name: &str, files: &BTreeMap<String, String>) -> bool {
    let (modules, last) = name.rsplit_once("::").unwrap_or(("", name));
    let lies_in = |file: &str, modules: &str| {
        let path = format!("/{}", file.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/main"));
        modules.is_empty() || path.ends_with(&format!("/{}", modules.replace("::", "/")))
    };
    files.iter().any(|(file, text)| {
        let function = text.contains(&format!("fn {last}(")) && lies_in(file, modules);
        let below = format!("/{file}").contains(&format!("/{}/", name.replace("::", "/")));
        let module = text.contains("#[test]") && (lies_in(file, name) || below);
        let inside = text.contains(&format!("mod {last} {{")) && text.contains("#[test]") && lies_in(file, modules);
        function || module || inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "| folder | owns |\n|---|---|\n| `core/` | `x` |\n\n## Invariants\n\n| invariant | held by |\n\
                       |---|---|\n| a `b` c | `floors::imports_go_down_only` |\n| d | `plan::properties`, `wire` |\n\n## Next\n";

    #[test]
    fn the_tables_are_read() {
        assert_eq!(folders(MAP), BTreeSet::from(["core".to_owned()]));
        let named: Vec<String> = tests(MAP, "Invariants").into_iter().collect();
        assert_eq!(named, ["floors::imports_go_down_only", "plan::properties", "wire"]);
    }

    #[test]
    fn a_test_that_is_not_there_is_missed() {
        let test = "#[test]\nfn imports_go_down_only() {}".to_owned();
        let files = BTreeMap::from([
            ("tests/tests/floors/main.rs".to_owned(), test.clone()),
            ("core/src/plan/properties.rs".to_owned(), test),
            ("tests/tests/builds/modules.rs".to_owned(), "#[test]\nfn x() {}".to_owned()),
            ("core/src/state.rs".to_owned(), "mod tests {\n#[test]\nfn x() {}\n}".to_owned()),
        ]);
        let there =
            ["floors::imports_go_down_only", "plan::properties", "floors", "state::tests", "builds::modules"];
        assert!(there.iter().all(|name| exists(name, &files)));
        let absent = ["floors::imports_go_up", "wire", "plan::tests", "model::imports_go_down_only", "oors"];
        assert!(absent.iter().all(|name| !exists(name, &files)));
    }
}

//! The environment of services in this guest: where a service manager would have it from, as there is none.

use std::{collections::BTreeMap, fs};

/// What a service manager takes its services' environment from.
const FILE: &str = "/run/systemd/system.conf.d/50-nixmox.conf";

/// Returns what services find in their environment.
pub(crate) fn of_services() -> BTreeMap<String, String> {
    read(&fs::read_to_string(FILE).unwrap_or_default())
}

/// Returns what `DefaultEnvironment=` lines with one quoted assignment each set.
fn read(text: &str) -> BTreeMap<String, String> {
    let assignment = |line: &str| {
        let quoted = line.strip_prefix("DefaultEnvironment=\"")?.strip_suffix('"')?;
        let (name, value) = quoted.split_once('=')?;
        Some((name.to_owned(), unquote(value)))
    };
    text.lines().filter_map(assignment).collect()
}

fn unquote(value: &str) -> String {
    let mut plain = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\' || letter == '%') {
            (_, false) => plain.push(letter),
            (_, true) => match letters.next() {
                Some('t') if letter == '\\' => plain.push('\t'),
                next => plain.extend(next),
            },
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_environment_is_what_a_service_manager_would_set() {
        let text = "# Written.\n[Manager]\nDefaultEnvironment=\"A=1\"\nDefaultEnvironment=\"B=say \\\"hi\\\" \\\\ 100%% \\tx\"\nOther=\"C=1\"\n";
        let read: Vec<(String, String)> = read(text).into_iter().collect();
        let expected = [("A", "1"), ("B", "say \"hi\" \\ 100% \tx")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

//! Files that are broken, hostile or huge: an error with a line, or an import that holds its promises; never a panic.

use super::{ALL, CANARY, MEDIA, MINIFLUX, NEXTCLOUD, import_with, told};
use crate::import::verify;

/// Imports a text; what comes of it has to pass the check and keep secrets, and an error has to name a line.
fn holds(text: &str) -> bool {
    match import_with(text, &[], &[("HOME", "/home/me")]) {
        Ok(import) => {
            verify::accepts(&import);
            let told = told(&import);
            assert!(!told.contains(CANARY), "{text}\n--------\n{told}");
            true
        }
        Err(error) => {
            let message = error.to_string();
            let line = message.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_some_and(|line| line >= 1 && line <= text.lines().count() + 1), "{message}");
            false
        }
    }
}

/// A number from a seed: splitmix64.
fn random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or_default()
}

#[test]
fn a_file_that_ends_early_is_an_error_or_a_smaller_stack() {
    for text in [NEXTCLOUD, MINIFLUX, MEDIA] {
        for (end, _) in text.char_indices().step_by(3) {
            holds(&text[..end]);
        }
    }
}

#[test]
fn a_file_with_a_line_changed_is_an_error_or_a_stack() {
    let pieces = [
        "\t",
        "  ",
        "- ",
        ": ",
        "[",
        "}",
        "*x",
        "&x ",
        "<<: *common",
        "!x ",
        "${",
        "$$",
        "null",
        "'",
        "\"",
        "|\n",
        "é\u{202e}",
        "%",
        "0",
    ];
    let mut seed = 7;
    let (mut good, mut bad) = (0, 0);
    for text in [NEXTCLOUD, MINIFLUX, MEDIA, ALL] {
        for _ in 0..150 {
            let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
            let at = random(&mut seed) % lines.len();
            match random(&mut seed) % 4 {
                0 => drop(lines.remove(at)),
                1 => {
                    let copy = lines[at].clone();
                    lines.insert(at, copy);
                }
                2 => {
                    let other = random(&mut seed) % lines.len();
                    lines.swap(at, other);
                }
                _ => {
                    let piece = pieces[random(&mut seed) % pieces.len()];
                    let places: Vec<usize> = lines[at].char_indices().map(|(at, _)| at).collect();
                    let place = places.get(random(&mut seed) % (places.len() + 1)).copied().unwrap_or(0);
                    lines[at].insert_str(place, piece);
                }
            }
            if holds(&lines.join("\n")) { good += 1 } else { bad += 1 }
        }
    }
    // Both happen, or the test tests nothing.
    assert!(good > 50 && bad > 50, "{good} {bad}");
}

#[test]
fn every_value_may_have_every_shape() {
    let keys = [
        "image",
        "environment",
        "env_file",
        "command",
        "entrypoint",
        "ports",
        "volumes",
        "tmpfs",
        "depends_on",
        "healthcheck",
        "restart",
        "devices",
        "cap_add",
        "ulimits",
        "sysctls",
        "network_mode",
        "networks",
        "secrets",
        "configs",
        "labels",
        "deploy",
        "mem_limit",
        "cpus",
        "gpus",
        "blkio_config",
        "cpuset",
        "memswap_limit",
        "pids_limit",
        "privileged",
        "container_name",
    ];
    let shapes = [
        "",
        "x",
        "'0'",
        "[]",
        "{}",
        "[x]",
        "[[x]]",
        "[{x: y}]",
        "{x: y}",
        "{x: [y]}",
        "{x: {y: z}}",
        "[null]",
        "{x: null}",
        "-1",
    ];
    for image in ["nginx", "redis", "postgres", "traefik", "nextcloud"] {
        for key in keys {
            for shape in shapes {
                holds(&format!(
                    "services:\n  a:\n    {key}: {shape}\n    {}\n",
                    if key == "image" { String::new() } else { format!("image: {image}") }
                ));
            }
        }
    }
    for key in ["name", "services", "volumes", "secrets", "configs", "networks", "include"] {
        for shape in shapes {
            let services = if key == "services" { "" } else { "services: {a: {image: nginx}}\n" };
            holds(&format!("{services}{key}: {shape}\n"));
        }
    }
}

#[test]
fn what_is_no_compose_file_is_told_with_its_line() {
    let message = |text: &str| import_with(text, &[], &[]).unwrap_err().to_string();
    assert_eq!(message(""), "compose.yml:1: the file is empty");
    assert_eq!(message("a\n"), "compose.yml:1: the file is a single value, where Compose has a mapping");
    assert_eq!(message("name: x\n"), "compose.yml:1: the file has no services");
    assert_eq!(
        message("services:\n  a: {image: x}\n  a: {image: y}\n"),
        "compose.yml:3: the key `a` is here twice; the first is in line 2"
    );
    assert_eq!(message("services:\n  a:\n    image: ${X:?}\n"), "compose.yml:3: the variable `X` has to be set");
    assert!(message("services:\n\ta: 1\n").starts_with("compose.yml:2: "));
    assert!(
        message("services: {a: {image: x}}\n---\nservices: {}\n").starts_with("compose.yml:2: a second document")
    );
    let error = import_with("services: {a: {image: x}}", &[(".env", "A=1\nB C=2\n")], &[]).unwrap_err();
    assert_eq!(error.to_string(), ".env:2: this is not `NAME=value`");
}

#[test]
fn a_huge_file_is_read_in_reasonable_steps() {
    let services: Vec<String> = (0..2000).map(|n| format!("  s{n}: {{image: redis}}\n")).collect();
    let import = import_with(&format!("services:\n{}", services.concat()), &[], &[]).unwrap();
    assert_eq!(import.services.len(), 2000);
}

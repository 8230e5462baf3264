//! What README.md, docs/operations.md and docs/metrics.md show, beside the homelab as it is on a host.

use std::collections::BTreeSet;
use std::fs;

use nixmox_testbed::{Block, HOMELAB_DIR, Options, Testbed, workspace_root};

use crate::{LIMIT, read};

const AGENT_SETTINGS: &str = "/etc/nixmox/agent.toml";
/// The folder of the stack that README.md describes.
const CLOUD: &str = "/srv/cloud";

#[test]
fn pages_show_what_the_homelab_prints() {
    let bed = Testbed::boot(&Options::new("pages")).expect("the host boots");
    bed.install_homelab().expect("the homelab");
    for block in ["README.md", "docs/operations.md", "docs/metrics.md"].map(read).concat() {
        match (block.page.as_str(), block.language.as_str()) {
            ("README.md", "toml") => a_stack_that_can_be_planned(&bed, &block),
            ("README.md", "console") => what_commands_print(&bed, &block),
            ("docs/operations.md", "text") => slices(&bed, &block),
            ("docs/operations.md", "xml") => settings_of_the_bus(&bed, &block),
            ("docs/metrics.md", "toml") => metrics(&bed, &block),
            ("docs/metrics.md", "yaml") => for_prometheus(&bed, &block),
            _ => panic!("nobody knows what to do with this: {block:?}"),
        }
    }
}

/// The homelab's systems in the places that the manifest names.
fn a_stack_that_can_be_planned(bed: &Testbed, block: &Block) {
    bed.write_file(format!("{CLOUD}/nixmox.toml"), &block.text, 0o644).expect("written");
    for name in ["postgres", "miniflux", "caddy"] {
        bed.succeed(&format!("ln -s $(readlink {HOMELAB_DIR}/services/{name}/result) {CLOUD}/{name}"))
            .expect("linked");
    }
    let plan = bed.succeed(&format!("mkdir -p /srv/postgres && cd {CLOUD} && nixmoxctl plan")).expect("a plan");
    for name in ["+ postgres", "+ miniflux", "+ caddy"] {
        assert!(plan.contains(name), "{plan}");
    }
}

/// Types the commands of a block, and compares each line that comes with those that are shown.
fn what_commands_print(bed: &Testbed, block: &Block) {
    for part in block.text.split("$ ").skip(1) {
        let (command, shown) = part.split_once('\n').expect("a command on a line of its own");
        let printed = bed.shell(&format!("cd {HOMELAB_DIR} && {command}")).expect("it runs");
        assert!(printed.success(), "{printed}");
        // What is said of this machine is a warning, and stands apart.
        let printed = printed.stdout;
        let (kinds, shown_kinds) = (kinds(&printed), kinds(shown));
        let unknown: Vec<&String> = kinds.difference(&shown_kinds).collect();
        assert!(
            unknown.is_empty(),
            "{}: `{command}` prints what is not shown, {unknown:#?}:\n{printed}",
            block.page
        );
        // A service may be healthy within the same moment in which it has started.
        let absent: Vec<&String> =
            shown_kinds.difference(&kinds).filter(|kind| !kind.ends_with(" started")).collect();
        assert!(absent.is_empty(), "{}: `{command}` does not print {absent:#?}:\n{printed}", block.page);
    }
}

/// What a line is about: its first words without times, numbers and addresses; of the plan and the end all that is no time.
fn kinds(text: &str) -> BTreeSet<String> {
    let of_line = |line: &str| {
        let words = line.split_whitespace().filter(|word| !word.starts_with(|first: char| first.is_ascii_digit()));
        let words: Vec<&str> = words.map(|word| word.trim_end_matches(';')).collect();
        let is_whole = matches!(words.first(), Some(&("plan" | "SERVICE")));
        let count = if is_whole { words.len() } else { 2 + usize::from(!line.contains(':')) };
        words.into_iter().take(count).collect::<Vec<_>>().join(" ")
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(of_line).collect()
}

/// Each unit of the block lies in the one above it.
fn slices(bed: &Testbed, block: &Block) {
    let units: Vec<String> = block
        .text
        .lines()
        .filter_map(|line| {
            let is_unit = |word: &&str| matches!(word.rsplit_once('.'), Some((_, "slice" | "service")));
            line.split_whitespace().find(is_unit)
        })
        .map(|unit| unit.replace("STACK", "homelab").replace("NAME", "hello"))
        .collect();
    assert_eq!(units.len(), 4, "{block:?}");
    for pair in units.windows(2) {
        let [above, unit] = pair else { unreachable!("two of them") };
        assert_eq!(&bed.succeed(&format!("systemctl show -P Slice {unit}")).expect("told"), above, "{unit}");
    }
}

fn settings_of_the_bus(bed: &Testbed, block: &Block) {
    let file = "/etc/dbus-1/system.d/limits.conf";
    bed.write_file(file, &block.text, 0o644).expect("written");
    bed.succeed("systemctl reload dbus").expect("it reads them");
    // It tells of what it cannot read, and goes on without.
    let log = bed.journal(&["-u", "dbus", "-n", "20"]).expect("its log");
    assert!(log.contains("Reloaded configuration") && !log.contains("limits.conf"), "{log}");
}

fn metrics(bed: &Testbed, block: &Block) {
    bed.write_file(AGENT_SETTINGS, &block.text, 0o644).expect("written");
    bed.succeed("systemctl restart nixmox-agent").expect("right settings");
    let page = "curl -sSf http://127.0.0.1:19558/metrics | grep -q nixmox_service_healthy";
    bed.wait_until(page, LIMIT).expect("a page");
}

/// A configuration of Prometheus, or rules: `promtool` reads both, and rules name what the agent has.
fn for_prometheus(bed: &Testbed, block: &Block) {
    let rules = block.text.starts_with("groups:");
    let kind = if rules { "rules" } else { "config" };
    bed.write_file("/srv/prometheus.yml", &block.text, 0o644).expect("written");
    bed.succeed(&format!("promtool check {kind} /srv/prometheus.yml")).expect("right");
    if !rules {
        assert!(block.text.contains("127.0.0.1:19558"), "it scrapes another place than the page names: {block:?}");
        return;
    }
    let page = fs::read_to_string(workspace_root().join(&block.page)).expect("the page");
    for line in block.text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let is_name = |word: &&str| word.starts_with("nixmox_") || word.starts_with("container_");
        let name = line.split(|other: char| !other.is_ascii_alphanumeric() && other != '_').find(is_name);
        let row = format!("| `{}`", name.expect("a name of ours"));
        assert!(page.contains(&row), "the page has no row {row}");
    }
}

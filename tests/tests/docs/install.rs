//! docs/install.md: followed on a host that has nothing of ours.

use std::fs;

use nixmox_agent::settings::Settings;
use nixmox_testbed::{Behaviour, Block, Build, Options, Testbed, workspace_root};
use nixmox_tests::operator::Stack;

use crate::{LIMIT, read};

/// Where a clone of the repository lies.
const CLONE: &str = "/srv/clone";
/// In place of cargo, which the host does not have: what was built before is there once the right thing is asked for.
const CARGO: &str =
    "#!/bin/sh -eu\ntest \"$*\" = 'build --release -p nixmox-agent -p nixmoxctl'\nmv built target/release\n";
/// What a testbed brings of ours, with its groups.
const REMOVE: &str = "rm -r /usr/lib/nixmox /usr/lib/systemd/system/nixmox-* /usr/lib/systemd/system/container@.service \
                      /usr/lib/systemd/network/79-nixmox.network /usr/lib/sysusers.d/nixmox.conf /usr/lib/tmpfiles.d/nixmox.conf \
                      /usr/lib/sysctl.d/60-nixmox.conf && \
                      for group in $(getent group | grep -o '^nixmox[^:]*'); do groupdel $group; done && systemctl daemon-reload";

#[test]
fn whoever_installs_by_hand_has_a_host_that_works() {
    let bed = Testbed::boot(&Options::new("install").build(Build::None).without_homelab()).expect("the host boots");
    bed.succeed(REMOVE).expect("nothing of ours is left");
    bed.fail("getent group nixmox nixmox-operator").expect("no groups");
    clone_into(&bed);
    bed.add_user("anna", &[]).expect("a user");
    // As on a host with these shells.
    bed.succeed("mkdir -p /usr/share/zsh/vendor-completions /etc/fish/completions").expect("made");

    let mut languages = Vec::new();
    for block in read("docs/install.md") {
        languages.push(block.language.clone());
        match block.language.as_str() {
            "sh" => type_in(&bed, &block),
            "toml" => settings(&bed, &block),
            // In modules.rs.
            "nix" => {}
            _ => panic!("nobody knows what to do with this: {block:?}"),
        }
    }
    assert_eq!(languages, ["sh", "sh", "toml", "nix"]);

    let groups = bed.succeed("id -nG anna").expect("told");
    assert!(groups.contains("nixmox-operator"), "{groups}");
    let stack = Stack::new(&bed, "first");
    let web = bed.static_guest("web", &Behaviour::new().http(80)).expect("a system");
    stack
        .declare(&[&format!("[services.web]\nsystem = \"{web}\"\nhealth = {{ http = \"http://localhost/\" }}")])
        .expect("a manifest");
    let up = bed.shell_as("anna", "nixmoxctl up -f /srv/first").expect("it runs");
    assert!(up.success(), "{up}");
    stack.healthy("web").expect("the template and the agent do their work");
    for page in ["nixmoxctl.1", "nixmoxctl-up.1"] {
        bed.succeed(&format!("test -s /usr/share/man/man1/{page}")).expect("a manual page");
    }
    bed.reboot().expect("the host comes back");
    bed.wait_until("nixmoxctl --all status | grep -q healthy", LIMIT).expect("enabled at boot");
}

/// Puts what of a clone the page uses on the host, and the programs that cargo would build.
fn clone_into(bed: &Testbed) {
    for folder in ["systemd", "docs"] {
        bed.copy_in(workspace_root().join(folder), format!("{CLONE}/{folder}")).expect("copied");
    }
    let programs = Build::Debug.programs().expect("built").expect("programs");
    for (name, program) in [("nixmox-agent", programs.agent), ("nixmoxctl", programs.ctl)] {
        let bytes = fs::read(program).expect("a program");
        bed.write_file(format!("{CLONE}/built/{name}"), bytes, 0o755).expect("written");
    }
    bed.succeed(&format!("mkdir {CLONE}/target")).expect("made");
    bed.write_file("/usr/local/bin/cargo", CARGO, 0o755).expect("written");
}

/// Types the lines of a block in the clone, one after the other; each must succeed.
fn type_in(bed: &Testbed, block: &Block) {
    for line in block.text.lines() {
        bed.succeed(&format!("cd {CLONE} && {line}")).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        // What is written for a shell is a script that the shell reads.
        if let Some(("nixmoxctl completions bash", file)) = line.split_once(" > ") {
            bed.succeed(&format!("test -s {file} && bash -n {file}")).expect("a script");
        }
    }
}

/// Gives the settings to the agent; they are the defaults, as the page says.
fn settings(bed: &Testbed, block: &Block) {
    bed.write_file("/etc/nixmox/agent.toml", &block.text, 0o644).expect("written");
    bed.succeed("nixmox-agent --check-settings /etc/nixmox/agent.toml && systemctl restart nixmox-agent")
        .expect("right settings");
    let shown = Settings::load(&bed.path("/etc/nixmox/agent.toml")).expect("settings");
    assert_eq!(shown, Settings::default(), "the page says that these are the defaults");
}

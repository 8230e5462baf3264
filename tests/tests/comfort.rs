//! The homelab on a real host: what is offered on Tab, and what is said when something is missing, followed to the letter.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::{HOMELAB_DIR, Options, Output, Testbed};

const LIMIT: Duration = Duration::from_mins(2);

fn boot() -> Testbed {
    let bed = Testbed::boot(&Options::new("comfort")).expect("the host boots");
    bed.install_homelab().expect("the homelab is there");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("the agent answers");
    bed
}

/// Returns what bash offers for a line, in the homelab's folder; the line ends with the word at the cursor.
fn offered(bed: &Testbed, words: &str) -> Vec<String> {
    let script = format!(
        "cd {HOMELAB_DIR} && source <(nixmoxctl completions bash) && COMP_WORDS=({words}) \
         && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _nixmoxctl nixmoxctl \"${{COMP_WORDS[-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let mut words: Vec<String> =
        bed.succeed(&script).expect("it completes").lines().map(|word| word.trim_end().to_owned()).collect();
    words.sort();
    words
}

/// Fails unless a command ended with this status and said all of this.
fn told(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, code, "{output}");
    for part in parts {
        assert!(output.stderr.contains(part), "`{part}` is not said: {output}");
    }
}

/// Does what a complaint proposes, as root: the line that holds this text, up to a comma.
fn follow(bed: &Testbed, complaint: &Output, part: &str) {
    let line = complaint.stderr.lines().find(|line| line.contains(part)).expect("it is proposed");
    let line = line.trim().strip_prefix("try").unwrap_or(line).trim();
    let command = line.strip_prefix("sudo ").unwrap_or(line);
    bed.succeed(command).expect("what is proposed can be done");
}

#[test]
fn what_is_missing_is_named_and_what_is_proposed_helps() {
    let bed = boot();

    let all = ["caddy", "hello", "miniflux", "miniflux-db", "postgres"];
    assert_eq!(offered(&bed, "nixmoxctl up ''"), all, "from the stack file");
    assert_eq!(offered(&bed, "nixmoxctl status ''"), [""; 0], "nothing is up");
    bed.succeed(&format!("cd {HOMELAB_DIR} && nixmoxctl up hello")).expect("hello comes up");
    assert_eq!(offered(&bed, "nixmoxctl restart ''"), ["hello"], "from the agent");
    assert_eq!(offered(&bed, "nixmoxctl status -s ''"), ["homelab"]);

    bed.add_user("olga", &[]).expect("the user is added");
    let refused = bed.shell_as("olga", "nixmoxctl --all status").expect("it runs");
    told(&refused, 5, &["error: olga may not do that\n", "Status needs the role observer", "log in again"]);
    follow(&bed, &refused, "usermod -aG nixmox olga");
    // A session that began before: olga, without the group that she is in now.
    let older = "setpriv --reuid=olga --regid=olga --clear-groups nixmoxctl --all status";
    let older = bed.shell(older).expect("it runs");
    told(&older, 5, &["olga is in nixmox, and this session began before that\n", "newgrp nixmox"]);
    assert!(!older.stderr.contains("usermod"), "{older}");
    let anew = bed.shell_as("olga", "nixmoxctl --all status").expect("it runs");
    assert!(anew.success(), "{anew}");
    let change = bed.shell_as("olga", "nixmoxctl restart hello").expect("it runs");
    told(&change, 5, &["Restart needs the role operator", "sudo usermod -aG nixmox-operator olga\n"]);

    bed.succeed("systemctl stop nixmox-agent.socket nixmox-agent.service").expect("the agent stops");
    let away = bed.fail("nixmoxctl --all status").expect("nobody answers");
    told(&away, 4, &["the agent does not run: ", "nixmox-agent.socket is installed, and not started\n"]);
    assert_eq!(offered(&bed, "nixmoxctl restart ''"), all, "from the stack file, as the agent is away");
    follow(&bed, &away, "systemctl enable --now");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("what was proposed helps");

    // The real nix, on a flake that is none.
    bed.succeed("mkdir /root/flake && cd /root/flake && printf 'format = 1\\n[stack]\\nname = \"flake\"\\n[services.web]\\nsystem = \".#web\"\\n' > nixmox.toml").expect("a stack");
    let failed = bed.fail("cd /root/flake && nixmoxctl plan").expect("nothing can be built");
    told(&failed, 1, &["error: nix eval failed: exit status: 1\n  for   .#web\n  try   see what nix said above\n"]);
    let without = bed.fail("cd /root/flake && PATH=/nonexistent /usr/bin/nixmoxctl plan").expect("there is no nix");
    told(&without, 1, &["there is no nix to build .#web with\n", "https://nixos.org/download\n"]);
}

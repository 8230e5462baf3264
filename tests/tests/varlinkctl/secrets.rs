//! Where the content of a credential may be: in its file and in the guest, and nowhere else.

use std::fmt::Write as _;

use nixmox_api::ServiceState;
use nixmox_testbed::{Behaviour, Testbed};
use nixmox_tests::{agent, stack};

use super::{LIMIT, boot};

const STACK: &str = "secretive";
const SOURCE: &str = "/root/keys/token";

#[test]
fn the_content_of_a_credential_is_nowhere_but_in_its_file_and_its_guest() {
    let bed = boot("secrets");
    // Made here, so that this program's own text cannot be found in its place.
    let canary = format!("canary{:x}{:x}", std::process::id(), bed.leader() ^ 0x5eed);
    bed.write_file(SOURCE, &canary, 0o600).expect("written");
    bed.succeed("chmod 700 /root/keys").expect("kept from others");
    bed.add_user("olga", &[]).expect("a user");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    let guests = [
        ("vault", Behaviour::new().http(80)),
        ("broken", Behaviour::new().log("no").exit_at_once(3)),
        ("sick", Behaviour::new().http(80).http_status(500)),
    ];
    let systems = bed.static_guests(&guests.each_ref().map(|(name, guest)| (*name, guest))).expect("systems");
    let credentials = format!("credentials = {{ token = \"{SOURCE}\" }}");
    let manifest = format!(
        "[services.vault]\nsystem = \"{}\"\n{credentials}\nhealth = {{ tcp = 80 }}\n\
         [services.broken]\nsystem = \"{}\"\n{credentials}\nrestart = \"no\"\n\
         [services.sick]\nsystem = \"{}\"\n{credentials}\n\
         health = {{ http = \"http://localhost/\", interval = \"100ms\", start_period = \"1s\" }}\n",
        systems[0], systems[1], systems[2],
    );
    stack::write(&bed, STACK, &manifest).expect("written");

    // All that a person sees of it, on good ways and on bad ones.
    let mut seen = String::new();
    let mut say = |arguments: &str| {
        let output = stack::ctl(&bed, STACK, arguments).expect("it runs");
        let _ = writeln!(seen, "$ {arguments}\n{output}");
    };
    for arguments in ["plan", "up", "status", "status --json", "why vault", "why broken", "why sick", "paths vault"]
    {
        say(arguments);
    }
    bed.succeed(&format!("mv {SOURCE} {SOURCE}.away")).expect("moved");
    say("restart vault");
    bed.succeed(&format!("mv {SOURCE}.away {SOURCE}")).expect("moved back");
    say("restart vault");
    assert!(!seen.contains(&canary), "{seen}");
    assert!(seen.contains("broken") && seen.contains("500"), "the bad ways were gone: {seen}");

    agent::wait_for(&bed, LIMIT, |status| {
        let vault = status.services.iter().find(|service| service.name == "vault");
        anyhow::ensure!(vault.is_some_and(|vault| vault.state == ServiceState::Healthy), "{vault:?}");
        Ok(())
    })
    .expect("it is healthy");
    let leader = bed.succeed("machinectl show vault --property=Leader --value").expect("it is registered");
    let inside = bed.succeed(&format!("cat /proc/{leader}/root/run/host/credentials/token")).expect("it is there");
    assert_eq!(inside, canary, "the guest has it");

    assert_eq!(found(&bed, &canary), "");
    // Each way of looking finds what it is to find.
    bed.succeed(&format!("logger {canary}")).expect("logged");
    bed.write_file("/run/nixmox/leak", &canary, 0o600).expect("written");
    bed.write_file("/var/tmp/leak", &canary, 0o644).expect("written");
    // `exec`: its arguments are in place once it counts as started (systemd.service(5)).
    bed.succeed(&format!("systemd-run --quiet --service-type=exec bash -c 'sleep infinity; :' {canary}"))
        .expect("started");
    let leaks = found(&bed, &canary);
    for place in ["journal: ", "/run/nixmox/leak", "/var/tmp/leak", "/cmdline"] {
        assert!(leaks.contains(place), "{place} is searched: {leaks}");
    }
}

/// Returns where the canary is: in the journal, in arguments and environments of the host's processes, in what the agent
/// keeps, and in what others can read.
fn found(bed: &Testbed, canary: &str) -> String {
    // The searching processes are told what to look for by a file, not by their arguments.
    bed.write_file("/root/keys/pattern", canary, 0o600).expect("written");
    let own = "/var/lib/nixmox /run/nixmox /run/systemd /etc/nixos-containers /etc/systemd /nix/var/nix/gcroots";
    let world = "/etc /run /var /tmp /srv /nix/var";
    bed.sync_journal().expect("synchronised");
    bed.succeed(&format!(
        "journalctl --output=export --all > /root/keys/journal || exit
         grep --text --fixed-strings --file=/root/keys/pattern /root/keys/journal | sed 's/^/journal: /'
         grep --text --files-with-matches --no-messages --fixed-strings --file=/root/keys/pattern /proc/[0-9]*/cmdline /proc/[0-9]*/environ
         grep --recursive --files-with-matches --no-messages --devices=skip --fixed-strings --file=/root/keys/pattern {own}
         for user in olga anna; do
             runuser -u $user -- grep --recursive --files-with-matches --no-messages --devices=skip --fixed-strings --file=- {world} < /root/keys/pattern
         done
         true"
    ))
    .expect("it is searched")
}

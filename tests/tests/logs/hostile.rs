//! A guest whose journal is full of links to the host's.

use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::operator::Stack;

use super::{lines_of, text};

/// A word that only the host's journal has.
const SECRET: &str = "secret-of-the-host-5f1c";

#[test]
fn links_in_a_guests_journal_lead_nowhere() {
    let bed = Testbed::boot(&Options::new("log-hostile").without_homelab()).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    bed.succeed(&format!("systemd-cat -t host echo {SECRET}")).expect("the host logs");
    bed.sync_journal().expect("written");
    let system = bed.static_guest("evil", &Behaviour::new().log("evil")).expect("a system");
    let stack = Stack::new(&bed, "hostile");
    stack.declare(&[&format!("[services.evil]\nsystem = \"{system}\"")]).expect("a manifest");
    stack.succeed("up").expect("it is up");
    // Where the host's journal is seen from the host's root, and where from the guest's.
    let host = bed.succeed("echo /var/log/journal/$(cat /etc/machine-id)").expect("it has one");
    bed.succeed(&format!("journalctl --directory={host} --grep {SECRET}")).expect("it is there to be found");
    let root = "/var/lib/nixos-containers/evil";
    let plants = [
        // A machine's folder, a file, and the folder of all of them.
        format!("mkdir -p {root}/var/log/journal && ln -s {host} {root}/var/log/journal/$(systemd-id128 new)"),
        format!(
            "m={root}/var/log/journal/$(systemd-id128 new) && mkdir -p $m && ln -s {host}/system.journal $m/ && mkfifo $m/user-1.journal"
        ),
        format!("rm -rf {root}/var/log/journal && ln -s /var/log/journal {root}/var/log/journal"),
        format!("rm -rf {root}/var/log && ln -s /var/log {root}/var/log"),
        format!("rm -rf {root}/var && ln -s /var {root}/var"),
    ];
    for plant in &plants {
        bed.succeed(plant).expect("planted");
        for running in [true, false] {
            stack.succeed(if running { "start evil" } else { "stop evil" }).expect("it does");
            let lines = lines_of(&bed, "evil").expect("its lines");
            assert!(lines.iter().all(|line| !text(line, "message").contains(SECRET)), "{plant}: {lines:?}");
            assert!(lines.iter().any(|line| text(line, "message") == "evil"), "{plant}: its console is there");
            assert!(lines.iter().all(|line| text(line, "source") == "host"), "{plant}: {lines:?}");
        }
    }
    // Without the care that is taken, journalctl itself would have followed them.
    bed.succeed(&format!(
        "rm {root}/var && m=$(systemd-id128 new) && mkdir -p {root}/var/log/journal && ln -s {host} {root}/var/log/journal/$m \
         && journalctl --root={root} --merge --grep {SECRET}"
    ))
    .expect("the plant is a real one");
}

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

#[test]
fn the_hosts_journal_in_a_container_is_not_the_containers() {
    let bed = Testbed::boot(&Options::new("log-shipped").without_homelab()).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    bed.succeed(&format!("systemd-cat -t host echo {SECRET}")).expect("the host logs");
    bed.sync_journal().expect("written");
    let host = bed.succeed("echo /var/log/journal/$(cat /etc/machine-id)").expect("it has one");
    bed.succeed("ln -s /var/log/journal /srv/elsewhere").expect("linked");
    let stack = Stack::new(&bed, "shipped");
    // The folder of all, that of one machine, by another name, and with all that is above it.
    let places = [
        ("all", "/var/log/journal:/var/log/journal:ro".to_owned()),
        ("one", format!("{host}:/var/log/journal:ro")),
        ("linked", "/srv/elsewhere:/run/log/journal:ro".to_owned()),
        ("above", "/var/log:/var/log:ro".to_owned()),
    ];
    let declare = |(name, mount): &(&str, String)| {
        let system = bed.static_guest(name, &Behaviour::new().log(name)).expect("a system");
        format!("[services.{name}]\nsystem = \"{system}\"\nmounts = [\"{mount}\"]")
    };
    let services: Vec<String> = places.iter().map(declare).collect();
    stack.declare(&services.iter().map(String::as_str).collect::<Vec<_>>()).expect("a manifest");
    stack.succeed("up").expect("they are up");
    for (name, mount) in &places {
        let seen =
            format!("nixmoxctl cp {name}:{} - | grep -aq {SECRET}", mount.split(':').nth(1).unwrap_or_default());
        bed.succeed(&seen).expect("the container has it");
        let lines = lines_of(&bed, name).expect("its lines");
        assert!(lines.iter().all(|line| !text(line, "message").contains(SECRET)), "{mount}: {lines:?}");
        assert!(lines.iter().any(|line| text(line, "message") == *name), "{mount}: its console is there");
        let said = bed.shell_as("anna", &format!("nixmoxctl --all logs {name}")).expect("it runs").stderr;
        assert!(said.contains(&format!("a journal in `{name}` is the host's, and left out")), "{mount}: {said}");
    }
}

#[test]
fn who_reads_a_journal_is_nobody_and_may_do_nothing_but_read() {
    let bed = Testbed::boot(&Options::new("log-nobody")).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    let debian = bed.homelab_systems().expect("systems")["caddy"].clone();
    let stack = Stack::new(&bed, "nobody");
    stack
        .declare(&[
            &format!("[services.web]\nsystem = \"{debian}\""),
            &format!("[services.own]\nsystem = \"{debian}\"\nprivate_users = \"pick\""),
        ])
        .expect("a manifest");
    stack.succeed("up").expect("they are up");
    // One of the host's journal, and one of each guest's, which all have come to be `journalctl`.
    let readers = "pgrep -u nobody -x journalctl";
    let rights = bed
        .succeed(&format!(
            "runuser -u anna -- nixmoxctl --all logs -f > /root/lines & client=$!
             until set -- $({readers}); test $# = 3 && cat /proc/$1/status /proc/$2/status /proc/$3/status > /root/status; do
                 kill -0 $client || exit 1
                 sleep 0.02
             done
             grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /root/status | tr -s '\\t ' ' ' | sort -u
             kill $client"
        ))
        .expect("they read");
    let right = "0000000000000004";
    let nobody = "65534 65534 65534 65534";
    let capabilities =
        ["CapAmb", "CapBnd", "CapEff", "CapInh", "CapPrm"].map(|set| format!("{set}: {right}")).join("\n");
    assert_eq!(
        rights.trim(),
        format!("{capabilities}\nGid: {nobody}\nGroups: \nNoNewPrivs: 1\nUid: {nobody}"),
        "of three"
    );
    for name in ["web", "own"] {
        bed.succeed(&format!(
            "systemd-run -M {name} -q --wait --property=SyslogIdentifier=says echo inside {name}"
        ))
        .expect("it says something");
        bed.succeed(&format!("systemd-run -M {name} -q --wait journalctl --sync")).expect("it is written");
        let lines = lines_of(&bed, name).expect("lines");
        assert!(lines.iter().any(|line| text(line, "message") == format!("inside {name}")), "{name}: {lines:?}");
    }
}

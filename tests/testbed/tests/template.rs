//! `container@.service` without the agent: conf files written by hand, as `nixos-container` would.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::{fmt::Write as _, time::Duration};

use nixmox_testbed::{Behaviour, Build, Options, Testbed};

/// Longest wait for a static guest to answer, and for what it says to be in the journal.
const LIMIT: Duration = Duration::from_mins(2);
/// Longest wait for a booted guest to do its work.
const BOOTED_LIMIT: Duration = Duration::from_mins(2);

fn host(name: &str) -> Testbed {
    Testbed::boot(&Options::new(name).build(Build::None)).expect("the host boots")
}

fn declare(bed: &Testbed, name: &str, system: &str, network: u8, flags: &str) {
    let mut conf = format!("SYSTEM_PATH={system}\nPRIVATE_NETWORK=1\nPRIVATE_USERS=no\n");
    let _ = writeln!(conf, "HOST_ADDRESS=10.233.{network}.1\nLOCAL_ADDRESS=10.233.{network}.2");
    let _ = writeln!(conf, "EXTRA_NSPAWN_FLAGS=\"{flags}\"");
    bed.write_file(format!("/etc/nixos-containers/{name}.conf"), conf, 0o644).expect("the conf is written");
}

#[test]
fn our_units_have_no_warning() {
    let bed = host("verify");
    for unit in ["nixmox-agent.service", "nixmox-agent.socket", "container@x.service"] {
        // The agent's program is not installed on this host.
        bed.succeed("ln -sf /bin/true /usr/bin/nixmox-agent").expect("linked");
        let output = bed.exec(&["systemd-analyze", "verify", "--man=no", unit]).expect("systemd-analyze runs");
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{unit}: {output}");
    }
    bed.succeed("getent group nixmox && getent group nixmox-operator && test -d /nix/var/nix/gcroots/nixmox")
        .expect("groups and folders are made at boot");
}

#[test]
fn a_static_guest_starts_answers_and_stops_to_its_end() {
    let bed = host("static");
    let behaviour = Behaviour::new().http(80).log("hello").stop_takes(Duration::from_secs(1));
    let system = bed.static_guest("a", &behaviour).expect("the system is added");
    declare(&bed, "a", &system, 1, "--setenv=A=b");
    bed.succeed("systemctl start container@a").expect("the container starts");
    let page = bed.wait_until("curl -sf http://10.233.1.2/", LIMIT).expect("it answers");
    assert_eq!(page, "status 200");
    bed.succeed("echo 503 > /var/lib/nixos-containers/a/var/lib/guest/status").expect("the status is flipped");
    bed.fail("curl -sf http://10.233.1.2/").expect("it answers with an error");
    bed.succeed("machinectl show a -p Leader").expect("registered with machined");
    // Its nspawn hands on what it says.
    bed.wait_until("journalctl -q -u container@a | grep -w hello", LIMIT).expect("what it says is in the journal");
    bed.succeed("systemctl stop container@a").expect("the container stops");
    bed.succeed("test -e /var/lib/nixos-containers/a/var/lib/guest/stopped").expect("it stopped to its own end");
    let result = bed.succeed("systemctl show -P Result container@a").expect("systemctl answers");
    assert_eq!(result, "success");
}

#[test]
fn guests_with_users_of_their_own_run() {
    let bed = host("users");
    let system = bed.static_guest("a", &Behaviour::new().http(80)).expect("the system is added");
    declare(&bed, "a", &system, 1, "");
    bed.succeed("sed -i s/PRIVATE_USERS=no/PRIVATE_USERS=pick/ /etc/nixos-containers/a.conf").expect("edited");
    bed.succeed("systemctl start container@a || journalctl -u container@a").expect("the container starts");
    bed.wait_until("curl -sf http://10.233.1.2/", LIMIT).expect("it answers");
    let leader = bed.succeed("machinectl show a -P Leader").expect("registered");
    let map = bed.succeed(&format!("cat /proc/{leader}/uid_map")).expect("readable");
    assert_ne!(map.split_whitespace().nth(1), Some("0"), "{map}");
}

#[test]
fn the_homelab_serves_its_page() {
    let bed = host("homelab");
    bed.install_homelab().expect("the stack is installed");
    let systems = bed.homelab_systems().expect("the systems are there");
    let secret = |name: &str| format!("--load-credential={name}:/srv/homelab/secrets/{name}");
    let hosts =
        "10.233.1.2 postgres\n10.233.2.2 miniflux-db\n10.233.3.2 miniflux\n10.233.4.2 caddy\n127.0.0.1 localhost\n";
    bed.write_file("/run/nixmox/hosts", hosts, 0o644).expect("written");
    let bind = "--bind-ro=/run/nixmox/hosts:/run/host/nixmox/hosts";
    let flags = [
        ("postgres", format!("{bind} --bind=/srv/postgres:/var/lib/postgresql {}", secret("postgres-password"))),
        ("miniflux-db", format!("{bind} {} {}", secret("postgres-password"), secret("miniflux-password"))),
        ("miniflux", format!("{bind} {}", secret("miniflux-password"))),
        ("caddy", bind.to_owned()),
    ];
    bed.succeed("mkdir -p /srv/postgres").expect("made");
    for (network, (name, flags)) in (1..).zip(&flags) {
        declare(&bed, name, &systems[*name], network, flags);
    }
    for (name, _) in &flags {
        let started = std::time::Instant::now();
        bed.succeed(&format!("systemctl start container@{name} || {{ journalctl -u container@{name}; false; }}"))
            .expect("the container starts");
        println!("{name} started in {:?}", started.elapsed());
        if *name == "miniflux-db" {
            bed.wait_until("! systemctl is-active container@miniflux-db", BOOTED_LIMIT).expect("the job ends");
            let log = bed.journal(&["--merge", "--unit=miniflux-db"]).expect("journal");
            assert!(log.contains("database miniflux is ready"), "{log}");
            let result = bed.succeed("systemctl show -P Result container@miniflux-db").expect("systemctl answers");
            assert_eq!(result, "success");
        } else {
            let failed =
                bed.succeed(&format!("systemctl -M {name} --failed --plain --no-legend")).expect("it answers");
            assert_eq!(failed, "", "failed units in {name}");
        }
    }
    let page = bed.wait_until("curl -sfL http://10.233.4.2/", BOOTED_LIMIT).expect("the page is served");
    assert!(page.contains("Miniflux"), "{page}");
}

#[test]
fn a_guest_whose_nspawn_is_killed_comes_back() {
    let bed = host("killed");
    let system = bed.static_guest("a", &Behaviour::new().http(80)).expect("the system is added");
    declare(&bed, "a", &system, 1, "");
    bed.succeed("systemctl start container@a").expect("the container starts");
    let before = bed.succeed("systemctl show -P InvocationID container@a").expect("systemctl answers");
    bed.succeed("kill -9 $(systemctl show -P MainPID container@a)").expect("nspawn is killed");
    let again = format!(
        "systemctl is-active container@a && test $(systemctl show -P InvocationID container@a) != {before}"
    );
    bed.wait_until(&again, LIMIT).expect("systemd starts it again");
    bed.wait_until("curl -sf http://10.233.1.2/", LIMIT).expect("it answers");
    let restarts = bed.succeed("systemctl show -P NRestarts container@a").expect("systemctl answers");
    assert_eq!(restarts, "1", "the first new start works: nothing of the old one is in its way");
}

//! Start, stop and change: while a guest boots, without machined, without a daemon of Nix, and live.

use std::time::{Duration, Instant};

use nixmox_testbed::{Behaviour, Testbed};
use nixmox_tests::nixos;
use nixmox_tests::operator::Stack;

use crate::{LIMIT, debian, host, inside, show, web, whole_host};

/// Far less than a unit is given to stop, or the bus to answer.
const SOON: Duration = Duration::from_secs(15);

/// Puts a guest into the store that hears nothing for these seconds, as an init does that has not said yet what signals mean to it.
fn deaf(bed: &Testbed, well: &str, seconds: u32) -> String {
    let busybox = bed.read_file("/etc/testbed/busybox").expect("there is one");
    let shell = format!("{}/bin/busybox", busybox.trim());
    // In the foreground: a shell that waits for a child handles no signal, and one without a trap has none.
    let init = format!("#!{shell} sh\n{shell} sleep {seconds}\nexec {well}/init\n");
    bed.write_file("/var/tmp/deaf/init", init, 0o755).expect("written");
    bed.store_add(&["/var/tmp/deaf".to_owned()]).expect("added").remove(0)
}

#[test]
fn a_guest_that_boots_is_stopped_and_starts_again() {
    let (host, _held) = host();
    let well = host.guest("well", &Behaviour::new()).expect("a system");
    let stack = Stack::new(&host, "booting");
    // One that a signal is lost on, and one that boots a systemd, of which nobody knows how far it is.
    let slow = format!("[services.slow]\nsystem = \"{}\"", deaf(&host, &well, 4));
    stack.declare(&[&slow, &debian(&host, "booting", "")]).expect("written");
    for (name, after) in [("slow", 1000), ("booting", 150), ("booting", 400)] {
        stack.succeed(&format!("up {name} --detach")).expect("asked for");
        host.wait_until(&format!("machinectl show {name}"), LIMIT).expect("it begins");
        host.succeed(&format!("sleep {}", f64::from(after) / 1000.0)).expect("it boots");
        // How long the other one boots is the machine's business.
        if name == "slow" {
            assert_eq!(show(&host, name, "ActiveState"), "activating", "it hears nothing yet");
        }
        let begun = Instant::now();
        stack.succeed(&format!("stop {name}")).expect("stopped");
        assert!(begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
        host.fail(&format!("machinectl show {name}")).expect("nothing of it runs");
        assert_eq!(stack.field(name, "state").expect("a status"), "stopped");
        stack.succeed(&format!("start {name}")).expect("it starts again");
        stack.becomes_healthy(name).expect("healthy");
        stack.succeed(&format!("down {name}")).expect("taken down");
    }
}

#[test]
fn a_stop_needs_no_machined_that_runs() {
    let (host, _held) = whole_host();
    let stack = Stack::new(&host, "unlisted");
    stack.declare(&[&web(&host, "unlisted", ""), &debian(&host, "listed", "")]).expect("written");
    stack.succeed("up").expect("it comes up");
    // nspawn asks the bus for machined at its end, and the bus systemd, which must not wait for that very end.
    for stop in ["systemctl stop container@unlisted container@listed", "nixmoxctl -f /srv/unlisted stop"] {
        host.succeed("systemctl stop systemd-machined").expect("stopped");
        host.fail("systemctl is-active systemd-machined").expect("it does not run");
        let begun = Instant::now();
        host.succeed(stop).expect("stopped");
        assert!(begun.elapsed() < SOON, "{stop}: {:?}", begun.elapsed());
        for name in ["unlisted", "listed"] {
            host.fail(&format!("systemctl is-active container@{name} || machinectl show {name}"))
                .expect("it ended");
        }
        stack.succeed("up").expect("it comes up again");
    }
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_host_without_the_daemon_of_nix_starts_and_stops_containers_all_the_same() {
    let (host, _held) = whole_host();
    let stack = Stack::new(&host, "daemonless");
    stack.declare(&[&web(&host, "daemonless", "")]).expect("written");
    host.succeed("systemctl stop nix-daemon.socket nix-daemon.service && rm -f /nix/var/nix/daemon-socket/socket")
        .expect("nobody answers there");
    stack.succeed("up").expect("it comes up");
    stack.succeed("stop").expect("stopped");
    stack.succeed("start").expect("started");
    stack.healthy("daemonless").expect("healthy");
    stack.succeed("down").expect("taken down");
    host.succeed("systemctl start nix-daemon.socket nix-daemon.service").expect("it is back");
}

#[test]
fn a_reload_and_an_up_change_what_runs_and_restart_nothing() {
    let (host, _held) = host();
    let [first, second] = [("reload-one", ""), ("reload-two", "touch /etc/reloaded && rm -f /etc/old")]
        .map(|(name, switch)| nixos::system(&host, name, switch).expect("a system"));
    let stack = Stack::new(&host, "reloaded");
    let declare = |system: &str, memory: &str| {
        let keys = format!("health.unit = \"caddy.service\"\nlimits = {{ memory_max = \"{memory}\" }}");
        stack.declare(&[&format!("[services.reloaded]\nsystem = \"{system}\"\n{keys}")]).expect("written");
    };
    declare(&first, "1G");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("reloaded").expect("healthy");
    inside(&host, "reloaded", "touch /etc/old");

    // What `nixos-container update` ends with.
    host.succeed("systemctl reload container@reloaded").expect("reloaded");
    assert_eq!(inside(&host, "reloaded", "cat /var/log/switches"), "reload-one test");
    assert_eq!(stack.healthy("reloaded").expect("healthy"), before);
    stack.succeed("plan --exit-code").expect("as declared");

    declare(&second, "2G");
    stack.succeed("up").expect("switched");
    assert_eq!(stack.healthy("reloaded").expect("healthy"), before, "it was not restarted");
    assert_eq!(inside(&host, "reloaded", "cat /etc/version; ls /etc/reloaded"), "reload-two\n/etc/reloaded");
    host.fail("nixmoxctl exec reloaded -- test -e /etc/old").expect("what is no longer in it is gone");
    assert_eq!(show(&host, "reloaded", "MemoryMax"), "2147483648");
    host.succeed("systemctl reload container@reloaded").expect("reloaded");
    assert_eq!(
        inside(&host, "reloaded", "tail -n 1 /var/log/switches"),
        "reload-two test",
        "to what is declared now"
    );
    stack.succeed("plan --exit-code").expect("as declared");
    stack.succeed("down").expect("taken down");
}

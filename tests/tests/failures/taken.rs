//! Names and ports that somebody else has.

use std::time::Duration;

use nixmox_testbed::Behaviour;

use crate::fault::{Fault, host};

/// Longest wait for what others begin or end, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn a_port_that_another_program_listens_on_is_not_taken_from_it() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    host.succeed(
        "mkdir -p /srv/www && echo theirs > /srv/www/index.html && systemd-run -q --unit=their-web busybox httpd -f -p 8090 -h /srv/www",
    )
    .expect("it starts");
    host.wait_until("curl -sf http://127.0.0.1:8090/", LIMIT).expect("it answers");
    let keys = format!("system = \"{system}\"\nnetwork = {{ ports = [\"8090:80\"] }}");
    let words = ["port-bad: port 8090/tcp is taken: busybox (pid", "listens on", "stop busybox", "network.ports"];
    Fault { name: "port", bad: &keys, words: &words }.story(&host, |_| {
        let page = host.succeed("curl -sf http://127.0.0.1:8090/").expect("theirs still answers");
        assert_eq!(page, "theirs", "the port was not taken from it");
        host.succeed("systemctl stop their-web").expect("stopped");
        keys.clone()
    });
}

#[test]
fn a_machine_of_somebody_else_is_not_ended() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    host.succeed(
        "systemd-run -q --unit=theirs systemd-nspawn --keep-unit -q -M machine-bad -D / --volatile=yes /bin/sleep 600",
    )
    .expect("it starts");
    host.wait_until("machinectl show machine-bad", LIMIT).expect("registered");
    let keys = format!("system = \"{system}\"");
    let words = [
        "a machine named `machine-bad` runs on the host that NixMox did not start",
        "machinectl status machine-bad",
        "machinectl terminate machine-bad",
        "another name",
    ];
    Fault { name: "machine", bad: &keys, words: &words }.story(&host, |_| {
        host.succeed("systemctl is-active theirs && machinectl show machine-bad").expect("theirs still runs");
        host.succeed("machinectl terminate machine-bad").expect("ended by its owner");
        host.wait_until("! machinectl show machine-bad", LIMIT).expect("gone");
        keys.clone()
    });
}

#[test]
fn a_conf_file_of_somebody_else_is_not_overwritten() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    // As `nixos-container create` writes it.
    let conf = "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.99.1\nLOCAL_ADDRESS=10.233.99.2\nHOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\n";
    host.write_file("/etc/nixos-containers/conf-bad.conf", conf, 0o644).expect("written");
    let keys = format!("system = \"{system}\"");
    let words = [
        "the host has a container `conf-bad` that NixMox did not make: /etc/nixos-containers/conf-bad.conf",
        "adopt = true",
        "another name",
        "nixos-container destroy conf-bad",
    ];
    Fault { name: "conf", bad: &keys, words: &words }.story(&host, |_| {
        let after = host.read_file("/etc/nixos-containers/conf-bad.conf").expect("there");
        assert_eq!(after, conf, "theirs is as it was");
        host.succeed("rm /etc/nixos-containers/conf-bad.conf").expect("removed by its owner");
        keys.clone()
    });
}

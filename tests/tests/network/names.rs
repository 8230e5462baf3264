//! Names of services inside a running guest.

use nixmox_testbed::Testbed;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::Host;

use crate::{LIMIT, host, web};

/// Returns a script that runs a program of busybox as one of the guest: with its files, network and resolver.
fn inside(guest: &str, program: &str) -> String {
    format!("nsenter -t $(machinectl show {guest} -P Leader) -m -n -r -w /run/host/busybox {program}")
}

/// Returns a script that fetches a page by a service's name.
fn fetch(guest: &str, name: &str) -> String {
    inside(guest, &format!("timeout 2 /run/host/busybox wget -q -O - http://{name}/"))
}

/// Points a guest's `/etc/hosts` to the file that is bound, as the guest module does on NixOS.
fn use_names(bed: &Testbed, guest: &str) {
    let etc = format!("/var/lib/nixos-containers/{guest}/etc");
    bed.succeed(&format!("mkdir -p {etc} && ln -sfn /run/host/nixmox/hosts {etc}/hosts")).expect("linked");
}

#[test]
fn a_running_guest_learns_the_names_of_services_as_they_come_and_go() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "names");
    let (reader, first, second) = (web(&host, "reader", ""), web(&host, "first", ""), web(&host, "second", ""));
    stack.declare(&[&reader, &first]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    use_names(&host, "reader");
    let before = stack.healthy("reader").expect("healthy");
    let other = stack.healthy("first").expect("healthy");
    for name in ["first", "first.names", "reader"] {
        host.wait_until(&fetch("reader", name), LIMIT).expect("its name resolves");
    }
    host.fail(&fetch("reader", "second")).expect("nothing has that name yet");

    stack.declare(&[&reader, &first, &second]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    host.wait_until(&fetch("reader", "second"), LIMIT).expect("the new name resolves in the guest that ran before");
    // Another stack's services have names here too.
    let neighbour = Stack::new(&host, "neighbour");
    neighbour.declare(&[&web(&host, "across", "")]).expect("a manifest");
    neighbour.succeed("up").expect("it comes up");
    host.wait_until(&fetch("reader", "across.neighbour"), LIMIT).expect("a name of another stack");
    neighbour.succeed("down").expect("taken down");
    // Not by a page: there is none any more, whatever the name leads to.
    let names = inside("reader", "cat /etc/hosts");
    let gone = format!("names=$({names}) && grep -qw first <<< $names && ! grep -w across <<< $names");
    host.wait_until(&gone, LIMIT).expect("a name goes with its service");

    assert_eq!(stack.healthy("reader").expect("healthy"), before, "the guest was not restarted");
    assert_eq!(stack.healthy("first").expect("healthy"), other, "nor was any other");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_running_guest_asks_whom_the_host_asks() {
    // Of its own: who asks whom is an affair of the whole host.
    let host = Host::boot("servers").expect("a host");
    let servers = |file: &str, server: &str| {
        let write = format!("mkdir -p $(dirname {file}) && rm -f {file} && echo nameserver {server} > {file}");
        host.succeed(&write).expect("written");
    };
    servers("/etc/resolv.conf", "192.0.2.1");
    let stack = Stack::new(&host, "servers");
    stack.declare(&[&web(&host, "reader", "")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("reader").expect("healthy");
    let seen = |server: &str| {
        let read = inside("reader", "cat /run/host/nixmox/resolv.conf");
        host.wait_until(&format!("{read} | grep -qx 'nameserver {server}'"), LIMIT).expect("the guest learns it");
    };
    seen("192.0.2.1");
    servers("/etc/resolv.conf", "192.0.2.2");
    seen("192.0.2.2");
    // A stub on loopback is of no use to others: those behind it are given, in a folder that came after the agent.
    servers("/run/systemd/resolve/resolv.conf", "192.0.2.3");
    servers("/etc/resolv.conf", "127.0.0.53");
    seen("192.0.2.3");
    servers("/run/systemd/resolve/resolv.conf", "192.0.2.4");
    seen("192.0.2.4");
    // Where there is none, guests keep what they had: an answer comes after a round.
    host.succeed("rm /run/systemd/resolve/resolv.conf && nixmoxctl start reader").expect("removed");
    let kept = host.succeed(&inside("reader", "cat /run/host/nixmox/resolv.conf")).expect("it is there");
    assert_eq!(kept, "nameserver 192.0.2.4");
    // One that never had any is told.
    host.succeed("rm /run/nixmox/guests/resolv.conf && nixmoxctl start reader").expect("removed");
    let status = host.succeed("nixmoxctl --all status").expect("told");
    assert!(status.contains("have nobody to ask for names"), "{status}");
    assert_eq!(stack.healthy("reader").expect("healthy"), before, "the guest was not restarted");
}

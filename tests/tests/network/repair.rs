//! The table of published ports, taken away behind the agent's back: it is there again, whole, and nothing was restarted.

use nixmox_testbed::{Behaviour, LAN_CLIENT_ADDRESS, LAN_HOST_ADDRESS};
use nixmox_tests::operator::Stack;

use crate::from::{From, To, answers, is_unpublished};
use crate::{LIMIT, service, web, whole_host};

#[test]
fn a_table_that_was_taken_away_comes_back_whole() {
    let (host, _held) = whole_host();
    let stack = Stack::new(&host, "flushed");
    let system = host.guest("echo", &Behaviour::new().http(80).udp(53)).expect("a system");
    let keys = "network = { ports = [\"8200:80\", \"8200:53/udp\"] }";
    stack.declare(&[&service("echo", &system, keys), &web(&host, "client", "")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = ["echo", "client"].map(|name| stack.healthy(name).expect("healthy"));
    let outside = "systemd-run -q --unit=outside ip netns exec lan busybox httpd -f -p 8201 -h /usr/share";
    host.succeed(outside).expect("it starts");
    let table = host.succeed("nft list table inet nixmox").expect("published");
    for spoil in ["nft flush ruleset", "nft delete table inet nixmox"] {
        host.succeed(spoil).expect("spoiled");
        host.wait_until("nft list table inet nixmox", LIMIT).expect("repaired");
        assert_eq!(host.succeed("nft list table inet nixmox").expect("there"), table, "after `{spoil}`");
        for from in [From::Host, From::Lan, From::Container("client")] {
            answers(&host, from, To::Http(LAN_HOST_ADDRESS, 8200)).expect("published");
            answers(&host, from, To::Udp(LAN_HOST_ADDRESS, 8200)).expect("published");
        }
        answers(&host, From::Host, To::Http("127.0.0.1", 8200)).expect("published");
        let out =
            format!("{} busybox nc -w 1 {LAN_CLIENT_ADDRESS} 8201 </dev/null", From::Container("client").prefix());
        host.wait_until(&out, LIMIT).expect("the way out is there");
    }
    for (name, invocation) in ["echo", "client"].iter().zip(before) {
        assert_eq!(stack.healthy(name).expect("healthy"), invocation);
    }
    host.succeed("systemctl stop outside").expect("stopped");
    stack.succeed("down").expect("taken down");
    is_unpublished(&host, 8200).expect("no longer published");
}

//! Links and addresses: the private network, published ports, bridges, and links that nspawn is given by a flag.

use nixmox_testbed::Testbed;
use nixmox_tests::operator::Stack;

use crate::{LIMIT, address, debian, fetch, host, inside, web};

/// Returns a script that succeeds when an address answers.
fn ping(to: &str) -> String {
    format!("ping -q -c 1 -W 1 {to}")
}

/// Runs a script with the host's programs in the network of a container.
fn within(bed: &Testbed, name: &str, script: &str) -> String {
    bed.succeed(&format!("nsenter -t $(machinectl show {name} -P Leader) -n -- bash -ec '{script}'"))
        .expect("it runs there")
}

#[test]
fn the_address_that_is_told_is_the_one_inside_and_silent_after_a_stop() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "addressed");
    let fixed = "network = { address = \"10.233.77.2\" }";
    stack.declare(&[&debian(&host, "any-address", ""), &web(&host, "fixed-address", fixed)]).expect("written");
    stack.succeed("up").expect("it comes up");
    assert_eq!(address(&stack, "fixed-address"), "10.233.77.2");
    for name in ["any-address", "fixed-address"] {
        let told = address(&stack, name);
        let there = within(&host, name, "ip -j -4 address show eth0 | jq -r \".[0].addr_info[].local\"");
        assert_eq!(there, told, "{name}");
        // What `nixos-container show-ip` reads.
        let conf = host.succeed(&format!("sed -n s/^LOCAL_ADDRESS=//p /etc/nixos-containers/{name}.conf"));
        assert_eq!(conf.expect("its conf"), told, "{name}");
        let line = stack.succeed("status").expect("a status").stdout;
        assert!(line.lines().any(|line| line.contains(name) && line.contains(&told)), "{line}");
        host.succeed(&ping(&told)).expect("it answers");
    }
    host.wait_until(&fetch("10.233.77.2", 80), LIMIT).expect("its page");
    stack.succeed("stop").expect("stopped");
    for name in ["any-address", "fixed-address"] {
        host.fail(&ping(&address(&stack, name))).expect("nobody is there");
    }
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_published_port_answers_while_its_service_runs() {
    let (host, _held) = host();
    host.succeed("ip link show outside0 || ip link add outside0 type bridge && ip address replace 198.51.100.1/24 dev outside0 && ip link set outside0 up")
        .expect("an address of the host");
    let stack = Stack::new(&host, "published");
    stack.declare(&[&web(&host, "published", "network = { ports = [\"10080:80\"] }")]).expect("written");
    stack.succeed("up").expect("it comes up");
    for to in ["198.51.100.1", "127.0.0.1"] {
        host.wait_until(&fetch(to, 10080), LIMIT).expect("published");
    }
    stack.succeed("stop").expect("stopped");
    for to in ["198.51.100.1", "127.0.0.1"] {
        host.fail(&fetch(to, 10080)).expect("nobody answers");
    }
    stack.succeed("start").expect("started");
    host.wait_until(&fetch("198.51.100.1", 10080), LIMIT).expect("published again");
    stack.succeed("down").expect("taken down");
    host.fail(&fetch("198.51.100.1", 10080)).expect("no longer published");
}

#[test]
fn a_port_of_a_bridge_is_reached_over_it_and_what_was_left_of_it_is_no_obstacle() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "bridged");
    stack
        .declare(&[&debian(&host, "on-bridge", "network = { mode = \"bridge\", bridge = \"br-test\" }")])
        .expect("written");
    let words = ["there is no bridge `br-test` on this host", "ip link add br-test type bridge", "network.bridge"];
    stack.refuse("up", 1, &words).expect("the bridge is the host's to make");
    host.succeed(
        "ip link add br-test type bridge && ip address add 192.0.2.129/25 dev br-test && ip link set br-test up",
    )
    .expect("a bridge");
    // As after a nspawn that was killed: a link whose other end nobody holds any more.
    host.succeed("ip link add vb-on-bridge type veth peer name left-over").expect("a link that is left");
    stack.succeed("up").expect("it comes up");
    host.fail("ip link show left-over").expect("it went before the start");
    let master = host.succeed("ip -j link show vb-on-bridge | jq -r '.[0].master'").expect("its link");
    assert_eq!(master, "br-test");
    assert_eq!(stack.field("on-bridge", "address").expect("a status"), "", "its address is not ours");

    // The guest's end is there and up, without an address of ours: that is the guest's business, or a DHCP server's.
    assert_eq!(inside(&host, "on-bridge", "ip -4 -o address show eth0"), "");
    inside(&host, "on-bridge", "ip address add 192.0.2.130/25 dev eth0; ip route add default via 192.0.2.129");
    assert!(inside(&host, "on-bridge", "ip route get 203.0.113.1").contains("via 192.0.2.129 dev eth0"));
    host.wait_until(&ping("192.0.2.130"), LIMIT).expect("the host reaches it");
    within(&host, "on-bridge", &ping("192.0.2.129"));
    within(&host, "on-bridge", &ping("198.51.100.200 || true"));
    // Caddy answers an error, for what it hands on to is not there: an answer all the same.
    host.wait_until("curl -s --noproxy '*' --max-time 2 -o /dev/null http://192.0.2.130/", LIMIT)
        .expect("it answers");
    stack.succeed("stop").expect("stopped");
    host.fail(&ping("192.0.2.130")).expect("nobody is there");
    host.fail("ip link show vb-on-bridge").expect("its link is gone");
    stack.succeed("down").expect("taken down");
    host.succeed("ip link show br-test && ip link delete br-test").expect("the bridge is the host's");
}

#[test]
fn further_links_of_a_flag_are_up_on_both_sides_and_go_with_the_container() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "further");
    let keys =
        "nspawn_flags = [\"--network-veth-extra=plain-out:plain\", \"--network-veth-extra=bridge-out:bridged\"]";
    stack.declare(&[&web(&host, "further", keys)]).expect("written");
    stack.succeed("up").expect("it comes up");
    host.succeed(
        "ip link add br-extra type bridge && ip address add 192.0.2.65/26 dev br-extra && ip link set br-extra up
         ip link set bridge-out master br-extra up && ip address add 198.51.100.9/30 dev plain-out && ip link set plain-out up",
    )
    .expect("the host's ends");
    within(
        &host,
        "further",
        "ip address add 198.51.100.10/30 dev plain; ip link set plain up; ip address add 192.0.2.66/26 dev bridged; ip link set bridged up",
    );
    for to in [address(&stack, "further").as_str(), "198.51.100.10", "192.0.2.66"] {
        host.wait_until(&ping(to), LIMIT).expect("each link leads there");
    }
    stack.succeed("stop").expect("stopped");
    host.fail("ip link show plain-out || ip link show bridge-out").expect("they are gone");
    stack.succeed("down").expect("taken down");
    host.succeed("ip link delete br-extra").expect("the bridge is the host's");
}

#[test]
fn a_macvlan_and_an_interface_of_the_host_are_given_by_flags() {
    let (host, _held) = host();
    // Another machine, on the wires that both interfaces hang on.
    host.succeed(
        "ip netns add wired
         for wire in shared moved; do
             ip link add $wire-nic type veth peer name $wire netns wired && ip link set $wire-nic up && ip -n wired link set $wire up
         done
         ip -n wired address add 192.0.2.193/28 dev shared && ip -n wired address add 192.0.2.209/28 dev moved",
    )
    .expect("two wires");
    let stack = Stack::new(&host, "wired");
    let macvlan = web(&host, "has-macvlan", "nspawn_flags = [\"--network-macvlan=shared-nic\"]");
    let moved = web(&host, "has-nic", "nspawn_flags = [\"--network-interface=moved-nic\"]");
    stack.declare(&[&macvlan, &moved]).expect("written");
    stack.succeed("up").expect("it comes up");
    within(&host, "has-macvlan", "ip address add 192.0.2.194/28 dev mv-shared-nic; ip link set mv-shared-nic up");
    within(&host, "has-nic", "ip address add 192.0.2.210/28 dev moved-nic; ip link set moved-nic up");
    host.fail("ip link show moved-nic").expect("it is the container's");
    host.succeed("ip link show shared-nic").expect("it is shared");
    for to in ["192.0.2.194", "192.0.2.210"] {
        host.wait_until(&format!("ip netns exec wired {}", ping(to)), LIMIT).expect("the other machine reaches it");
    }
    // Their own addresses and health are as without.
    for name in ["has-macvlan", "has-nic"] {
        host.succeed(&ping(&address(&stack, name))).expect("its private network");
        stack.healthy(name).expect("healthy");
    }
    stack.succeed("down").expect("taken down");
    host.wait_until("ip link show moved-nic", LIMIT).expect("it is the host's again");
    host.succeed("ip netns delete wired").expect("removed");
}

//! Published ports, from every place that connections come from.

use nixmox_testbed::{Behaviour, LAN_CLIENT_ADDRESS, LAN_HOST_ADDRESS, Testbed};
use nixmox_tests::operator::Stack;

use crate::from::{From, To, answers, is_silent, is_unpublished};
use crate::{LIMIT, host, service, web, whole_host};

/// A second address of the host in the local network.
const SECOND_ADDRESS: &str = "192.0.2.3";

/// Fails unless the guard, and nothing else, keeps a script from success.
fn is_guarded(bed: &Testbed, reach: &str) {
    bed.fail(reach).expect("the guard keeps it out");
    // An agent would put the guard back at once.
    let agent = "nixmox-agent.socket nixmox-agent.service";
    bed.succeed(&format!("systemctl stop {agent} && nft flush chain inet nixmox guard")).expect("no guard");
    bed.wait_until(reach, LIMIT).expect("without the guard it gets through");
    bed.succeed(&format!("systemctl start {agent}")).expect("an agent");
    bed.wait_until("nft list chain inet nixmox guard | grep drop", LIMIT).expect("repaired");
    bed.fail(reach).expect("the guard keeps it out");
}

#[test]
fn a_published_port_answers_from_everywhere_over_tcp_and_udp() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "everywhere");
    let system = host.guest("echo", &Behaviour::new().http(80).udp(53)).expect("a system");
    let keys = "network = { ports = [\"8100:80\", \"8100:53/udp\"] }";
    stack.declare(&[&service("echo", &system, keys), &web(&host, "client", "")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let container = From::Container("client");
    for from in [From::Host, From::Lan, container, From::Container("echo")] {
        for to in [To::Http(LAN_HOST_ADDRESS, 8100), To::Udp(LAN_HOST_ADDRESS, 8100)] {
            answers(&host, from, to).expect("the host's own address");
        }
    }
    for to in [To::Http("127.0.0.1", 8100), To::Udp("127.0.0.1", 8100), To::Http("127.0.0.2", 8100)] {
        answers(&host, From::Host, to).expect("localhost");
    }
    for to in [To::Http("echo", 80), To::Udp("echo", 53)] {
        is_silent(&host, container, to).expect("the host's programs know no names of containers");
    }
    stack.succeed("down").expect("taken down");
    is_unpublished(&host, 8100).expect("no longer published");
}

#[test]
fn a_port_on_one_address_answers_on_no_other() {
    let (host, _held) = whole_host();
    host.succeed(&format!("ip addr replace {SECOND_ADDRESS}/24 dev lan0")).expect("a second address");
    let stack = Stack::new(&host, "oneaddress");
    let system = host.guest("echo", &Behaviour::new().http(80).udp(53)).expect("a system");
    let keys = format!(
        "network = {{ ports = [\"127.0.0.1:8110:80\", \"127.0.0.1:8110:53/udp\", \"{SECOND_ADDRESS}:8111:80\", \"{SECOND_ADDRESS}:8111:53/udp\"] }}"
    );
    stack.declare(&[&service("only", &system, &keys), &web(&host, "other", "")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    for to in [To::Http("127.0.0.1", 8110), To::Udp("127.0.0.1", 8110)] {
        answers(&host, From::Host, to).expect("localhost");
    }
    for from in [From::Host, From::Lan, From::Container("other")] {
        for to in [To::Http(SECOND_ADDRESS, 8111), To::Udp(SECOND_ADDRESS, 8111)] {
            answers(&host, from, to).expect("its own address");
        }
        for to in
            [To::Http(LAN_HOST_ADDRESS, 8111), To::Http(LAN_HOST_ADDRESS, 8110), To::Udp(LAN_HOST_ADDRESS, 8110)]
        {
            is_silent(&host, from, to).expect("another address");
        }
    }
    is_silent(&host, From::Host, To::Http("127.0.0.1", 8111)).expect("localhost is another address");
    is_silent(&host, From::Host, To::Http("127.0.0.2", 8110)).expect("another address of localhost");

    // A machine of the local network that sends packets for 127.0.0.1 to the host: the rule for the published port would
    // lead them away before the kernel finds them to be martians.
    host.succeed(
        "ip netns add liar 2>/dev/null || true
         ip link add lan1 type veth peer name eth0 netns liar && ip addr add 198.51.100.1/24 dev lan1 && ip link set lan1 up
         ip -n liar addr add 198.51.100.2/24 dev eth0 && ip -n liar link set eth0 up
         ip netns exec liar sysctl -qw net.ipv4.conf.eth0.route_localnet=1
         ip -n liar route add 127.0.0.1 via 198.51.100.1 dev eth0 src 198.51.100.2",
    )
    .expect("a machine that lies");
    let liar = "ip netns exec liar curl -sf --noproxy '*' --max-time 2 http://127.0.0.1:8110/";
    is_guarded(&host, liar);
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_container_reaches_the_local_network_as_the_host() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "outward");
    stack.declare(&[&web(&host, "outward", "")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    // Tells its journal who asks.
    host.succeed("mkdir -p /srv/outside && echo outside > /srv/outside/index.html").expect("a page");
    host.succeed("systemd-run -q --unit=who-asks ip netns exec lan busybox httpd -f -vv -p 8120 -h /srv/outside")
        .expect("it starts");
    answers(&host, From::Container("outward"), To::Http(LAN_CLIENT_ADDRESS, 8120)).expect("it is answered");
    let told = "journalctl -q -o cat -u who-asks | grep response:200";
    let seen = host.wait_until(told, LIMIT).expect("it tells who asked");
    assert!(
        seen.contains(LAN_HOST_ADDRESS) && !seen.contains("10.233."),
        "the other machine sees the host: {seen}"
    );
    host.succeed("systemctl stop who-asks").expect("stopped");
    stack.succeed("down").expect("taken down");
}

#[test]
fn what_listens_on_localhost_stays_there() {
    let (host, _held) = whole_host();
    let stack = Stack::new(&host, "localnet");
    // With a published port its link takes packets for loopback addresses: only the guard keeps them out.
    let keys = "network = { ports = [\"8131:80\"] }";
    stack.declare(&[&web(&host, "localnet", keys)]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    host.succeed(
        "mkdir -p /srv/private && echo secret > /srv/private/index.html && systemd-run -q --unit=private busybox httpd -f -p 127.0.0.1:8130 -h /srv/private",
    )
    .expect("it starts");
    answers(&host, From::Host, To::Http("127.0.0.1", 8130)).expect("the host itself reaches it");
    answers(&host, From::Host, To::Http("127.0.0.1", 8131)).expect("published on localhost");
    let gateway = host.succeed("sed -n s/^HOST_ADDRESS=//p /etc/nixos-containers/localnet.conf").expect("its conf");
    is_silent(&host, From::Container("localnet"), To::Http(&gateway, 8130)).expect("the host's end of the link");
    is_silent(&host, From::Lan, To::Http(LAN_HOST_ADDRESS, 8130)).expect("the host's address");
    // The other machine sends what it has no route for to the host, which knows the way.
    let own = host.succeed("sed -n s/^LOCAL_ADDRESS=//p /etc/nixos-containers/localnet.conf").expect("its conf");
    let own = own.split('/').next().expect("an address");
    answers(&host, From::Host, To::Http(own, 80)).expect("the host reaches the container itself");
    is_silent(&host, From::Lan, To::Http(own, 80)).expect("past what is published");

    // Both give up their own loopback addresses and send packets for them to the host.
    let container = From::Container("localnet").prefix();
    let lie = |prefix: &str, gateway: &str| {
        host.succeed(&format!(
            "{prefix} bash -ec 'ip address flush dev lo; ip route flush table local root 127.0.0.0/8 || true
             sysctl -qw net.ipv4.conf.all.route_localnet=1
             ip route replace 127.0.0.1 via {gateway}'"
        ))
        .expect("it lies");
    };
    lie(&container, &gateway);
    let reach = format!("{container} curl -sf --noproxy '*' --max-time 2 http://127.0.0.1:8130/");
    is_guarded(&host, &reach);
    host.succeed("systemctl stop private").expect("stopped");
    stack.succeed("down").expect("taken down");
}

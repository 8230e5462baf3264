//! Published ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};

use nixmox_agent::host::{Host, StepError};
use nixmox_core::model::{Addresses, Assigned, Port, Protocol};
use nixmox_core::network::{FirewallTable, Forward, Guest};

use crate::inside::{open, shell, wait_until, wakes};
use crate::service::{assigned, files, name};

/// Where `testbed`'s other machine on the local network runs its programs.
const ON_THE_LAN: &str = "ip netns exec lan";

fn port(host_address: Option<[u8; 4]>, host_port: u16) -> Port {
    let host_address = host_address.map(IpAddr::from);
    Port { host_address, host_port, container_port: 80, protocol: Protocol::Tcp }
}

fn table(services: &[&Assigned]) -> FirewallTable {
    let mut table = FirewallTable::default();
    for assigned in services {
        let addresses: Addresses = assigned.addresses.expect("a private network");
        table.guests.insert(Guest { name: assigned.service.name.clone(), addresses });
        let forward = |port: &Port| Forward { port: port.clone(), to: addresses.local };
        table.forwards.extend(assigned.service.ports.iter().map(forward));
    }
    table
}

/// Waits until an HTTP server answers.
fn answers(from: &str, url: &str) {
    wait_until(&format!("{from} curl -sf --connect-timeout 2 --max-time 5 {url}"));
}

/// Fails when an HTTP server answers.
fn is_silent(from: &str, url: &str) {
    shell(&format!("! {from} curl -sf --connect-timeout 2 --max-time 5 {url}"));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn published_ports_answer_on_localhost_and_in_the_local_network() {
    let host = open();
    let mut web = assigned("web", "web", 1);
    web.service.ports = vec![port(None, 8080), port(Some([127, 0, 0, 1]), 8081)];
    // Longer than a link's name can be.
    let mut long = assigned("a-name-longer-than-a-link-has", "web", 2);
    long.service.ports = vec![port(None, 8082)];
    for service in [&web, &long] {
        host.start(service, &files(service)).await.expect("it starts");
    }
    host.publish_ports(&table(&[&web, &long])).await.expect("the table is replaced");
    host.observe(&BTreeSet::new()).await.expect("systemd answers");
    wait_until("curl -sf http://10.233.1.2/ && curl -sf http://10.233.2.2/");

    let lan = nixmox_testbed::LAN_HOST_ADDRESS;
    answers("", "http://127.0.0.1:8080/");
    // By localhost to a long name, and by the host's own address.
    answers("", "http://localhost:8082/");
    answers("", &format!("http://{lan}:8080/"));
    answers(ON_THE_LAN, &format!("http://{lan}:8080/"));
    answers(ON_THE_LAN, &format!("http://{lan}:8082/"));
    // On localhost alone, and so not from the local network.
    answers("", "http://127.0.0.1:8081/");
    is_silent(ON_THE_LAN, &format!("http://{lan}:8081/"));

    // From one container to another's published port, to its own, and out.
    let leader = shell("machinectl show web -p Leader --value");
    let inside = format!("nsenter -t {leader} -n");
    let other = format!("http://{lan}:8082/");
    answers(&inside, &other);
    answers(&inside, &format!("http://{lan}:8080/"));
    let seen = shell(&format!(
        "{ON_THE_LAN} timeout 10 busybox nc -l -p 9999 >/dev/null </dev/zero &
         for i in $(seq 300); do
             {inside} timeout 10 bash -c 'exec 3<>/dev/tcp/{}/9999 && sleep 2' 2>/dev/null &
             sleep 0.1; seen=$({ON_THE_LAN} ss -Htn state established '( sport = :9999 )')
             [ -n \"$seen\" ] && break
         done; echo \"$seen\"; kill %1",
        nixmox_testbed::LAN_CLIENT_ADDRESS
    ));
    assert!(seen.contains(lan) && !seen.contains("10.233."), "outside sees the host, not the container: {seen}");

    // A guest may not use `route_localnet` in the other direction.
    let _held = TcpListener::bind("127.0.0.1:7777").expect("a service of the host on localhost");
    // The guest gives up its own loopback addresses and sends packets for them to the host.
    shell(&format!(
        "{inside} bash -ec 'link=$(ip -o -4 route get 10.233.1.1 | grep -o \"dev [^ ]*\" | cut -d\" \" -f2)
             ip address flush dev lo; ip route flush table local root 127.0.0.0/8 || true
             sysctl -qw net.ipv4.conf.$link.route_localnet=1
             ip route replace 127.0.0.1 via 10.233.1.1 dev $link'"
    ));
    let reach = format!("{inside} timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777'");
    // Services on the host's loopback stay there. Without the guard they would not, so it is the guard that keeps them.
    shell(&format!("! {reach}"));
    shell("nft flush chain inet nixmox guard");
    wait_until(&reach);
    host.publish_ports(&table(&[&web, &long])).await.expect("the table is repaired");
    shell(&format!("! {reach}"));

    // Started by somebody else, it is reachable on localhost as soon as it was seen.
    shell("systemctl restart container@web");
    let observed = host.observe(&BTreeSet::new()).await.expect("systemd answers");
    wait_until("curl -sf http://10.233.1.2/");
    answers("", "http://127.0.0.1:8080/");
    assert_eq!(observed.firewall, Some(table(&[&web, &long])));
    for text in ["web", "a-name-longer-than-a-link-has"] {
        host.stop(&name(text)).await.expect("it stops");
    }
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn the_hosts_loopback_reaches_only_containers_that_ports_lead_to() {
    let host = open();
    let mut web = assigned("web", "web", 1);
    web.service.ports = vec![port(None, 8080)];
    let mut lan = assigned("lan", "web", 2);
    lan.service.ports = vec![port(Some([192, 168, 77, 1]), 8081)];
    for service in [&web, &lan] {
        host.start(service, &files(service)).await.expect("it starts");
    }
    // A container that NixMox has nothing to do with: its owner knows why.
    shell(
        "sed 's/^#.*//; s/10\\.233\\.1\\./10.233.9./; /^NIXMOX/d' /etc/nixos-containers/web.conf > /etc/nixos-containers/other.conf",
    );
    shell("systemctl start container@other; echo 1 > /proc/sys/net/ipv4/conf/ve-other/route_localnet");
    let look = async || drop(host.observe(&BTreeSet::new()).await.expect("systemd answers"));
    let open = || {
        shell("cd /proc/sys/net/ipv4/conf; cat ve-web/route_localnet ve-lan/route_localnet ve-other/route_localnet")
    };
    look().await;
    assert_eq!(open(), "0\n0\n1", "without a table nothing guards the host");
    let both = table(&[&web, &lan]);
    host.publish_ports(&both).await.expect("the table is replaced");
    look().await;
    assert_eq!(open(), "1\n0\n1");
    shell("systemctl restart container@web");
    look().await;
    assert_eq!(open(), "1\n0\n1", "a new link is like the old one");
    for spoil in ["nft flush ruleset", "nft flush chain inet nixmox guard"] {
        shell(spoil);
        look().await;
        assert_eq!(open(), "0\n0\n1", "{spoil}");
        host.publish_ports(&both).await.expect("the table is repaired");
        look().await;
        assert_eq!(open(), "1\n0\n1");
    }
    // Before the table goes, while guests run on.
    host.publish_ports(&table(&[&lan])).await.expect("the table is replaced");
    assert_eq!(open(), "0\n0\n1");
    host.publish_ports(&both).await.expect("the table is replaced");
    look().await;
    assert_eq!(open(), "1\n0\n1");
    host.publish_ports(&FirewallTable::default()).await.expect("the table is removed");
    assert_eq!(open(), "0\n0\n1");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_changed_table_is_seen_and_repaired() {
    let host = open();
    let mut web = assigned_without_system();
    web.service.ports = vec![port(None, 8080)];
    let table = table(&[&web]);
    host.publish_ports(&table).await.expect("the table is replaced");
    let seen = async || host.observe(&BTreeSet::new()).await.expect("systemd answers").firewall;
    assert_eq!(seen().await, Some(table.clone()));
    for change in [
        "nft flush ruleset",
        "nft add rule inet nixmox prerouting tcp dport 1 drop",
        "nft delete rule inet nixmox guard handle $(nft -a list chain inet nixmox guard | grep -o 'handle [0-9]*$' | tail -1 | cut -d' ' -f2)",
    ] {
        wakes(&host, change).await;
        assert_eq!(seen().await, None, "{change}");
        host.publish_ports(&table).await.expect("the table is repaired");
        assert_eq!(seen().await, Some(table.clone()), "{change}");
    }
    // Tables of others are left alone, and named when they are in the way.
    shell(
        "nft add table inet other; nft add chain inet other f '{ type filter hook forward priority 0; policy drop; }'",
    );
    let obstacles = async || host.observe(&BTreeSet::new()).await.expect("systemd answers").obstacles;
    let named = obstacles().await;
    assert!(named.iter().any(|text| text.contains("`inet other`")), "{named:?}");
    // The way out is one.
    let way_out = named.iter().find_map(|text| text.split_once("there: ")).expect("a way out").1;
    shell(way_out);
    assert_eq!(obstacles().await, Vec::<String>::new());
    host.publish_ports(&FirewallTable::default()).await.expect("the table is removed");
    assert_eq!(seen().await, None);
    shell("! nft list table inet nixmox && nft list table inet other");
    host.publish_ports(&FirewallTable::default()).await.expect("removing it again does nothing");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_port_of_another_program_is_not_taken() {
    let host = open();
    let mut web = assigned("web", "web", 1);
    web.service.ports = vec![port(None, 8080)];
    let held = TcpListener::bind("0.0.0.0:8080").expect("a free port");
    let error = host.start(&web, &files(&web)).await.expect_err("the port is taken");
    let StepError::PortTaken { port, owner, .. } = &error else { panic!("{error}") };
    assert_eq!(*port, 8080);
    assert!(owner.contains(&format!("pid {}", std::process::id())), "{owner}");
    println!("{error}; {:?}", error.hint());
    drop(held);
    host.start(&web, &files(&web)).await.expect("the port is free");
}

/// A service that is never started.
fn assigned_without_system() -> Assigned {
    assigned("web", "none", 1)
}

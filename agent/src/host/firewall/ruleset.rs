//! From a table of published ports to nftables objects, and nothing else.
//!
//! Every rule that stands for something carries it as its comment, from which `read` takes it back; that the rest of
//! the rule says the same is checked there by building it anew.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use nftables::batch::Batch;
use nftables::expr::{
    Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix,
};
use nftables::schema::{Chain, NfListObject, Nftables, Rule, Table};
use nftables::stmt::{Match, NAT, NATFamily, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use nixmox_core::model::Protocol;
use nixmox_core::network::{FirewallTable, Forward, Guest};

/// The name of our table, of family `inet`.
pub(super) const TABLE: &str = "nixmox";
/// Chains whose rules stand for published ports, in which each stands once.
pub(super) const FORWARD_CHAINS: [&str; 2] = ["prerouting", "output"];
/// The chain whose commented rules stand for containers.
pub(super) const GUEST_CHAIN: &str = "postrouting";

/// All links of containers, also shortened ones: systemd-nspawn(1), `--network-veth`.
pub(super) const GUEST_LINKS: &str = "ve-*";
/// The host's own loopback link.
const LOOPBACK_LINK: &str = "lo";
// nft(8), "Standard priority names".
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;

/// Returns the commands that make our table this one, in one transaction; an empty table is no table.
pub(super) fn replacement(table: &FirewallTable) -> Nftables<'static> {
    let mut batch = Batch::new();
    // Added first, so that there is one to delete: nft(8) has no command that deletes only what is there.
    batch.add(own_table());
    batch.delete(own_table());
    if !table.is_empty() {
        for object in objects(table) {
            batch.add(object);
        }
    }
    batch.to_nftables()
}

/// Returns what is in our table, in the order in which nft lists it.
pub(super) fn objects(table: &FirewallTable) -> Vec<NfListObject<'static>> {
    let mut objects = vec![
        own_table(),
        chain("guard", NfChainType::Filter, NfHook::Prerouting, PRIORITY_RAW),
        chain("prerouting", NfChainType::NAT, NfHook::Prerouting, PRIORITY_DSTNAT),
        chain("output", NfChainType::NAT, NfHook::Output, PRIORITY_DSTNAT),
        chain("postrouting", NfChainType::NAT, NfHook::Postrouting, PRIORITY_SRCNAT),
    ];
    // `route_localnet` lets the host reach guests from its loopback addresses; this keeps guests from the reverse. It keeps
    // the machines of the local network from ports that are published on those addresses, too: these packets are led away
    // before the kernel looks where they came from.
    let to_loopback = vec![
        link(MetaKey::Iifname, Operator::NEQ, LOOPBACK_LINK),
        from_or_to("daddr", loopback()),
        Statement::Drop(None),
    ];
    objects.push(rule("guard", to_loopback, None));
    // What is not published is not reached from the local network either, by machines that send packets for the pool to
    // this host. Here a packet still has the address that its sender gave it, and whoever asks for a published port
    // gives the host's. The host's own packets do not pass here.
    for guest in &table.guests {
        let past_the_host = vec![
            link(MetaKey::Iifname, Operator::NEQ, GUEST_LINKS),
            from_or_to("daddr", address(guest.addresses.local.into())),
            Statement::Drop(None),
        ];
        objects.push(rule("guard", past_the_host, None));
    }
    for name in FORWARD_CHAINS {
        objects
            .extend(table.forwards.iter().map(|forward| rule(name, dnat(forward), Some(forward_comment(forward)))));
    }
    // A guest cannot answer to a loopback address; the host's end of its link is what it sees instead.
    let local = vec![
        from_or_to("saddr", loopback()),
        link(MetaKey::Oifname, Operator::EQ, GUEST_LINKS),
        Statement::Masquerade(None),
    ];
    objects.push(rule(GUEST_CHAIN, local, None));
    for guest in &table.guests {
        let own = || address(guest.addresses.local.into());
        // A guest that asks for a port of its own through the host would answer itself past the host.
        let hairpin = vec![from_or_to("saddr", own()), from_or_to("daddr", own()), Statement::Masquerade(None)];
        objects.push(rule(GUEST_CHAIN, hairpin, None));
        let out = vec![
            from_or_to("saddr", own()),
            link(MetaKey::Oifname, Operator::NEQ, GUEST_LINKS),
            Statement::Masquerade(None),
        ];
        objects.push(rule(GUEST_CHAIN, out, Some(guest_comment(guest))));
    }
    objects
}

/// Writes a published port as a comment: `80/tcp 10.233.1.2:8080`, `127.0.0.1:80/tcp 10.233.1.2:8080`.
fn forward_comment(forward: &Forward) -> String {
    let port = &forward.port;
    let on = match port.host_address {
        None => String::new(),
        Some(IpAddr::V4(address)) => format!("{address}:"),
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
    };
    format!("{on}{}/{} {}:{}", port.host_port, protocol(port.protocol), forward.to, port.container_port)
}

/// Writes a container as a comment: `web 10.233.1.1`. Its own address is in the rule's match.
fn guest_comment(guest: &Guest) -> String {
    format!("{} {} {}", guest.name, guest.addresses.host, guest.addresses.local)
}

pub(in crate::host) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// Leads a published port to its container. One on an IPv6 address has no address to lead to: it is matched and left
/// alone, so that the table still says all that is declared.
fn dnat(forward: &Forward) -> Vec<Statement<'static>> {
    let on = match forward.port.host_address {
        None => matches(
            NamedExpression::Fib(Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) }),
            Operator::EQ,
            Expression::String("local".into()),
        ),
        Some(IpAddr::V4(host)) => from_or_to("daddr", address(host.into())),
        Some(IpAddr::V6(host)) => matches(payload("ip6", "daddr"), Operator::EQ, address(host.into())),
    };
    let port = matches(
        payload(protocol(forward.port.protocol), "dport"),
        Operator::EQ,
        Expression::Number(forward.port.host_port.into()),
    );
    let act = match forward.port.host_address {
        None | Some(IpAddr::V4(_)) => Statement::DNAT(Some(NAT {
            addr: Some(address(forward.to.into())),
            family: Some(NATFamily::IP),
            port: Some(Expression::Number(forward.port.container_port.into())),
            flags: None,
        })),
        Some(IpAddr::V6(_)) => Statement::Accept(None),
    };
    vec![on, port, act]
}

fn own_table() -> NfListObject<'static> {
    NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
}

fn chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn rule(chain: &'static str, expr: Vec<Statement<'static>>, comment: Option<String>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: Cow::Owned(expr),
        comment: comment.map(Cow::Owned),
        ..Rule::default()
    })
}

fn matches(left: NamedExpression<'static>, op: Operator, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left: Expression::Named(left), right, op })
}

fn link(key: MetaKey, op: Operator, name: &'static str) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key }), op, Expression::String(name.into()))
}

fn from_or_to(field: &'static str, right: Expression<'static>) -> Statement<'static> {
    matches(payload("ip", field), Operator::EQ, right)
}

fn payload(protocol: &'static str, field: &'static str) -> NamedExpression<'static> {
    NamedExpression::Payload(Payload::PayloadField(PayloadField { protocol: protocol.into(), field: field.into() }))
}

fn address(address: IpAddr) -> Expression<'static> {
    Expression::String(address.to_string().into())
}

fn loopback() -> Expression<'static> {
    let addr = Box::new(address(Ipv4Addr::new(127, 0, 0, 0).into()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: 8 }))
}

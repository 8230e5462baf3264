//! What is built reads back, and nothing else does.

use nftables::schema::{NfListObject, NfObject, Nftables, Rule};
use nixmox_core::model::{Addresses, Port, Protocol};
use nixmox_core::network::{FirewallTable, Forward, Guest};
use serde_json::{Value, json};

use super::{obstacles, read, ruleset};

fn table() -> FirewallTable {
    let to = [10, 233, 1, 2].into();
    let forward = |host_address: Option<&str>, host_port, protocol| Forward {
        port: Port {
            host_address: host_address.map(|a| a.parse().unwrap()),
            host_port,
            container_port: 80,
            protocol,
        },
        to,
    };
    FirewallTable {
        forwards: [
            forward(None, 80, Protocol::Tcp),
            forward(None, 443, Protocol::Udp),
            forward(Some("127.0.0.1"), 2019, Protocol::Tcp),
            forward(Some("::1"), 81, Protocol::Tcp),
        ]
        .into(),
        guests: [Guest {
            name: "web".parse().unwrap(),
            addresses: Addresses { host: [10, 233, 1, 1].into(), local: to },
        }]
        .into(),
    }
}

fn listed(objects: Vec<NfListObject<'static>>) -> Value {
    let objects = objects.into_iter().map(NfObject::ListObject).collect();
    serde_json::to_value(Nftables { objects }).unwrap()
}

#[test]
fn a_table_reads_back_through_json() {
    for table in [table(), FirewallTable { forwards: [].into(), ..table() }] {
        let mut value = listed(ruleset::objects(&table));
        value["nftables"][0]["table"]["handle"] = json!(7);
        assert_eq!(read::table(&value), Some(table), "{value}");
    }
}

#[test]
fn a_table_that_somebody_changed_is_not_ours() {
    let objects = ruleset::objects(&table());
    for at in 0..objects.len() {
        let mut without = objects.clone();
        without.remove(at);
        assert_ne!(read::table(&listed(without)), Some(table()), "without object {at}");
    }
    let mut more = objects.clone();
    more.push(NfListObject::Rule(Rule {
        table: "nixmox".into(),
        chain: "prerouting".into(),
        comment: Some("mine".into()),
        ..Rule::default()
    }));
    assert_eq!(read::table(&listed(more)), None);
    let mut other = objects;
    for object in &mut other {
        // The comment says one thing and the rule does another.
        if let NfListObject::Rule(rule) = object
            && rule.comment.as_deref() == Some("80/tcp 10.233.1.2:80")
        {
            rule.comment = Some("88/tcp 10.233.1.2:80".into());
        }
    }
    assert_eq!(read::table(&listed(other)), None);
}

#[test]
fn what_comes_in_by_any_link_reaches_no_loopback_address() {
    let objects = ruleset::objects(&table()).into_iter().map(NfObject::ListObject).collect();
    let text = serde_json::to_string(&Nftables { objects }).unwrap();
    let elsewhere = r#"{"match":{"left":{"meta":{"key":"iifname"}},"right":"lo","op":"!="}}"#;
    let guard = text.split(r#""chain":"guard""#).nth(1).unwrap().split(r#""chain":"#).next().unwrap();
    assert!(guard.contains(elsewhere) && guard.contains("drop"), "{guard}");
}

#[test]
fn an_empty_table_is_no_table() {
    let text = serde_json::to_string(&ruleset::replacement(&FirewallTable::default())).unwrap();
    let table = r#"{"table":{"family":"inet","name":"nixmox"}}"#;
    assert_eq!(text, format!(r#"{{"nftables":[{{"add":{table}}},{{"delete":{table}}}]}}"#));
}

#[test]
fn a_drop_policy_of_others_is_named_with_the_way_out() {
    let chains = r#"{"nftables": [
        {"metainfo": {"version": "1.1.3", "release_name": "x", "json_schema_version": 1}},
        {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter",
                   "hook": "forward", "prio": 0, "policy": "drop"}},
        {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter",
                   "hook": "forward", "prio": 0, "policy": "drop"}},
        {"chain": {"family": "inet", "table": "own", "name": "forward", "handle": 1, "type": "filter",
                   "hook": "forward", "prio": 0, "policy": "accept"}}]}"#;
    let chains: Value = serde_json::from_str(chains).unwrap();
    let found: Vec<String> = obstacles::dropping(&chains).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("nft insert rule ip filter FORWARD iifname"), "{found:?}");
    assert!(obstacles::on_ipv6(&table()).iter().any(|text| text.contains("[::1]")));
}

#[test]
fn a_table_that_accepts_the_containers_links_stands_in_nobodys_way() {
    let rule = |link: Value, verdict: &str| {
        let name = json!({ "match": { "op": "==", "left": { "meta": { "key": "oifname" } }, "right": link } });
        let rule =
            json!({ "family": "ip", "table": "filter", "chain": "FORWARD", "expr": [name, { verdict: null }] });
        json!({ "nftables": [{ "metainfo": {} }, { "rule": { "expr": [{ "xt": null }] } }, { "rule": rule }] })
    };
    assert!(obstacles::accepts_guests(&rule(json!("ve-*"), "accept")));
    assert!(obstacles::accepts_guests(&rule(json!({ "set": ["ve-*", "lo"] }), "jump")));
    assert!(!obstacles::accepts_guests(&rule(json!("ve-*"), "drop")));
    assert!(!obstacles::accepts_guests(&rule(json!("docker0"), "accept")));
}

//! Beside `nixos-container`: its containers are refused by name and touched by nothing of ours, and its tools work on ours.
//!
//! What it does is played here with the commands that it runs itself: `systemctl`, `machinectl`, and nsenter(1) into the leader.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::{Behaviour, Testbed};
use nixmox_tests::by_hand::ByHand;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::{Host, Shared};

/// Longest wait for a container that somebody stopped to run again: what is changed by hand is corrected after 20 s.
const LIMIT: Duration = Duration::from_secs(45);
/// Longer than such a change is let be.
const CORRECTED: Duration = Duration::from_secs(23);

static SHARED: Shared = Shared::with_homelab();

fn web(host: &Host) -> String {
    host.guest("web", &Behaviour::new().http(80)).expect("a system")
}

fn service(name: &str, system: &str) -> String {
    format!("[services.{name}]\nsystem = \"{system}\"")
}

fn invocation(bed: &Testbed, name: &str) -> String {
    bed.succeed(&format!("systemctl show -P InvocationID container@{name}")).expect("told")
}

/// Waits until the agent says that a service does this.
fn becomes(bed: &Testbed, name: &str, state: &str) {
    let query = format!(".services[] | select(.name == \"{name}\") | .state == \"{state}\"");
    bed.wait_until(&format!("nixmoxctl --all status --json | jq -e '{query}'"), LIMIT).expect("it is seen");
}

/// Waits until a container runs that is not this instance of it.
fn runs_anew(bed: &Testbed, name: &str, before: &str) {
    let anew = format!(
        "systemctl is-active container@{name} && test $(systemctl show -P InvocationID container@{name}) != {before}"
    );
    bed.wait_until(&anew, LIMIT).expect("it runs again");
}

/// What `nixos-container list` prints.
fn listed(bed: &Testbed) -> Vec<String> {
    let names =
        bed.succeed("for conf in /etc/nixos-containers/*.conf; do basename $conf .conf; done").expect("listed");
    names.lines().map(str::to_owned).collect()
}

/// The number of the first 10.233.NUMBER.1 and .2 that no conf file has: what `nixos-container create` takes.
fn next_number(bed: &Testbed) -> u8 {
    let taken = bed
        .succeed("grep -hE '^(HOST|LOCAL)_ADDRESS=[0-9.]+$' /etc/nixos-containers/*.conf | cut -d= -f2")
        .expect("read");
    let is_taken = |address: String| taken.lines().any(|line| line == address);
    (1..255)
        .find(|number| !is_taken(format!("10.233.{number}.1")) && !is_taken(format!("10.233.{number}.2")))
        .expect("one is free")
}

#[test]
fn theirs_is_refused_by_name_and_touched_by_nothing_of_ours() {
    // Of its own: restarting the agent ends the calls of others.
    let host = Host::boot("coexist-apart").expect("the host boots");
    let system = web(&host);
    let running = ByHand::create(&host, "theirs", 40, &system).expect("created");
    let resting = ByHand::create(&host, "resting", 41, &system).expect("created");
    let declared = ByHand::create(&host, "of-the-host", 42, &system).expect("created");
    let declared = declared.declared_by_the_host().expect("linked");
    host.succeed("systemctl start container@theirs").expect("started by its owner");
    let all = [running, resting, declared];
    let look = || {
        all.map(|theirs| {
            let properties = ["ActiveState", "InvocationID", "Slice", "Restart", "DropInPaths"];
            let unit = properties.map(|property| theirs.show(property).expect("loaded"));
            (theirs.files().expect("its files are there"), unit)
        })
    };
    let before = look();

    let stack = Stack::new(&host, "besides");
    for name in ["theirs", "resting", "of-the-host"] {
        stack.declare(&[&service("ours", &system), &service(name, &system)]).expect("written");
        let why = format!(
            "the host has a container `{name}` that NixMox did not make: /etc/nixos-containers/{name}.conf"
        );
        let ways = [why.as_str(), "another name", "adopt = true"];
        for command in ["plan", "up", &format!("up {name}"), "up --prune"] {
            stack.refuse(command, 1, &ways).expect("its name is taken");
        }
        assert_eq!(look(), before, "{name}: refused, and nothing was touched");
    }
    stack.declare(&[&service("ours", &system), &service("more", &system)]).expect("written");
    stack.succeed("up").expect("it comes up");
    stack.declare(&[&service("ours", &system)]).expect("written");
    for command in ["up --prune", "restart ours", "stop ours", "start ours", "rollback", "plan"] {
        stack.succeed(command).expect("done");
    }
    for (name, why) in [
        ("theirs", "systemctl stop container@theirs.service"),
        ("resting", "somebody else's"),
        ("of-the-host", "somebody else's"),
    ] {
        stack.refuse(&format!("rm {name} --data --yes"), 1, &[why]).expect("its data is its owner's");
        for command in ["stop", "restart", "down", "exec"] {
            let end = if command == "exec" { " true" } else { "" };
            let arguments = format!("{command} {name}{end}");
            stack.refuse(&arguments, 1, &[&format!("there is no service `{name}`")]).expect("it is none of ours");
        }
    }
    assert_eq!(look(), before, "what is done with ours touches none of theirs");
    host.succeed("systemctl restart nixmox-agent").expect("another agent");
    host.wait_until("nixmoxctl --all status", LIMIT).expect("it answers");
    let status = stack.succeed("--all status --json").expect("a status").stdout;
    assert!(
        status.contains("\"ours\"") && all.iter().all(|theirs| !status.contains(&format!("\"{}\"", theirs.name)))
    );
    stack.succeed("down").expect("taken down");
    assert_eq!(look(), before, "nor does what becomes of the agent, nor `down`");

    // Their owner goes on with them as before.
    host.succeed("systemctl stop container@theirs && systemctl start container@resting").expect("by their owner");
    host.succeed("sleep 3").expect("nobody is in a hurry");
    assert_eq!(
        (running.show("ActiveState").expect("loaded"), resting.show("ActiveState").expect("loaded")),
        ("inactive".into(), "active".into())
    );
}

#[test]
fn what_either_side_starts_and_stops_the_other_sees() {
    let host = SHARED.host("coexist").expect("the host boots");
    let system = web(&host);
    let adopted = ByHand::create(&host, "shared", 50, &system).expect("created");
    let files = adopted.files().expect("its files are there");
    let stack = Stack::new(&host, "either");
    stack.declare(&[&service("ours", &system), "[services.shared]\nadopt = true"]).expect("written");
    stack.succeed("up").expect("it comes up");
    for name in ["ours", "shared"] {
        // Stopped and started by theirs before anybody corrects it: what runs then is let be.
        host.succeed(&format!("systemctl stop container@{name}")).expect("stopped");
        becomes(&host, name, "waiting");
        assert!(stack.field(name, "reason").expect("a status").contains("stopped by somebody, not through NixMox"));
        host.succeed(&format!("systemctl start container@{name}")).expect("started");
        let started = invocation(&host, name);
        assert_eq!(stack.becomes_healthy(name).expect("healthy"), started);
        std::thread::sleep(CORRECTED);
        assert_eq!(stack.healthy(name).expect("healthy"), started, "{name} was not started another time");

        // Stopped by theirs for longer, it is started: it is declared.
        host.succeed(&format!("systemctl stop container@{name}")).expect("stopped");
        runs_anew(&host, name, &started);
        let again = stack.becomes_healthy(name).expect("healthy");
        // Ended by theirs, it is started, too.
        host.succeed(&format!("machinectl terminate {name}")).expect("ended");
        runs_anew(&host, name, &again);
        stack.becomes_healthy(name).expect("healthy");

        // Stopped by ours, it is down for theirs, and a start by theirs is not what is asked for: that is said, and by whom.
        stack.succeed(&format!("stop {name}")).expect("stopped");
        host.fail(&format!("systemctl is-active container@{name}")).expect("down");
        host.succeed(&format!("systemctl start container@{name} || true")).expect("asked for");
        host.wait_until(&format!("! systemctl is-active container@{name}"), LIMIT).expect("it is held");
        becomes(&host, name, "stopped");
        assert_eq!(stack.field(name, "held_by").expect("a status"), "root");
        assert_eq!(stack.field(name, "hint").expect("a status"), format!("nixmoxctl start {name}"));
        stack.succeed(&format!("start {name}")).expect("started");
        host.succeed(&format!("systemctl is-active container@{name}")).expect("up");
    }
    assert_eq!(adopted.files().expect("its files are there"), files);
    stack.succeed("down").expect("taken down");
}

#[test]
fn their_tools_list_enter_and_destroy_what_is_ours() {
    let host = SHARED.host("coexist").expect("the host boots");
    let debian = host.homelab_systems().expect("systems").remove("caddy").expect("caddy");
    let stack = Stack::new(&host, "entered");
    let health = "health = { unit = \"caddy.service\", interval = \"1s\" }";
    stack.declare(&[&format!("{}\n{health}", service("entered", &debian))]).expect("written");
    stack.succeed("up").expect("it comes up");
    // list, status, show-ip, and what `update` would set.
    assert!(listed(&host).contains(&"entered".to_owned()));
    assert!(host.succeed("systemctl show container@entered").expect("told").contains("ActiveState=active"));
    let address =
        host.succeed("sed -nE 's/^LOCAL_ADDRESS=([0-9.]+)(\\/[0-9]+)?$/\\1/p' /etc/nixos-containers/entered.conf");
    assert_eq!(address.expect("read"), stack.field("entered", "address").expect("a status"));
    let profile = host.succeed("readlink /nix/var/nix/profiles/per-container/entered/system").expect("a profile");
    assert_eq!(profile, debian);
    assert!(
        host.succeed("machinectl list --no-legend")
            .expect("listed")
            .lines()
            .any(|line| line.starts_with("entered "))
    );
    // run, root-login, login.
    let leader = "$(machinectl show entered -p Leader | cut -d= -f2)";
    let enter = format!("nsenter -t {leader} -m -u -i -n -p -- su root -l");
    assert_eq!(host.succeed(&format!("{enter} -c \"exec 'uname' '-n'\"")).expect("run"), "entered");
    assert_eq!(host.succeed(&format!("echo 'echo It works' | {enter}")).expect("root-login"), "It works");
    let run = "systemd-run --machine=entered --quiet --pipe --wait uname -n";
    assert_eq!(host.succeed(run).expect("it runs"), "entered");
    host.succeed("machinectl --quiet shell entered /usr/bin/touch /root/entered").expect("a shell");
    host.succeed("test -e /var/lib/nixos-containers/entered/root/entered").expect("it was in there");
    stack.succeed("plan --exit-code").expect("as declared, whoever was in there");

    // destroy: it ends, and its files and data go. It is still declared, so it is made anew.
    let before = invocation(&host, "entered");
    host.succeed(&format!(
        "leader={leader}; machinectl terminate entered; while kill -0 $leader 2>/dev/null; do sleep 0.1; done
         rm -rf --one-file-system /nix/var/nix/{{profiles,gcroots}}/per-container/entered /var/lib/nixos-containers/entered
         rm /etc/nixos-containers/entered.conf"
    ))
    .expect("destroyed");
    runs_anew(&host, "entered", &before);
    stack.becomes_healthy("entered").expect("healthy");
    host.fail("test -e /var/lib/nixos-containers/entered/root/entered").expect("with a new root");
    assert!(listed(&host).contains(&"entered".to_owned()));
    stack.succeed("down").expect("taken down");
    assert!(!listed(&host).contains(&"entered".to_owned()), "nothing of it is left to list");
}

#[test]
fn no_address_is_given_twice_by_the_two() {
    // Of its own: which addresses are free is looked at.
    let host = Host::boot("coexist-addresses").expect("the host boots");
    let system = web(&host);
    // The first that either would take, one of a bridge with a netmask, and one of the host's configuration.
    ByHand::create(&host, "first", 1, &system).expect("created");
    let bridged = "PRIVATE_NETWORK=1\nHOST_BRIDGE=br0\nLOCAL_ADDRESS=10.233.2.2/24\nAUTO_START=0\n";
    host.write_file("/etc/nixos-containers/second.conf", bridged, 0o644).expect("written");
    ByHand::create(&host, "third", 3, &system).expect("created").declared_by_the_host().expect("linked");
    let stack = Stack::new(&host, "addresses");
    let fixed = format!("{}\nnetwork = {{ address = \"10.233.3.2\" }}", service("fixed", &system));
    stack.declare(&[&fixed]).expect("written");
    stack.refuse("up", 1, &["`fixed` and `third` have the address 10.233.3.2"]).expect("it is taken");

    stack.declare(&[&service("ours", &system), &service("too", &system)]).expect("written");
    stack.succeed("up").expect("it comes up");
    let ours = ["ours", "too"].map(|name| stack.field(name, "address").expect("a status"));
    for taken in ["10.233.1.", "10.233.2.2", "10.233.3."] {
        assert!(ours.iter().all(|address| !address.starts_with(taken)), "{ours:?}");
    }
    // The next of theirs finds those of ours taken, too, and each answers at its own.
    let number = next_number(&host);
    let next = ByHand::create(&host, "next", number, &system).expect("created");
    assert!(ours.iter().all(|address| !address.starts_with(&format!("10.233.{number}."))), "{number}: {ours:?}");
    host.succeed("systemctl start container@next container@first").expect("started by their owner");
    for address in ours.iter().map(String::as_str).chain(["10.233.1.2", &format!("10.233.{number}.2")]) {
        let fetch = format!("curl -sf --noproxy '*' --max-time 1 http://{address}/");
        host.wait_until(&fetch, LIMIT).expect("it answers");
    }
    // While theirs chooses, ours waits, and chooses another.
    stack.succeed("down").expect("taken down");
    let number = next_number(&host);
    host.write_file(
        "/etc/nixos-containers/late.conf",
        format!("PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.{number}.1\nLOCAL_ADDRESS=10.233.{number}.2\n"),
        0o644,
    )
    .expect("written");
    stack.succeed("up").expect("it comes up");
    for name in ["ours", "too"] {
        let address = stack.field(name, "address").expect("a status");
        assert!(!address.starts_with(&format!("10.233.{number}.")), "{name} has {address}");
    }
    stack.succeed("down").expect("taken down");
    assert_eq!(next.show("ActiveState").expect("loaded"), "active");
}

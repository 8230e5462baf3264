//! The root of a container, and the memory file systems in it.

use nixmox_tests::operator::Stack;

use crate::{LIMIT, address, debian, fetch, host, inside, web};

#[test]
fn an_ephemeral_root_lies_in_run_and_goes_at_a_stop() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "ephemeral");
    stack.declare(&[&web(&host, "passing", "ephemeral = true")]).expect("written");
    stack.succeed("up").expect("it comes up");
    let (root, kept) = ("/run/nixos-containers/passing", "/var/lib/nixos-containers/passing");
    host.succeed(&format!("test -d {root}/var && touch {root}/var/mark")).expect("its root");
    host.fail(&format!("test -e {kept}")).expect("no other is made");
    host.succeed(&fetch(&address(&stack, "passing"), 80)).expect("its network is as any");
    stack.succeed("stop").expect("stopped");
    host.fail(&format!("test -e {root} || test -e {kept}")).expect("nothing is left of it");
    stack.succeed("start").expect("started");
    host.succeed(&format!("test -d {root}/var")).expect("a new root");
    host.fail(&format!("test -e {root}/var/mark || test -e {kept}")).expect("with nothing of the old one");
    stack.succeed("down").expect("taken down");
    host.fail(&format!("test -e {root} || test -e {kept}")).expect("nothing is left of it");
}

#[test]
fn a_memory_file_system_hides_either_side_from_the_other() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "memory");
    // One on a folder that every root has, one inside it, and one where nothing was.
    let keys = "tmpfs = [\"/var\", \"/var/log\", \"/some/random/path\"]";
    stack.declare(&[&debian(&host, "memory", keys)]).expect("written");
    stack.succeed("up").expect("it comes up");
    let root = "/var/lib/nixos-containers/memory";
    for target in ["/var", "/var/log", "/some/random/path"] {
        let kind = inside(&host, "memory", &format!("touch {target}/within; stat -f -c %T {target}"));
        assert_eq!(kind, "tmpfs", "{target}");
        host.fail(&format!("test -e {root}{target}/within")).expect("what is written within stays within");
        host.succeed(&format!("mkdir -p {root}{target} && touch {root}{target}/without")).expect("a file beneath");
        let seen = inside(&host, "memory", &format!("ls {target}"));
        assert!(seen.split_whitespace().any(|name| name == "within"), "{target}: {seen}");
        assert!(!seen.split_whitespace().any(|name| name == "without"), "{target}: {seen}");
    }
    inside(&host, "memory", "touch /root/on-disk");
    host.succeed(&format!("test -e {root}/root/on-disk")).expect("what is on no memory is on the disk");
    stack.succeed("restart").expect("restarted");
    let seen = inside(&host, "memory", "ls /var /var/log /some/random/path");
    assert!(!seen.contains("within"), "memory is gone: {seen}");
    inside(&host, "memory", "test -e /root/on-disk");
    stack.succeed("down").expect("taken down");
}

#[test]
fn what_cannot_be_made_leaves_no_root_and_no_conf() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "unmade");
    let absent = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-absent";
    stack.declare(&[&format!("[services.unmade]\nsystem = \"{absent}\"")]).expect("written");
    stack.refuse("up", 1, &[absent]).expect("there is no such system");
    host.fail("test -e /var/lib/nixos-containers/unmade || test -e /etc/nixos-containers/unmade.conf")
        .expect("nothing was begun");
    let units = host.succeed("systemctl list-units --all --plain --no-legend 'container@unmade*'").expect("listed");
    assert_eq!(units, "");
    // What was made is all gone after `down`, but for the data.
    stack.declare(&[&web(&host, "unmade", "")]).expect("written");
    stack.succeed("up").expect("it comes up");
    stack.succeed("down").expect("taken down");
    host.wait_until("! test -e /etc/nixos-containers/unmade.conf", LIMIT).expect("no conf");
    stack.succeed("rm unmade --data --yes").expect("its data goes when that is asked for");
    host.fail("test -e /var/lib/nixos-containers/unmade").expect("gone");
}

//! Disks that are full or read-only, each on a host of its own.

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::Host;

use crate::fault::Fault;

const CONFS: &str = "/etc/nixos-containers";

/// Boots a host on which this folder is a small file system of its own.
fn host_with_small(name: &str, folder: &str) -> Host {
    let host = Host::boot(name).expect("the host boots");
    host.succeed(&format!(
        "systemctl stop nixmox-agent.service nixmox-agent.socket && mkdir -p {folder} && mount -t tmpfs -o size=256k tmpfs {folder} && systemctl start nixmox-agent.socket nixmox-agent.service"
    ))
    .expect("mounted");
    host
}

fn fill(host: &Host, folder: &str) {
    host.fail(&format!("dd if=/dev/zero of={folder}/filler bs=4k")).expect("no space is left");
    host.fail(&format!("echo one-more > {folder}/probe")).expect("nothing fits any more");
    host.succeed(&format!("rm -f {folder}/probe")).expect("removed");
}

fn keys(host: &Host) -> String {
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    format!("system = \"{system}\"")
}

#[test]
fn a_full_disk_under_the_generations_refuses_changes_and_nothing_else() {
    const STATE: &str = "/var/lib/nixmox";
    let host = host_with_small("full-state", STATE);
    let stack = Stack::new(&host, "state");
    let keys = keys(&host);
    let (keep, more) = (format!("[services.keep]\n{keys}"), format!("[services.more]\n{keys}"));
    stack.declare(&[&keep]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("keep").expect("healthy");
    fill(&host, STATE);

    stack.declare(&[&keep, &more]).expect("a manifest");
    let words = [
        "cannot write `/var/lib/nixmox/generations",
        "No space left on device",
        "nothing was changed",
        "free space",
        "df -h",
    ];
    stack.refuse("up", 1, &words).expect("refused");
    let words = [
        "cannot write `/var/lib/nixmox/notes.json`",
        "No space left on device",
        "nothing was changed",
        "free space",
        "df -h",
    ];
    stack.refuse("stop keep", 1, &words).expect("a hold that is forgotten is none");
    // What stands goes on, with an agent that starts anew as well, and what dies is started again.
    host.succeed("systemctl restart nixmox-agent").expect("it starts on a full disk");
    assert_eq!(stack.becomes_healthy("keep").expect("healthy"), before);
    stack.declare(&[&keep]).expect("a manifest");
    stack.succeed("up").expect("nothing is to be written for what is as declared");
    assert_eq!(stack.healthy("keep").expect("healthy"), before);

    host.succeed(&format!("rm {STATE}/filler")).expect("freed");
    stack.declare(&[&keep, &more]).expect("a manifest");
    stack.succeed("up").expect("up succeeds");
    stack.healthy("more").expect("healthy");
    assert_eq!(stack.healthy("keep").expect("healthy"), before);
}

#[test]
fn a_full_disk_under_the_conf_files_is_named() {
    let host = host_with_small("full-conf", CONFS);
    let keys = keys(&host);
    let words = [
        "cannot write `/etc/nixos-containers/conf-bad.conf`",
        "No space left on device",
        "free space",
        "df -h /etc/nixos-containers",
    ];
    Fault { name: "conf", bad: &keys, words: &words }.spoiled(
        &host,
        |_| fill(&host, CONFS),
        |_| {
            host.succeed(&format!("rm {CONFS}/filler")).expect("freed");
            keys.clone()
        },
    );
}

#[test]
fn a_full_disk_under_a_guests_root_is_named() {
    let host = Host::boot("full-root").expect("the host boots");
    let root = "/var/lib/nixos-containers/root-bad";
    let keys = keys(&host);
    let words = [
        &format!("the file system of `{root}` is full"),
        "No space left on device",
        "free space",
        &format!("df -h {root}"),
    ];
    Fault { name: "root", bad: &keys, words: &words }.spoiled(
        &host,
        |_| {
            host.succeed(&format!("mkdir -p {root} && mount -t tmpfs -o size=16k,nr_inodes=3 tmpfs {root}"))
                .expect("mounted");
            fill(&host, root);
        },
        |_| {
            host.succeed(&format!("umount {root}")).expect("room again");
            keys.clone()
        },
    );
}

#[test]
fn conf_files_lie_in_run_where_etc_is_read_only() {
    let host = Host::boot("read-only").expect("the host boots");
    host.succeed(&format!(
        "systemctl stop nixmox-agent.service nixmox-agent.socket && mount --bind {CONFS} {CONFS} && mount -o remount,bind,ro {CONFS} && systemctl start nixmox-agent.socket nixmox-agent.service"
    ))
    .expect("read-only");
    host.fail(&format!("touch {CONFS}/probe")).expect("nothing can be written");
    let stack = Stack::new(&host, "readonly");
    stack
        .declare(&[&format!("[services.web]\n{}\nenvironment = {{ A = \"b\" }}", keys(&host))])
        .expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("web").expect("healthy");
    host.succeed("grep -q ^SYSTEM_PATH= /run/nixmox/conf/web.conf").expect("the conf lies in /run");
    host.succeed("systemctl restart nixmox-agent").expect("restarted");
    let plan = stack.succeed("plan --exit-code").expect("nothing would change");
    assert_eq!(stack.becomes_healthy("web").expect("healthy"), before, "{plan}");
    stack.succeed("down").expect("taken down");
    host.fail("test -e /run/nixmox/conf/web.conf").expect("nothing is left");
}

#[test]
fn a_disk_of_conf_files_that_became_read_only_is_named() {
    let host = host_with_small("became-read-only", CONFS);
    let keys = keys(&host);
    let remount =
        |how: &str| host.succeed(&format!("mount -o remount,{how} {CONFS}")).map(drop).expect("remounted");
    let words = [
        "cannot write `/etc/nixos-containers/became-bad.conf`",
        "Read-only file system",
        "make it writable again",
        "systemctl restart nixmox-agent",
    ];
    Fault { name: "became", bad: &keys, words: &words }.spoiled(
        &host,
        |_| remount("ro"),
        |_| {
            remount("rw");
            keys.clone()
        },
    );
    // The other way out: an agent that knows it from its start.
    let stack = Stack::new(&host, "again");
    let (keep, more) = (format!("[services.keep]\n{keys}"), format!("[services.more]\n{keys}"));
    stack.declare(&[&keep]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("keep").expect("healthy");
    remount("ro");
    host.succeed("systemctl restart nixmox-agent").expect("restarted");
    stack.declare(&[&keep, &more]).expect("a manifest");
    stack.succeed("up").expect("conf files are written to /run");
    stack.healthy("more").expect("healthy");
    assert_eq!(stack.healthy("keep").expect("healthy"), before);
    stack.succeed("down").expect("what cannot be removed is no reason to fail");
}

//! Disks of the host: mount units that a container pulls in, and data that lies on something else inside a root.

use nixmox_tests::operator::Stack;

use crate::{LIMIT, debian, host, inside, show};

#[test]
fn a_mount_pulls_its_unit_in_and_the_end_of_that_takes_the_container_down() {
    let (host, _held) = host();
    let unit = "[Mount]\nWhat=tmpfs\nWhere=/mnt/pulled\nType=tmpfs\n";
    host.write_file("/etc/systemd/system/mnt-pulled.mount", unit, 0o644).expect("written");
    host.succeed("systemctl daemon-reload").expect("read");
    host.fail("systemctl is-active mnt-pulled.mount").expect("nobody mounted it yet");
    let stack = Stack::new(&host, "pulled");
    let keys = "mounts = [{ source = \"/mnt/pulled/data\", target = \"/data\", create = true }]";
    stack.declare(&[&debian(&host, "pulls", keys)]).expect("written");
    stack.succeed("up").expect("it comes up");
    host.succeed("systemctl is-active mnt-pulled.mount && mountpoint -q /mnt/pulled").expect("it was mounted");
    inside(&host, "pulls", "touch /data/within");
    host.succeed("test -e /mnt/pulled/data/within").expect("it lies on the disk");
    assert!(show(&host, "pulls", "Requires").split_whitespace().any(|needed| needed == "mnt-pulled.mount"));

    // systemd itself, without the agent.
    host.succeed("systemctl stop mnt-pulled.mount").expect("unmounted");
    assert_eq!(show(&host, "pulls", "ActiveState"), "inactive", "it does not run without its disk");
    host.fail("mountpoint -q /mnt/pulled").expect("unmounted");
    // What is declared is to run: it comes back with its disk, as after any stop by hand.
    stack.becomes_healthy("pulls").expect("it comes back");
    host.succeed("mountpoint -q /mnt/pulled").expect("and its disk with it");

    // Unless somebody says otherwise.
    stack.succeed("stop").expect("held");
    host.succeed("systemctl stop mnt-pulled.mount").expect("unmounted");
    stack.succeed("start").expect("started");
    host.succeed("mountpoint -q /mnt/pulled").expect("a start pulls it in again");
    stack.succeed("down").expect("taken down");
    host.succeed(
        "systemctl stop mnt-pulled.mount && rm /etc/systemd/system/mnt-pulled.mount && systemctl daemon-reload",
    )
    .expect("removed");
}

#[test]
fn data_on_mounts_inside_a_root_outlives_the_removal_of_that_root() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "precious");
    let mounts = ["outer:/data", "inner:/data/deep"].map(|mount| format!("\"/srv/precious/{mount}\"")).join(", ");
    host.succeed("mkdir -p /srv/precious/outer /srv/precious/inner /srv/precious/by-hand").expect("folders");
    stack.declare(&[&debian(&host, "precious", &format!("mounts = [{mounts}]"))]).expect("written");
    stack.succeed("up").expect("it comes up");
    inside(&host, "precious", "echo outer > /data/file; echo inner > /data/deep/file; echo own > /var/lib/own");
    let root = "/var/lib/nixos-containers/precious";
    // What somebody mounted into the root by hand, below a folder of the guest.
    host.succeed(&format!(
        "echo by-hand > /srv/precious/by-hand/file
         mkdir -p {root}/var/deep/deeper && mount --bind /srv/precious/by-hand {root}/var/deep/deeper"
    ))
    .expect("mounted");
    stack.succeed("down").expect("taken down");

    let words = ["var/deep/deeper", "something is mounted there", "umount"];
    stack.refuse("rm precious --data --yes", 1, &words).expect("it is somebody's");
    host.succeed(&format!("test -e {root}/var/lib/own")).expect("refused before anything is deleted");
    host.succeed(&format!("umount {root}/var/deep/deeper")).expect("unmounted");
    stack.succeed("rm precious --data --yes").expect("nothing is in the way");
    host.wait_until(&format!("! test -e {root}"), LIMIT).expect("its root is gone");
    for name in ["outer", "inner", "by-hand"] {
        assert_eq!(host.read_file(format!("/srv/precious/{name}/file")).expect("kept"), format!("{name}\n"));
    }
}

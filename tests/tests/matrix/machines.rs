//! What is inside: a shell that reads a script, the unified hierarchy, and machines within the machine.

use nixmox_tests::operator::Stack;

use crate::{LIMIT, debian, host, inside};

#[test]
fn a_shell_of_root_takes_a_script_and_the_hierarchy_is_the_unified_one() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "shells");
    stack.declare(&[&debian(&host, "shells", "")]).expect("written");
    stack.succeed("up").expect("it comes up");
    let told = host.succeed("echo 'echo It works; id -u; pwd' | nixmoxctl shell shells").expect("it reads");
    assert_eq!(told, "It works\n0\n/root");
    assert_eq!(host.succeed("nixmoxctl exec shells -- uname -n").expect("it runs"), "shells");
    assert_eq!(inside(&host, "shells", "stat -f -c %T /sys/fs/cgroup"), "cgroup2fs");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_container_in_a_container_is_a_machine_there_and_sees_the_store() {
    let (host, _held) = host();
    let busybox = host.read_file("/etc/testbed/busybox").expect("there is one");
    let busybox = format!("{}/bin/busybox", busybox.trim());
    let caddy = host.homelab_systems().expect("systems").remove("caddy").expect("caddy");
    // A Debian with the host's own programs: those of the other guests have no nspawn.
    let init = format!(
        "#!{busybox} sh\nb={busybox}\n[ -e /etc/seeded ] || {{ $b tar -xpf {caddy}/seed.tar -C / && $b touch /etc/seeded; }} || exit 71\n\
         $b rm -f /etc/init.d/* /etc/systemd/system/multi-user.target.wants/*\n\
         $b mkdir -p /usr && $b mount --bind /mnt/programs /usr || exit 71\n\
         for link in bin sbin lib lib64; do $b ln -sfn usr/$link /$link; done\nexec /usr/lib/systemd/systemd\n"
    );
    host.write_file("/var/tmp/outermost/init", init, 0o755).expect("written");
    let outer = host.store_add(&["/var/tmp/outermost".to_owned()]).expect("added").remove(0);
    let stack = Stack::new(&host, "nested");
    stack
        .declare(&[&format!(
            "[services.outermost]\nsystem = \"{outer}\"\nmounts = [\"/usr:/mnt/programs:ro\"]\nhealth.unit = \"multi-user.target\""
        )])
        .expect("written");
    stack.succeed("up").expect("it comes up");
    let well = host.guest("well", &nixmox_testbed::Behaviour::new().http(80)).expect("a system");
    inside(
        &host,
        "outermost",
        &format!(
            "mkdir -p /var/lib/inner/usr /var/lib/inner/etc; touch /var/lib/inner/etc/os-release
             systemd-run -q --unit=inner -p Type=notify -p Delegate=yes systemd-nspawn -q --keep-unit --notify-ready=yes --kill-signal=SIGRTMIN+3 -M inner \
                 -D /var/lib/inner --network-veth --bind-ro=/nix/store {well}/init"
        ),
    );
    host.wait_until("nixmoxctl exec outermost -- machinectl show inner", LIMIT)
        .expect("a machine of the outer one");
    host.fail("machinectl show inner").expect("and not of the host");
    assert!(inside(&host, "outermost", "machinectl list --no-legend").contains("inner"));
    // Every level sees the store of the host.
    host.succeed(&format!("test -e {well}/init")).expect("the host");
    inside(&host, "outermost", &format!("test -e {well}/init"));
    inside(&host, "outermost", &format!("test -e /proc/$(machinectl show inner -P Leader)/root{well}/init"));
    stack.succeed("down").expect("both end");
    host.fail("systemctl is-active container@outermost").expect("it ended");
}

//! What ends while something else already begins, on a real systemd.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::Shared;

/// Longest wait for anything, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
/// Downs with a removal right behind.
const REMOVALS: usize = 4;

static SHARED: Shared = Shared::new();

#[test]
fn a_job_that_ends_between_ready_and_the_end_of_its_start_is_completed() {
    let host = SHARED.host("handover").expect("the host boots");
    let stack = Stack::new(&host, "jobs");
    let quick = host.guest("quick", &Behaviour::new().exit(0, Duration::from_millis(200))).expect("a system");
    let broken = host.guest("broken", &Behaviour::new().exit(3, Duration::from_millis(200))).expect("a system");
    // The start goes on for a second after READY: before the interface is set up, and after it.
    let early = "[Service]\nExecStartPost=\nExecStartPost=/bin/sleep 1\nExecStartPost=/usr/lib/nixmox/container-start post-start\n\
                 ExecStartPost=-/usr/bin/nixmox-agent exit-record --started %i\n";
    let late = "[Service]\nExecStartPost=/bin/sleep 1\n";
    let jobs = [("early", early, &quick), ("late", late, &quick), ("bad", early, &broken)];
    for (name, drop_in, _) in jobs {
        let path = format!("/etc/systemd/system/container@{name}.service.d/50-slow.conf");
        host.write_file(path, drop_in, 0o644).expect("written");
    }
    let table = |name: &str, system: &str| {
        format!("[services.{name}]\nsystem = \"{system}\"\nkind = \"job\"\nrestart = {{ policy = \"no\" }}")
    };
    let tables = jobs.map(|(name, _, system)| table(name, system));
    stack.declare(&[&tables[0], &tables[1]]).expect("a manifest");
    stack.succeed("up").expect("they complete");
    for name in ["early", "late"] {
        let state = stack.field(name, "state").expect("known");
        let record = host.succeed(&format!("cat /run/nixmox/exit/{name}")).expect("a record");
        assert_eq!(state, "completed", "{name}: {record}");
    }
    stack.declare(&[&tables[2]]).expect("a manifest");
    stack.refuse("up --prune", 1, &["bad failed", "exit-code 3"]).expect("a job that fails is told");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_job_that_is_shut_down_because_its_start_failed_is_not_completed() {
    let host = SHARED.host("handover").expect("the host boots");
    let stack = Stack::new(&host, "cut");
    // It ends with 0 when it is told to halt, which is what systemd does with it then.
    let long = host.guest("long", &Behaviour::new().exit(0, Duration::from_mins(10))).expect("a system");
    // A command of somebody else's, and that of the start script itself.
    let drop_ins = [
        ("cut-theirs", "[Service]\nExecStartPost=/bin/false\n"),
        (
            "cut-ours",
            "[Service]\nExecStartPost=\nExecStartPost=/usr/bin/env LOCAL_ADDRESS=nonsense /usr/lib/nixmox/container-start post-start\n",
        ),
    ];
    for (name, drop_in) in drop_ins {
        let path = format!("/etc/systemd/system/container@{name}.service.d/50-fails.conf");
        host.write_file(path, drop_in, 0o644).expect("written");
        stack
            .declare(&[&format!(
                "[services.{name}]\nsystem = \"{long}\"\nkind = \"job\"\nrestart = {{ policy = \"no\" }}"
            )])
            .expect("a manifest");
        stack.refuse("up --prune", 1, &[&format!("{name} failed"), "exit-code"]).expect("it is told");
        let record = host.succeed(&format!("cat /run/nixmox/exit/{name}")).expect("a record");
        assert!(record.contains("status=0"), "it was shut down in order: {record}");
        assert_eq!(stack.field(name, "state").expect("known"), "failed", "{record}");
    }
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_soft_reboot_is_a_reboot_though_run_survives_it() {
    let host = Shared::new().host("soft").expect("the host boots");
    let stack = Stack::new(&host, "soft");
    let web = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    // Its policy would leave one stopped by a person alone for good.
    let table = |name: &str| format!("[services.{name}]\nsystem = \"{web}\"\nrestart = \"no\"");
    stack.declare(&[&table("soft-web"), &table("soft-off")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    host.succeed("systemctl stop container@soft-off").expect("stopped");
    host.soft_reboot().expect("the host comes back");
    host.succeed("test -s /run/nixmox/exit/soft-off").expect("what a person stopped is remembered");
    // The store and /srv are mounts from outside the testbed, which a soft reboot takes away: that a start begins is all there is to see.
    let begins = "journalctl -u nixmox-agent --invocation=0 | grep ': start begins'";
    host.wait_until(&format!("{begins} | grep soft-web"), LIMIT).expect("it is started again");
    host.sync_journal().expect("synchronised");
    let begun = host.succeed(begins).expect("readable");
    assert!(begun.contains("soft-web: ") && !begun.contains("soft-off: "), "a person stopped it: {begun}");
}

#[test]
fn data_is_removed_right_after_down() {
    let host = SHARED.host("handover").expect("the host boots");
    let stack = Stack::new(&host, "data");
    let system = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    let table = format!("[services.data-web]\nsystem = \"{system}\"\nrestart = {{ policy = \"no\" }}");
    stack.declare(&[&table]).expect("a manifest");
    for round in 1..=REMOVALS {
        stack.succeed("up").expect("it comes up");
        // Every other time its nspawn is killed, which then cannot take its registration back.
        if round % 2 == 0 {
            host.succeed("kill -9 $(systemctl show -P MainPID container@data-web)").expect("nspawn is killed");
        }
        stack.succeed("down").expect("taken down");
        let removed = stack.ctl("rm data-web --data --yes").expect("it runs");
        assert!(removed.success(), "round {round}: {removed}");
        host.fail("test -e /var/lib/nixos-containers/data-web").expect("nothing is left");
    }
    // machined is never that slow here, so the registration of a container that has ended is made up.
    stack.succeed("up").expect("it comes up");
    stack.succeed("down").expect("taken down");
    host.succeed(
        "systemd-run --quiet --unit=leader --service-type=exec sleep infinity
         cgroup=/sys/fs/cgroup/machine.slice/container@data-web.service
         leader=$(systemctl show -P MainPID leader)
         mkdir -p $cgroup && echo $leader > $cgroup/cgroup.procs
         busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager \
             RegisterMachine sayssus data-web 0 test container $leader ''",
    )
    .expect("registered");
    let unit = host.succeed("machinectl show data-web -P Unit").expect("registered");
    assert_eq!(unit, "container@data-web.service");
    stack.succeed("rm data-web --data --yes").expect("it is waited for");
    host.fail("test -e /var/lib/nixos-containers/data-web").expect("nothing is left");
    // What is somebody else's is neither waited for nor taken away.
    host.succeed("systemctl stop leader && mkdir -p /var/lib/nixos-containers/data-web").expect("prepared");
    host.succeed(
        "systemd-run -q --unit=theirs systemd-nspawn --keep-unit -q -M data-web -D / --volatile=yes /bin/sleep 600",
    )
    .expect("it starts");
    host.wait_until("machinectl show data-web", LIMIT).expect("registered");
    stack.refuse("rm data-web --data --yes", 1, &["a machine named `data-web` runs already"]).expect("refused");
    host.succeed("machinectl terminate data-web && test -e /var/lib/nixos-containers/data-web").expect("untouched");
}

#[test]
fn a_port_goes_from_the_hosts_network_to_a_published_one_in_one_up() {
    let host = SHARED.host("handover").expect("the host boots");
    let stack = Stack::new(&host, "swap");
    let on_host = host.guest("on-host", &Behaviour::new().http(8091)).expect("a system");
    let inside = host.guest("inside", &Behaviour::new().http(80)).expect("a system");
    let answers = || host.wait_until("curl -sf --max-time 10 http://127.0.0.1:8091/", LIMIT).expect("it answers");
    let keys = |system: &str, network: &str| format!("system = \"{system}\"\nnetwork = {network}");
    let (host_network, published) = ("{ mode = \"host\" }", "{ ports = [\"8091:80\"] }");
    // The service itself changes over; then one service takes over from another.
    stack.declare(&[&format!("[services.swap-a]\n{}", keys(&on_host, host_network))]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    answers();
    stack.declare(&[&format!("[services.swap-a]\n{}", keys(&inside, published))]).expect("a manifest");
    stack.succeed("up").expect("it changes over");
    answers();
    stack.declare(&[&format!("[services.swap-a]\n{}", keys(&on_host, host_network))]).expect("a manifest");
    stack.succeed("up").expect("and back");
    answers();
    stack.declare(&[&format!("[services.swap-b]\n{}", keys(&inside, published))]).expect("a manifest");
    stack.refuse("up", 1, &["swap-b", "port 8091/tcp is taken", "of container `swap-a`"]).expect("swap-a goes on");
    stack.succeed("up --prune").expect("swap-a ends first");
    answers();
    stack.succeed("down").expect("taken down");
}

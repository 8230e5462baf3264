//! Limits of services and of stacks on a real systemd: set before a start, changed live, removed, and nothing left behind for
//! whoever comes later under the same name.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::{Duration, Instant};

use nixmox_testbed::{Behaviour, Testbed};
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::{Host, Shared};

static SHARED: Shared = Shared::new();

const MIB: u64 = 1 << 20;
/// Longest wait for what the agent does by itself, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// How long nothing happens where nothing is done over and over.
const QUIET: Duration = Duration::from_secs(5);
/// What a unit without limits has, in systemd's words.
const NONE: [&str; 6] = [
    "MemoryMax=infinity",
    "MemoryMin=0",
    "MemoryLow=0",
    "CPUQuotaPerSecUSec=infinity",
    "CPUWeight=[not set]",
    "AllowedCPUs=",
];

/// Writes a stack of one service with these limits of the stack and of the service.
fn declare(host: &Host, stack: &str, of_stack: &str, of_service: &str) {
    let system = host.guest("plain", &Behaviour::new()).expect("a system");
    let text = format!(
        "format = 1\n[stack]\nname = \"{stack}\"\nlimits = {{ {of_stack} }}\n\
         [services.{stack}]\nsystem = \"{system}\"\nlimits = {{ {of_service} }}\n"
    );
    host.write_file(format!("/srv/{stack}/nixmox.toml"), text, 0o644).expect("written");
}

/// Returns properties of a unit, each as `NAME=VALUE`.
fn shown(host: &Testbed, unit: &str, properties: &str) -> Vec<String> {
    let text = host.succeed(&format!("systemctl show -p {properties} {unit}")).expect("it is known");
    text.lines().map(str::to_owned).collect()
}

fn assert_shows(host: &Testbed, unit: &str, expected: &[&str]) {
    let names: Vec<&str> = expected.iter().filter_map(|line| line.split('=').next()).collect();
    let found = shown(host, unit, &names.join(","));
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{unit}: {line} is not in {found:?}");
    }
}

/// Waits until a unit shows this: what follows from a `down` is done by the agent in its own time.
fn comes_to_show(host: &Testbed, unit: &str, expected: &[&str]) {
    let shows: Vec<String> = expected.iter().map(|line| format!("grep -qxF '{line}' <<< \"$shown\"")).collect();
    let names: Vec<&str> = expected.iter().filter_map(|line| line.split('=').next()).collect();
    let script =
        format!("shown=$(systemctl show -p {} {unit}); echo \"$shown\"; {}", names.join(","), shows.join(" && "));
    host.wait_until(&script, LIMIT).unwrap_or_else(|error| panic!("{unit}: {error:#}"));
}

/// Waits until no file is left that limits come from.
fn no_files_stay(host: &Testbed, stack: &str) {
    let units = format!("container@{stack}.service.d machine-nixmox-{stack}.slice.d");
    for folder in ["/run/systemd/system", "/run/systemd/system.control", "/etc/systemd/system.control"] {
        let none = format!(
            "left=$(cd {folder} 2>/dev/null && ls -d {units} 2>/dev/null); echo \"$left\"; test -z \"$left\""
        );
        host.wait_until(&none, LIMIT).unwrap_or_else(|error| panic!("{folder}: {error:#}"));
    }
}

#[test]
fn limits_are_set_changed_live_and_leave_nothing_behind() {
    let host = SHARED.host("limits").expect("the host boots");
    let stack = Stack::new(&host, "lived");
    let (slice, unit) = ("machine-nixmox-lived.slice", "container@lived.service");
    declare(&host, "lived", "memory_max = \"1G\", cpu_quota = \"150%\"", "memory_min = \"32M\", cpu_weight = 50");
    let said = stack.succeed("up").expect("it comes up");
    println!("{}{}", said.stdout, said.stderr);
    let before = stack.healthy("lived").expect("healthy");
    assert_shows(&host, slice, &["MemoryMax=1073741824", "CPUQuotaPerSecUSec=1.500000s", "MemoryMin=33554432"]);
    assert_shows(&host, unit, &["MemoryMin=33554432", "CPUWeight=50", &format!("Slice={slice}")]);
    for above in ["machine-nixmox.slice", "machine.slice"] {
        let min: Vec<String> = shown(&host, above, "MemoryMin");
        let min = min.first().and_then(|line| line.strip_prefix("MemoryMin=")?.parse::<u64>().ok());
        // Other stacks of this host may protect something, too.
        assert!(min.is_some_and(|min| min >= 32 * MIB), "{above}: {min:?}");
    }

    // Live: both change, and the container is the same instance.
    declare(&host, "lived", "memory_max = \"2G\", tasks_max = 900", "memory_low = \"48M\", memory_max = \"512M\"");
    let plan = stack.ctl("plan --exit-code").expect("it runs");
    assert_eq!(plan.code, 3, "{plan}");
    for line in ["[stack] lived", "memory_max 1G -> 2G", "cpu_quota 150% -> unset", "memory_low unset -> 48M"] {
        assert!(plan.stdout.contains(line), "{line}: {plan}");
    }
    stack.succeed("up").expect("it is changed");
    let changed = [
        "MemoryMax=2147483648",
        "CPUQuotaPerSecUSec=infinity",
        "TasksMax=900",
        "MemoryMin=0",
        "MemoryLow=50331648",
    ];
    for reloaded in [false, true] {
        assert_shows(&host, slice, &changed);
        assert_shows(
            &host,
            unit,
            &["MemoryMin=0", "MemoryLow=50331648", "MemoryMax=536870912", "CPUWeight=[not set]"],
        );
        assert_shows(&host, slice, &["NeedDaemonReload=no"]);
        if !reloaded {
            host.succeed("systemctl daemon-reload").expect("reloaded");
        }
    }
    assert_eq!(stack.healthy("lived").expect("healthy"), before, "nothing was restarted");
    let diff = stack.succeed("diff 1 2").map(|output| output.stdout).unwrap_or_default();
    println!("{diff}");

    // What somebody else makes of the slice is undone, the file that it is written in too.
    for harm in [
        format!("systemctl set-property --runtime {slice} MemoryMax=64M CPUWeight=7"),
        format!("rm -r /run/systemd/system/{slice}.d"),
        format!("rm -r /run/systemd/system/{slice}.d; systemctl daemon-reload"),
    ] {
        host.succeed(&harm).expect("done");
        let right = format!(
            "test $(systemctl show -P MemoryMax {slice}) = 2147483648 && test \"$(systemctl show -P CPUWeight {slice})\" = '[not set]' \
             && test -e /run/systemd/system/{slice}.d/10-nixmox.conf && ! test -e /run/systemd/system.control/{slice}.d"
        );
        host.wait_until(&right, LIMIT).unwrap_or_else(|error| panic!("{harm}: {error:#}"));
    }
    assert_eq!(stack.healthy("lived").expect("healthy"), before, "nothing was restarted");

    // Taken out of the manifest: as if it had never been there.
    declare(&host, "lived", "", "");
    stack.succeed("up").expect("it is changed");
    assert_shows(&host, slice, &NONE);
    assert_shows(&host, unit, &NONE);
    assert_eq!(stack.healthy("lived").expect("healthy"), before, "nothing was restarted");
    let left = host.succeed(&format!(
        "ls -d /run/systemd/system/{slice}.d /run/systemd/system.control/{unit}.d 2>/dev/null || true"
    ));
    assert_eq!(left.expect("listed"), "");
    stack.succeed("down").expect("taken down");
    no_files_stay(&host, "lived");
}

#[test]
fn a_container_of_somebody_else_inherits_nothing_of_one_that_was_ours() {
    let host = SHARED.host("limits").expect("the host boots");
    let stack = Stack::new(&host, "heir");
    let unit = "container@heir.service";
    // Somebody's unit that names it keeps it loaded when nothing of it is left.
    host.write_file(
        "/run/systemd/system/names-heir.service",
        format!("[Unit]\nAfter={unit}\n[Service]\nExecStart=sleep infinity\n"),
        0o644,
    )
    .expect("written");
    host.succeed("systemctl daemon-reload && systemctl start names-heir.service").expect("it runs");
    let limits = "memory_max = \"256M\", memory_min = \"8M\", cpu_quota = \"40%\", cpu_weight = 7, allowed_cpus = [0], tasks_max = 99";
    declare(&host, "heir", limits, limits);
    stack.succeed("up").expect("it comes up");
    // Of a live change, too, systemd's own files stay where nobody removes them.
    declare(&host, "heir", "memory_max = \"300M\"", &format!("{limits}, memory_low = \"9M\""));
    stack.succeed("up").expect("it is changed");
    host.succeed(&format!("systemctl set-property --runtime {unit} IOWeight=9")).expect("set by hand");
    host.succeed("cp /etc/nixos-containers/heir.conf /root/heir.conf").expect("copied");
    stack.succeed("down").expect("taken down");
    no_files_stay(&host, "heir");
    comes_to_show(&host, "machine-nixmox-heir.slice", &NONE);
    host.wait_until(&format!("test $(systemctl show -P MemoryMax {unit}) = infinity"), LIMIT).expect("forgotten");

    // As `nixos-container create` and `start` do it: a conf file without our first line, and no reload.
    host.succeed("sed -e 1d -e '/NIXMOX/d' /root/heir.conf > /etc/nixos-containers/heir.conf").expect("written");
    host.succeed(&format!("systemctl start {unit}")).expect("it starts");
    assert_shows(&host, unit, &NONE);
    assert_shows(&host, unit, &["Slice=machine.slice", "IOWeight=[not set]", "MemoryHigh=infinity"]);
    let default = host.succeed("systemctl show -P DefaultTasksMax").expect("known");
    assert_shows(&host, unit, &[&format!("TasksMax={default}")]);
    assert!(!shown(&host, unit, "DropInPaths").concat().contains("nixmox"), "a drop-in of ours");
    host.succeed(&format!("systemctl stop {unit} names-heir.service && rm /etc/nixos-containers/heir.conf"))
        .expect("removed");
    let removed = stack.ctl("rm heir --data --yes").expect("it runs");
    println!("{removed}");
    no_files_stay(&host, "heir");
}

#[test]
fn the_hosts_slice_is_the_hosts_where_its_files_say_so_and_what_has_no_effect_is_said_once() {
    // Of its own: machine.slice is everybody's.
    let host = Host::boot("slices").expect("the host boots");
    let stack = Stack::new(&host, "mine");
    host.write_file(
        "/etc/systemd/system/machine.slice.d/host.conf",
        "[Slice]\nMemoryMin=3M\nCPUWeight=44\n",
        0o644,
    )
    .expect("written");
    host.succeed("systemctl daemon-reload && systemctl set-property --runtime machine.slice IOWeight=33")
        .expect("set");
    let limits = "memory_min = \"16M\", memory_low = \"20M\"";
    declare(&host, "mine", "memory_max = \"900T\"", limits);
    let plan = stack.succeed("plan").expect("it is planned");
    let said = plan.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("the limits allow 900T of memory together"), "{plan}");
    let controllers = host.succeed("cat /sys/fs/cgroup/cgroup.controllers").expect("readable");
    if !controllers.split_whitespace().any(|controller| controller == "memory") {
        let once = "`memory_max`, `memory_min`, `memory_low` have no effect here: this machine's cgroups have no controller `memory`";
        assert_eq!(said.matches("no effect here").count(), 1, "{plan}");
        assert!(said.contains(once), "{plan}");
    }
    println!("{plan}");

    stack.succeed("up").expect("it comes up");
    assert_shows(&host, "machine-nixmox.slice", &["MemoryMin=16777216", "MemoryLow=20971520"]);
    assert_shows(
        &host,
        "machine.slice",
        &["MemoryMin=3145728", "MemoryLow=20971520", "CPUWeight=44", "IOWeight=33"],
    );
    stack.succeed("down").expect("taken down");
    host.wait_until("! ls /run/systemd/system/machine*.slice.d/10-nixmox.conf", LIMIT).expect("removed");
    comes_to_show(&host, "machine.slice", &["MemoryMin=3145728", "MemoryLow=0", "CPUWeight=44", "IOWeight=33"]);
    comes_to_show(&host, "machine-nixmox.slice", &["MemoryMin=0", "MemoryLow=0"]);
    // For good: of the host's own, and the way out is said.
    host.succeed("systemctl set-property machine-nixmox-mine.slice MemoryMax=700M").expect("set in /etc");
    declare(&host, "mine", "memory_max = \"800M\"", "");
    stack.ctl("up").expect("it runs");
    let told =
        "nixmoxctl --all status 2>&1 | tr -s '\\n ' ' ' | grep -q 'systemctl revert machine-nixmox-mine.slice'";
    host.wait_until(told, LIMIT).expect("it is told");
    host.succeed("systemctl revert machine-nixmox-mine.slice").expect("reverted");
    host.wait_until("test $(systemctl show -P MemoryMax machine-nixmox-mine.slice) = 838860800", LIMIT)
        .expect("set");
}

#[test]
fn a_hundred_services_are_changed_live_at_once_and_all_are_asked_how_they_are() {
    let host = SHARED.host("limits").expect("the host boots");
    let system = host.guest("plain", &Behaviour::new()).expect("a system");
    let stack = Stack::new(&host, "many");
    let declare = |limits: &str| {
        let tables: Vec<String> = (0..100)
            .map(|index| format!("[services.many-{index}]\nsystem = \"{system}\"\nlimits = {{ {limits} }}"))
            .collect();
        stack.declare(&tables.iter().map(String::as_str).collect::<Vec<_>>()).expect("a manifest");
    };
    let invocations =
        || host.succeed("systemctl show -P InvocationID 'container@many-*' | sort").expect("they are known");
    declare("tasks_max = 1000");
    stack.succeed("up").expect("all are up");
    let before = invocations();
    declare("tasks_max = 2000");
    stack.succeed("up").expect("the bus answers for all of them, and none is taken for unhealthy");
    assert_eq!(invocations(), before);
    stack.succeed("down").expect("all are stopped");
}

#[test]
fn a_slice_of_which_the_host_has_the_last_word_is_told_and_holds_nothing_up() {
    // Of its own: what the other tests start and stop makes systemd read its files, too.
    let host = Host::boot("limits-edited").expect("the host boots");
    let stack = Stack::new(&host, "edited");
    let slice = "machine-nixmox-edited.slice";
    // What `systemctl edit` leaves.
    host.write_file(format!("/etc/systemd/system/{slice}.d/override.conf"), "[Slice]\nMemoryMax=2G\n", 0o644)
        .expect("written");
    host.succeed("systemctl daemon-reload").expect("read");
    // To protect nothing is no protection either.
    declare(&host, "edited", "memory_max = \"4G\"", "memory_low = 0");
    stack.succeed("up").expect("it comes up all the same");
    stack.healthy("edited").expect("healthy");
    assert_shows(&host, slice, &["MemoryMax=2147483648"]);
    let told = host.wait_until(&format!("nixmoxctl --all status | grep -A3 'override.conf.*{slice}'"), LIMIT);
    told.expect("status names the file");
    // Nothing is done over and over: what was begun before may still end, and then there is a while without any.
    let reloads = || {
        host.sync_journal().expect("written");
        host.succeed("journalctl --boot -u init.scope --grep 'Reloading' --quiet | wc -l").expect("counted")
    };
    let begun = Instant::now();
    let mut before = reloads();
    loop {
        std::thread::sleep(QUIET);
        let now = reloads();
        if now == before {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "systemd reads its files again and again: {now} times by now");
        before = now;
    }
    host.succeed(&format!("systemctl revert {slice}")).expect("the way out that is named");
    host.wait_until(&format!("systemctl show -p MemoryMax {slice} | grep 4294967296"), LIMIT).expect("as declared");

    // What says nothing of what is declared overrides nothing, and both hold.
    host.write_file(format!("/etc/systemd/system/{slice}.d/other.conf"), "[Slice]\nCPUWeight=7\n", 0o644)
        .expect("written");
    host.succeed("systemctl daemon-reload").expect("read");
    declare(&host, "edited", "memory_max = \"3G\"", "memory_low = 0");
    stack.succeed("up").expect("changed live");
    assert_shows(&host, slice, &["MemoryMax=3221225472", "CPUWeight=7"]);
    host.fail("nixmoxctl --all status | grep overrides").expect("nothing is told");
    host.succeed(&format!("systemctl set-property --runtime {slice} MemoryMax=1G")).expect("changed by somebody");
    host.wait_until(&format!("systemctl show -p MemoryMax {slice} | grep 3221225472"), LIMIT).expect("put right");
    host.succeed(&format!("rm /etc/systemd/system/{slice}.d/other.conf; systemctl daemon-reload"))
        .expect("removed");
    stack.succeed("down").expect("it is stopped");
}

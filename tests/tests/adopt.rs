//! Containers that `nixos-container` or the host's configuration made, adopted by a stack: they get order, health and limits, and
//! nothing of theirs is ever written.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::by_hand::ByHand;
use nixmox_tests::containers::started_when_it_listened;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::{Host, Shared};

/// Longest wait for a container that died to run again, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// How long a dependency takes from its start to its health.
const LISTENS_AFTER: Duration = Duration::from_secs(3);

static SHARED: Shared = Shared::new();

fn health() -> &'static str {
    "health = { http = \"http://localhost/\", interval = \"1s\" }"
}

/// Brings a chain up whose middle is adopted, changes it, lets it die, and takes it down.
fn is_ordered_watched_and_limited(host: &Host, stack_name: &str, byhand: &ByHand<'_>) {
    let (stack, name) = (Stack::new(host, stack_name), byhand.name);
    let files = byhand.files().expect("its files are there");
    let slow = host.guest("slow", &Behaviour::new().http(80).listen_after(LISTENS_AFTER)).expect("a system");
    let web = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    let (below, above) = (format!("{name}-below"), format!("{name}-above"));
    let declare = |memory: &str| {
        let below = format!("[services.{below}]\nsystem = \"{slow}\"\n{}", health());
        let adopted = format!(
            "[services.{name}]\nadopt = true\ndepends_on = {{ {name}-below = \"healthy\" }}\nlimits = {{ memory_max = \"{memory}\" }}\n{}",
            health()
        );
        let above = format!(
            "[services.{above}]\nsystem = \"{web}\"\ndepends_on = {{ {name} = \"healthy\" }}\n{}",
            health()
        );
        stack.declare(&[&below, &adopted, &above]).expect("a manifest");
    };
    declare("256M");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy(name).expect("its health is asked");
    for (first, second) in [(below.as_str(), name), (name, above.as_str())] {
        started_when_it_listened(host, second, first).expect("it waits until the other one is healthy");
    }
    assert!(byhand.show("After").expect("loaded").contains(&format!("container@{below}.service")));
    assert_eq!(byhand.show("MemoryMax").expect("loaded"), "268435456");
    let drop_in = format!("/run/systemd/system/container@{name}.service.d/10-nixmox.conf");
    let text = host.read_file(&drop_in).expect("a drop-in");
    for owners in ["Slice=", "EnvironmentFile=", "TimeoutStopSec="] {
        assert!(!text.contains(owners), "its owner decides about {owners}: {text}");
    }
    assert_eq!(byhand.files().expect("its files are there"), files, "after `up`");

    declare("384M");
    let up = stack.succeed("up").expect("changed");
    assert!(up.stdout.contains("memory_max 256M -> 384M"), "{up}");
    assert_eq!(byhand.show("MemoryMax").expect("loaded"), "402653184");
    assert_eq!(stack.healthy(name).expect("healthy"), before, "a limit is changed while it runs");
    assert_eq!(byhand.files().expect("its files are there"), files, "after a change");

    // It dies: the agent starts it again, with the limit it has now.
    host.succeed(&format!("machinectl terminate {name}")).expect("ended");
    let again = format!("test $(systemctl show -P InvocationID container@{name}) != {before}");
    host.wait_until(&again, LIMIT).expect("started again");
    stack.becomes_healthy(name).expect("healthy");
    assert_eq!(byhand.show("MemoryMax").expect("loaded"), "402653184");
    assert_eq!(byhand.files().expect("its files are there"), files, "after a restart");

    stack.refuse(&format!("down {name}"), 1, &[&above]).expect("another service stands on it");
    stack.succeed("down").expect("taken down");
    host.fail(&format!("systemctl is-active container@{name}")).expect("stopped");
    assert_eq!(byhand.files().expect("its files are there"), files, "after `down`");
    host.fail(&format!("test -e {drop_in}")).expect("what is ours is gone");
    stack.refuse(&format!("rm {name} --data --yes"), 1, &[name]).expect("its data is its owner's");
    assert_eq!(byhand.files().expect("its files are there"), files, "after `rm`");

    // Its owner goes on with it as before.
    host.succeed(&format!("systemctl start container@{name}")).expect("started by its owner");
    assert_eq!(byhand.show("MemoryMax").expect("loaded"), "infinity");
    assert!(!byhand.show("After").expect("loaded").contains(&below));
    host.succeed(&format!("systemctl stop container@{name}")).expect("stopped by its owner");
}

#[test]
fn a_container_of_nixos_container_is_ordered_watched_and_limited_and_its_files_stay() {
    let host = SHARED.host("adopt").expect("the host boots");
    let system = host.guest("slow", &Behaviour::new().http(80).listen_after(LISTENS_AFTER)).expect("a system");
    let byhand = ByHand::create(&host, "imperative", 40, &system).expect("created");
    is_ordered_watched_and_limited(&host, "imperatives", &byhand);
}

#[test]
fn a_container_of_the_hosts_configuration_is_ordered_watched_and_limited_and_its_files_stay() {
    let host = SHARED.host("adopt").expect("the host boots");
    let system = host.guest("slow", &Behaviour::new().http(80).listen_after(LISTENS_AFTER)).expect("a system");
    let byhand =
        ByHand::create(&host, "declared", 41, &system).expect("created").declared_by_the_host().expect("linked");
    is_ordered_watched_and_limited(&host, "declareds", &byhand);
}

#[test]
fn one_that_runs_is_adopted_without_a_restart() {
    // Of its own: restarting the agent ends the calls of others.
    let host = Host::boot("adopt-running").expect("the host boots");
    let system = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    let byhand = ByHand::create(&host, "running", 42, &system).expect("created");
    let files = byhand.files().expect("its files are there");
    host.succeed("systemctl start container@running").expect("started by its owner");
    let before = byhand.show("InvocationID").expect("loaded");
    let stack = Stack::new(&host, "runnings");
    let other = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let first = format!("[services.running-first]\nsystem = \"{other}\"\n{}", health());
    let declare = |keys: &str| {
        let adopted = format!("[services.running]\nadopt = true\n{keys}\n{}", health());
        stack.declare(&[&first, &adopted]).expect("a manifest");
    };
    declare("depends_on = { running-first = \"healthy\" }\nlimits = { memory_max = \"256M\", tasks_max = 200 }");
    let plan = stack.succeed("plan").expect("a plan").stdout;
    assert!(plan.lines().any(|line| line.starts_with("~ running ")), "{plan}");
    stack.succeed("up").expect("it comes up");
    assert_eq!(stack.healthy("running").expect("healthy"), before, "it was not restarted");
    assert_eq!(
        (byhand.show("MemoryMax").expect("loaded"), byhand.show("TasksMax").expect("loaded")),
        ("268435456".to_owned(), "200".to_owned())
    );
    assert!(byhand.show("After").expect("loaded").contains("container@running-first.service"));
    stack.succeed("plan --exit-code").expect("as declared");

    // A restarted agent finds it as it is.
    host.succeed("systemctl restart nixmox-agent").expect("restarted");
    assert_eq!(stack.becomes_healthy("running").expect("healthy"), before);

    // Let go, it runs on as its owner has it.
    stack.declare(&[&first]).expect("a manifest");
    stack.succeed("up").expect("it is named and left alone");
    assert_eq!(byhand.show("InvocationID").expect("loaded"), before);
    assert_eq!(byhand.files().expect("its files are there"), files);
    stack.succeed("down").expect("taken down");
    host.fail("systemctl is-active container@running").expect("`down` stops what the stack had");
    assert_eq!(byhand.files().expect("its files are there"), files);
}

#[test]
fn one_whose_owner_has_another_system_for_it_is_restarted_and_what_needs_it_waits() {
    let host = SHARED.host("adopt").expect("the host boots");
    let [old, new] = ["outdated-old", "outdated-new"]
        .map(|name| host.guest(name, &Behaviour::new().http(80)).expect("a system"));
    let byhand =
        ByHand::create(&host, "outdated", 45, &old).expect("created").declared_by_the_host().expect("linked");
    let conf = "/etc/static/nixos-containers/outdated.conf";
    host.succeed(&format!("echo SYSTEM_PATH={old} >> {conf}")).expect("its owner names the system");
    let stack = Stack::new(&host, "outdateds");
    let adopted = format!("[services.outdated]\nadopt = true\n{}", health());
    stack.declare(&[&adopted]).expect("a manifest");
    stack.succeed("up").expect("it is up");
    let before = byhand.show("InvocationID").expect("loaded");
    stack.succeed("plan --exit-code").expect("as declared");

    // As `nixos-rebuild switch` leaves a container that it does not start itself.
    host.succeed(&format!("sed -i s,{old},{new}, {conf}")).expect("its owner changes it");
    let plan = stack.succeed("plan").expect("a plan").stdout;
    assert!(plan.lines().any(|line| line.starts_with("! outdated ")), "{plan}");
    stack.succeed("up").expect("it is restarted");
    assert_ne!(byhand.show("InvocationID").expect("loaded"), before);
    let runs =
        "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID container@outdated)/environ | grep ^SYSTEM_PATH=";
    assert_eq!(host.succeed(runs).expect("told").trim(), format!("SYSTEM_PATH={new}"));
    stack.succeed("plan --exit-code").expect("as declared");
    stack.succeed("down").expect("taken down");
}

#[test]
fn one_that_the_host_starts_at_boot_is_warned_of() {
    let host = SHARED.host("adopt").expect("the host boots");
    let system = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    let byhand =
        ByHand::create(&host, "early", 44, &system).expect("created").declared_by_the_host().expect("linked");
    let stack = Stack::new(&host, "earlies");
    let first = format!("[services.early-first]\nsystem = \"{system}\"");
    stack.declare(&[&first, "[services.early]\nadopt = true\ndepends_on = [\"early-first\"]"]).expect("a manifest");
    let warning = "warning: early: the host starts it at boot, before what it depends on is ready";
    let says = |stack: &Stack<'_>| {
        let plan = stack.succeed("plan").expect("a plan");
        plan.stdout.split_whitespace().collect::<Vec<_>>().join(" ").contains(warning)
    };
    assert!(!says(&stack), "it has AUTO_START=0");
    host.succeed("sed -i s/^AUTO_START=0/AUTO_START=1/ /etc/static/nixos-containers/early.conf")
        .expect("its owner changes it");
    let files = byhand.files().expect("its files are there");
    assert!(says(&stack), "nothing holds it back at boot");
    stack.succeed("up").expect("it is a warning, no more");
    stack.succeed("down").expect("taken down");
    assert_eq!(byhand.files().expect("its files are there"), files);
}

#[test]
fn what_is_not_there_or_needs_other_files_is_refused() {
    let host = SHARED.host("adopt").expect("the host boots");
    let stack = Stack::new(&host, "refused");
    stack.declare(&["[services.nobody]\nadopt = true"]).expect("a manifest");
    let words = ["there is no container `nobody` to adopt", "nixos-container create nobody"];
    stack.refuse("up", 1, &words).expect("there is none");
    let byhand = ByHand::create(&host, "fixed", 43, "/nix/store/none").expect("created");
    let files = byhand.files().expect("its files are there");
    stack.declare(&["[services.fixed]\nadopt = true\nmounts = [\"/srv/x:/x\"]"]).expect("a manifest");
    let words = ["`mounts` cannot be set on an adopted container", "set `mounts` there"];
    stack.refuse("up", 1, &words).expect("its files would have to change");
    assert_eq!(byhand.files().expect("its files are there"), files);
}

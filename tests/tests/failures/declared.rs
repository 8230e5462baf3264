//! What the manifest names and the host does not have.

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use crate::fault::{Fault, host};

#[test]
fn a_store_path_that_was_collected_is_named() {
    let host = host();
    let system = host.guest("gone", &Behaviour::new().log("collected")).expect("a system");
    host.succeed(&format!("nix-store --delete {system}")).expect("nothing holds it");
    let keys = format!("system = \"{system}\"");
    let words =
        ["storepath-bad", &format!("`{system}` is not in the Nix store of this host"), "try", "nixmoxctl up"];
    Fault { name: "storepath", bad: &keys, words: &words }.story(&host, |_| {
        host.guest("gone", &Behaviour::new().log("collected")).expect("built again");
        keys.clone()
    });
}

#[test]
fn what_lies_in_the_store_and_nix_does_not_know_is_refused() {
    let host = host();
    let stack = Stack::new(&host, "stray");
    let system = host.guest("stray", &Behaviour::new().log("stray")).expect("a system");
    // As a copy leaves it that was interrupted.
    let stray = format!("/nix/store/{}-nixos-system-stray", "s".repeat(32));
    host.succeed(&format!("cp -a {system} {stray}")).expect("copied by hand");
    stack.declare(&[&format!("[services.stray]\nsystem = \"{stray}\"")]).expect("a manifest");
    let words = ["not valid in the Nix store of this host", stray.as_str(), "nothing was changed", "nix copy"];
    stack.refuse("up", 1, &words).expect("it is refused");
    host.fail("systemctl is-active container@stray").expect("nothing was started");
    stack.declare(&[&format!("[services.stray]\nsystem = \"{system}\"")]).expect("a manifest");
    stack.succeed("up").expect("the valid one is taken");
    stack.succeed("down").expect("and taken down");
}

#[test]
fn a_mount_source_that_is_missing_is_named() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let keys = format!("system = \"{system}\"\nmounts = [\"/srv/no-such-disk:/data\"]");
    let words = [
        "the mount source `/srv/no-such-disk` does not exist on this host",
        "mkdir -p /srv/no-such-disk",
        "create = true",
    ];
    Fault { name: "source", bad: &keys, words: &words }.story(&host, |_| {
        host.succeed("mkdir -p /srv/no-such-disk").expect("made");
        keys.clone()
    });
}

#[test]
fn a_disk_that_is_not_mounted_is_not_written_over() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let keys = format!(
        "system = \"{system}\"\nmounts = [{{ source = \"/srv/usb\", target = \"/data\", create = true, must_be_mountpoint = true }}]"
    );
    let words = ["nothing is mounted at `/srv/usb`", "`mount /srv/usb`", "must_be_mountpoint"];
    Fault { name: "mountpoint", bad: &keys, words: &words }.story(&host, |_| {
        host.fail("test -e /srv/usb").expect("no folder hides that the disk is missing");
        host.succeed("mkdir /srv/usb && mount -t tmpfs tmpfs /srv/usb").expect("mounted");
        keys.clone()
    });
}

#[test]
fn a_credential_that_is_missing_is_named() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let keys = format!("system = \"{system}\"\ncredentials = {{ key = \"/root/no-such-key\" }}");
    let words = [
        "the file `/root/no-such-key` of the credential `key` does not exist",
        "write the secret to /root/no-such-key",
        "credentials.key",
    ];
    Fault { name: "credential", bad: &keys, words: &words }.story(&host, |_| {
        host.write_file("/root/no-such-key", "secret", 0o600).expect("written");
        keys.clone()
    });
}

#[test]
fn every_error_of_a_manifest_is_told_at_once_and_nothing_is_touched() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let stack = Stack::new(&host, "manifest");
    let keep = format!("[services.manifest-keep]\nsystem = \"{system}\"");
    stack.declare(&[&keep]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("manifest-keep").expect("healthy");
    let faults = format!(
        "[services.manifest-a]\nsystem = \"{system}\"\nmemory_max = \"1G\"\ndepends_on = [\"manifest-b\"]\n
         [services.manifest-b]\nsystem = \"{system}\"\ndepends_on = [\"manifest-a\", \"manifest-keeep\"]\nmuonts = []"
    );
    stack.declare(&[&keep, &faults]).expect("a manifest");
    let words = [
        "memory_max",
        "limits",
        "muonts",
        "mounts",
        "manifest-keeep",
        "manifest-keep",
        "manifest-a -> manifest-b -> manifest-a",
        "unknown key `memory_max`",
        "nixmox.toml: 4 errors",
    ];
    stack.refuse("up", 1, &words).expect("every error is told");
    assert_eq!(stack.healthy("manifest-keep").expect("healthy"), before);
    stack.declare(&[&keep]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    assert_eq!(stack.healthy("manifest-keep").expect("healthy"), before);
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_disk_that_is_mounted_on_demand_is_mounted_before_its_folders_are_made() {
    let host = host();
    let unit = "[Mount]\nWhat=tmpfs\nWhere=/srv/ondemand\nType=tmpfs\n";
    host.write_file("/etc/systemd/system/srv-ondemand.mount", unit, 0o644).expect("written");
    host.succeed("systemctl daemon-reload").expect("reloaded");
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let mounts = "mounts = [{ source = \"/srv/ondemand\", target = \"/late\", must_be_mountpoint = true }, { source = \"/srv/ondemand/new\", target = \"/new\", create = true }]";
    let stack = Stack::new(&host, "late");
    stack.declare(&[&format!("[services.late]\nsystem = \"{system}\"")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    // What runs is stopped for it: that the disk is not mounted yet is no reason to refuse it.
    stack.declare(&[&format!("[services.late]\nsystem = \"{system}\"\n{mounts}")]).expect("a manifest");
    stack.succeed("up").expect("it is restarted");
    host.succeed("mountpoint -q /srv/ondemand && test -d /srv/ondemand/new").expect("mounted");
    stack.succeed("down").expect("taken down");
    host.succeed("umount /srv/ondemand && test -z \"$(ls /srv/ondemand)\"").expect("nothing was made below it");
}

#[test]
fn what_runs_goes_on_when_what_is_declared_in_its_place_could_not_be_started() {
    let host = host();
    let system = host.guest("talker", &Behaviour::new().http(80).log("said long ago")).expect("a system");
    let stack = Stack::new(&host, "kept");
    let declare = |mounts: &str| {
        stack.declare(&[&format!("[services.kept]\nsystem = \"{system}\"\n{mounts}")]).expect("a manifest");
    };
    declare("mounts = [\"/srv/kept-now:/now\"]");
    host.succeed("mkdir /srv/kept-now").expect("made");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("kept").expect("healthy");

    declare("mounts = [\"/srv/kept-now:/now\", \"/srv/kept-later:/later\"]");
    let words = ["kept could not be started again", "`/srv/kept-later`", "nothing was changed", "mkdir -p"];
    stack.refuse("up", 1, &words).expect("the cause and the way out are named");
    assert_eq!(stack.healthy("kept").expect("it goes on"), before);
    host.succeed("rmdir /srv/kept-now").expect("gone from the host, not from the guest");
    let words = ["kept could not be started again", "`/srv/kept-now`", "nothing was changed"];
    stack.refuse("restart kept", 1, &words).expect("the same");
    assert_eq!(stack.healthy("kept").expect("it goes on"), before);
    host.succeed("mkdir /srv/kept-now").expect("made again");
    declare("mounts = [{ source = \"/usr/share/kept\", target = \"/later\", create = true }]");
    let words = ["kept could not be started again", "read-only for the agent", "mkdir -p /usr/share/kept"];
    stack.refuse("up", 1, &words).expect("the sandbox is named");
    assert_eq!(stack.healthy("kept").expect("it goes on"), before);

    declare("mounts = [\"/srv/kept-now:/now\", \"/srv/kept-later:/later\"]");
    host.succeed("mkdir /srv/kept-later").expect("made");
    stack.succeed("up").expect("it is restarted");
    assert_ne!(stack.healthy("kept").expect("healthy"), before);

    // A start that does not come to a run is told without the words of the run before.
    stack.succeed("stop kept").expect("stopped");
    host.succeed("rmdir /srv/kept-later").expect("gone");
    let refused = stack.refuse("start kept", 1, &["`/srv/kept-later` does not exist"]).expect("it is told");
    assert!(!refused.stderr.contains("said long ago"), "an old line explains nothing: {refused}");
    let broken = host.guest("breaker", &Behaviour::new().log("said just now").exit_at_once(3)).expect("a system");
    stack.declare(&[&format!("[services.kept]\nsystem = \"{broken}\"\nrestart = \"no\"")]).expect("a manifest");
    stack.refuse("up --no-rollback", 1, &["exit-code 3", "said just now"]).expect("its words are told");
    let log = stack.field("kept", "log").expect("the status");
    assert!(log.contains("said just now") && !log.contains("said long ago"), "an old line explains nothing: {log}");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_directory_that_the_agent_may_not_make_is_told_as_that() {
    let host = host();
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let mount = "mounts = [{ source = \"/usr/share/sandboxed/data\", target = \"/data\", create = true }]";
    let keys = format!("system = \"{system}\"\n{mount}");
    let words = ["read-only for the agent", "mkdir -p /usr/share/sandboxed/data", "ReadWritePaths=-/usr/share`"];
    Fault { name: "sandboxed", bad: &keys, words: &words }.story(&host, |_| {
        host.succeed("mkdir -p /usr/share/sandboxed/data").expect("made");
        keys.clone()
    });
}

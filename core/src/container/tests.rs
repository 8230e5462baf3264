//! Tests of the texts: golden ones, a reader that unquotes as systemd and the shell do, hostile values.

mod gpu;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::fixture::{assigned, name};
use crate::model::{
    Assigned, Bytes, Condition, Device, ExitRecord, HealthCheck, Kind, Mount, Network, OnUnhealthy, PressureMax,
    PrivateUsers, Probe, SpecField, System, Tmpfs,
};

fn layout() -> Layout {
    Layout { agent: "/nix/store/x/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: false }
}

/// A service that uses every field.
fn full() -> Assigned {
    let mut full = assigned("web", 3);
    let service = &mut full.service;
    service.depends_on = [(name("db"), Condition::Healthy), (name("cache"), Condition::Started)].into();
    service.health = Some(HealthCheck {
        probe: Probe::Tcp(80),
        pressure: PressureMax::default(),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::from_mins(5),
        on_unhealthy: OnUnhealthy::Report,
    });
    service.limits.memory_max = Some(Bytes(2 << 30));
    service.limits.cpu_quota = Some("150%".parse().unwrap());
    service.limits.allowed_cpus = vec![0, 1, 5];
    service.mounts = vec![mount("/srv/a:b", "/var/lib/web", false), mount("/srv/100%", "/data", true)];
    service.tmpfs =
        vec![Tmpfs { target: "/tmp".into(), size: Some(Bytes(1024)) }, Tmpfs { target: "/c".into(), size: None }];
    service.credentials = [("key".into(), PathBuf::from("/run/secrets/a:b"))].into();
    service.environment = [("GREETING".into(), "say \"hi\" \\ 100% 'x' #y".into())].into();
    service.devices = vec![Device { path: "/dev/dri/renderD128".into(), access: "rw".into() }];
    service.capabilities = vec!["CAP_NET_ADMIN".into()];
    service.ephemeral = true;
    service.private_users = PrivateUsers::Pick;
    service.nspawn_flags = vec!["--hostname=x".into()];
    full
}

fn mount(source: &str, target: &str, read_only: bool) -> Mount {
    Mount { source: source.into(), target: target.into(), read_only, create: false, must_be_mountpoint: false }
}

/// Reads a conf file as systemd does (systemd.exec(5), `EnvironmentFile=`), as far as these files go.
fn read_environment_file(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once('=').expect("every line is a variable");
            let Some(quoted) = value.strip_prefix('"') else {
                assert!(!value.contains(['"', '\'', '\\', ' ']), "{value} is not plain");
                return (name.to_owned(), value.to_owned());
            };
            let (mut unquoted, mut chars) = (String::new(), quoted.chars());
            loop {
                match chars.next().expect("the quote is closed") {
                    '"' => break,
                    '\\' => match chars.next().expect("an escape is complete") {
                        c if "\"\\`$".contains(c) => unquoted.push(c),
                        c => unquoted.extend(['\\', c]),
                    },
                    c => unquoted.push(c),
                }
            }
            assert_eq!(chars.next(), None, "nothing follows the quote");
            (name.to_owned(), unquoted)
        })
        .collect()
}

/// The words that the template's shell makes of an unquoted expansion.
fn shell_words(value: &str) -> Vec<&str> {
    assert!(!value.contains(['*', '?', '[']), "{value} would be expanded");
    value.split([' ', '\t', '\n']).filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_fingerprint_is_the_same_in_every_version() {
    // Were this to change, an upgrade would restart every container: add fields, never change one.
    insta::assert_snapshot!(spec(&assigned("web", 3)), @r#"system:b992d503,network:1f317038,slice:08c70141"#);
    insta::assert_snapshot!(spec(&full()), @r#"system:b992d503,network:1f317038,mounts:7916e3f9,tmpfs:ba508c3a,credentials:e04f1997,environment:fc2e193a,capabilities:9d7bfa9d,ephemeral:7c9fa136,private_users:7c9fa136,devices:06e87f07,nspawn_flags:8c18622d,slice:08c70141"#);
}

#[test]
fn each_group_of_fields_changes_its_own_hash_alone() {
    type Change = fn(&mut Assigned);
    let edits: [(SpecField, Change); 12] = [
        (SpecField::System, |a| a.service.system = System::Store(crate::model::fixture::store_path('b', "web"))),
        (SpecField::Network, |a| a.addresses = assigned("web", 4).addresses),
        (SpecField::Mounts, |a| a.service.mounts[0].read_only = true),
        (SpecField::Tmpfs, |a| a.service.tmpfs[1].size = Some(Bytes(7))),
        (SpecField::Credentials, |a| a.service.credentials = [("key".into(), "/other".into())].into()),
        (SpecField::Environment, |a| a.service.environment = [("GREETING".into(), "hello".into())].into()),
        (SpecField::Capabilities, |a| a.service.capabilities.clear()),
        (SpecField::Ephemeral, |a| a.service.ephemeral = false),
        (SpecField::PrivateUsers, |a| a.service.private_users = PrivateUsers::No),
        (SpecField::Devices, |a| a.service.devices.clear()),
        (SpecField::NspawnFlags, |a| a.service.nspawn_flags.push("--x".into())),
        (SpecField::Slice, |a| a.service.stack = "other".parse().unwrap()),
    ];
    for (field, change) in edits {
        let mut changed = full();
        change(&mut changed);
        assert_eq!(spec(&full()).differences(&spec(&changed)), [field]);
    }
}

#[test]
fn what_can_change_live_is_not_in_the_fingerprint() {
    let mut live = full();
    live.service.limits.memory_max = None;
    live.service.depends_on.clear();
    live.service.health = None;
    live.service.devices[0].access = "r".into();
    live.service.mounts[0].create = true;
    live.service.restart.attempts_max = Some(3);
    live.service.origin.line = 9;
    live.service.network = Network::Private { address: Some(Ipv4Addr::new(10, 233, 3, 2)) };
    assert_eq!(spec(&full()), spec(&live));
}

#[test]
fn the_conf_file_says_what_the_template_reads() {
    let files = files(&full(), &layout()).unwrap();
    insta::assert_snapshot!(files.conf.unwrap(), @r##"
# Written by nixmox-agent, which overwrites changes; the manifest is the source.
SYSTEM_PATH=/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-web
PRIVATE_NETWORK=1
HOST_ADDRESS=10.233.3.1
LOCAL_ADDRESS=10.233.3.2
COPY_RESOLV_CONF=0
PRIVATE_USERS=pick
AUTO_START=0
EXTRA_NSPAWN_FLAGS="--bind-ro=/run/nixmox/guests:/run/host/nixmox --bind-ro=/run/nixmox/env/web.conf:/run/systemd/system.conf.d/50-nixmox.conf --bind=/srv/a\\:b:/var/lib/web:idmap --bind-ro=/srv/100%:/data:idmap --tmpfs=/tmp:size=1024 --tmpfs=/c --load-credential=key:/run/secrets/a:b --bind=/dev/dri/renderD128 --capability=CAP_NET_ADMIN --link-journal=no --bind=/var/lib/nixos-containers/.journal/web:/var/log/journal:idmap --hostname=x"
NIXMOX_SPEC=system:b992d503,network:1f317038,mounts:7916e3f9,tmpfs:ba508c3a,credentials:e04f1997,environment:fc2e193a,capabilities:9d7bfa9d,ephemeral:7c9fa136,private_users:7c9fa136,devices:06e87f07,nspawn_flags:8c18622d,slice:08c70141
"##);
    insta::assert_snapshot!(files.environment.unwrap(), @r##"
# Written by nixmox-agent.
[Manager]
DefaultEnvironment="GREETING=say \"hi\" \\ 100%% 'x' #y"
"##);
}

#[test]
fn the_drop_in_carries_order_timeouts_limits_and_exit_records() {
    insta::assert_snapshot!(drop_in(&full(), &layout()).unwrap(), @r##"
# Written by nixmox-agent, which overwrites changes; the manifest is the source.
[Unit]
After=network.target dbus.service
After=container@cache.service
After=container@db.service
RequiresMountsFor=/srv/a:b
RequiresMountsFor=/srv/100%%
StartLimitIntervalSec=0

[Service]
Restart=no
RestartForceExitStatus=
TimeoutStartSec=420s
TimeoutStopSec=3min
Slice=machine-nixmox-cloud.slice
RuntimeDirectory=nixos-containers/%i
Environment=root=/run/nixos-containers/%i
ExecStartPost=-/nix/store/x/bin/nixmox-agent exit-record --started %i
ExecStop=-/nix/store/x/bin/nixmox-agent exit-record --stop %i
ExecStopPost=-/nix/store/x/bin/nixmox-agent exit-record %i
MemoryMax=2147483648
CPUQuota=150%
AllowedCPUs=0 1 5
DeviceAllow=/dev/dri/renderD128 rw
"##);
    let layout = Layout { conf_in_run: true, ..layout() };
    insta::assert_snapshot!(drop_in(&assigned("web", 3), &layout).unwrap(), @r##"
# Written by nixmox-agent, which overwrites changes; the manifest is the source.
[Unit]
After=network.target dbus.service
StartLimitIntervalSec=0

[Service]
Restart=no
RestartForceExitStatus=
TimeoutStartSec=180s
TimeoutStopSec=3min
Slice=machine-nixmox-cloud.slice
EnvironmentFile=
EnvironmentFile=-/run/nixmox/conf/%i.conf
ExecStartPost=-/nix/store/x/bin/nixmox-agent exit-record --started %i
ExecStop=-/nix/store/x/bin/nixmox-agent exit-record --stop %i
ExecStopPost=-/nix/store/x/bin/nixmox-agent exit-record %i
"##);
}

#[test]
fn an_adopted_container_keeps_what_its_owner_decides() {
    let mut adopted = full();
    adopted.service.system = System::Adopted;
    let files = files(&adopted, &layout()).unwrap();
    assert_eq!((files.conf, files.spec), (None, Spec::default()));
    insta::assert_snapshot!(files.drop_in, @r##"
# Written by nixmox-agent, which overwrites changes; the manifest is the source.
[Unit]
After=network.target dbus.service
After=container@cache.service
After=container@db.service

[Service]
Restart=no
TimeoutStartSec=420s
ExecStartPost=-/nix/store/x/bin/nixmox-agent exit-record --started %i
ExecStop=-/nix/store/x/bin/nixmox-agent exit-record --stop %i
ExecStopPost=-/nix/store/x/bin/nixmox-agent exit-record %i
MemoryMax=2147483648
CPUQuota=150%
AllowedCPUs=0 1 5
DeviceAllow=/dev/dri/renderD128 rw
"##);
}

#[test]
fn a_job_has_all_the_time_it_needs_to_boot() {
    let mut job = assigned("job", 1);
    job.service.kind = Kind::Job;
    assert!(drop_in(&job, &layout()).unwrap().contains("\nTimeoutStartSec=infinity\n"));
}

#[test]
fn a_dash_in_a_stack_is_no_step_down_the_tree_of_slices() {
    assert_eq!(slice(&"my-cloud".parse().unwrap()), "machine-nixmox-my_cloud.slice");
}

#[test]
fn a_drop_in_tells_its_dependencies() {
    assert_eq!(dependencies(&drop_in(&full(), &layout()).unwrap()), [name("cache"), name("db")]);
}

#[test]
fn a_conf_file_tells_its_owner_addresses_and_writable_sources() {
    let conf = files(&full(), &layout()).unwrap().conf.unwrap();
    assert!(is_ours(&conf));
    assert_eq!(spec_of_conf(&conf), Some(spec(&full())));
    assert_eq!(conf_addresses(&conf), [Ipv4Addr::new(10, 233, 3, 1), Ipv4Addr::new(10, 233, 3, 2)].into());
    assert_eq!(writable_sources(&conf), [PathBuf::from("/srv/a:b")].into());

    let foreign = "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.7.1\n  LOCAL_ADDRESS=\"10.233.7.2/24\"\nX=10.0.0.1\n";
    assert!(!is_ours(foreign));
    assert_eq!(conf_addresses(foreign), [Ipv4Addr::new(10, 233, 7, 1), Ipv4Addr::new(10, 233, 7, 2)].into());
}

#[test]
fn the_fingerprint_is_found_in_the_environment_of_nspawn() {
    let started = spec(&full());
    let environ = format!("PATH=/bin\0NIXMOX_SPEC={started}\0A=b\0");
    assert_eq!(spec_of_environ(environ.as_bytes()), Some(started));
    assert_eq!(spec_of_environ(b"PATH=/bin\0XNIXMOX_SPEC=system:1\0"), None);
    assert_eq!(spec_of_environ(b"NIXMOX_SPEC=colour:1\0"), None);
}

fn variables(result: &str, code: &str, status: &str) -> ExitVariables {
    ExitVariables {
        invocation: "0123456789abcdef0123456789abcdef".into(),
        spec: "system:00000001".into(),
        result: result.into(),
        code: code.into(),
        status: status.into(),
    }
}

/// Returns the record of an instance that noted this and then ended like that.
fn record(note: Option<Note>, result: &str, code: &str, status: &str) -> ExitRecord {
    let variables = variables(result, code, status);
    let note = note.map(|note| write_note(note, &variables));
    parse_exit_record(&record_exit(note.as_deref(), &variables, 0)).unwrap()
}

#[test]
fn a_guest_that_powers_itself_off_has_succeeded() {
    let record = record(Some(Note::Started), "success", "exited", "0");
    assert_eq!(record.spec.as_ref().map(ToString::to_string).as_deref(), Some("system:00000001"));
    assert!(record.succeeded());
}

#[test]
fn a_guest_that_died_of_want_of_memory_says_so() {
    let told = |oom_kills| {
        let variables = variables("exit-code", "exited", "1");
        parse_exit_record(&record_exit(None, &variables, oom_kills)).unwrap()
    };
    assert_eq!((told(2).how().as_str(), told(2).oom_kills), ("an out of memory kill", 2));
    assert_eq!(told(0).how(), "exit-code 1");
    let stopped = ExitRecord { oom_kills: 1, ..record(Some(Note::Stopping), "success", "exited", "0") };
    assert_eq!(stopped.how(), "stopped", "it would have gone on");
    let old = record_exit(None, &variables("exit-code", "exited", "1"), 1).replace("oom_kills=1\n", "");
    assert_eq!(parse_exit_record(&old).map(|record| record.oom_kills), Some(0), "of an older agent");
}

#[test]
fn a_guest_that_was_stopped_has_not_succeeded() {
    assert!(!record(Some(Note::Stopping), "success", "exited", "0").succeeded());
    assert!(!record(None, "success", "exited", "0").succeeded(), "stopped while it booted");
}

#[test]
fn a_job_that_ends_before_it_is_ready_has_succeeded() {
    assert!(record(None, "protocol", "exited", "0").succeeded());
    assert!(!record(None, "protocol", "exited", "1").succeeded());
    // A command behind READY=1 failed, for which systemd shut the guest down; and one before it, so that there was no guest.
    assert!(!record(None, "exit-code", "exited", "0").succeeded());
    assert!(!record(None, "exit-code", "exited", "3").succeeded());
    assert!(!record(None, "exit-code", "", "").succeeded());
    assert!(!record(None, "signal", "killed", "KILL").succeeded());
}

#[test]
fn a_guest_that_reboots_has_not_succeeded() {
    assert!(!record(Some(Note::Started), "success", "exited", "133").succeeded());
}

#[test]
fn a_note_of_another_invocation_is_not_believed() {
    let old = ExitVariables { invocation: "f".repeat(32), ..ExitVariables::default() };
    let record = record_exit(Some(&write_note(Note::Started, &old)), &variables("success", "exited", "0"), 0);
    assert!(parse_exit_record(&record).unwrap().stopped);
}

#[test]
fn a_note_is_no_record() {
    assert_eq!(parse_exit_record(&write_note(Note::Stopping, &variables("success", "", ""))), None);
}

#[test]
fn a_torn_exit_record_is_none() {
    let whole = record_exit(None, &variables("success", "exited", "0"), 0);
    for length in 0..whole.len() - "yes\n".len() {
        assert_eq!(parse_exit_record(&whole[..length]), None, "{length}");
    }
}

/// Any text, with what could break out of a line, a quote or a flag more often than not.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\0".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("\nSYSTEM_PATH=/evil".to_owned()),
        Just(" --bind=/:/host".to_owned()),
        Just("$(x)`x`".to_owned()),
        Just(":".to_owned()),
        Just("%n".to_owned()),
        Just("*".to_owned()),
        "[a-zA-Z0-9/_.=-]{1,6}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

prop_compose! {
    fn hostile_service()(
        texts in prop::collection::vec(hostile(), 12),
        absolute in any::<bool>(),
        only in prop::option::of(0_usize..8),
    ) -> Assigned {
        let mut assigned = assigned("web", 3);
        let path = |index: usize| PathBuf::from(if absolute { format!("/{}", texts[index]) } else { texts[index].clone() });
        let service = &mut assigned.service;
        // One kind of value alone, or all: a refusal of one must not hide the others.
        let used = |kind: usize| only.is_none_or(|only| only == kind);
        if used(0) {
            service.mounts = vec![Mount { source: path(0), target: path(1), ..mount("/", "/", false) }];
        }
        if used(1) {
            service.tmpfs = vec![Tmpfs { target: path(2), size: None }];
        }
        if used(2) {
            service.credentials = [(texts[3].clone(), path(4))].into();
        }
        if used(3) {
            service.environment = [(texts[5].clone(), texts[6].clone()), ("GOOD".into(), texts[7].clone())].into();
        }
        if used(4) {
            service.devices = vec![Device { path: path(8), access: texts[9].clone() }];
        }
        if used(5) {
            service.capabilities = vec![texts[10].clone()];
        }
        if used(6) {
            service.nspawn_flags = vec![texts[11].clone()];
        }
        if used(7) {
            service.network = Network::Bridge(texts[9].clone());
        }
        assigned
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_value_can_add_a_variable_a_flag_or_a_setting(assigned in hostile_service()) {
        let service = &assigned.service;
        if let Ok(Some(conf)) = conf_file(&assigned, &spec(&assigned), &layout()) {
            let variables = read_environment_file(&conf);
            let expected = if matches!(service.network, Network::Bridge(_)) { 8 } else { 9 };
            prop_assert_eq!(variables.len(), expected, "{}", conf);
            let flags = &variables.iter().find(|(name, _)| name == "EXTRA_NSPAWN_FLAGS").unwrap().1;
            let count = 1 + service.mounts.len() + service.tmpfs.len() + service.credentials.len()
                + usize::from(!service.environment.is_empty()) + service.devices.len()
                + service.capabilities.len() + service.nspawn_flags.len();
            prop_assert_eq!(shell_words(flags).len(), count, "{}", flags);
        }
        if let Ok(text) = drop_in(&assigned, &layout()) {
            prop_assert!(!text.contains(['\r', '\0']));
            let settings = text.lines().filter(|line| !line.is_empty()).count();
            prop_assert_eq!(settings, 13 + service.mounts.len() + service.devices.len(), "{}", text);
        }
        if let Ok(Some(text)) = environment_file(&assigned) {
            prop_assert_eq!(text.lines().count(), 2 + service.environment.len(), "{}", text);
            prop_assert!(text.lines().skip(2).all(|line| line.starts_with("DefaultEnvironment=\"") && line.ends_with('"')));
        }
    }

    #[test]
    fn paths_reach_nspawn_as_they_are(segment in "[a-zA-Z0-9:%$#~{}();&|<>,=+@é-]{1,12}") {
        let mut assigned = assigned("web", 3);
        assigned.service.mounts = vec![mount(&format!("/srv/{segment}"), "/x", false)];
        let conf = conf_file(&assigned, &spec(&assigned), &layout()).unwrap().unwrap();
        let flags = read_environment_file(&conf).into_iter().find(|(name, _)| name == "EXTRA_NSPAWN_FLAGS").unwrap().1;
        let bind = shell_words(&flags)[1].strip_prefix("--bind=").unwrap().replace("\\:", "\0");
        prop_assert_eq!(bind.split(':').next().unwrap().replace('\0', ":"), format!("/srv/{segment}"));
        prop_assert_eq!(writable_sources(&conf), [PathBuf::from(format!("/srv/{segment}"))].into());
    }
}

#[test]
fn a_conf_file_says_whether_the_host_starts_it() {
    for (text, expected) in [
        ("AUTO_START=1\n", true),
        ("  AUTO_START = \"1\"\n", true),
        ("AUTO_START=0\n", false),
        ("AUTO_START=1\nAUTO_START=0\n", false),
        ("# AUTO_START=1\nHOST_PORT=\n", false),
        ("", false),
    ] {
        assert_eq!(starts_at_boot(text), expected, "{text}");
    }
}

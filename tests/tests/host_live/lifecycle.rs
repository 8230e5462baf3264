//! Start, observe, change and stop.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nixmox_agent::host::{Host, StepError};
use nixmox_core::container::{self, Layout};
use nixmox_core::model::{ActiveState, Bytes, ConfFile, Container, ContainerName, Device, DropIn, Mount};

use crate::inside::{LIMIT, observe, open, shell, until, wait_until, wakes};
use crate::service::{assigned, files, name};

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn starts_observes_changes_and_stops_a_container() {
    let host = open();
    let mut web = assigned("web", "web", 1);
    web.service.limits.memory_max = Some(Bytes(512 << 20));
    web.service.limits.allowed_cpus = vec![0];
    web.service.limits.memory_zswap_max = Some(Bytes(64 << 20));
    host.start(&web, &files(&web)).await.expect("it starts");
    let seen = observe(&host, "web").await;
    assert_eq!(seen.active, ActiveState::Active);
    assert_eq!(seen.started_with, Some(files(&web).spec));
    assert_eq!(seen.limits, web.service.limits);
    assert_eq!(seen.devices, []);
    assert_eq!(seen.conf, ConfFile::Ours(files(&web).conf.expect("a conf")));
    assert!(!seen.foreign_job && !seen.foreign_machine);
    shell("test -x $(readlink /nix/var/nix/profiles/per-container/web/system)/init");
    let invocation = seen.invocation.expect("it runs");

    // Live: new limits and devices, the same instance.
    let tasks_default = shell("systemctl show -p DefaultTasksMax --value").parse().expect("a number");
    web.service.limits.memory_max = None;
    web.service.limits.memory_high = Some(Bytes(256 << 20));
    web.service.limits.memory_zswap_max = Some(Bytes(0));
    web.service.limits.tasks_max = Some(tasks_default);
    web.service.devices = vec![Device { path: "/dev/null".into(), access: "rw".to_owned() }];
    host.update(&web, &files(&web)).await.expect("it is changed");
    let seen = observe(&host, "web").await;
    assert_eq!(seen.limits, web.service.limits);
    assert_eq!(seen.devices, web.service.devices);
    assert_eq!(seen.drop_in, DropIn::Ours(files(&web).drop_in));
    assert_eq!(seen.invocation, Some(invocation), "nothing was restarted");
    assert_eq!(shell("systemctl show -p NeedDaemonReload --value container@web"), "no");
    shell("test ! -e /run/systemd/system.control/container@web.service.d");
    shell("systemctl show -p DeviceAllow container@web | grep -q /dev/net/tun");
    shell("systemctl daemon-reload");
    assert_eq!(observe(&host, "web").await.limits, web.service.limits, "what is set outlives a reload");

    // Drift behind our back wakes us and is put right.
    let high = Some(Bytes(64 << 20));
    wakes(&host, "systemctl set-property --runtime container@web.service MemoryHigh=64M").await;
    until(&host, "web", |seen| seen.limits.memory_high == high).await;
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert_eq!(observe(&host, "web").await.limits, web.service.limits);
    wakes(&host, "sed -i s/NIXMOX/nixmox/ /etc/nixos-containers/web.conf").await;
    wakes(&host, "rm /run/systemd/system/container@web.service.d/10-nixmox.conf").await;
    wakes(&host, "systemctl daemon-reload").await;
    host.update(&web, &files(&web)).await.expect("it is put right");

    // A drop-in that was written and not read, as a dead agent leaves it.
    shell("echo '# unread' >> /run/systemd/system/container@web.service.d/10-nixmox.conf");
    host.distrust();
    until(&host, "web", |seen| seen.reload_pending).await;
    let drop_in = "/run/systemd/system/container@web.service.d/10-nixmox.conf";
    std::fs::write(drop_in, &files(&web).drop_in).expect("written");
    assert!(observe(&host, "web").await.reload_pending, "its text is right, and nobody has read it");
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert!(!observe(&host, "web").await.reload_pending);
    assert_eq!(shell("systemctl show -p NeedDaemonReload --value container@web"), "no");

    // Limits that are dropped are gone, also for systemd after a reload.
    web.service.limits = nixmox_core::model::Limits::default();
    web.service.devices.clear();
    host.update(&web, &files(&web)).await.expect("it is changed");
    let seen = observe(&host, "web").await;
    assert_eq!((seen.limits, seen.devices), (web.service.limits.clone(), Vec::new()));

    let error = host.remove(&name("web")).await.expect_err("it runs");
    assert!(matches!(error, StepError::StillRunning { .. }), "{error}");
    host.stop(&name("web")).await.expect("it stops");
    host.stop(&name("web")).await.expect("stopping again does nothing");
    assert_eq!(shell("cat /run/nixmox/exit/web.stop"), invocation.to_string(), "the next one knows who stopped it");
    host.remove(&name("web")).await.expect("it is removed");
    assert_eq!(observe(&host, "web").await, Container::default());
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_failed_start_says_how_and_the_next_one_is_not_held_back() {
    let host = open();
    let bad = assigned("web", "bad", 1);
    for _ in 0..7 {
        let error = host.start(&bad, &files(&bad)).await.expect_err("its init exits at once");
        assert!(matches!(&error, StepError::StartFailed { result, .. } if result == "exit-code 3"), "{error}");
    }
    let mut missing = assigned("web", "good", 1);
    missing.service.credentials.insert("key".to_owned(), "/root/no-such-secret".into());
    let error = host.start(&missing, &files(&missing)).await.expect_err("a credential is missing");
    assert!(
        matches!(&error, StepError::CredentialMissing { path, .. } if path == Path::new("/root/no-such-secret"))
    );
    let good = assigned("web", "good", 1);
    host.start(&good, &files(&good)).await.expect("it starts");
    assert_eq!(observe(&host, "web").await.started_with, Some(files(&good).spec));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_container_whose_nspawn_was_killed_starts_again() {
    let host = open();
    // Our template clears up by itself, NixOS's does not.
    shell("mkdir -p /etc/systemd/system/container@.service.d");
    shell("printf '[Service]\\nExecStartPre=\\n' > /etc/systemd/system/container@.service.d/bare.conf");
    shell("systemctl daemon-reload");
    let web = assigned("web", "web", 1);
    let mut last = None;
    for _ in 0..3 {
        host.start(&web, &files(&web)).await.expect("it starts");
        let seen = observe(&host, "web").await;
        assert_ne!(seen.invocation, last);
        last = seen.invocation;
        shell("kill -KILL $(systemctl show -p MainPID --value container@web)");
        until(&host, "web", |seen| seen.active == ActiveState::Failed).await;
    }
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_read_only_etc_is_no_obstacle() {
    shell("mount --bind /etc/nixos-containers /etc/nixos-containers");
    shell("mount -o remount,ro,bind /etc/nixos-containers");
    let host = open();
    assert!(host.layout().conf_in_run);
    let web = assigned("web", "web", 1);
    let texts = nixmox_core::container::files(&web, &host.layout()).expect("the texts can be carried");
    host.start(&web, &texts).await.expect("it starts");
    let seen = observe(&host, "web").await;
    assert_eq!(seen.started_with, Some(texts.spec.clone()));
    assert_eq!(seen.conf, ConfFile::Ours(texts.conf.clone().expect("a conf")));
    shell("test -e /run/nixmox/conf/web.conf && test ! -e /etc/nixos-containers/web.conf");
    host.stop(&name("web")).await.expect("it stops");
    host.remove(&name("web")).await.expect("it is removed");
    assert_eq!(observe(&host, "web").await, Container::default());
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn jobs_of_others_are_told_from_ours() {
    let host = open();
    let slow = assigned("slow", "slow", 1);
    let texts = files(&slow);
    let ours = tokio::join!(host.start(&slow, &texts), async {
        let seen = until(&host, "slow", |seen| seen.active == ActiveState::Activating).await;
        assert!(!seen.foreign_job, "the job is ours");
    });
    ours.0.expect("it starts");
    host.stop(&name("slow")).await.expect("it stops");

    shell("systemctl start --no-block container@slow");
    let seen = until(&host, "slow", |seen| seen.active == ActiveState::Activating).await;
    assert!(seen.foreign_job, "the job is somebody else's");
    host.start(&slow, &files(&slow)).await.expect("their job is joined");
    assert_eq!(observe(&host, "slow").await.active, ActiveState::Active);

    // A machine of somebody else under the same name is neither ended nor doubled.
    host.stop(&name("slow")).await.expect("it stops");
    shell("systemd-run -q --unit=other systemd-nspawn --keep-unit -q -M slow -D / --volatile=yes /bin/sleep 600");
    wait_until("machinectl show slow");
    let seen = observe(&host, "slow").await;
    assert!(seen.foreign_machine);
    let error = host.start(&slow, &files(&slow)).await.expect_err("the name is taken");
    assert!(matches!(&error, StepError::ForeignMachine { unit, .. } if unit == "other.service"), "{error}");
    shell("machinectl show slow");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_hundred_containers_are_observed_at_once() {
    let host = open();
    let names: Vec<String> = (1..=100).map(|number| format!("n{number}")).collect();
    let begin = Instant::now();
    for chunk in names.chunks(20) {
        let starts = chunk.iter().map(|text| {
            let host = &host;
            async move {
                let number = text.trim_start_matches('n').parse().expect("a number");
                let container = assigned(text, "many", number);
                host.start(&container, &files(&container)).await
            }
        });
        for started in futures_util::future::join_all(starts).await {
            started.expect("it starts");
        }
    }
    println!("100 containers started in {:?}", begin.elapsed());
    let declared: BTreeSet<ContainerName> = names.iter().map(|text| name(text)).collect();
    let begin = Instant::now();
    open().observe(&declared).await.expect("systemd answers");
    println!("first look of a new agent: {:?}", begin.elapsed());
    let mut times = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        let observed = host.observe(&declared).await.expect("systemd answers");
        times.push(begin.elapsed());
        let running = observed.containers.values().filter(|c| c.active == ActiveState::Active);
        assert_eq!(running.filter(|c| c.started_with.is_some()).count(), 100);
    }
    times.sort();
    println!("observed in {:?} (best {:?}, worst {:?})", times[10], times[0], times[19]);
    let begin = Instant::now();
    let usage = host.usage(&declared).await;
    println!("usage read in {:?}", begin.elapsed());
    assert_eq!(usage.len(), 100);
    assert!(usage.values().all(|usage| usage.invocation.is_some() && usage.active_since_usec.is_some()));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn the_agent_survives_a_restart_of_the_bus() {
    let host = open();
    let web = assigned("web", "web", 1);
    host.start(&web, &files(&web)).await.expect("it starts");
    shell("systemctl restart dbus.service");
    let begin = Instant::now();
    loop {
        let seen = host.observe(&BTreeSet::from([name("web")])).await;
        if seen.is_ok_and(|seen| seen.containers[&name("web")].active == ActiveState::Active) {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "connected again");
    }
    host.stop(&name("web")).await.expect("job signals come again");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn links_in_a_guests_root_lead_its_start_nowhere() {
    let host = open();
    let web = assigned("web", "web", 1);
    // On the host, as links from three depths of the root lead there.
    let victim = "/root/victim";
    let plant = |link: &str, target: &str| {
        shell(&format!(
            "rm -rf {victim}; mkdir -p {victim}/{{lib,log}}; chmod 0751 {victim} {victim}/*
             cd /var/lib/nixos-containers/web; rm -rf {link}; ln -s {target} {link}"
        ))
    };
    let untouched = |link: &str| {
        let seen = shell(&format!("cd {victim}; find . -printf '%m %p\\n' | sort"));
        assert_eq!(seen, "751 .\n751 ./lib\n751 ./log", "through {link}");
    };
    host.start(&web, &files(&web)).await.expect("it starts");
    host.stop(&name("web")).await.expect("it stops");
    for (link, target) in [
        ("root", victim),
        ("etc", "../../../../root/victim"),
        ("usr", victim),
        ("usr/bin", victim),
        ("var", victim),
        ("var/lib", victim),
        ("var/lib/private", victim),
        ("var/log", victim),
        ("etc/os-release", "/root/victim/os-release"),
        ("etc/machine-id", "/root/victim/machine-id"),
    ] {
        plant(link, target);
        // A guest that spoils its root may fail to start, and harms nobody else.
        if host.start(&web, &files(&web)).await.is_ok() {
            host.stop(&name("web")).await.expect("it stops");
        }
        untouched(link);
        shell("rm -rf /var/lib/nixos-containers/web");
        host.start(&web, &files(&web)).await.expect("it starts on an empty root");
        host.stop(&name("web")).await.expect("it stops");
    }
    let modes =
        shell("cd /var/lib/nixos-containers/web; stat -c '%n %a' etc root usr usr/bin var/lib var/lib/private");
    assert_eq!(modes, "etc 755\nroot 700\nusr 755\nusr/bin 755\nvar/lib 755\nvar/lib/private 700");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_guest_is_given_the_hosts_servers_of_names() {
    let host = open();
    let web = assigned("web", "web", 1);
    let layout = Layout { agent: "/usr/bin/true".into(), conf_in_run: false, copy_resolv_conf: true };
    let texts = container::files(&web, &layout).expect("the texts can be carried");
    let inside = async |servers: &str| {
        shell(&format!("rm -f /etc/resolv.conf; echo nameserver {servers} > /etc/resolv.conf"));
        host.start(&web, &texts).await.expect("it starts");
        let seen = shell("cat /var/lib/nixos-containers/web/etc/resolv.conf");
        host.stop(&name("web")).await.expect("it stops");
        seen
    };
    assert_eq!(inside("192.0.2.1").await, "nameserver 192.0.2.1");
    shell("mkdir -p /run/systemd/resolve; echo nameserver 192.0.2.2 > /run/systemd/resolve/resolv.conf");
    assert_eq!(inside("127.0.0.53").await, "nameserver 192.0.2.2", "the servers behind the stub");
    shell("echo '# No DNS servers known.' > /run/systemd/resolve/resolv.conf");
    assert_eq!(inside("127.0.0.53").await, "nameserver 192.0.2.2", "none are known yet: those of the last start");
    assert_eq!(inside("").await, "nameserver 192.0.2.2", "nor here");
    assert_eq!(inside("192.0.2.3").await, "nameserver 192.0.2.3", "they are known now");
    shell("echo nameserver 192.0.2.2 > /run/systemd/resolve/resolv.conf");
    // A link is the guest's own affair, and leads nowhere on the host.
    shell(
        "cd /var/lib/nixos-containers/web/etc; rm resolv.conf; echo mine > /root/mine; ln -s /root/mine resolv.conf",
    );
    host.start(&web, &texts).await.expect("it starts");
    shell(
        "test $(readlink /var/lib/nixos-containers/web/etc/resolv.conf) = /root/mine && grep -qx mine /root/mine",
    );
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_file_system_that_does_not_answer_is_named() {
    let host = open();
    // A FUSE file system whose server, this shell, never answers.
    shell("mkdir /srv/stuck; test -e /dev/fuse || mknod /dev/fuse c 10 229");
    let stuck = Command::new("bash")
        .args([
            "-ec",
            "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 stuck /srv/stuck
             exec sleep infinity",
        ])
        .spawn();
    let mut stuck = stuck.expect("bash runs");
    wait_until("grep -q /srv/stuck /proc/self/mountinfo");
    let mut bad = assigned("bad", "web", 1);
    let target = "/data".into();
    let source = "/srv/stuck/data".into();
    bad.service.mounts = vec![Mount { source, target, read_only: false, create: false, must_be_mountpoint: false }];
    let well = assigned("well", "web", 2);
    let (bad_files, well_files) = (files(&bad), files(&well));
    let (error, started) = tokio::join!(host.start(&bad, &bad_files), host.start(&well, &well_files));
    started.expect("another one starts meanwhile");
    let error = error.expect_err("its source does not answer");
    assert!(matches!(&error, StepError::NoAnswer { path } if path == Path::new("/srv/stuck/data")), "{error}");
    for _ in 0..20 {
        let asked = Instant::now();
        let error = host.start(&bad, &bad_files).await.expect_err("it is stuck still");
        assert!(matches!(error, StepError::NoAnswer { .. }), "{error}");
        // One that really waits takes all of the live host's `LOOK_LIMIT`.
        assert!(asked.elapsed() < Duration::from_secs(20), "answered at once: {:?}", asked.elapsed());
    }
    host.stop(&name("well")).await.expect("it stops");
    host.start(&well, &well_files).await.expect("another one starts after any number of attempts");
    // The kernel lets go of whoever waits once the server is gone; the thread may take a moment.
    stuck.kill().expect("killed");
    stuck.wait().expect("it ended");
    let killed = Instant::now();
    let error = loop {
        let error = host.start(&bad, &bad_files).await.expect_err("still not there");
        if !matches!(error, StepError::NoAnswer { .. }) || killed.elapsed() > LIMIT {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(matches!(error, StepError::SourceMissing { .. }), "{error}");
}

//! Nodes before a start: made, replaced, waited for, or named.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nixmox_agent::host::{Host, StepError};
use nixmox_core::gpu::Opened;
use nixmox_core::model::{Assigned, Device, GpuDevices, GpuShare, GpuStanding, PrivateUsers, Service};

use crate::grants::{ABSENT, OPENS, tries, usable};
use crate::inside::{open, shell, wait_until};
use crate::service::{assigned, files, name};
use crate::stand_in::{self, GPUS, MAJOR, OTHER_MAJOR, given, grant, node, with_optional};

/// How long modules are late for.
const LATE: Duration = Duration::from_secs(2);
/// The agent waits 10 s for a node, and about as long for the driver's own program.
const IN_VAIN: Duration = Duration::from_secs(40);

fn number(gpu: u32) -> String {
    shell(&format!("stat -c '%F %Hr:%Lr %a' {}", node(gpu)))
}

fn made(major: u32, gpu: u32) -> String {
    format!("character special file {major}:{gpu} 666")
}

/// Installs a program in the place of the driver's own.
fn install(script: &str) {
    let program = "/usr/bin/nvidia-modprobe";
    shell(&format!("cat > {program} <<'EOF'\n#!/bin/bash\n{script}\nEOF\nchmod 755 {program}"));
}

/// Started twice by tests: before and after a reboot, and in the agent's sandbox.
#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_guest_starts_on_a_host_without_nodes() {
    let host = open();
    let gpu = GPUS[1];
    let web = given(&assigned("web", "web", 1), &[gpu]);
    host.start(&web, &files(&web)).await.expect("it starts");
    let seen = tries("web");
    let shared = seen.get("/dev/nvidiactl").copied().expect("tried");
    let opens = seen.get(&node(gpu)).copied().expect("tried");
    assert!(opens != 1 && opens != ABSENT, "{seen:?}");
    assert_eq!(seen, usable(&[gpu], &[], opens, shared), "no other one");
    let both = given(&assigned("web", "web", 1), &[gpu, GPUS[2]]);
    host.update(&both, &files(&both)).await.expect("another one comes");
    assert_eq!(tries("web"), usable(&[gpu, GPUS[2]], &[], opens, shared));
    host.stop(&name("web")).await.expect("it stops");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn missing_nodes_are_made_stale_ones_replaced_and_late_ones_waited_for() {
    let host = open();
    let gpu = GPUS[1];
    let mut web = given(&assigned("web", "web", 1), &[gpu]);
    // Named by the service as well, which is no reason to miss it.
    web.service.devices = vec![Device { path: node(gpu).into(), access: "rw".to_owned() }];
    let start = async || {
        host.start(&web, &files(&web)).await.expect("it starts");
        let seen = tries("web");
        host.stop(&name("web")).await.expect("it stops");
        assert_eq!(seen[&node(gpu)], OPENS);
    };
    // Nor one to refuse a restart.
    let share = GpuShare { vendor: None, devices: GpuDevices::Count(1), vram: None, vram_min: None, priority: 50 };
    let error = host.check_needs(&web.service).await.expect_err("it asks for no GPU, so nobody makes it");
    assert!(matches!(error, StepError::DeviceMissing { .. }), "{error}");
    host.check_needs(&Service { gpu: Some(share), ..web.service.clone() }).await.expect("the start makes it");
    start().await;
    assert_eq!(number(gpu), made(MAJOR, gpu), "missing");
    shell(&format!("test ! -e {}", node(GPUS[2])));

    shell(&stand_in::make_nodes(OTHER_MAJOR));
    start().await;
    assert_eq!(number(gpu), made(MAJOR, gpu), "stale");
    assert_eq!(number(GPUS[2]), made(OTHER_MAJOR, GPUS[2]), "what was not granted is somebody else's affair");
    shell("test $(ls -A /dev | grep -c '^[.]nvidia') = 0");

    // Many at once that all lack the same.
    shell(&stand_in::remove_nodes());
    let many = (1..=8_u8).map(|number| {
        let many = given(&assigned(&format!("many{number}"), "web", number), &GPUS);
        let host = &host;
        async move {
            host.start(&many, &files(&many)).await.expect("it starts");
            host.stop(&many.service.name).await.expect("it stops");
        }
    });
    futures_util::future::join_all(many).await;

    shell(&stand_in::remove_nodes());
    shell(&stand_in::unload());
    let (begin, load) = (Instant::now(), stand_in::load(MAJOR));
    let late = format!("sleep {}; {load}", LATE.as_secs());
    let mut late = Command::new("bash").args(["-c", &late]).spawn().expect("bash runs");
    start().await;
    assert!(begin.elapsed() >= LATE, "its module was loaded later");
    late.wait().expect("it ended");
    assert_eq!(number(gpu), made(MAJOR, gpu), "late");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn what_stays_missing_is_named_and_nothing_is_started() {
    let host = open();
    let plain = assigned("web", "web", 1);
    let gpu = GPUS[1];
    let fails = async |assigned: &Assigned| {
        let begin = Instant::now();
        let error = host.start(assigned, &files(assigned)).await.expect_err("a node is missing");
        assert!(begin.elapsed() < IN_VAIN, "it is not waited for without end: {:?}", begin.elapsed());
        let started = format!("systemctl show -P ExecMainStartTimestampMonotonic {}", assigned.service.name.unit());
        assert_eq!(shell(&started), "0", "nothing was started");
        error
    };
    let web = given(&plain, &[gpu]);
    shell(&format!("mkdir {}", node(gpu)));
    let error = fails(&web).await;
    assert!(matches!(&error, StepError::GpuNotANode { path } if *path == *node(gpu)), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&format!("rm -r {}", node(gpu)))));
    shell(&format!("rmdir {}", node(gpu)));

    // Nodes of the kernel's own drivers are udev's.
    let mut render = grant(&[]);
    render.nodes = vec!["/dev/dri/renderD200".into()];
    let amd = Assigned { gpu: GpuStanding::Granted(render), ..assigned("amd", "web", 2) };
    shell(&stand_in::unload());
    let (no_module, no_card) = tokio::join!(fails(&web), fails(&amd));
    let is_named = |error: &StepError, named: &str| matches!(error, StepError::GpuNoDriver { path } if path == Path::new(named));
    assert!(is_named(&no_module, "/dev/nvidia-uvm"), "{no_module}");
    assert!(no_module.hint().is_some_and(|hint| hint.contains("modprobe nvidia-uvm")));
    assert!(is_named(&no_card, "/dev/dri/renderD200"), "{no_card}");

    // The module says that its nodes are the host owner's affair.
    shell(&stand_in::load(MAJOR));
    shell("echo 'ModifyDeviceFiles: 0' > /proc/driver/nvidia/params");
    let error = fails(&web).await;
    assert!(
        matches!(&error, StepError::GpuNodeMissing { path } if path == Path::new("/dev/nvidia-uvm")),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn what_computing_goes_without_is_given_and_not_insisted_on() {
    let host = open();
    let plain = given(&assigned("web", "web", 1), &[GPUS[1]]);
    let optional = with_optional(grant(&[GPUS[1]]));
    let web = Assigned { gpu: GpuStanding::Granted(optional.clone()), ..plain.clone() };
    install("echo \"$@\" >> /root/asked");
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(shell("cat /root/asked"), format!("-c {} -c 255\n-m\n-u -c 0", GPUS[1]));
    let numbers = shell("stat -c %Hr:%Lr /dev/nvidia-modeset /dev/nvidia-uvm-tools");
    assert_eq!(numbers, format!("{MAJOR}:254\n{MAJOR}:1"));
    let view = host.look_into(&name("web"), &optional).await;
    assert_eq!((view.nodes.len(), view.fault), (5, None));
    for seen in view.nodes {
        assert!(matches!(seen.opened, Some(Opened::Let(_))), "{seen:?}");
    }
    host.stop(&name("web")).await.expect("it stops");

    // They come while a container runs that nothing can be bound into.
    let picks = |mut assigned: Assigned| {
        assigned.service.private_users = PrivateUsers::Pick;
        assigned
    };
    let (plain, web) = (picks(plain), picks(web));
    assert_eq!(files(&plain).spec, files(&web).spec, "no restart");
    host.start(&plain, &files(&plain)).await.expect("it starts");
    host.update(&web, &files(&web)).await.expect("it goes on without");
    assert_eq!(host.look_into(&name("web"), &optional).await.lost(|_| None).len(), 2);
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn the_drivers_own_program_is_asked_first_and_may_hang() {
    let host = open();
    let gpu = GPUS[1];
    let web = given(&assigned("web", "web", 1), &[gpu]);
    let node = node(gpu);
    install(&format!(
        "echo \"$@\" >> /root/asked; grep -o 'run-[^/]*.service' /proc/self/cgroup >> /root/units; test -e {node} || mknod -m 640 {node} c {MAJOR} {gpu}"
    ));
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(shell("cat /root/asked"), format!("-c {gpu} -c 255\n-u -c 0"));
    assert_eq!(shell("wc -l < /root/units"), "2", "each a unit of its own");
    assert_eq!(shell(&format!("stat -c %a {node}")), "640", "made by it");
    assert_eq!(shell("stat -c %a /dev/nvidiactl"), "666", "made by the agent, since it did not");
    host.stop(&name("web")).await.expect("it stops");
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(shell("wc -l < /root/asked"), "2", "nothing is missing, so nobody is asked");
    host.stop(&name("web")).await.expect("it stops");

    install("exec sleep 4321");
    shell(&stand_in::remove_nodes());
    let begin = Instant::now();
    host.start(&web, &files(&web)).await.expect("it starts all the same");
    assert!(begin.elapsed() < IN_VAIN, "{:?}", begin.elapsed());
    assert_eq!(number(gpu), made(MAJOR, gpu));
    wait_until("! pgrep -f '[s]leep 4321'");
}

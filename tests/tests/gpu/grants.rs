//! What a guest can open that was given a GPU, and what it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nixmox_agent::host::live::Live;
use nixmox_agent::host::{Host, StepError};
use nixmox_core::gpu::{Found, GuestView, Opened};
use nixmox_core::model::{Assigned, PrivateUsers, System};

use crate::inside::{LIMIT, observe, open, shell};
use crate::service::{assigned, files, name};
use crate::stand_in::{self, GPUS, LIBRARY, MAJOR, given, grant, node, tried};

pub(crate) const OPENS: i32 = 0;
const REFUSED: i32 = 1;
pub(crate) const ABSENT: i32 = 2;
/// What a driver answers with, once it is asked.
const NOTHING_BEHIND: i32 = 19;
const POLL: Duration = Duration::from_millis(20);

/// Returns what came of opening every path from a process of a guest: all of it was tried after this call.
pub(crate) fn tries(text: &str) -> BTreeMap<String, i32> {
    let file = format!("/var/lib/nixos-containers/{text}/var/lib/guest/opened");
    let round = || {
        let _ = fs::remove_file(&file);
        let begin = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(&file) {
                return text;
            }
            assert!(begin.elapsed() < LIMIT, "the guest tries");
            thread::sleep(POLL);
        }
    };
    // The first may have begun before.
    round();
    let line = |line: &str| {
        let (path, errno) = line.split_once(' ').expect("a path and an errno");
        (path.to_owned(), errno.parse().expect("a number"))
    };
    round().lines().map(line).collect()
}

/// Returns what is expected of a guest that can use these GPUs and what they share, where those of `refused` are there as well and all
/// others are not.
pub(crate) fn usable(gpus: &[u32], refused: &[u32], opens: i32, shared: i32) -> BTreeMap<String, i32> {
    let of = |path: &String| {
        let is_of = |gpus: &[u32]| gpus.iter().any(|minor| node(*minor) == *path);
        match path.as_str() {
            LIBRARY => ABSENT,
            "/dev/nvidiactl" | "/dev/nvidia-uvm" => shared,
            _ if is_of(gpus) => opens,
            _ if is_of(refused) => REFUSED,
            _ => ABSENT,
        }
    };
    tried().into_iter().map(|path| (path.clone(), of(&path))).collect()
}

fn has(gpus: &[u32], refused: &[u32]) -> BTreeMap<String, i32> {
    usable(gpus, refused, OPENS, NOTHING_BEHIND)
}

/// Looks at a guest as the agent does.
pub(crate) async fn look(host: &Live, gpus: &[u32]) -> GuestView {
    let view = host.look_into(&name("web"), &grant(gpus)).await;
    assert_eq!(view.fault, None);
    view
}

/// Returns what came of opening the node of a GPU.
pub(crate) fn of_gpu(view: &GuestView, minor: u32) -> (Option<Found>, Option<Opened>) {
    let seen = view.nodes.iter().find(|seen| seen.path.as_os_str() == node(minor).as_str()).expect("asked about");
    (seen.found, seen.opened)
}

/// Returns the first line of a script that puts itself into the cgroup of a guest's processes, and the guest's root.
fn in_payload(text: &str) -> (String, String) {
    let leader = shell(&format!("machinectl show {text} -p Leader --value"));
    let group = shell(&format!("sed -n 's/^0:://p' /proc/{leader}/cgroup"));
    assert!(group.contains("/payload"), "{group}");
    (format!("echo 0 > /sys/fs/cgroup{group}/cgroup.procs"), format!("/proc/{leader}/root"))
}

/// Binds the node of a GPU into a guest, as somebody does who does not know of device rules.
fn bind_by_hand(text: &str, minor: u32) {
    shell(&format!("machinectl bind --mkdir {text} {0} {0}", node(minor)));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_guest_opens_exactly_the_nodes_that_it_was_granted() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let (own, other) = (GPUS[1], GPUS[2]);
    let web = given(&assigned("web", "web", 1), &[own]);
    host.start(&web, &files(&web)).await.expect("it starts");
    let seen = observe(&host, "web").await;
    assert_eq!(seen.started_with, Some(files(&web).spec));
    let mut rules = web.device_rules();
    rules.sort();
    assert_eq!((seen.devices.len(), &seen.devices), (3, &rules));
    assert_eq!(tries("web"), has(&[own], &[]));
    let view = look(&host, &[own, other]).await;
    assert_eq!(of_gpu(&view, own), (Some(Found::Device(MAJOR, own)), Some(Opened::Let(None))));
    assert_eq!(of_gpu(&view, other), (None, None));
    assert!(view.nodes.iter().any(|seen| seen.opened == Some(Opened::Let(Some(NOTHING_BEHIND)))), "{view:?}");

    // The nodes alone do not open anything.
    for gpu in GPUS.into_iter().filter(|gpu| *gpu != own) {
        bind_by_hand("web", gpu);
    }
    assert_eq!(tries("web"), has(&[own], &GPUS));
    assert_eq!(of_gpu(&look(&host, &[other]).await, other).1, Some(Opened::Refused));
    let (enter, root) = in_payload("web");
    shell(&format!("{enter}; exec 3<> {root}{}", node(own)));
    shell(&format!("{enter}; ! (exec 3<> {root}{}) && ! (exec 3< {root}{0})", node(other)));
    shell(&format!("{enter}; ! mknod {root}/run/mine c {MAJOR} {other}"));
    // Whoever is outside of the cgroup can, so the node itself is no obstacle.
    shell(&format!("exec 3<> {root}{}", node(other)));

    for again in ["systemctl daemon-reload", "systemctl daemon-reexec"] {
        shell(again);
        assert_eq!(tries("web"), has(&[own], &GPUS), "after {again}");
    }
    let restarted = open();
    assert_eq!(of_gpu(&look(&restarted, &[own]).await, own).1, Some(Opened::Let(None)));
    restarted.update(&web, &files(&web)).await.expect("nothing is to be done");
    assert_eq!(tries("web"), has(&[own], &GPUS), "after a restart of the agent");
    restarted.stop(&name("web")).await.expect("it stops");
    let view = restarted.look_into(&name("web"), &grant(&[own])).await;
    assert!(view.fault.is_some() && view.lost(|_| None).is_empty(), "nobody knows: {view:?}");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_gpu_comes_and_goes_while_a_guest_runs() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let plain = assigned("web", "web", 1);
    let (first, second) = (GPUS[0], GPUS[3]);
    let web = given(&plain, &[first]);
    host.start(&web, &files(&web)).await.expect("it starts");
    let invocation = observe(&host, "web").await.invocation;
    assert_eq!(tries("web"), has(&[first], &[]));

    let both = given(&plain, &[first, second]);
    host.update(&both, &files(&both)).await.expect("it comes");
    assert_eq!(tries("web"), has(&[first, second], &[]));
    assert_eq!(observe(&host, "web").await.invocation, invocation, "nothing was restarted");
    shell("systemctl daemon-reload");
    assert_eq!(tries("web"), has(&[first, second], &[]), "after a reload");

    // Its node stays where it is bound, and opens nothing any more.
    host.update(&web, &files(&web)).await.expect("it goes");
    assert_eq!(tries("web"), has(&[first], &[second]));
    host.update(&both, &files(&both)).await.expect("it comes again");
    assert_eq!(tries("web"), has(&[first, second], &[]));
    shell("test ! -e /run/systemd/system.control/container@web.service.d");

    // What is in the files by now is what it starts with.
    host.stop(&name("web")).await.expect("it stops");
    shell("systemctl start container@web");
    assert_eq!(tries("web"), has(&[first, second], &[]));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_guest_with_users_of_its_own_is_given_nodes_at_its_start() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let mut plain = assigned("web", "web", 1);
    plain.service.private_users = PrivateUsers::Pick;
    let (first, second) = (GPUS[0], GPUS[3]);
    let web = given(&plain, &[first]);
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(tries("web"), has(&[first], &[]));
    assert_eq!(of_gpu(&look(&host, &[first]).await, first).1, Some(Opened::Let(None)), "as its own root");

    let both = given(&plain, &[first, second]);
    let error = host.update(&both, &files(&both)).await.expect_err("machined binds nothing into it");
    let missing =
        |error: &StepError| matches!(error, StepError::GpuNeedsRestart { path, .. } if *path == *node(second));
    assert!(missing(&error), "{error}");
    assert_eq!(error.hint().as_deref(), Some("`nixmoxctl restart web` gives it what it lacks"));
    assert_eq!(tries("web"), has(&[first], &[]), "what it has goes on");
    host.stop(&name("web")).await.expect("it stops");
    host.start(&both, &files(&both)).await.expect("it starts");
    assert_eq!(tries("web"), has(&[first, second], &[]));

    // Modes count there, since the host's users are nobody's.
    shell(&format!("chmod 600 {}", node(first)));
    assert_eq!(of_gpu(&look(&host, &[first]).await, first).1, Some(Opened::Forbidden));
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn an_adopted_container_is_given_nodes_once_it_runs() {
    let host = open();
    let plain = assigned("web", "web", 1);
    let System::Store(system) = &plain.service.system else { panic!("it has a system") };
    let conf = format!("SYSTEM_PATH={system}\nPRIVATE_NETWORK=0\n");
    fs::write("/etc/nixos-containers/web.conf", &conf).expect("its owner writes it");
    let mut adopted = Assigned { addresses: None, ..plain.clone() };
    adopted.service.system = System::Adopted;
    let gpu = GPUS[2];
    let web = given(&adopted, &[gpu]);
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(tries("web"), has(&[gpu], &[]));
    assert_eq!(fs::read_to_string("/etc/nixos-containers/web.conf").expect("there"), conf);
    host.update(&adopted, &files(&adopted)).await.expect("it is taken");
    assert_eq!(tries("web"), usable(&[], &[gpu], OPENS, REFUSED));
}

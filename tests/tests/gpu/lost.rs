//! A guest that loses what it was given, and one that puts other things in its place.

use nixmox_agent::host::Host;
use nixmox_core::gpu::{Found, Opened};

use crate::grants::{OPENS, look, of_gpu, tries, usable};
use crate::inside::{observe, open, shell};
use crate::service::{assigned, files, name};
use crate::stand_in::{self, GPUS, MAJOR, OTHER_MAJOR, given, grant, node};

/// What comes of opening a number behind which there is nothing, and one of a major that no driver has.
const NOTHING_BEHIND: i32 = 19;
const NO_DRIVER: i32 = 6;

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn what_a_guest_lost_is_seen_and_given_back() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let gpu = GPUS[1];
    let path = node(gpu);
    let web = given(&assigned("web", "web", 1), &[gpu]);
    host.start(&web, &files(&web)).await.expect("it starts");
    let invocation = observe(&host, "web").await.invocation;
    let right = usable(&[gpu], &[], OPENS, NOTHING_BEHIND);
    assert_eq!(tries("web"), right);
    let inside = |command: &str| {
        let leader = shell("machinectl show web -p Leader --value");
        shell(&format!("nsenter -t {leader} -m /run/host/busybox {command}"))
    };

    // The rules are cleared behind our back.
    shell("systemctl set-property --runtime container@web.service DeviceAllow=");
    assert_eq!(of_gpu(&look(&host, &[gpu]).await, gpu).1, Some(Opened::Refused));
    assert_ne!(tries("web"), right);
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert_eq!(tries("web"), right, "after rules were cleared");

    // All that was ever set at run time is removed, our drop-in too.
    shell("systemctl revert container@web.service");
    assert_eq!(observe(&host, "web").await.devices, []);
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert_eq!(tries("web"), right, "after a revert");

    // systemd lists a rule that lets nothing through: there was no node when it was set.
    let rules = ["/dev/net/tun rwm", "/dev/nvidia-uvm rw", &format!("{path} rw"), "/dev/nvidiactl rw"];
    let set = rules.map(|rule| format!("DeviceAllow='{rule}'")).join(" ");
    shell(&format!("mv {path} /dev/away"));
    shell(&format!(
        "systemctl set-property --runtime container@web.service DeviceAllow= {set}; mv /dev/away {path}"
    ));
    let mut devices = web.device_rules();
    devices.sort();
    assert_eq!(observe(&host, "web").await.devices, devices);
    assert_eq!(of_gpu(&look(&host, &[gpu]).await, gpu).1, Some(Opened::Refused));
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert_eq!(tries("web"), right, "after a node was away while rules were set");

    // The node is taken out of the guest.
    inside(&format!("umount {path}"));
    assert_eq!(of_gpu(&look(&host, &[gpu]).await, gpu).0, Some(Found::Other), "nspawn leaves an empty file");
    inside(&format!("rm {path}"));
    assert_eq!(of_gpu(&look(&host, &[gpu]).await, gpu), (None, None));
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert_eq!(tries("web"), right, "after the node was unmounted");

    // The modules are loaded anew, and have other numbers.
    shell(&stand_in::load(OTHER_MAJOR));
    let view = look(&host, &[gpu]).await;
    assert_eq!(of_gpu(&view, gpu), (Some(Found::Device(MAJOR, gpu)), None), "of another number, so not opened");
    let number = |_: &std::path::PathBuf| Some((OTHER_MAJOR, gpu));
    assert!(view.lost(number).contains(&path.clone().into()));
    host.update(&web, &files(&web)).await.expect("it is put right");
    assert_eq!(shell(&format!("stat -c %Hr:%Lr {path}")), format!("{OTHER_MAJOR}:{gpu}"), "on the host");
    let moved = usable(&[gpu], &[], NO_DRIVER, NO_DRIVER);
    assert_eq!(tries("web"), moved, "after the modules were loaded anew");
    shell("systemctl daemon-reload");
    assert_eq!(tries("web"), moved);
    assert_eq!(observe(&host, "web").await.invocation, invocation, "nothing was restarted");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn what_a_guest_plants_is_not_opened() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let web = assigned("web", "web", 1);
    host.start(&web, &files(&web)).await.expect("it starts");
    let root = format!("/proc/{}/root", shell("machinectl show web -p Leader --value"));
    let plant = |gpu: u32, command: &str| shell(&format!("{command} {root}{}", node(gpu)));
    // Opening a FIFO waits for a writer, and following the link would leave the guest.
    plant(GPUS[0], "mkfifo");
    plant(GPUS[1], &format!("ln -s {}", node(GPUS[3])));
    plant(GPUS[2], "mkdir");
    // A device that the guest may have, in the place of one that it may not; the link leads to it.
    shell(&format!("mknod {root}{} c 1 3", node(GPUS[3])));
    let view = look(&host, &GPUS).await;
    for gpu in &GPUS[..3] {
        assert_eq!(of_gpu(&view, *gpu), (Some(Found::Other), None));
    }
    assert_eq!(of_gpu(&view, GPUS[3]), (Some(Found::Device(1, 3)), None), "of another number, so not opened");
    // A user space without end, and one that leads out.
    shell(&format!("mkdir -p {root}/run/opengl-driver; ln -s / {root}/run/opengl-driver/lib"));
    shell("touch /libcuda.so.550.1");
    assert_eq!(look(&host, &[]).await.library, None, "a link stays in the guest's root");
    shell(&format!("touch {root}/libcuda.so.1.$(printf '1%.0s' {{1..200}}) {root}/libcuda.so.12.3"));
    assert_eq!(look(&host, &[]).await.library.as_deref(), Some("12.3"));
    // By numbers, unless a link says what programs are given.
    shell(&format!("touch {root}/libcuda.so.9.3"));
    assert_eq!(look(&host, &[]).await.library.as_deref(), Some("12.3"));
    shell(&format!("ln -s /libcuda.so.9.3 {root}/libcuda.so.1"));
    assert_eq!(look(&host, &[]).await.library.as_deref(), Some("9.3"));

    // A container of that name which another unit runs is not looked into.
    host.stop(&name("web")).await.expect("it stops");
    shell("systemd-run -q --unit=other systemd-nspawn --keep-unit -q -M web -D / --volatile=yes /bin/sleep 600");
    crate::inside::wait_until("machinectl show web");
    assert!(host.look_into(&name("web"), &grant(&GPUS)).await.fault.is_some());
}

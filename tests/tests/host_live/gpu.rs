//! GPUs, with a stand-in in the place of NVIDIA's library.

use std::path::Path;
use std::time::{Duration, Instant};

use nixmox_agent::host::Host;
use nixmox_core::gpu::{FaultKind, NodeState};
use nixmox_core::model::{Bytes, Vendor};

use crate::NVML;
use crate::inside::{open, shell};

const STATE: &str = "/run/fake-nvidia/state";
const GPU: &str = "driver 570.124.06\ngpu\nuuid GPU-1\nname RTX\nminor 200\ntotal 12G\nused 1G\n";

fn tell(state: &str) {
    std::fs::create_dir_all(Path::new(STATE).parent().expect("a folder")).expect("the folder is made");
    std::fs::write(STATE, state).expect("the state is written");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn gpus_are_looked_at_by_a_child_of_the_installed_agent() {
    let host = open();
    assert_eq!(host.gpus().await, nixmox_core::gpu::Inventory::default(), "nothing is there, and nothing wrong");

    shell(&format!("cp {NVML} /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"));
    assert_eq!(host.gpus().await, nixmox_core::gpu::Inventory::default(), "a library alone is nothing");

    // Numbers that the kernel has, of devices that containers may not use.
    shell("echo 'Character devices:\n 10 nvidia' >/run/devices && mount --bind /run/devices /proc/devices");
    shell("mknod /dev/nvidia200 c 10 200");
    assert_eq!(host.gpus().await.faults.first().map(|fault| fault.kind), Some(FaultKind::NoDriver));
    tell(GPU);
    let found = host.gpus().await;
    assert_eq!(found.faults, []);
    let gpu = found.gpus.first().expect("it is told");
    assert_eq!(gpu.memory.map(|memory| memory.used), Some(Bytes(1 << 30)));
    let node = gpu.nodes.first().expect("it has a node");
    assert_eq!((node.path.as_path(), node.number), (Path::new("/dev/nvidia200"), Some((10, 200))));
    assert_eq!(node.state, NodeState::Right);

    tell(&format!("{GPU}hang nvmlDeviceGetMemoryInfo_v2\n"));
    let begin = Instant::now();
    let found = host.gpus().await;
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let fault = found.blind(Some(Vendor::Nvidia)).expect("nothing is known");
    assert_eq!(fault.kind, FaultKind::Hangs);
    assert!(fault.message.contains("nvmlDeviceGetMemoryInfo_v2 of GPU-1"), "{}", fault.message);
    shell("! pgrep -f [g]pu-probe");

    tell(GPU);
    assert_eq!(host.gpus().await, host.gpus().await);
    assert_eq!(host.gpus().await.faults, []);
}

//! The messages about GPUs as golden files: what a client of the first release sends and reads must stay readable.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use nixmox_api::{
    Gpu, GpuDoctorReply, GpuDriver, GpuFault, GpuFitReply, GpuFitRequest, GpuInventory, GpuLayer, GpuMount,
    GpuNode, GpuProcess, GpuRoom, GpuService, GpuShare, GpuYield, GpusReply,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Compares a message with its golden file, and what is read back with the message.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
    let text = serde_json::to_string_pretty(message).expect("a message can be written");
    insta::assert_snapshot!(name, text);
    assert_eq!(&serde_json::from_str::<T>(&text).expect("a message can be read"), message);
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Every field in use.
fn gpu() -> Gpu {
    Gpu {
        id: "GPU-5a6c0a2e".into(),
        vendor: "nvidia".into(),
        index: 1,
        name: "NVIDIA GeForce RTX 3060".into(),
        partitioned: false,
        parent: Some("GPU-0d9f0f4c".into()),
        gpu_instance: Some(2),
        compute_instance: Some(0),
        pci: Some("0000:01:00.0".into()),
        shares_memory: false,
        memory_total: Some(12 << 30),
        memory_reserved: Some(300 << 20),
        memory_used: Some(7 << 30),
        temperature: Some(61),
        temperature_slowdown: Some(93),
        power: Some(118_500),
        power_limit: Some(170_000),
        utilization: Some(87),
        memory_utilization: Some(40),
        throttle: words(&["sw_power_cap"]),
        nodes: vec![GpuNode {
            path: "/dev/nvidia1".into(),
            major: Some(195),
            minor: Some(1),
            state: "stale".into(),
            found_major: Some(194),
            found_minor: Some(1),
            optional: false,
        }],
        processes: vec![GpuProcess {
            pid: 4711,
            kind: "compute".into(),
            memory: Some(6 << 30),
            name: "ollama".into(),
            container: Some("ollama".into()),
            unit: None,
        }],
    }
}

fn room() -> GpuRoom {
    GpuRoom { id: "GPU-5a6c0a2e".into(), total: 12, reserved: 1, headroom: 2, promised: 5, others: 3, free: 1 }
}

fn share() -> GpuShare {
    GpuShare { ids: words(&["GPU-5a6c0a2e"]), vram: Some(8 << 30), vram_min: Some(4 << 30), priority: 50, ..bare() }
}

fn bare() -> GpuShare {
    GpuShare { vendor: Some("nvidia".into()), ..GpuShare::default() }
}

#[test]
fn what_is_known_of_gpus_is_as_its_golden_file_has_it() {
    let driver = GpuDriver {
        vendor: "nvidia".into(),
        module: Some("570.86".into()),
        library: Some("570.144".into()),
        booted: Some("570.86".into()),
        cuda: Some("12.8".into()),
        nodes: vec![GpuNode { path: "/dev/nvidia-uvm".into(), state: "missing".into(), ..GpuNode::default() }],
        user_space: "libraries".into(),
        libraries: words(&["/usr/lib/x86_64-linux-gnu"]),
        cdi_mounts: vec![GpuMount { source: "/usr/bin/nvidia-smi".into(), target: "/usr/bin/nvidia-smi".into() }],
        cdi_complaints: words(&["nvidia.yaml names /dev/nvidia4, which is not there"]),
    };
    let fault = GpuFault { vendor: Some("amd".into()), kind: "hangs".into(), message: "no answer in 5 s".into() };
    let service = GpuService {
        name: "whisper".into(),
        stack: "media".into(),
        state: "waiting".into(),
        reason: "it needs 4G, and 1G is free".into(),
        hint: "give it a priority above 50".into(),
        share: share(),
        gpus: words(&["GPU-5a6c0a2e"]),
        budget: Some(8 << 30),
        used: Some(6 << 30),
        remembered: Some(7 << 30),
    };
    // A GPU that tells nothing: nothing is made up.
    let silent = Gpu { id: "0000:03:00.0".into(), vendor: "amd".into(), ..Gpu::default() };
    let inventory = GpuInventory { gpus: vec![gpu(), silent], drivers: vec![driver], faults: vec![fault] };
    let (at_usec, rooms, services) = (1_763_600_000_000_000, vec![room()], vec![service]);
    check("gpus", &GpusReply { at_usec, inventory, rooms, services });
}

#[test]
fn a_question_whether_something_fits_and_its_answer_are_as_their_golden_files_have_them() {
    let of_name = GpuFitRequest { name: Some("whisper".into()), share: None };
    check("gpu_fit", &vec![of_name, GpuFitRequest { name: None, share: Some(share()) }]);
    let reply = GpuFitReply {
        outcome: "yields".into(),
        reason: "it needs 4G, and 1G is free".into(),
        hint: "give it a priority above 50".into(),
        gpus: words(&["GPU-5a6c0a2e"]),
        budget: Some(4 << 30),
        yields: vec![GpuYield { name: "ollama".into(), priority: 20, memory: 6 << 30 }],
        gives: vec![GpuYield { name: "llm".into(), priority: 30, memory: 2 << 30 }],
        rooms: vec![room()],
    };
    check("gpu_fit_reply", &reply);
}

#[test]
fn the_layers_of_the_doctor_are_as_their_golden_file_has_them() {
    let of_host = GpuLayer {
        service: None,
        layer: "number".into(),
        outcome: "failed".into(),
        found: "/dev/nvidia-uvm has 511:0, and the kernel has 510:0 for it".into(),
        remedy: "rm /dev/nvidia-uvm; nvidia-modprobe -u -c=0".into(),
    };
    let of_guest = GpuLayer { service: Some("ollama".into()), outcome: "skipped".into(), ..of_host.clone() };
    check("gpu_doctor_reply", &GpuDoctorReply { layers: vec![of_host, of_guest] });
}

#[test]
fn a_question_may_leave_out_what_it_does_not_ask() {
    let asked: GpuFitRequest = serde_json::from_str(r#"{ "name": "whisper" }"#).expect("it is a question");
    assert_eq!(asked, GpuFitRequest { name: Some("whisper".into()), share: None });
    let unknown = serde_json::from_str::<GpuFitRequest>(r#"{ "nam": "whisper" }"#);
    assert!(unknown.is_err(), "a word that is not known is refused");
}

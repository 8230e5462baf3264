//! GPUs: who is given what, who waits and who gives way, and what becomes of it when the driver or the agent is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_agent::host::fake::Operation;
use nixmox_agent::server::Control;
use nixmox_api::{AgentError, GpuFitRequest, ServiceState, ServiceStatus, Status};
use nixmox_core::gpu::{
    Driver, Fault, FaultKind, Gpu, Inventory, Memory, Node, NodeState, Part, Process, ProcessKind, ProcessOwner,
    Sensors, UserSpace,
};
use nixmox_core::model::{
    Bytes, Condition, ContainerName, GpuDevices, GpuShare, InvocationId, Kind, Service, Vendor,
};

use crate::declare::{Declare, job, service};
use crate::machine::{Machine, is_well, name, of, on_a_machine, request, shown};

pub(crate) const GIB: u64 = 1 << 30;

fn node(path: &str, number: (u32, u32)) -> Node {
    Node { path: path.into(), number: Some(number), state: NodeState::Right, optional: false }
}

/// A GPU of 12 GiB whose minor is not its index.
fn gpu(index: u32) -> Gpu {
    Gpu {
        id: format!("GPU-{index}").parse().unwrap(),
        vendor: Vendor::Nvidia,
        index,
        name: "NVIDIA Test".to_owned(),
        part: Part::Whole,
        pci: Some(format!("0000:0{}:00.0", index + 1)),
        memory: Some(Memory { total: Bytes(12 * GIB), reserved: Bytes(GIB / 4), used: Bytes(0) }),
        shares_memory: false,
        nodes: vec![node(&format!("/dev/nvidia{}", 7 - index), (195, 7 - index))],
        sensors: Sensors::default(),
        processes: Vec::new(),
    }
}

pub(crate) fn gpus(count: u32) -> Inventory {
    let driver = Driver {
        module: Some("570.124.06".to_owned()),
        library: Some("570.124.06".to_owned()),
        nodes: vec![node("/dev/nvidiactl", (195, 255)), node("/dev/nvidia-uvm", (510, 0))],
        user_space: UserSpace::OpenglDriver,
        ..Driver::default()
    };
    Inventory {
        gpus: (0..count).map(gpu).collect(),
        drivers: BTreeMap::from([(Vendor::Nvidia, driver)]),
        faults: Vec::new(),
    }
}

fn blind(kind: FaultKind, message: &str) -> Inventory {
    let fault = Fault { vendor: Some(Vendor::Nvidia), kind, message: message.to_owned() };
    Inventory { faults: vec![fault], ..Inventory::default() }
}

/// A service that asks for a GPU with this much memory, at this priority.
pub(crate) fn with_gpu(text: &str, gibibytes: u64, priority: u8) -> Service {
    let share = GpuShare {
        vendor: None,
        devices: GpuDevices::Count(1),
        vram: (gibibytes > 0).then_some(Bytes(gibibytes * GIB)),
        vram_min: None,
        priority,
    };
    Service { gpu: Some(share), ..service(text) }
}

fn nodes(machine: &Machine, text: &str) -> Vec<String> {
    let seen = machine.host.container(&name(text)).unwrap();
    seen.devices.iter().map(|device| device.path.display().to_string()).collect()
}

fn waits(status: &Status, text: &str) -> bool {
    of(status, text).state == ServiceState::Waiting && of(status, text).reason.contains("GiB") || {
        let service = of(status, text);
        service.state == ServiceState::Waiting && service.reason.chars().any(|c| c.is_ascii_digit())
    }
}

/// Lets somebody who is no service use memory of a GPU.
pub(crate) fn foreign(mut inventory: Inventory, index: usize, gibibytes: u64) -> Inventory {
    let gpu = &mut inventory.gpus[index];
    gpu.memory.as_mut().unwrap().used = Bytes(gibibytes * GIB);
    gpu.processes.push(Process {
        pid: 77,
        kind: ProcessKind::Graphics,
        memory: Some(Bytes(gibibytes * GIB)),
        name: "Xorg".to_owned(),
        owner: ProcessOwner::Unit("display-manager.service".to_owned()),
    });
    inventory
}

fn right_of(right: &BTreeMap<ContainerName, InvocationId>, text: &str) -> BTreeMap<ContainerName, InvocationId> {
    right.iter().filter(|(name, _)| name.as_str() == text).map(|(name, id)| (name.clone(), *id)).collect()
}

async fn text_of(machine: &Machine, text: &str) -> ServiceStatus {
    machine.service(text).await
}

#[test]
fn a_service_is_given_its_gpu_and_keeps_it_through_deaths_and_reboots() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(4));
        machine.up(&[with_gpu("ollama", 8, 50)]).await;
        machine.until_well().await;
        let first = nodes(machine, "ollama");
        assert_eq!(first.iter().filter(|node| node.starts_with("/dev/nvidia") && node.len() == 12).count(), 1);
        assert!(first.contains(&"/dev/nvidiactl".to_owned()), "{first:?}");
        let status = text_of(machine, "ollama").await.gpu.unwrap();
        assert_eq!((status.state.as_str(), status.budget, status.gpus.len()), ("granted", Some(8 * GIB), 1));

        // Another one that has more room comes free: what runs stays where it is.
        let right = machine.right_with_gpus();
        for _ in 0..3 {
            machine.restart_agent().await;
            machine.pass(Duration::from_mins(1)).await;
        }
        machine.until_well().await;
        machine.assert_kept(&right, "deaths of the agent");
        machine.reboot().await;
        machine.until_well().await;
        assert_eq!(nodes(machine, "ollama"), first);
    });
}

#[test]
fn who_has_no_room_waits_with_the_numbers_and_starts_when_there_is_some() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(foreign(gpus(1), 0, 9));
        machine.up(&[with_gpu("ollama", 8, 50), service("web")]).await;
        let status = machine.until("it waits", |status| waits(status, "ollama")).await;
        let told = of(&status, "ollama");
        assert!(told.reason.contains("8G") && !told.hint.is_empty(), "{told:?}");
        assert_eq!(told.gpu.as_ref().unwrap().state, "waiting");
        machine.until_state("web", ServiceState::Healthy).await;
        // It is not tried in vain.
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.count(&Operation::Start(name("ollama"))), 0);
        machine.host.set_gpus(gpus(1));
        machine.until_well().await;
    });
}

#[test]
fn a_lower_priority_gives_way_and_comes_back() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.host.use_vram(&name("ollama"), "GPU-0", 7 * GIB);
        machine.host.use_vram(&name("frigate"), "GPU-0", 3 * GIB);
        machine.up(&[with_gpu("ollama", 8, 20)]).await;
        machine.until_well().await;

        // What it would take is told before it is done.
        let both = [with_gpu("ollama", 8, 20), with_gpu("frigate", 6, 80)];
        let planned = machine.agent().plan(request(&both)).await.unwrap();
        let ollama = planned.services.iter().find(|planned| planned.name == "ollama").unwrap();
        assert_eq!((ollama.change.as_str(), ollama.reasons[0].kind.as_str()), ("hold", "gpu_yields"), "{ollama:?}");

        machine.host.clear_trace();
        machine.up(&both).await;
        machine.until_state("frigate", ServiceState::Healthy).await;
        let status = machine.until("the other one waits", |status| waits(status, "ollama")).await;
        assert_eq!(machine.trace(), ["stop ollama", "start frigate"], "{}", shown(&status));
        // And that is how it stays.
        machine.pass(Duration::from_mins(30)).await;
        assert_eq!(machine.trace(), ["stop ollama", "start frigate"]);

        machine.stop(&["frigate"]).await.unwrap();
        machine.until_state("ollama", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["stop ollama", "start frigate", "stop frigate", "start ollama"]);
    });
}

#[test]
fn who_waits_for_another_service_leaves_it_the_gpu() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        let webui = with_gpu("webui", 8, 60).needs("ollama", Condition::Healthy);
        let both = [with_gpu("ollama", 8, 50), webui];
        machine.up(&both).await;
        machine.until_state("ollama", ServiceState::Healthy).await;
        let status = machine.until("it waits", |status| waits(status, "webui")).await;
        assert!(of(&status, "webui").reason.contains("ollama"), "{}", shown(&status));
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.trace(), ["start ollama"], "and is not given what it needs");

        // A lower one has another GPU by now, and ends for it.
        machine.stop(&["webui"]).await.unwrap();
        machine.host.set_gpus(gpus(2));
        let [ollama, webui] = both;
        machine.up_only(&[ollama, with_gpu("batch", 8, 10), webui], "batch").await;
        machine.until_state("batch", ServiceState::Healthy).await;
        machine.host.clear_trace();
        machine.start(&["webui"]).await.unwrap();
        machine.until_state("webui", ServiceState::Healthy).await;
        assert_eq!(machine.trace(), ["stop batch", "start webui"]);
    });
}

#[test]
fn a_dependency_that_is_held_takes_nothing_from_anybody() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        let batch = with_gpu("batch", 8, 10);
        let webui = with_gpu("webui", 8, 60).needs("db", Condition::Healthy);
        machine.up(&[service("db"), batch.clone()]).await;
        machine.until_well().await;
        machine.stop(&["db"]).await.unwrap();
        machine.up_only(&[service("db"), batch, webui], "webui").await;
        machine.until("it waits", |status| waits(status, "webui")).await;
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.count(&Operation::Stop(name("batch"))), 0, "{:?}", machine.trace());
    });
}

#[test]
fn the_same_priority_takes_nothing_from_anybody() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.up(&[with_gpu("ollama", 8, 50)]).await;
        machine.until_well().await;
        let right = machine.right_with_gpus();
        machine.up(&[with_gpu("ollama", 8, 50), with_gpu("another", 6, 50)]).await;
        machine.until("it waits", |status| waits(status, "another")).await;
        machine.pass(Duration::from_mins(5)).await;
        machine.assert_kept(&right, "an equal that waits");
    });
}

#[test]
fn a_driver_that_hangs_or_is_gone_changes_nothing_of_what_runs_and_holds_nobody_up() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(2));
        machine.up(&[with_gpu("ollama", 8, 50), service("web")]).await;
        machine.until_well().await;
        let right = machine.right_with_gpus();
        machine.host.set_gpus(blind(FaultKind::Hangs, "NVML gives no answer since 10 s"));
        machine.host.slow_gpus(Duration::from_secs(10));
        machine.pass(Duration::from_mins(2)).await;
        machine.restart_agent().await;
        machine.pass(Duration::from_mins(2)).await;
        machine.assert_kept(&right, "a driver that hangs");
        let status = machine.status().await;
        assert!(
            status.host.warnings.iter().any(|text| text.contains("NVML gives no answer")),
            "{}",
            shown(&status)
        );

        // Others go on as ever, and at once.
        let begun = tokio::time::Instant::now();
        machine.host.kill(&name("web"));
        machine.until_well().await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

        // It is not restarted into what nobody can say anything of, whoever asks.
        let _ = machine.restart(&["ollama"]).await;
        machine
            .up(&[Service { system: service("another").system, ..with_gpu("ollama", 8, 50) }, service("web")])
            .await;
        machine.pass(Duration::from_mins(1)).await;
        machine.assert_kept(&right_of(&right, "ollama"), "a restart while nobody can look");
        let events = machine.status().await;
        assert!(events.host.warnings.len() < 3, "a fault is told once: {}", shown(&events));

        // What is to be started anew waits, and says why.
        machine.host.kill(&name("ollama"));
        let status = machine.until("it waits", |s| of(s, "ollama").state == ServiceState::Waiting).await;
        assert!(of(&status, "ollama").reason.contains("NVML gives no answer"), "{}", shown(&status));
        machine.host.slow_gpus(Duration::ZERO);
        machine.host.set_gpus(gpus(2));
        machine.until_well().await;
    });
}

#[test]
fn nodes_that_a_guest_cannot_use_are_given_anew_and_those_that_cannot_be_are_told() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.up(&[with_gpu("ollama", 8, 50)]).await;
        machine.until_well().await;
        let right = machine.right_with_gpus();
        machine.host.clear_trace();
        machine.host.lose_nodes(&name("ollama"), &["/dev/nvidia7"], false);
        machine.pass(Duration::from_mins(6)).await;
        assert_eq!(machine.trace(), ["update ollama"]);
        machine.pass(Duration::from_mins(10)).await;
        assert_eq!(machine.trace(), ["update ollama"], "it helped");

        machine.host.lose_nodes(&name("ollama"), &["/dev/nvidia7"], true);
        machine.pass(Duration::from_mins(6)).await;
        assert_eq!(machine.trace().len(), 1 + 3, "{:?}", machine.trace());
        machine.pass(Duration::from_hours(1)).await;
        assert!((8..=11).contains(&machine.trace().len()), "it is tried again, and seldom: {:?}", machine.trace());
        let status = machine.status().await;
        let told = |text: &String| text.contains("ollama cannot use /dev/nvidia7") && text.contains("gpu doctor");
        assert!(status.host.warnings.iter().any(told), "{}", shown(&status));
        machine.assert_kept(&right, "lost nodes");
    });
}

#[test]
fn what_can_never_fit_is_refused_with_the_numbers_and_nothing_is_changed() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(2));
        let AgentError::Refused { reason, .. } =
            machine.apply(request(&[with_gpu("ollama", 40, 50)])).await.unwrap_err()
        else {
            panic!("another error")
        };
        assert!(reason.contains("ollama") && reason.contains("40G"), "{reason}");
        assert!(machine.status().await.services.is_empty());
    });
}

#[test]
fn more_gpus_are_attached_while_it_runs() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(4));
        let mut ollama = with_gpu("ollama", 4, 50);
        machine.up(std::slice::from_ref(&ollama)).await;
        machine.until_well().await;
        let (right, before) = (machine.right_with_gpus(), nodes(machine, "ollama"));
        ollama.gpu.as_mut().unwrap().devices = GpuDevices::Count(2);
        machine.host.clear_trace();
        machine.up(&[ollama]).await;
        machine.until_well().await;
        let after = nodes(machine, "ollama");
        assert_eq!(after.len(), before.len() + 1, "{before:?} {after:?}");
        assert!(before.iter().all(|node| after.contains(node)), "{before:?} {after:?}");
        assert_eq!(machine.trace(), ["update ollama"]);
        machine.assert_kept(&right, "another GPU");
    });
}

#[test]
fn over_use_is_told_once_and_what_was_needed_is_remembered() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.host.use_vram(&name("ollama"), "GPU-0", 9 * GIB);
        let (_, mut events) = machine.agent().watch();
        machine.up(&[with_gpu("ollama", 4, 50)]).await;
        machine.until_well().await;
        machine.pass(Duration::from_mins(5)).await;
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.extend((event.event == "gpu").then(|| event.message.clone()));
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("9G") && told[0].contains("4G"), "{told:?}");
        assert_eq!(text_of(machine, "ollama").await.gpu.unwrap().used, Some(9 * GIB));

        // What another one would be promised counts what is used, also of one that is down for the moment.
        machine.stop(&["ollama"]).await.unwrap();
        machine.until_state("ollama", ServiceState::Stopped).await;
        machine.restart_agent().await;
        machine.catch_up().await;
        let reply = machine.agent().gpus().await.unwrap();
        assert_eq!(reply.services[0].remembered, Some(9 * GIB));
        let fit =
            machine.agent().gpu_fit(GpuFitRequest { name: Some("ollama".into()), share: None }).await.unwrap();
        assert_eq!(fit.outcome, "fits", "{fit:?}");
    });
}

#[test]
fn over_use_that_does_not_last_is_not_told() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.up(&[with_gpu("ollama", 4, 50)]).await;
        machine.until_well().await;
        machine.pass(Duration::from_secs(30)).await;
        let (_, mut events) = machine.agent().watch();
        let mut told = || {
            let mut told = 0;
            while let Ok(event) = events.try_recv() {
                told += usize::from(event.event == "gpu");
            }
            told
        };
        for _ in 0..3 {
            machine.host.use_vram(&name("ollama"), "GPU-0", 9 * GIB);
            machine.pass(Duration::from_secs(45)).await;
            machine.host.use_vram(&name("ollama"), "GPU-0", GIB);
            machine.pass(Duration::from_secs(45)).await;
        }
        assert_eq!(told(), 0);
        machine.host.use_vram(&name("ollama"), "GPU-0", 9 * GIB);
        machine.pass(Duration::from_secs(80)).await;
        assert_eq!(told(), 1);
    });
}

#[test]
fn a_job_with_a_gpu_runs_once() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.host.behave(&name("train"), crate::declare::runs_for(Duration::from_secs(30), 0));
        let train = Service { gpu: with_gpu("train", 4, 50).gpu, ..job("train") };
        assert_eq!(train.kind, Kind::Job);
        machine.up(&[train]).await;
        machine.until_state("train", ServiceState::Completed).await;
        machine.restart_agent().await;
        machine.pass(Duration::from_mins(5)).await;
        machine.reboot().await;
        machine.pass(Duration::from_mins(5)).await;
        assert_eq!(machine.count(&Operation::Start(name("train"))), 1);
        assert_eq!(text_of(machine, "train").await.state, ServiceState::Completed);
    });
}

#[test]
fn nobody_looks_at_gpus_that_nobody_asks_for() {
    on_a_machine(async |machine| {
        machine.host.set_gpus(gpus(1));
        machine.up(&[service("web")]).await;
        machine.until_well().await;
        machine.pass(Duration::from_hours(1)).await;
        assert_eq!(machine.host.gpu_looks(), 0);
        machine.up(&[service("web"), with_gpu("ollama", 4, 50)]).await;
        machine.until("all is well", is_well).await;
        let before = machine.host.gpu_looks();
        machine.pass(Duration::from_mins(10)).await;
        let looks = machine.host.gpu_looks() - before;
        assert!((30..=70).contains(&looks), "{looks} looks in ten minutes");
    });
}

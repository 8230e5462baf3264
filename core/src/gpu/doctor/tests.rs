//! Each layer is broken once, and named.

use super::super::fixture::{amd, healthy, id, node};
use super::super::grant::grant;
use super::super::{
    Allocation, Driver, Fault, FaultKind, Found, GuestView, Inventory, Node, NodeState, Opened, Process,
    ProcessKind, ProcessOwner, SeenNode, UserSpace,
};
use super::*;
use crate::model::fixture::name;
use crate::model::{Bytes, GpuDevices, Grant, Vendor};
use crate::offload::seen::{EngineView, LoadedModel};

/// A service that works, on GPU 0, which has the node `/dev/nvidia1`.
struct Case {
    inventory: Inventory,
    name: ContainerName,
    share: GpuShare,
    standing: GpuStanding,
    runs: bool,
    private_users: bool,
    devices: Vec<Device>,
    view: Option<GuestView>,
    /// What its engine said, and what is wrong with its models.
    models: Option<(Option<EngineSeen>, Vec<Incident>, CpuFallback)>,
}

fn share(vendor: Option<Vendor>) -> GpuShare {
    GpuShare { vendor, devices: GpuDevices::Count(1), vram: Some(Bytes(8 << 30)), vram_min: None, priority: 50 }
}

fn works() -> Case {
    let mut inventory = healthy();
    inventory.gpus[0].processes.push(Process {
        pid: 4711,
        kind: ProcessKind::Compute,
        memory: Some(Bytes(6 << 30)),
        name: "ollama".to_owned(),
        owner: ProcessOwner::Container(name("llm")),
    });
    let allocation = Allocation { vendor: Vendor::Nvidia, gpus: vec![id("GPU-0")], budget: Some(Bytes(8 << 30)) };
    let granted = grant(&allocation, &inventory, None);
    let mut case = Case {
        devices: Vec::new(),
        view: None,
        models: None,
        inventory,
        name: name("llm"),
        share: share(None),
        standing: GpuStanding::Granted(granted.clone()),
        runs: true,
        private_users: false,
    };
    case.takes(&granted);
    case
}

impl Case {
    /// Everything in it is as the grant says.
    fn takes(&mut self, granted: &Grant) {
        let number = |path: &std::path::PathBuf| {
            let own = self.inventory.gpus.iter().flat_map(|gpu| &gpu.nodes);
            let mut all = own.chain(self.inventory.drivers.values().flat_map(|driver| &driver.nodes));
            all.find(|node| node.path == *path).and_then(|node| node.number).unwrap()
        };
        let seen = |path: &std::path::PathBuf| SeenNode {
            path: path.clone(),
            found: Some(Found::Device(number(path).0, number(path).1)),
            opened: Some(Opened::Let(None)),
        };
        self.view = Some(GuestView {
            vendor: granted.vendor,
            nodes: granted.nodes.iter().map(seen).collect(),
            library: self.inventory.drivers[&granted.vendor].library.clone(),
            fault: None,
        });
        let rule = |path: &std::path::PathBuf| Device { path: path.clone(), access: "rw".to_owned() };
        self.devices = granted.nodes.iter().map(rule).collect();
        self.standing = GpuStanding::Granted(granted.clone());
    }

    fn layers(&self) -> Vec<Layer> {
        diagnose(&Checkup {
            inventory: &self.inventory,
            whole: false,
            services: vec![ServiceCheckup {
                name: &self.name,
                share: Some(&self.share),
                standing: &self.standing,
                runs: self.runs,
                private_users: self.private_users,
                devices: &self.devices,
                view: self.view.as_ref(),
                models: self.models.as_ref().map(|(engine, incidents, cpu_fallback)| ModelsCheckup {
                    engine: engine.as_ref(),
                    incidents,
                    cpu_fallback: *cpu_fallback,
                }),
            }],
        })
    }

    fn driver(&mut self) -> &mut Driver {
        self.inventory.drivers.get_mut(&Vendor::Nvidia).unwrap()
    }

    fn seen(&mut self, path: &str) -> &mut SeenNode {
        let nodes = &mut self.view.as_mut().unwrap().nodes;
        nodes.iter_mut().find(|node| node.path == std::path::Path::new(path)).unwrap()
    }

    fn shared(&mut self, path: &str) -> &mut Node {
        self.driver().nodes.iter_mut().find(|node| node.path == std::path::Path::new(path)).unwrap()
    }
}

fn told(layers: &[Layer]) -> String {
    let one = |layer: &Layer| {
        let service = layer.service.as_ref().map_or("host", ContainerName::as_str);
        let remedy =
            if layer.remedy.is_empty() { String::new() } else { format!("\n    remedy: {}", layer.remedy) };
        format!("{service} {} {}: {}{remedy}\n", layer.kind.as_word(), layer.outcome.as_word(), layer.found)
    };
    layers.iter().map(one).collect()
}

#[test]
fn nothing_fails_where_everything_is_right() {
    let layers = works().layers();
    assert_eq!(first_failed(&layers), None);
    insta::assert_snapshot!(told(&layers));
}

/// Breaks something, and expects that layer to be the first that fails.
type Break = (&'static str, Option<&'static str>, LayerKind, fn(&mut Case));

const BREAKS: [Break; 24] = [
    ("module", None, LayerKind::Module, |case| {
        case.inventory.gpus.clear();
        let message = "NVML: the driver is not loaded (nvmlInit_v2)".to_owned();
        case.inventory.faults = vec![Fault { vendor: Some(Vendor::Nvidia), kind: FaultKind::NoDriver, message }];
        *case.driver() = Driver::default();
    }),
    ("uvm missing", None, LayerKind::Node, |case| case.shared("/dev/nvidia-uvm").state = NodeState::Missing),
    ("uvm not loaded", None, LayerKind::Node, |case| {
        let uvm = case.shared("/dev/nvidia-uvm");
        (uvm.state, uvm.number) = (NodeState::Missing, None);
    }),
    ("own node missing", None, LayerKind::Node, |case| case.inventory.gpus[0].nodes[0].state = NodeState::Missing),
    ("a file in its place", None, LayerKind::Node, |case| {
        case.shared("/dev/nvidiactl").state = NodeState::NotADevice;
    }),
    ("stale", None, LayerKind::Number, |case| {
        let uvm = case.shared("/dev/nvidia-uvm");
        (uvm.state, uvm.number) = (NodeState::Stale { found: (510, 0) }, Some((511, 0)));
    }),
    ("no user space", None, LayerKind::UserSpace, |case| {
        (case.driver().user_space, case.driver().library) = (UserSpace::None, None);
    }),
    ("no libcuda", None, LayerKind::UserSpace, |case| case.driver().library = None),
    ("rebuilt", None, LayerKind::Version, |case| case.driver().library = Some("580.2".to_owned())),
    ("hangs", None, LayerKind::Nvml, |case| {
        case.inventory.gpus.clear();
        let message = "NVML does not answer within 5 s".to_owned();
        case.inventory.faults = vec![Fault { vendor: Some(Vendor::Nvidia), kind: FaultKind::Hangs, message }];
    }),
    ("the child dies", None, LayerKind::Nvml, |case| {
        let message = "the child that looks at GPUs was ended by signal 11".to_owned();
        case.inventory.faults = vec![Fault { vendor: None, kind: FaultKind::Crashed, message }];
    }),
    ("no share", Some("llm"), LayerKind::Grant, |case| case.standing = GpuStanding::None),
    ("waits", Some("llm"), LayerKind::Grant, |case| {
        let (why, hint) = ("needs 8G: GPU 0 has 3G of 12G free".to_owned(), "wait".to_owned());
        case.standing = GpuStanding::Waiting { keeps: None, why, hint };
        case.runs = false;
    }),
    ("yields", Some("llm"), LayerKind::Grant, |case| {
        let (to, why) = (name("chat"), "`chat` (priority 80) is given 8G".to_owned());
        case.standing = GpuStanding::Yielding { keeps: case.standing.grant().cloned(), to, why };
    }),
    ("rule lost", Some("llm"), LayerKind::DeviceRule, |case| {
        case.devices.retain(|rule| rule.path != std::path::Path::new("/dev/nvidia1"));
    }),
    ("rule for reading alone", Some("llm"), LayerKind::DeviceRule, |case| case.devices[0].access = "r".to_owned()),
    ("not bound", Some("llm"), LayerKind::Bound, |case| case.seen("/dev/nvidia-uvm").found = None),
    ("a file is bound", Some("llm"), LayerKind::Bound, |case| case.seen("/dev/nvidia1").found = Some(Found::Other)),
    ("module reloaded", Some("llm"), LayerKind::Number, |case| {
        case.shared("/dev/nvidia-uvm").number = Some((511, 0));
    }),
    ("refused", Some("llm"), LayerKind::Open, |case| case.seen("/dev/nvidia1").opened = Some(Opened::Refused)),
    ("forbidden", Some("llm"), LayerKind::Open, |case| case.seen("/dev/nvidia1").opened = Some(Opened::Forbidden)),
    ("forbidden with users of its own", Some("llm"), LayerKind::Open, |case| {
        case.private_users = true;
        case.seen("/dev/nvidia1").opened = Some(Opened::Forbidden);
    }),
    ("no libcuda inside", Some("llm"), LayerKind::UserSpace, |case| case.view.as_mut().unwrap().library = None),
    ("another libcuda inside", Some("llm"), LayerKind::Version, |case| {
        case.view.as_mut().unwrap().library = Some("560.9".to_owned());
    }),
];

#[test]
fn each_layer_that_is_broken_is_the_first_that_fails_and_has_a_remedy() {
    let mut text = String::new();
    for (what, service, kind, break_it) in BREAKS {
        let mut case = works();
        break_it(&mut case);
        let layers = case.layers();
        let first = first_failed(&layers).unwrap_or_else(|| panic!("{what}: nothing fails: {}", told(&layers)));
        assert_eq!((first.kind, first.service.as_ref().map(ContainerName::as_str)), (kind, service), "{what}");
        assert!(!first.remedy.is_empty() && !first.found.contains('\n'), "{what}: {first:?}");
        text.extend([what, "\n  ", &told(std::slice::from_ref(first))]);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_cannot_be_judged_is_skipped() {
    // No module: nothing below it is right or wrong.
    let mut case = works();
    BREAKS[0].3(&mut case);
    let mut text = told(&case.layers());
    text.push_str("\nwithout a grant\n");
    case = works();
    case.standing = GpuStanding::None;
    text.push_str(&told(&of_service(&case)));
    text.push_str("\nstopped\n");
    case = works();
    case.runs = false;
    text.push_str(&told(&of_service(&case)));
    text.push_str("\nnobody looked\n");
    case = works();
    case.view = None;
    text.push_str(&told(&of_service(&case)));
    text.push_str("\nlooking failed\n");
    case = works();
    case.view = Some(GuestView {
        vendor: Vendor::Nvidia,
        nodes: Vec::new(),
        library: None,
        fault: Some("setns: EPERM".to_owned()),
    });
    text.push_str(&told(&of_service(&case)));
    insta::assert_snapshot!(text);
}

fn of_service(case: &Case) -> Vec<Layer> {
    case.layers().into_iter().filter(|layer| layer.service.is_some()).collect()
}

#[test]
fn what_works_less_well_is_a_warning() {
    let mut case = works();
    case.shared("/dev/nvidia-modeset").state = NodeState::Missing;
    (case.driver().library, case.driver().booted) = (Some("580.2".to_owned()), Some("570.1".to_owned()));
    case.driver().cdi_complaints =
        vec!["/etc/cdi/nvidia.yaml: /dev/nvidia7 is not there".to_owned(), "x".to_owned()];
    case.devices.push(Device { path: "/dev/nvidia0".into(), access: "rw".to_owned() });
    case.seen("/dev/nvidia1").opened = Some(Opened::Let(Some(5)));
    case.inventory.gpus[0].processes.clear();
    let layers = case.layers();
    assert_eq!(first_failed(&layers), None);
    let warnings: Vec<Layer> = layers.into_iter().filter(|layer| layer.outcome == LayerOutcome::Warning).collect();
    insta::assert_snapshot!(told(&warnings));
}

#[test]
fn gpus_of_others_have_no_library_of_a_version() {
    let mut case = works();
    case.inventory = Inventory {
        gpus: vec![amd()],
        drivers: [(Vendor::Amd, Driver { nodes: vec![node("/dev/kfd", (234, 0))], ..Driver::default() })].into(),
        faults: Vec::new(),
    };
    let allocation = Allocation { vendor: Vendor::Amd, gpus: vec![id("0000:03:00.0")], budget: None };
    let granted = grant(&allocation, &case.inventory, None);
    case.takes(&granted);
    let mut text = told(&case.layers());
    text.push_str("\nits group is nobody's inside\n");
    case.private_users = true;
    case.seen("/dev/dri/renderD128").opened = Some(Opened::Forbidden);
    let layers = case.layers();
    text.push_str(&told(first_failed(&layers).map(std::slice::from_ref).unwrap_or_default()));
    text.push_str("\nno module\n");
    case.inventory.gpus.clear();
    let layers = case.layers();
    text.push_str(&told(first_failed(&layers).map(std::slice::from_ref).unwrap_or_default()));
    insta::assert_snapshot!(text);
}

#[test]
fn a_machine_without_anything_says_so() {
    let inventory = Inventory::default();
    let layers = diagnose(&Checkup { inventory: &inventory, whole: true, services: Vec::new() });
    insta::assert_snapshot!(told(&layers));
}

#[test]
fn another_vendors_trouble_is_not_that_of_a_service() {
    let mut case = works();
    let fault = |vendor, message: &str| Fault {
        vendor: Some(vendor),
        kind: FaultKind::Failed,
        message: message.to_owned(),
    };
    case.inventory.faults = vec![fault(Vendor::Amd, "amdgpu: /sys/class/drm/card1/device: EIO")];
    assert_eq!(first_failed(&case.layers()), None);
    // Whose GPUs it would be given is seen by what it asks for.
    for (vendor, fails) in [(Some(Vendor::Nvidia), false), (None, false), (Some(Vendor::Amd), true)] {
        let (why, hint) = ("needs 8G".to_owned(), "wait".to_owned());
        case.standing = GpuStanding::Waiting { keeps: None, why, hint };
        case.share = share(vendor);
        let layers = case.layers();
        let host = layers.iter().filter(|layer| layer.service.is_none());
        assert_eq!(host.clone().any(|layer| layer.found.starts_with("AMD")), fails, "{vendor:?}");
        assert_eq!(host.clone().any(|layer| layer.outcome == LayerOutcome::Failed), fails, "{vendor:?}");
    }
    // Asked about as a whole, the machine is told of as a whole.
    let layers = diagnose(&Checkup { inventory: &case.inventory, whole: true, services: Vec::new() });
    assert!(layers.iter().any(|layer| layer.found.starts_with("AMD")));
    assert!(layers.iter().any(|layer| layer.found.starts_with("NVIDIA")));
}

#[test]
fn what_answers_can_be_used_whatever_else_is_wrong() {
    let mut case = works();
    let message = "NVML: GPU 7 is lost (nvmlDeviceGetHandleByIndex_v2)".to_owned();
    case.inventory.faults = vec![Fault { vendor: Some(Vendor::Nvidia), kind: FaultKind::Failed, message }];
    let layers = case.layers();
    assert_eq!(first_failed(&layers), None);
    let nvml = layers.iter().find(|layer| layer.kind == LayerKind::Nvml).unwrap();
    assert_eq!(nvml.outcome, LayerOutcome::Warning);
    assert!(nvml.found.contains("2 GPUs answer") && nvml.found.contains("GPU 7 is lost"), "{nvml:?}");
    assert!(!nvml.remedy.is_empty());
}

#[test]
fn models_are_judged_by_what_their_engine_says_and_by_what_is_wrong_with_them() {
    let view = |loaded: &[&str]| {
        let loaded = loaded.iter().map(|name| LoadedModel { name: (*name).to_owned(), ..LoadedModel::default() });
        Some(EngineSeen::Answers(EngineView { loaded: loaded.collect(), ..EngineView::default() }))
    };
    let on_the_cpu = |model: &str| Incident {
        model: model.to_owned(),
        found: "it is on the CPU, 5G in all".to_owned(),
        hint: "it is loaded again with more layers".to_owned(),
    };
    let silent = Some(EngineSeen::Silent("connection refused".to_owned()));
    let two = vec![on_the_cpu("tiny:latest"), on_the_cpu("qwen3:4b")];
    let mut text = String::new();
    for (what, engine, incidents, fallback) in [
        ("not asked", None, Vec::new(), CpuFallback::Refuse),
        ("silent", silent, Vec::new(), CpuFallback::Refuse),
        ("nothing loaded", view(&[]), Vec::new(), CpuFallback::Refuse),
        ("right", view(&["a", "b"]), Vec::new(), CpuFallback::Refuse),
        ("refused", view(&["tiny:latest", "qwen3:4b"]), two.clone(), CpuFallback::Refuse),
        ("told", view(&["tiny:latest", "qwen3:4b"]), two, CpuFallback::Warn),
    ] {
        let mut case = works();
        case.models = Some((engine, incidents, fallback));
        let layers = case.layers();
        let last = layers.last().unwrap();
        assert_eq!(last.kind, LayerKind::Models, "{what}");
        assert!(layers.iter().all(|layer| layer.outcome != LayerOutcome::Failed || layer == last), "{what}");
        text.extend([what, "\n  ", &told(std::slice::from_ref(last))]);
    }
    // What fails before it does not hide it, and one that is down has none.
    let mut case = works();
    case.models = Some((view(&["a"]), vec![on_the_cpu("a")], CpuFallback::Refuse));
    case.devices.clear();
    let layers = case.layers();
    assert_eq!(first_failed(&layers).map(|layer| layer.kind), Some(LayerKind::DeviceRule));
    assert_eq!(layers.last().map(|layer| layer.outcome), Some(LayerOutcome::Failed));
    case.runs = false;
    text.extend(["down\n  ", &told(std::slice::from_ref(case.layers().last().unwrap()))]);
    insta::assert_snapshot!(text);
}

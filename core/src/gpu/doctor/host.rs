//! The machine's layers, vendor by vendor.

use std::collections::BTreeSet;

use super::super::admission::vendor_name;
use super::super::{Driver, Fault, FaultKind, Gpu, Inventory, Node, NodeState, UserSpace};
use super::{Judged, Layer, LayerKind};
use crate::model::Vendor;

/// How many nodes are named in one line.
const NAMED_MAX: usize = 3;

/// Judges the machine, as far as these vendors go; `None`: all that have something to do with it.
pub(super) fn layers(inventory: &Inventory, vendors: Option<&BTreeSet<Vendor>>) -> Vec<Layer> {
    let all = || vendors_of(inventory);
    let vendors: BTreeSet<Vendor> = vendors.cloned().unwrap_or_else(all);
    let mut layers: Vec<Layer> = vendors.iter().flat_map(|vendor| of_vendor(inventory, *vendor)).collect();
    // What is of no vendor is told once.
    if let Some(fault) = inventory.faults.iter().find(|fault| fault.vendor.is_none()) {
        layers.push(Judged::failed(&fault.message, remedy_of_fault(fault.kind)).layer(None, LayerKind::Nvml));
    }
    if layers.is_empty() {
        let found = "there is no GPU, and no driver of one";
        let remedy = "`lspci -nn | grep -Ei 'vga|3d|display'` shows what is in the machine";
        layers.push(Judged::failed(found, remedy).layer(None, LayerKind::Module));
    }
    layers
}

fn vendors_of(inventory: &Inventory) -> BTreeSet<Vendor> {
    let gpus = inventory.gpus.iter().map(|gpu| gpu.vendor);
    let faulty = inventory.faults.iter().filter_map(|fault| fault.vendor);
    // Libraries of one of whom nothing else is there are left from somewhere.
    let loaded = inventory.drivers.iter().filter(|(_, driver)| driver.module.is_some()).map(|(vendor, _)| *vendor);
    gpus.chain(faulty).chain(loaded).collect()
}

fn of_vendor(inventory: &Inventory, vendor: Vendor) -> Vec<Layer> {
    let nothing = Driver::default();
    let machine = Machine {
        vendor,
        driver: inventory.drivers.get(&vendor).unwrap_or(&nothing),
        gpus: inventory.gpus.iter().filter(|gpu| gpu.vendor == vendor).collect(),
        fault: inventory.faults.iter().find(|fault| fault.vendor == Some(vendor)),
    };
    let mut judged = vec![
        (LayerKind::Module, machine.module()),
        (LayerKind::Node, machine.node()),
        (LayerKind::Number, machine.number()),
        (LayerKind::UserSpace, machine.user_space()),
        (LayerKind::Version, machine.version()),
        (LayerKind::Nvml, machine.nvml()),
        (LayerKind::Cdi, machine.cdi()),
    ];
    // Only NVIDIA's user space has to fit the module, and is asked about the GPUs.
    let is_theirs = |kind| vendor == Vendor::Nvidia || !matches!(kind, LayerKind::Version | LayerKind::Cdi);
    judged.retain(|(kind, _)| is_theirs(*kind));
    let told = |(kind, judged): (LayerKind, Judged)| {
        let found = format!("{}: {}", vendor_name(vendor), judged.found);
        Judged { found, ..judged }.layer(None, kind)
    };
    judged.into_iter().map(told).collect()
}

/// What is known of one vendor.
struct Machine<'a> {
    vendor: Vendor,
    driver: &'a Driver,
    gpus: Vec<&'a Gpu>,
    fault: Option<&'a Fault>,
}

impl<'a> Machine<'a> {
    /// Only NVIDIA's module has a version of its own: that of the others is there when GPUs are.
    fn module(&self) -> Judged {
        let word = match self.vendor {
            Vendor::Nvidia => "nvidia",
            Vendor::Amd => "amdgpu",
            Vendor::Intel => "i915",
        };
        match &self.driver.module {
            Some(version) => Judged::ok(format!("module {version} is loaded")),
            None if self.is_loaded() => Judged::ok("a module is loaded"),
            None => Judged::failed("no module is loaded", format!("`modprobe {word}`")),
        }
    }

    fn is_loaded(&self) -> bool {
        let no_module = self.fault.is_some_and(|fault| fault.kind == FaultKind::NoDriver);
        self.driver.module.is_some() || (self.vendor != Vendor::Nvidia && !self.gpus.is_empty() && !no_module)
    }

    fn node(&self) -> Judged {
        if !self.is_loaded() {
            return Judged::skipped("no module is loaded");
        }
        let nodes = self.nodes();
        let bad = |node: &&&Node| matches!(node.state, NodeState::Missing | NodeState::NotADevice);
        let (optional, needed): (Vec<&Node>, Vec<&Node>) =
            nodes.iter().filter(bad).copied().partition(|node| node.optional);
        match (needed.as_slice(), optional.as_slice()) {
            ([first, ..], _) => Judged::failed(self.missing(&needed), self.remedy_of_node(first)),
            ([], [first, ..]) => Judged::warning(
                format!("{}; computing goes without", self.missing(&optional)),
                self.remedy_of_node(first),
            ),
            ([], []) if nodes.is_empty() => Judged::skipped("no node is known"),
            ([], []) => Judged::ok(format!("all {} are there", nodes.len())),
        }
    }

    fn missing(&self, nodes: &[&Node]) -> String {
        let one = |node: &&&Node| match (node.state, node.number) {
            (NodeState::NotADevice, _) => format!("{} is no device", node.path.display()),
            (_, None) => format!("{} is missing, and the kernel knows no such device", node.path.display()),
            (_, Some(_)) => format!("{} is missing", node.path.display()),
        };
        let named: Vec<String> = nodes.iter().take(NAMED_MAX).map(|node| one(&node)).collect();
        let more = match nodes.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let uvm = self.vendor == Vendor::Nvidia && nodes.iter().any(|node| is_uvm(node));
        let uvm = if uvm { ": `nvidia-smi` works without it, and CUDA does not (`cuInit` fails)" } else { "" };
        format!("{}{more}{uvm}", named.join(", "))
    }

    fn number(&self) -> Judged {
        let nodes = self.nodes();
        let there = nodes.iter().filter(|node| matches!(node.state, NodeState::Right | NodeState::Stale { .. }));
        let there = there.count();
        let stale = nodes.iter().find_map(|node| match node.state {
            NodeState::Stale { found } => Some((node, found)),
            NodeState::Right | NodeState::Missing | NodeState::NotADevice => None,
        });
        match stale {
            Some((node, (major, minor))) => {
                let path = node.path.display();
                let right =
                    node.number.map_or("no such device".to_owned(), |(major, minor)| format!("{major}:{minor}"));
                Judged::failed(
                    format!(
                        "{path} is {major}:{minor}, and the kernel has {right}: the module was loaded anew since it was made"
                    ),
                    format!("`rm {path}`, then {}", self.remedy_of_node(node)),
                )
            }
            None if there == 0 => Judged::skipped("no node is there"),
            None => Judged::ok(format!("{there} have the numbers of the running kernel")),
        }
    }

    fn nodes(&self) -> Vec<&'a Node> {
        let own = self.gpus.iter().flat_map(|gpu| &gpu.nodes);
        own.chain(&self.driver.nodes).collect()
    }

    fn remedy_of_node(&self, node: &Node) -> String {
        match self.vendor {
            Vendor::Nvidia if is_uvm(node) && node.number.is_none() => {
                "`modprobe nvidia-uvm`, then `nvidia-modprobe -u -c 0`".to_owned()
            }
            Vendor::Nvidia if is_uvm(node) => "`nvidia-modprobe -u -c 0`".to_owned(),
            Vendor::Nvidia if node.path.ends_with("nvidia-modeset") => "`nvidia-modprobe -m`".to_owned(),
            Vendor::Nvidia => match node.number.filter(|_| !node.path.ends_with("nvidiactl")) {
                Some((_, minor)) => format!("`nvidia-modprobe -c {minor}`"),
                None => "`nvidia-modprobe -c 0`".to_owned(),
            },
            Vendor::Amd if node.path.ends_with("kfd") && node.number.is_none() => "`modprobe amdgpu`".to_owned(),
            Vendor::Amd | Vendor::Intel => {
                "`udevadm trigger --subsystem-match=drm --subsystem-match=kfd`".to_owned()
            }
        }
    }

    fn user_space(&self) -> Judged {
        let place = match &self.driver.user_space {
            UserSpace::None => None,
            UserSpace::OpenglDriver => Some("/run/opengl-driver".to_owned()),
            UserSpace::Libraries(folders) => {
                let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
                Some(folders.join(" and "))
            }
        };
        match (self.vendor, place, &self.driver.library) {
            (Vendor::Nvidia, Some(place), Some(version)) => Judged::ok(format!("libcuda.so.{version} in {place}")),
            (Vendor::Nvidia, Some(place), None) => {
                Judged::failed(format!("there is no libcuda.so in {place}"), REMEDY_OF_USER_SPACE)
            }
            (Vendor::Nvidia, None, _) => {
                Judged::failed("none is found: there is no libcuda.so", REMEDY_OF_USER_SPACE)
            }
            (Vendor::Amd | Vendor::Intel, Some(place), _) => Judged::ok(place),
            (Vendor::Amd | Vendor::Intel, None, _) => Judged::ok("none is found: guests bring their own"),
        }
    }

    fn version(&self) -> Judged {
        let (Some(module), Some(library)) = (&self.driver.module, &self.driver.library) else {
            return Judged::skipped("the version of the module or of the user space is not known");
        };
        if module == library {
            return Judged::ok(format!("both are {module}"));
        }
        let found =
            format!("the module is {module}, and the user space {library}, as after a rebuild or an upgrade");
        match self.driver.booted.as_ref().filter(|booted| *booted == module) {
            Some(_) => Judged::warning(
                format!("{found}; containers are given that of the booted system, which fits"),
                "`reboot` before the old system is deleted",
            ),
            None => Judged::failed(found, "`reboot`"),
        }
    }

    /// Of AMD and Intel, what sysfs says.
    fn nvml(&self) -> Judged {
        if !self.is_loaded() {
            return Judged::skipped("no module is loaded");
        }
        match (self.fault, self.gpus.len()) {
            // An earlier layer says that already.
            (Some(fault), _) if fault.kind == FaultKind::NoLibrary && self.driver.library.is_none() => {
                Judged::skipped("there is no library to ask")
            }
            (Some(fault), _) if fault.kind == FaultKind::Mismatch && self.driver.library != self.driver.module => {
                Judged::skipped("the library does not fit the module")
            }
            (Some(fault), 0) => Judged::failed(&fault.message, remedy_of_fault(fault.kind)),
            // What answers can be used.
            (Some(fault), count) => {
                let answer = if count == 1 { "1 GPU answers".to_owned() } else { format!("{count} GPUs answer") };
                Judged::warning(
                    format!("{answer}, and not all is known: {}", fault.message),
                    remedy_of_fault(fault.kind),
                )
            }
            (None, 0) => Judged::failed("no GPU answers", "`nvidia-smi -L` lists those that the driver knows"),
            (None, 1) => Judged::ok("1 GPU answers"),
            (None, count) => Judged::ok(format!("{count} GPUs answer")),
        }
    }

    fn cdi(&self) -> Judged {
        let mounts = self.driver.cdi_mounts.len();
        match self.driver.cdi_complaints.as_slice() {
            [] if mounts == 0 => Judged::skipped("no specification says anything"),
            [] => Judged::ok(format!("agrees with the machine, and adds {mounts} mounts")),
            [first, more @ ..] => {
                let more = if more.is_empty() { String::new() } else { format!(" (and {} more)", more.len()) };
                Judged::warning(format!("{first}{more}"), REMEDY_OF_CDI)
            }
        }
    }
}

const REMEDY_OF_USER_SPACE: &str = "NixOS: `services.xserver.videoDrivers = [ \"nvidia\" ]` with `hardware.graphics.enable`; Debian: `apt install libcuda1`";
const REMEDY_OF_CDI: &str = "NixOS: `systemctl restart nvidia-container-toolkit-cdi-generator`; elsewhere: `nvidia-ctk cdi generate \
                             --output=/etc/cdi/nvidia.yaml`";

fn remedy_of_fault(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::NoLibrary => REMEDY_OF_USER_SPACE,
        FaultKind::NoDriver => "`modprobe nvidia`",
        FaultKind::Mismatch => "`reboot`: the loaded module is older or newer than its library",
        FaultKind::Hangs | FaultKind::Crashed => {
            "`dmesg | grep -iE 'nvrm|xid|amdgpu|i915'` says why; often a `reboot` helps"
        }
        FaultKind::Rubbish | FaultKind::Failed => {
            "compare with `nvidia-smi -q`, and see `journalctl -u nixmox-agent`"
        }
    }
}

fn is_uvm(node: &Node) -> bool {
    node.path.to_string_lossy().contains("nvidia-uvm")
}

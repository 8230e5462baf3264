//! A service's layers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{Found, Gpu, Inventory, Node, Opened, Process, ProcessOwner, SeenNode};
use super::{Judged, Layer, LayerKind, LayerOutcome, ServiceCheckup, models};
use crate::model::{Device, GpuId, GpuStanding, Grant, Vendor};

/// Judges one service.
pub(super) fn layers(inventory: &Inventory, service: &ServiceCheckup<'_>) -> Vec<Layer> {
    let grant = (LayerKind::Grant, grant(inventory, service));
    let skipped = |why: &'static str| ([why; 6].map(Judged::skipped), Judged::skipped(why));
    let (rest, process) = match (service.standing.grant(), service.runs) {
        (None, _) => skipped("it has no GPU"),
        (Some(_), false) => skipped("it does not run"),
        (Some(granted), true) => {
            let judged = Guest { inventory, service, granted }.judged();
            let fails = judged.iter().any(|judged| judged.outcome == LayerOutcome::Failed);
            let process =
                if fails { Judged::skipped("an earlier layer fails") } else { process(inventory, service) };
            (judged, process)
        }
    };
    let models = service.models.as_ref().map(|checkup| (LayerKind::Models, models::judged(service, checkup)));
    let layers = [grant].into_iter().chain(Guest::KINDS.into_iter().zip(rest));
    let layers = layers.chain([(LayerKind::Process, process)]).chain(models);
    layers.map(|(kind, judged)| judged.layer(Some(service.name), kind)).collect()
}

fn grant(inventory: &Inventory, service: &ServiceCheckup<'_>) -> Judged {
    let name = service.name;
    match service.standing {
        GpuStanding::None => {
            Judged::failed("it declares no GPU", format!("`services.{name}.gpu = {{}}` in its manifest"))
        }
        GpuStanding::Granted(grant) | GpuStanding::Kept { grant, .. } | GpuStanding::Shrinking { grant, .. } => {
            let label = |id: &GpuId| {
                let gpu = inventory.gpus.iter().find(|gpu| gpu.id == *id);
                gpu.map_or_else(|| format!("{id}, which is not seen now"), Gpu::label)
            };
            let gpus: Vec<String> = grant.gpus.iter().map(label).collect();
            let budget = grant.budget.map_or(String::new(), |budget| format!(", {} of memory", budget.roughly()));
            Judged::ok(format!("{}{budget}", gpus.join(", ")))
        }
        GpuStanding::Waiting { why, hint, .. } => Judged::failed(format!("it waits: {why}"), hint.clone()),
        GpuStanding::Yielding { to, why, .. } => Judged::failed(
            format!("it is stopped for `{to}`: {why}"),
            format!("`nixmoxctl gpu fit {name}` shows what it needs to come back"),
        ),
    }
}

/// A service that runs with GPUs.
struct Guest<'a> {
    inventory: &'a Inventory,
    service: &'a ServiceCheckup<'a>,
    granted: &'a Grant,
}

impl<'a> Guest<'a> {
    /// What is judged while it runs, in order.
    const KINDS: [LayerKind; 6] = [
        LayerKind::DeviceRule,
        LayerKind::Bound,
        LayerKind::Number,
        LayerKind::Open,
        LayerKind::UserSpace,
        LayerKind::Version,
    ];

    fn judged(&self) -> [Judged; 6] {
        [self.device_rule(), self.bound(), self.number(), self.open(), self.user_space(), self.version()]
    }

    fn device_rule(&self) -> Judged {
        let allows = |rule: &Device, path: &PathBuf| {
            rule.path == *path && rule.access.contains('r') && rule.access.contains('w')
        };
        let has_rule = |path: &&PathBuf| self.service.devices.iter().any(|rule| allows(rule, path));
        if let Some(path) = self.granted.nodes.iter().find(|path| !has_rule(path)) {
            return Judged::failed(format!("systemd has no rule for {}", path.display()), self.restart());
        }
        let of_others: BTreeSet<&PathBuf> =
            self.inventory.gpus.iter().flat_map(|gpu| &gpu.nodes).map(|node| &node.path).collect();
        let is_more = |rule: &&Device| of_others.contains(&rule.path) && !self.granted.nodes.contains(&rule.path);
        match self.service.devices.iter().find(is_more) {
            Some(rule) => Judged::warning(
                format!("{} is allowed, too, which is of no GPU that it was given", rule.path.display()),
                "leave it out of `devices` and of what systemd is told of the unit",
            ),
            None => Judged::ok(format!("{} nodes are allowed", self.granted.nodes.len())),
        }
    }

    /// Returns what is seen of each granted node that was asked about, or why nothing is.
    fn seen(&self) -> Result<Vec<(&'a PathBuf, &'a SeenNode)>, Judged> {
        let Some(view) = self.service.view else { return Err(Judged::skipped("nobody looked into it")) };
        if let Some(fault) = &view.fault {
            return Err(Judged::skipped(format!("not all could be found out: {fault}")));
        }
        let seen = |path: &'a PathBuf| Some((path, view.nodes.iter().find(|node| node.path == *path)?));
        let seen: Vec<_> = self.granted.nodes.iter().filter_map(seen).collect();
        if seen.is_empty() { Err(Judged::skipped("nobody looked for its nodes")) } else { Ok(seen) }
    }

    fn bound(&self) -> Judged {
        let seen = match self.seen() {
            Ok(seen) => seen,
            Err(skipped) => return skipped,
        };
        let bad = seen.iter().find_map(|(path, node)| match node.found {
            None => Some(format!("{} is not in the container", path.display())),
            Some(Found::Other) => Some(format!("{} is no device in the container", path.display())),
            Some(Found::Device(..)) => None,
        });
        match bad {
            Some(found) => Judged::failed(found, self.restart()),
            None => Judged::ok(format!("{} nodes are in the container", seen.len())),
        }
    }

    fn number(&self) -> Judged {
        let seen = match self.seen() {
            Ok(seen) => seen,
            Err(skipped) => return skipped,
        };
        let mut there = 0;
        for (path, node) in seen {
            let Some(Found::Device(major, minor)) = node.found else { continue };
            there += 1;
            let Some((right_major, right_minor)) = self.node(path).and_then(|node| node.number) else { continue };
            if (major, minor) != (right_major, right_minor) {
                return Judged::failed(
                    format!(
                        "{} is {major}:{minor} in the container, and the kernel has {right_major}:{right_minor}: the module was \
                         loaded anew since it started",
                        path.display()
                    ),
                    self.restart(),
                );
            }
        }
        match there {
            0 => Judged::skipped("no node is in the container"),
            there => Judged::ok(format!("{there} have the numbers of the running kernel")),
        }
    }

    fn open(&self) -> Judged {
        let seen = match self.seen() {
            Ok(seen) => seen,
            Err(skipped) => return skipped,
        };
        let tried: Vec<(&PathBuf, Opened)> =
            seen.into_iter().filter_map(|(path, node)| Some((path, node.opened?))).collect();
        let mut answer = None;
        for (path, opened) in &tried {
            let path = path.display();
            match opened {
                Opened::Refused => {
                    return Judged::failed(
                        format!("{path} is refused by the device rules (EPERM)"),
                        self.restart(),
                    );
                }
                Opened::Forbidden => {
                    return Judged::failed(
                        format!("{path} is refused by its permissions (EACCES)"),
                        self.remedy_of_permissions(&path.to_string()),
                    );
                }
                Opened::Let(Some(errno)) => {
                    answer.get_or_insert_with(|| format!("the driver answers for {path} with errno {errno}"));
                }
                Opened::Let(None) => {}
            }
        }
        match answer {
            Some(found) => Judged::warning(found, "`dmesg | grep -iE 'nvrm|xid|amdgpu|i915'` says why"),
            None if tried.is_empty() => Judged::skipped("no node was opened"),
            None => Judged::ok(format!("{} nodes can be opened", tried.len())),
        }
    }

    /// nspawn shows a node of the host's root to a guest with users of its own as nobody's: what only a group may use is lost to it.
    fn remedy_of_permissions(&self, path: &str) -> String {
        if self.service.private_users {
            format!(
                "`private_users = \"no\"`, or a udev rule with `MODE=\"0666\"` for {path}: its group is nobody's in the container"
            )
        } else {
            format!(
                "`ls -l {path}`: who computes must be in its group (`render`, `video`) in the guest, or `MODE=\"0666\"` by a udev rule"
            )
        }
    }

    fn user_space(&self) -> Judged {
        match (self.service.view, self.granted.vendor) {
            (None, _) => Judged::skipped("nobody looked into it"),
            (Some(view), vendor) => match (&view.library, &view.fault, vendor) {
                (Some(version), _, _) => Judged::ok(format!("{version} is where programs look for it")),
                (None, Some(fault), _) => Judged::skipped(format!("not all could be found out: {fault}")),
                (None, None, Vendor::Nvidia) => {
                    Judged::failed("there is no libcuda.so where programs look for it", self.restart())
                }
                (None, None, Vendor::Amd | Vendor::Intel) => {
                    Judged::ok("none of the host's: the guest brings its own")
                }
            },
        }
    }

    fn version(&self) -> Judged {
        let module = self.inventory.drivers.get(&self.granted.vendor).and_then(|driver| driver.module.as_ref());
        let library = self.service.view.and_then(|view| view.library.as_ref());
        match (module, library) {
            (Some(module), Some(library)) if module == library => Judged::ok(format!("both are {module}")),
            (Some(module), Some(library)) => Judged::failed(
                format!("the module is {module}, and the user space in the container {library}"),
                format!("{}; where that does not help, `reboot`", self.restart()),
            ),
            (None, _) | (_, None) => Judged::skipped("the version of the module or of the user space is not known"),
        }
    }

    fn node(&self, path: &PathBuf) -> Option<&'a Node> {
        let own = self.inventory.gpus.iter().flat_map(|gpu| &gpu.nodes);
        own.chain(self.inventory.drivers.values().flat_map(|driver| &driver.nodes)).find(|node| node.path == *path)
    }

    fn restart(&self) -> String {
        format!("`nixmoxctl restart {}`", self.service.name)
    }
}

fn process(inventory: &Inventory, service: &ServiceCheckup<'_>) -> Judged {
    let is_its =
        |process: &&Process| matches!(&process.owner, ProcessOwner::Container(name) if name == service.name);
    let found = inventory.gpus.iter().find_map(|gpu| {
        let process = gpu.processes.iter().find(is_its)?;
        let memory = process.memory.map_or(String::new(), |memory| format!(" has {memory}"));
        Some(format!("{} (pid {}){memory} on {}", process.name, process.pid, gpu.label()))
    });
    match found {
        Some(found) => Judged::ok(found),
        None => Judged::warning(
            "none of its processes uses a GPU now",
            format!("if one should: `nixmoxctl logs {}` says what it found", service.name),
        ),
    }
}

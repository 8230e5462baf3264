//! GPUs of NVIDIA, as NVML tells of them.
//!
//! Nothing that NVML says is believed unseen: figures that cannot be true are dropped and named. A call that a GPU or an older driver does
//! not know leaves its figure out; any other error is told with the call.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nixmox_core::gpu::{Fault, FaultKind, Gpu, Inventory, Memory, Node, Part, Process, ProcessKind, Sensors};
use nixmox_core::model::{Bytes, GpuId, Vendor};
use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::driver::Facts;
use super::older::{self, Listed};
use super::progress::Progress;
use super::{GPUS_MAX, PROCESSES_MAX, mig, owner, plausible};
use crate::host::line;
use crate::host::paths::Paths;

/// What NVML says where it is asked for the GPUs.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// In the order of their indices, each with its instances behind it.
    pub(super) gpus: Vec<Gpu>,
    /// The version of CUDA that the driver can.
    pub(super) cuda: Option<String>,
    /// Why something is not known, as far as that was not told yet.
    pub(super) faults: Vec<Fault>,
}

/// Asks NVML for all GPUs but those that are left out, by index, and tells each with what is wrong with it. No more are told than there is room for.
pub(super) fn look(
    paths: &Paths,
    facts: &Facts,
    left_out: &BTreeSet<u32>,
    room: usize,
    progress: &mut Progress,
) -> Answer {
    let mut asker = Asker {
        paths,
        facts,
        left_out,
        room,
        progress,
        faults: Vec::new(),
        told: 0,
        processes: 0,
        seen: BTreeSet::new(),
        lost: BTreeSet::new(),
    };
    let (mut gpus, mut cuda) = (Vec::new(), None);
    if let Some(nvml) = asker.open() {
        cuda = asker.cuda(&nvml);
        asker.all(&nvml, &mut gpus);
        // `nvmlShutdown` may hang as well, and the end of the process does the same.
        std::mem::forget(nvml);
    }
    let faults = asker.faults.split_off(asker.told);
    Answer { gpus, cuda, faults }
}

/// One look.
struct Asker<'a> {
    paths: &'a Paths,
    facts: &'a Facts,
    left_out: &'a BTreeSet<u32>,
    /// GPUs that may still be told.
    room: usize,
    progress: &'a mut Progress,
    faults: Vec<Fault>,
    /// How many of them were told.
    told: usize,
    /// Processes that were told so far.
    processes: usize,
    /// GPUs that were told so far.
    seen: BTreeSet<String>,
    /// Those that do not answer any more.
    lost: BTreeSet<String>,
}

impl Asker<'_> {
    fn add_fault(&mut self, kind: FaultKind, message: &str) {
        let fault = Fault { vendor: Some(Vendor::Nvidia), kind, message: line::clean(message) };
        // Two processes may have the same wrong with them.
        if self.faults.len() < GPUS_MAX && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Loads the library and begins. Where it does not fit the loaded module, the booted system's does, if it is there.
    fn open(&mut self) -> Option<Nvml> {
        let Some(library) = self.facts.nvml_booted.as_deref().or(self.facts.nvml.as_deref()) else {
            if self.facts.has_hardware || self.facts.has_module() {
                let what = "a GPU of NVIDIA is there and its library `libnvidia-ml.so.1` is not";
                self.add_fault(FaultKind::NoLibrary, what);
            }
            return None;
        };
        self.progress.asks("nvmlInit_v2", "");
        let opened = Nvml::builder().lib_path(library.as_os_str()).init();
        match opened {
            Ok(nvml) => Some(nvml),
            // A library without hardware and without a module is left from somewhere: there is nothing to be known.
            Err(_) if !self.facts.has_hardware && !self.facts.has_module() => None,
            Err(error) => {
                self.add_refusal(library, &error);
                None
            }
        }
    }

    fn add_refusal(&mut self, library: &Path, error: &NvmlError) {
        let kind = match error {
            NvmlError::DriverNotLoaded => FaultKind::NoDriver,
            NvmlError::LibRmVersionMismatch => FaultKind::Mismatch,
            _ => FaultKind::Failed,
        };
        let driver = &self.facts.driver;
        let versions = match (&driver.module, &driver.library) {
            (Some(module), Some(library)) => format!(" (module {module}, library {library})"),
            (Some(module), None) => format!(" (module {module})"),
            (None, _) => String::new(),
        };
        let call = if matches!(error, NvmlError::LibloadingError(_)) { "loading" } else { "nvmlInit_v2 of" };
        self.add_fault(kind, &format!("{call} {}: {error}{versions}", library.display()));
    }

    /// Makes a call. `None` where the GPU or the library does not know it, or it failed, which is then told.
    fn ask<T>(&mut self, call: &str, of: &str, make: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        self.progress.asks(call, of);
        make().map_err(|error| self.add_error(call, of, &error)).ok()
    }

    // Not inlined: there are twenty calls, each of a type of its own.
    #[inline(never)]
    fn add_error(&mut self, call: &str, of: &str, error: &NvmlError) {
        let kind = match error {
            NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::NoData => return,
            NvmlError::Utf8Error(_) => return self.add_rubbish(call, of, "no text"),
            _ => FaultKind::Failed,
        };
        // A GPU that fell off the bus fails in every call: one line for each would say no more.
        let is_told = matches!(error, NvmlError::GpuLost) && !self.lost.insert(of.to_owned());
        if !is_told {
            self.add_fault(kind, &format!("{call} {of}: {error}"));
        }
    }

    /// Makes the first of these calls that the driver knows. A failure is told.
    fn ask_first<T>(&mut self, of: &str, calls: &[Call<'_, T>]) -> Asked<T> {
        for (call, make) in calls {
            self.progress.asks(call, of);
            match make() {
                Ok(told) => return Asked::Told(call, told),
                Err(error) if older::is_unknown(&error) => {}
                Err(error) => {
                    self.add_error(call, of, &error);
                    return Asked::Failed;
                }
            }
        }
        Asked::Unknown
    }

    /// Takes a figure if it can be true.
    fn take<T>(&mut self, call: &str, of: &str, figure: Result<T, String>) -> Option<T> {
        figure.map_err(|why| self.add_rubbish(call, of, &why)).ok()
    }

    #[inline(never)]
    fn add_rubbish(&mut self, call: &str, of: &str, why: &str) {
        self.add_fault(FaultKind::Rubbish, &format!("{call} {of}: {why}"));
    }

    fn cuda(&mut self, nvml: &Nvml) -> Option<String> {
        let call = "nvmlSystemGetCudaDriverVersion_v2";
        let version = self.ask(call, "", || nvml.sys_cuda_driver_version())?;
        self.take(call, "", plausible::cuda(version))
    }

    fn all(&mut self, nvml: &Nvml, gpus: &mut Vec<Gpu>) {
        let call = "nvmlDeviceGetCount_v2";
        let Some(count) = self.ask(call, "", || nvml.device_count()) else { return };
        let most = u32::try_from(GPUS_MAX).unwrap_or(u32::MAX);
        if count > most {
            self.add_fault(FaultKind::Rubbish, &format!("{call}: more than {most} GPUs"));
        }
        for index in (0..count.min(most)).filter(|index| !self.left_out.contains(index)) {
            self.progress.begins(index);
            let found = self.at(nvml, index);
            gpus.extend(self.tell(found));
        }
    }

    /// Tells a GPU and its instances, as far as there is room, with the faults that are new. Returns them.
    fn tell(&mut self, mut gpus: Vec<Gpu>) -> Vec<Gpu> {
        gpus.truncate(self.room);
        self.room -= gpus.len();
        let faults = self.faults.get(self.told..).unwrap_or_default().to_vec();
        self.told = self.faults.len();
        let part = Inventory { gpus, faults, ..Inventory::default() };
        // A reader that is gone is noticed at the end.
        let _ = self.progress.tell(&part);
        part.gpus
    }

    /// Returns the GPU of an index with its instances; empty: it cannot be told.
    fn at(&mut self, nvml: &Nvml, index: u32) -> Vec<Gpu> {
        let of = format!("of GPU {index}");
        let device = self.ask("nvmlDeviceGetHandleByIndex_v2", &of, || nvml.device_by_index(index));
        let Some(device) = device else { return Vec::new() };
        let Some((gpu, minor)) = self.gpu(&device, index) else { return Vec::new() };
        let instances =
            if gpu.part == Part::Partitioned { self.instances(&device, &gpu, minor) } else { Vec::new() };
        let mut gpus = vec![gpu];
        gpus.extend(instances);
        gpus
    }

    /// Returns a GPU and the number in the name of its node.
    fn gpu(&mut self, device: &Device<'_>, index: u32) -> Option<(Gpu, Option<u32>)> {
        let id = self.id(device, &format!("of GPU {index}"))?;
        let of = format!("of {id}");
        let minor = self.ask("nvmlDeviceGetMinorNumber", &of, || device.minor_number());
        let minor = minor.and_then(|minor| self.take("nvmlDeviceGetMinorNumber", &of, plausible::minor(minor)));
        let mode = self.ask("nvmlDeviceGetMigMode", &of, || device.mig_mode());
        let part = if mode.is_some_and(|mode| mode.current == 1) { Part::Partitioned } else { Part::Whole };
        let pci = self.ask("nvmlDeviceGetPciInfo_v3", &of, || device.pci_info());
        let pci = pci.and_then(|pci| self.take("nvmlDeviceGetPciInfo_v3", &of, plausible::pci(&pci.bus_id)));
        let nodes: Vec<Node> = minor.map(|minor| self.facts.nodes.gpu(minor)).into_iter().collect();
        let memory = self.memory(device, &of);
        // What runs in instances is told of those.
        let total = memory.map(|memory| memory.total);
        let processes = if part == Part::Whole { self.processes(device, &of, total) } else { Vec::new() };
        let gpu = Gpu {
            vendor: Vendor::Nvidia,
            index,
            name: self.name(device, &of),
            part,
            pci,
            memory,
            shares_memory: false,
            nodes,
            sensors: self.sensors(device, &of),
            processes,
            id,
        };
        Some((gpu, minor))
    }

    /// Returns the instances of a GPU. What sensors say is the GPU's.
    fn instances(&mut self, device: &Device<'_>, gpu: &Gpu, minor: Option<u32>) -> Vec<Gpu> {
        let of = format!("of {}", gpu.id);
        let most = self.ask("nvmlDeviceGetMaxMigDeviceCount", &of, || device.mig_device_count()).unwrap_or(0);
        let minors =
            fs::read_to_string(self.paths.kernel("/proc/driver/nvidia-caps/mig-minors")).unwrap_or_default();
        let mut instances = Vec::new();
        for place in 0..most.min(u32::try_from(GPUS_MAX).unwrap_or(u32::MAX)) {
            self.progress.asks("nvmlDeviceGetMigDeviceHandleByIndex", &of);
            // Places may be empty.
            let Ok(instance) = device.mig_device_by_index(place) else { continue };
            let Some(id) = self.id(&instance, &format!("of an instance {of}")) else { continue };
            let of = format!("of {id}");
            let numbers = self.ask("nvmlDeviceGetGpuInstanceId", &of, || mig::numbers(&instance));
            let Some(numbers) = numbers else {
                self.add_fault(FaultKind::Failed, &format!("which instance {id} is, is not told"));
                continue;
            };
            let capabilities = minor.map(|minor| mig::minors(&minors, minor, numbers)).unwrap_or_default();
            let capabilities = capabilities.into_iter().map(|minor| self.facts.nodes.capability(minor));
            let nodes = gpu.nodes.iter().cloned().chain(capabilities).collect();
            let memory = self.memory(&instance, &of);
            instances.push(Gpu {
                vendor: Vendor::Nvidia,
                index: gpu.index,
                name: self.name(&instance, &of),
                part: Part::Instance {
                    parent: gpu.id.clone(),
                    gpu_instance: numbers.0,
                    compute_instance: numbers.1,
                },
                pci: gpu.pci.clone(),
                memory,
                shares_memory: false,
                nodes,
                sensors: Sensors::default(),
                processes: self.processes(&instance, &of, memory.map(|memory| memory.total)),
                id,
            });
        }
        instances
    }

    fn id(&mut self, device: &Device<'_>, of: &str) -> Option<GpuId> {
        let call = "nvmlDeviceGetUUID";
        let text = self.ask(call, of, || device.uuid())?;
        let id: GpuId = self.take(call, of, text.parse().map_err(|_| "it names no GPU".to_owned()))?;
        let is_new = self.seen.insert(text);
        let once = if is_new { Ok(id) } else { Err(format!("{id} is another one's too")) };
        self.take(call, of, once)
    }

    fn name(&mut self, device: &Device<'_>, of: &str) -> String {
        self.ask("nvmlDeviceGetName", of, || device.name()).map(|name| owner::short(&name)).unwrap_or_default()
    }

    fn memory(&mut self, device: &Device<'_>, of: &str) -> Option<Memory> {
        let newer = || device.memory_info().map(|told| (told.total, told.reserved, told.used));
        // What the driver keeps is among what is used there.
        let first = || older::memory(device).map(|(total, used)| (total, 0, used));
        let calls: [Call<'_, _>; 2] = [("nvmlDeviceGetMemoryInfo_v2", &newer), ("nvmlDeviceGetMemoryInfo", &first)];
        match self.ask_first(of, &calls) {
            Asked::Told(call, (total, reserved, used)) => {
                self.take(call, of, plausible::memory(total, reserved, used))
            }
            Asked::Failed => None,
            Asked::Unknown => {
                let what = "nvmlDeviceGetMemoryInfo: the driver is too old for it, so nothing is known of memory";
                self.add_fault(FaultKind::Failed, what);
                None
            }
        }
    }

    fn sensors(&mut self, device: &Device<'_>, of: &str) -> Sensors {
        let mut figure = |call: &str, most: u32, make: &dyn Fn() -> Result<u32, NvmlError>| {
            let told = self.ask(call, of, make)?;
            self.take(call, of, plausible::at_most(told, most))
        };
        let (degrees, milliwatts) = (plausible::DEGREES_MAX, plausible::MILLIWATTS_MAX);
        let slowdown = || device.temperature_threshold(TemperatureThreshold::Slowdown);
        let temperature =
            figure("nvmlDeviceGetTemperature", degrees, &|| device.temperature(TemperatureSensor::Gpu));
        let temperature_slowdown = figure("nvmlDeviceGetTemperatureThreshold", degrees, &slowdown);
        let power = figure("nvmlDeviceGetPowerUsage", milliwatts, &|| device.power_usage());
        let power_limit = figure("nvmlDeviceGetEnforcedPowerLimit", milliwatts, &|| device.enforced_power_limit());
        let call = "nvmlDeviceGetUtilizationRates";
        let rates = self.ask(call, of, || device.utilization_rates());
        let mut percent = |value: u32| self.take(call, of, plausible::at_most(value, 100));
        let (utilization, memory_utilization) =
            rates.map_or((None, None), |rates| (percent(rates.gpu), percent(rates.memory)));
        let reasons =
            self.ask("nvmlDeviceGetCurrentClocksThrottleReasons", of, || device.current_throttle_reasons());
        let throttle = reasons.map(|reasons| plausible::throttle(reasons.bits())).unwrap_or_default();
        Sensors { temperature, temperature_slowdown, power, power_limit, utilization, memory_utilization, throttle }
    }

    /// Returns who uses a GPU, each process once.
    fn processes(&mut self, device: &Device<'_>, of: &str, total: Option<Bytes>) -> Vec<Process> {
        let mut found: BTreeMap<u32, (ProcessKind, Option<u64>)> = BTreeMap::new();
        let most = PROCESSES_MAX.saturating_sub(self.processes);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let third =
            || bounded(device.running_compute_processes_count()?, most, || device.running_compute_processes());
        let second = || {
            bounded(device.running_compute_processes_count_v2()?, most, || device.running_compute_processes_v2())
        };
        let compute: [Call<'_, _>; 3] = [
            ("nvmlDeviceGetComputeRunningProcesses_v3", &third),
            ("nvmlDeviceGetComputeRunningProcesses_v2", &second),
            ("nvmlDeviceGetComputeRunningProcesses", &|| older::processes(device, true, most)),
        ];
        let compute = self.list(of, &compute);
        let third =
            || bounded(device.running_graphics_processes_count()?, most, || device.running_graphics_processes());
        let second = || {
            bounded(device.running_graphics_processes_count_v2()?, most, || device.running_graphics_processes_v2())
        };
        let graphics: [Call<'_, _>; 3] = [
            ("nvmlDeviceGetGraphicsRunningProcesses_v3", &third),
            ("nvmlDeviceGetGraphicsRunningProcesses_v2", &second),
            ("nvmlDeviceGetGraphicsRunningProcesses", &|| older::processes(device, false, most)),
        ];
        let graphics = self.list(of, &graphics);
        let compute = compute.into_iter().map(|process| (ProcessKind::Compute, process));
        for (kind, Listed { pid, memory }) in
            compute.chain(graphics.into_iter().map(|process| (ProcessKind::Graphics, process)))
        {
            let call = "the list of processes";
            let pid = self.take(call, of, plausible::pid(pid));
            let memory = memory.and_then(|memory| self.take(call, of, plausible::share(memory, total)));
            let Some(pid) = pid else { continue };
            // One that computes and draws is in both lists, with the memory of both in each.
            let entry = found.entry(pid).or_insert((kind, memory));
            entry.1 = entry.1.max(memory);
        }
        self.processes += found.len();
        let process = |(pid, (kind, memory)): (u32, (ProcessKind, Option<u64>))| {
            owner::process(self.paths, pid, kind, memory.map(Bytes))
        };
        found.into_iter().map(process).collect()
    }

    /// Asks for a list of processes, in the newest form that the driver knows.
    fn list(&mut self, of: &str, calls: &[Call<'_, Option<Vec<Listed>>>]) -> Vec<Listed> {
        let Asked::Told(call, listed) = self.ask_first(of, calls) else { return Vec::new() };
        let mut listed = listed.unwrap_or_else(|| {
            self.add_rubbish(call, of, "more processes than there can be");
            Vec::new()
        });
        listed.truncate(PROCESSES_MAX.saturating_sub(self.processes));
        listed
    }
}

/// A call by its name, and what makes it.
type Call<'a, T> = (&'static str, &'a dyn Fn() -> Result<T, NvmlError>);

/// What became of calls of which one is enough.
enum Asked<T> {
    /// The first that the driver knows, and what it told.
    Told(&'static str, T),
    /// It failed, which was told.
    Failed,
    /// The driver knows none of them.
    Unknown,
}

/// Makes a list of processes, but not one that is too long: `None`.
fn bounded(
    count: u32,
    most: u32,
    make: impl FnOnce() -> Result<Vec<ProcessInfo>, NvmlError>,
) -> Result<Option<Vec<Listed>>, NvmlError> {
    if count > most {
        return Ok(None);
    }
    Ok(Some(make()?.into_iter().map(Listed::from).collect()))
}

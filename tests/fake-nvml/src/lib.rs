//! A stand-in for `libnvidia-ml.so.1`: what the agent asks of NVML, answered as a file says (`state`), which is read anew at each call.
//!
//! Made of NVML's public reference alone: names of calls, layouts of structures, numbers of errors. Handles are numbers: a GPU's index and
//! one, an instance's above them.
#![allow(unsafe_code, reason = "a C library is what it stands in for; callers own what pointers lead to")]
#![allow(non_snake_case, reason = "the names are NVML's")]
#![allow(
    clippy::missing_safety_doc,
    reason = "as NVML has it: pointers lead to what is to be filled, and to as much of it as the length says"
)]

mod state;

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::io::Write as _;

use state::{Fault, Gpu, Process, State};

/// `nvmlReturn_t`.
type Return = c_uint;
/// `nvmlDevice_t`, never followed.
type Handle = *mut c_void;

const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;
const FUNCTION_NOT_FOUND: Return = 13;
/// `NVML_VALUE_NOT_AVAILABLE`.
const NOT_AVAILABLE: u64 = u64::MAX;
/// The newest version of the lists of processes.
const NEWEST: i64 = 3;
/// What stands for no instance in a list of processes.
const NO_INSTANCE: c_uint = c_uint::MAX;
/// Handles of instances: this times the GPU's, and the index and one.
const INSTANCES: usize = 0x1000;
/// Instances that a GPU has room for.
const INSTANCES_MAX: c_uint = 7;

/// `nvmlMemory_v2_t`.
#[repr(C)]
#[derive(Debug)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Debug)]
pub struct FirstMemory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
#[derive(Debug)]
pub struct Pci {
    legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
    subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// `nvmlUtilization_t`.
#[repr(C)]
#[derive(Debug)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlProcessInfo_t`.
#[repr(C)]
#[derive(Debug)]
pub struct ProcessInfo {
    pid: c_uint,
    memory: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// `nvmlProcessInfo_v1_t`.
#[repr(C)]
#[derive(Debug)]
pub struct FirstProcessInfo {
    pid: c_uint,
    memory: c_ulonglong,
}

/// Answers a call, or does what is to go wrong in it.
fn answer(call: &str, work: impl FnOnce(&State) -> Result<(), Return>) -> Return {
    let Some(state) = State::read() else { return DRIVER_NOT_LOADED };
    go_wrong(state.faults.get(call)).and_then(|()| work(&state)).err().unwrap_or(0)
}

/// Does what is to go wrong in a call.
fn go_wrong(fault: Option<&Fault>) -> Result<(), Return> {
    match fault {
        Some(Fault::Error(code)) => return Err(*code),
        Some(Fault::Hang) => loop {
            std::thread::park();
        },
        // SAFETY: there is nothing at this address, and no one is to survive it.
        Some(Fault::Crash) => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        Some(Fault::Abort) => std::process::abort(),
        Some(Fault::Exit) => std::process::exit(0),
        Some(Fault::Noise) => {
            let noise = [b"{\"gpus\": \"".as_slice(), &[b'x'; 4096], b"\n"].concat();
            (0..2048).for_each(|_| drop(std::io::stdout().write_all(&noise)));
        }
        None => {}
    }
    Ok(())
}

/// Answers a call about one GPU or instance.
fn of_device(call: &str, device: Handle, work: impl FnOnce(&Gpu) -> Result<(), Return>) -> Return {
    answer(call, |state| {
        let handle = device.addr();
        let (gpu, instance) =
            if handle < INSTANCES { (handle, 0) } else { (handle / INSTANCES, handle % INSTANCES) };
        let index = gpu.checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        go_wrong(state.faults_of.get(&(call.to_owned(), index)))?;
        if version(call) > state.calls.unwrap_or(NEWEST) {
            return Err(FUNCTION_NOT_FOUND);
        }
        let gpu = state.gpus.get(index).ok_or(INVALID_ARGUMENT)?;
        match instance.checked_sub(1) {
            None => work(gpu),
            Some(index) => work(gpu.instances.get(index).ok_or(INVALID_ARGUMENT)?),
        }
    })
}

/// Returns which driver knows a call, by the version of the lists of processes that came with it.
fn version(call: &str) -> i64 {
    match call.rsplit_once("_v") {
        Some(("nvmlDeviceGetMemoryInfo", "2")) => NEWEST,
        Some((name, version)) if name.ends_with("RunningProcesses") => version.parse().unwrap_or(NEWEST),
        Some(_) | None => 1,
    }
}

/// Fills what a caller's pointer leads to.
///
/// # Safety
/// The pointer leads to room for the value, or is null.
unsafe fn put<T>(at: *mut T, value: T) -> Result<(), Return> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: what the caller says.
    unsafe { at.write(value) };
    Ok(())
}

/// Fills a caller's buffer with a text and what ends it.
///
/// # Safety
/// The pointer leads to `length` bytes.
unsafe fn put_text(at: *mut c_char, length: c_uint, text: Option<&[u8]>) -> Result<(), Return> {
    let text = text.ok_or(NOT_SUPPORTED)?;
    if text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    for (index, byte) in text.iter().chain([&0]).enumerate() {
        // SAFETY: the text and its end are not longer than the buffer.
        unsafe { at.add(index).write(byte.cast_signed()) };
    }
    Ok(())
}

/// Defines calls about a device that fill one number.
macro_rules! numbers {
    ($($(#[$doc:meta])* $call:ident: $key:literal as $type:ty),+ $(,)?) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $call(device: Handle, value: *mut $type) -> Return {
            of_device(stringify!($call), device, |gpu| {
                let found = gpu.number($key).ok_or(NOT_SUPPORTED)?;
                // SAFETY: the caller's pointer.
                unsafe { put(value, <$type>::from(found)) }
            })
        }
    )+};
}

numbers! {
    /// Tells the number in the name of a GPU's node.
    nvmlDeviceGetMinorNumber: "minor" as c_uint,
    /// Tells what a GPU draws, in milliwatts.
    nvmlDeviceGetPowerUsage: "power" as c_uint,
    /// Tells what a GPU may draw, in milliwatts.
    nvmlDeviceGetEnforcedPowerLimit: "limit" as c_uint,
    /// Tells why a GPU's clock is held down, as bits.
    nvmlDeviceGetCurrentClocksThrottleReasons: "throttle" as c_ulonglong,
}

/// Begins; in the file's absence no driver is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    answer("nvmlInit_v2", |_| Ok(()))
}

/// Ends.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    answer("nvmlShutdown", |_| Ok(()))
}

/// Says what an error is.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(_code: Return) -> *const c_char {
    c"an error of the stand-in".as_ptr()
}

/// Tells the version of the driver.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> Return {
    // SAFETY: the caller's buffer.
    answer("nvmlSystemGetDriverVersion", |state| unsafe { put_text(text, length, state.driver.as_deref()) })
}

/// Tells the version of CUDA.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> Return {
    answer("nvmlSystemGetCudaDriverVersion_v2", |state| {
        // SAFETY: the caller's pointer.
        unsafe { put(version, state.cuda.ok_or(NOT_SUPPORTED)?) }
    })
}

/// Tells how many GPUs there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    answer("nvmlDeviceGetCount_v2", |state| {
        // SAFETY: the caller's pointer.
        unsafe { put(count, c_uint::try_from(state.gpus.len()).unwrap_or(c_uint::MAX)) }
    })
}

/// Finds a GPU by its index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> Return {
    answer("nvmlDeviceGetHandleByIndex_v2", |state| {
        if index as usize >= state.gpus.len() {
            return Err(INVALID_ARGUMENT);
        }
        go_wrong(state.faults_of.get(&("nvmlDeviceGetHandleByIndex_v2".to_owned(), index as usize)))?;
        // SAFETY: the caller's pointer.
        unsafe { put(device, std::ptr::without_provenance_mut(index as usize + 1)) }
    })
}

/// Finds a GPU or an instance by its name for good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> Return {
    answer("nvmlDeviceGetHandleByUUID", |state| {
        // SAFETY: the caller's text, which ends with a zero.
        let wanted = unsafe { CStr::from_ptr(uuid) }.to_bytes();
        let is_wanted = |gpu: &Gpu| gpu.text("uuid") == Some(wanted);
        for (index, gpu) in state.gpus.iter().enumerate() {
            let instance = gpu.instances.iter().position(is_wanted).map(|at| (index + 1) * INSTANCES + at + 1);
            if let Some(handle) = is_wanted(gpu).then_some(index + 1).or(instance) {
                // SAFETY: the caller's pointer.
                return unsafe { put(device, std::ptr::without_provenance_mut(handle)) };
            }
        }
        Err(NOT_FOUND)
    })
}

/// Tells what a GPU is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Handle, text: *mut c_char, length: c_uint) -> Return {
    // SAFETY: the caller's buffer.
    of_device("nvmlDeviceGetName", device, |gpu| unsafe { put_text(text, length, gpu.text("name")) })
}

/// Tells a GPU's name for good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, text: *mut c_char, length: c_uint) -> Return {
    // SAFETY: the caller's buffer.
    of_device("nvmlDeviceGetUUID", device, |gpu| unsafe { put_text(text, length, gpu.text("uuid")) })
}

/// Tells a GPU's index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetIndex(device: Handle, index: *mut c_uint) -> Return {
    of_device("nvmlDeviceGetIndex", device, |_| {
        let handle = device.addr();
        let gpu = if handle < INSTANCES { handle } else { handle / INSTANCES };
        // SAFETY: the caller's pointer.
        unsafe { put(index, c_uint::try_from(gpu).unwrap_or(c_uint::MAX).saturating_sub(1)) }
    })
}

/// Tells where a GPU is on the bus.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, info: *mut Pci) -> Return {
    of_device("nvmlDeviceGetPciInfo_v3", device, |gpu| {
        let text = gpu.text("pci").ok_or(NOT_SUPPORTED)?;
        let mut bus_id = [0; 32];
        for (place, byte) in bus_id.iter_mut().take(31).zip(text) {
            *place = byte.cast_signed();
        }
        let pci = Pci { legacy: [0; 16], domain: 0, bus: 0, device: 0, device_id: 0, subsystem_id: 0, bus_id };
        // SAFETY: the caller's pointer.
        unsafe { put(info, pci) }
    })
}

/// Tells how much memory a GPU has and what of it is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: *mut Memory) -> Return {
    of_device("nvmlDeviceGetMemoryInfo_v2", device, |gpu| {
        let total = gpu.size("total").ok_or(NOT_SUPPORTED)?;
        let (reserved, used) = (gpu.size("reserved").unwrap_or(0), gpu.size("used").unwrap_or(0));
        let free = total.wrapping_sub(reserved).wrapping_sub(used);
        // SAFETY: the caller's pointer. It wants the second version of the structure, of 40 bytes, as it says in it.
        unsafe { put(memory, Memory { version: 0x0200_0028, total, reserved, free, used }) }
    })
}

/// The same, as drivers before 510 tell it: what is reserved is among what is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, memory: *mut FirstMemory) -> Return {
    of_device("nvmlDeviceGetMemoryInfo", device, |gpu| {
        let total = gpu.size("total").ok_or(NOT_SUPPORTED)?;
        let used = gpu.size("reserved").unwrap_or(0).wrapping_add(gpu.size("used").unwrap_or(0));
        // SAFETY: the caller's pointer.
        unsafe { put(memory, FirstMemory { total, free: total.wrapping_sub(used), used }) }
    })
}

/// Tells how busy a GPU is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, rates: *mut Utilization) -> Return {
    of_device("nvmlDeviceGetUtilizationRates", device, |gpu| {
        let busy = gpu.number("utilization").ok_or(NOT_SUPPORTED)?;
        // SAFETY: the caller's pointer.
        unsafe { put(rates, Utilization { gpu: busy, memory: gpu.number("memory_utilization").unwrap_or(0) }) }
    })
}

/// Tells how hot a GPU is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(device: Handle, _sensor: c_uint, value: *mut c_uint) -> Return {
    of_device("nvmlDeviceGetTemperature", device, |gpu| {
        // SAFETY: the caller's pointer.
        unsafe { put(value, gpu.number("temperature").ok_or(NOT_SUPPORTED)?) }
    })
}

/// Tells how hot a GPU may become.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Handle,
    _threshold: c_uint,
    value: *mut c_uint,
) -> Return {
    of_device("nvmlDeviceGetTemperatureThreshold", device, |gpu| {
        // SAFETY: the caller's pointer.
        unsafe { put(value, gpu.number("slowdown").ok_or(NOT_SUPPORTED)?) }
    })
}

/// Tells whether a GPU is cut into instances.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    of_device("nvmlDeviceGetMigMode", device, |gpu| {
        let is_on = c_uint::from(gpu.text("mig").ok_or(NOT_SUPPORTED)? == b"on");
        // SAFETY: the caller's pointers.
        unsafe { put(current, is_on).and_then(|()| put(pending, is_on)) }
    })
}

/// Tells how many instances a GPU can have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> Return {
    of_device("nvmlDeviceGetMaxMigDeviceCount", device, |gpu| {
        // SAFETY: the caller's pointer.
        unsafe { put(count, if gpu.text("mig").is_some() { INSTANCES_MAX } else { 0 }) }
    })
}

/// Finds an instance of a GPU by its index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    instance: *mut Handle,
) -> Return {
    of_device("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu| {
        gpu.instances.get(index as usize).ok_or(NOT_FOUND)?;
        let handle = device.addr() * INSTANCES + index as usize + 1;
        // SAFETY: the caller's pointer.
        unsafe { put(instance, std::ptr::without_provenance_mut(handle)) }
    })
}

/// Returns one of the two numbers of an instance.
fn instance_number(gpu: &Gpu, at: usize) -> Result<c_uint, Return> {
    let text = gpu.text("instance").and_then(|text| std::str::from_utf8(text).ok()).ok_or(NOT_SUPPORTED)?;
    text.split_whitespace().nth(at).and_then(|word| word.parse().ok()).ok_or(NOT_SUPPORTED)
}

/// Tells the GPU instance that an instance is of.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: Handle, id: *mut c_uint) -> Return {
    // SAFETY: the caller's pointer.
    of_device("nvmlDeviceGetGpuInstanceId", device, |gpu| unsafe { put(id, instance_number(gpu, 0)?) })
}

/// Tells the compute instance that an instance is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(device: Handle, id: *mut c_uint) -> Return {
    // SAFETY: the caller's pointer.
    of_device("nvmlDeviceGetComputeInstanceId", device, |gpu| unsafe { put(id, instance_number(gpu, 1)?) })
}

/// Fills a list of processes, or tells how long it has to be.
///
/// # Safety
/// `list` has room for as many as `count` says, or is null.
unsafe fn put_processes<T>(
    gpu: &Gpu,
    computes: bool,
    count: *mut c_uint,
    list: *mut T,
    make: impl Fn(&Process) -> T,
) -> Result<(), Return> {
    let found: Vec<_> = gpu.processes.iter().filter(|process| process.computes == computes).collect();
    // SAFETY: what the caller says.
    let room = unsafe { count.read() };
    let needed = c_uint::try_from(found.len()).unwrap_or(c_uint::MAX);
    // SAFETY: what the caller says.
    unsafe { put(count, needed) }?;
    if needed > room || (list.is_null() && needed > 0) {
        return Err(INSUFFICIENT_SIZE);
    }
    for (index, process) in found.into_iter().enumerate() {
        // SAFETY: there is room, as was seen above.
        unsafe { list.add(index).write(make(process)) };
    }
    Ok(())
}

/// Returns a process as the second and third version of the lists have it.
fn listed(process: &Process) -> ProcessInfo {
    let memory = process.memory.unwrap_or(NOT_AVAILABLE);
    ProcessInfo { pid: process.pid, memory, gpu_instance: NO_INSTANCE, compute_instance: NO_INSTANCE }
}

/// Returns a process as the first version has it.
fn first_listed(process: &Process) -> FirstProcessInfo {
    FirstProcessInfo { pid: process.pid, memory: process.memory.unwrap_or(NOT_AVAILABLE) }
}

/// Defines calls that fill a list of processes.
macro_rules! lists {
    ($($(#[$doc:meta])* $call:ident: $computes:literal, $type:ty, $make:ident);+ $(;)?) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $call(device: Handle, count: *mut c_uint, list: *mut $type) -> Return {
            of_device(stringify!($call), device, |gpu| {
                // SAFETY: the caller's list.
                unsafe { put_processes(gpu, $computes, count, list, $make) }
            })
        }
    )+};
}

lists! {
    /// Tells who computes.
    nvmlDeviceGetComputeRunningProcesses_v3: true, ProcessInfo, listed;
    /// The same, as drivers before 510 tell it.
    nvmlDeviceGetComputeRunningProcesses_v2: true, ProcessInfo, listed;
    /// The same, as drivers before 450 tell it.
    nvmlDeviceGetComputeRunningProcesses: true, FirstProcessInfo, first_listed;
    /// Tells who draws.
    nvmlDeviceGetGraphicsRunningProcesses_v3: false, ProcessInfo, listed;
    /// The same, as drivers before 510 tell it.
    nvmlDeviceGetGraphicsRunningProcesses_v2: false, ProcessInfo, listed;
    /// The same, as drivers before 450 tell it.
    nvmlDeviceGetGraphicsRunningProcesses: false, FirstProcessInfo, first_listed;
}

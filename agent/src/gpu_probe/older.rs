//! Calls of NVML by which older drivers tell of memory and processes. Those before 510 have neither `nvmlDeviceGetMemoryInfo_v2` nor the third
//! version of the lists of processes, and those before 450 not the second either. The wrapper has no form of the first versions.
#![allow(unsafe_code, reason = "the wrapper has no safe form of two calls that fill memory of the caller's")]

use std::mem::MaybeUninit;
use std::ptr;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

/// What stands for a figure that is not told (`NVML_VALUE_NOT_AVAILABLE`).
const NOT_AVAILABLE: u64 = u64::MAX;
/// More than were counted fit into a list: some may begin before it is asked for.
const HEADROOM: u32 = 5;

/// A process in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    /// Its id.
    pub(super) pid: u32,
    /// Its memory; `None`: that is not told.
    pub(super) memory: Option<u64>,
}

impl From<ProcessInfo> for Listed {
    fn from(process: ProcessInfo) -> Self {
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Unavailable => None,
            UsedGpuMemory::Used(memory) => Some(memory),
        };
        Self { pid: process.pid, memory }
    }
}

/// Returns whether an error says that the driver does not know the call, be it the library or the module below it.
pub(super) fn is_unknown(error: &NvmlError) -> bool {
    matches!(error, NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound)
}

/// Returns a GPU's memory and what of it is used, with what the driver keeps (`nvmlDeviceGetMemoryInfo`).
///
/// # Errors
/// What NVML says.
pub(super) fn memory(device: &Device<'_>) -> Result<(u64, u64), NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut told = MaybeUninit::zeroed();
    // SAFETY: the handle is one that this library gave out, and it is not shut down before `device` is gone, which borrows it. The call fills
    // one `nvmlMemory_t` (NVML reference, "Device Queries"), which is of numbers alone and outlives it.
    let told = unsafe {
        nvml_try(call(device.handle(), told.as_mut_ptr()))?;
        told.assume_init()
    };
    Ok((told.total, told.used))
}

/// Returns those who compute, or those who draw, as the first version of the lists has them; `None`: they are more than `most`.
///
/// # Errors
/// What NVML says.
pub(super) fn processes(device: &Device<'_>, compute: bool, most: u32) -> Result<Option<Vec<Listed>>, NvmlError> {
    let library = device.nvml().lib();
    let call = nvml_sym(if compute {
        library.nvmlDeviceGetComputeRunningProcesses.as_ref()
    } else {
        library.nvmlDeviceGetGraphicsRunningProcesses.as_ref()
    })?;
    let mut count = 0;
    // SAFETY: the handle is as above. With room for none, the call fills the count alone, and null is what it takes for such a list (NVML
    // reference, "Device Queries").
    match unsafe { nvml_try(call(device.handle(), &raw mut count, ptr::null_mut())) } {
        Ok(()) => return Ok(Some(Vec::new())),
        Err(NvmlError::InsufficientSize(_)) if count > most => return Ok(None),
        Err(NvmlError::InsufficientSize(_)) => {}
        Err(error) => return Err(error),
    }
    let room = count.saturating_add(HEADROOM);
    let mut list = Vec::with_capacity(room as usize);
    count = room;
    // SAFETY: the handle is as above. The list has room for as many `nvmlProcessInfo_v1_t` as the count says, so the call fills no more. Each
    // is of numbers alone, and zeroed before: one that the driver counts and does not fill is process 0, which is not believed.
    unsafe {
        ptr::write_bytes(list.as_mut_ptr(), 0, room as usize);
        nvml_try(call(device.handle(), &raw mut count, list.as_mut_ptr()))?;
        list.set_len(count.min(room) as usize);
    }
    let listed = list.into_iter().map(|process| Listed {
        pid: process.pid,
        memory: Some(process.usedGpuMemory).filter(|memory| *memory != NOT_AVAILABLE),
    });
    Ok(Some(listed.collect()))
}

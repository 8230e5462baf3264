//! Instances of a GPU (MIG): which they are. NVML's wrapper knows their handles and not their numbers, so two calls are made here.
#![allow(unsafe_code, reason = "the wrapper has no safe form of two calls that fill one number each")]

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};

/// Returns the GPU instance and the compute instance that a handle of an instance is of.
///
/// # Errors
/// What NVML says; a library that is too old for it lacks the calls.
pub(super) fn numbers(device: &Device<'_>) -> Result<(u32, u32), NvmlError> {
    let library = device.nvml().lib();
    let of_gpu = nvml_sym(library.nvmlDeviceGetGpuInstanceId.as_ref())?;
    let of_compute = nvml_sym(library.nvmlDeviceGetComputeInstanceId.as_ref())?;
    let (mut gpu, mut compute) = (0, 0);
    // SAFETY: the handle is one that this library gave out, and it is not shut down before `device` is gone, which borrows it. Both calls
    // take a pointer to one `unsigned int` that they fill (NVML reference, "Multi Instance GPU Management"), and it outlives them.
    unsafe {
        nvml_try(of_gpu(device.handle(), &raw mut gpu))?;
        nvml_try(of_compute(device.handle(), &raw mut compute))?;
    }
    Ok((gpu, compute))
}

/// Returns the minor numbers of the nodes that give access to an instance, from `/proc/driver/nvidia-caps/mig-minors`. There, GPUs go by
/// their minor number.
pub(super) fn minors(text: &str, gpu_minor: u32, (gpu, compute): (u32, u32)) -> Vec<u32> {
    let of_gpu = format!("gpu{gpu_minor}/gi{gpu}/access");
    let of_compute = format!("gpu{gpu_minor}/gi{gpu}/ci{compute}/access");
    let number = |line: &str| {
        let (name, number) = line.trim().split_once(' ')?;
        (name == of_gpu || name == of_compute).then(|| number.trim().parse().ok()).flatten()
    };
    text.lines().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_of_an_instance_are_those_of_its_gpu_and_its_two_numbers() {
        let text = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu3/gi1/access 408\n\
                    gpu3/gi1/ci0/access 409\ngpu3/gi1/ci1/access 410\ngpu3/gi11/access 500\n";
        assert_eq!(minors(text, 3, (1, 0)), [408, 409]);
        assert_eq!(minors(text, 0, (1, 0)), [12, 13]);
        assert_eq!(minors(text, 1, (1, 0)), Vec::<u32>::new());
    }
}

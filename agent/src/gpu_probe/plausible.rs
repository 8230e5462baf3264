//! Which figures of a GPU can be true. Those that cannot are not used, and said to be wrong. What is said has no figure that may be another one in the
//! next look: each new message is an event.

use nixmox_core::gpu::Memory;
use nixmox_core::model::Bytes;

/// Hotter is no GPU that still answers.
pub(super) const DEGREES_MAX: u32 = 200;
/// No GPU draws as much as 100 kW.
pub(super) const MILLIWATTS_MAX: u32 = 100_000_000;
/// More memory than any GPU will have for long: 64 TiB.
const MEMORY_MAX: u64 = 64 << 40;
/// Minor numbers of device nodes have 20 bits (`MINORBITS`, kernel).
const MINOR_MAX: u32 = (1 << 20) - 1;
/// No process has a higher number (`PID_MAX_LIMIT`, kernel).
const PID_MAX: u32 = 1 << 22;

/// Why the clock of a GPU is held down, bit by bit, in the words of NVML's reference (`nvmlClocksThrottleReasons`), without those that say
/// that nothing is wrong: the GPU is idle, or set so.
const THROTTLE: [(u64, &str); 6] = [
    (0x04, "sw_power_cap"),
    (0x08, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
];

/// Returns memory whose parts are not more than the whole.
pub(super) fn memory(total: u64, reserved: u64, used: u64) -> Result<Memory, String> {
    let sum = reserved.checked_add(used);
    if total == 0 || total > MEMORY_MAX || sum.is_none_or(|sum| sum > total) {
        return Err("more memory in use and reserved than there is, or more than there can be".to_owned());
    }
    Ok(Memory { total: Bytes(total), reserved: Bytes(reserved), used: Bytes(used) })
}

/// Returns a process's memory if its GPU has as much.
pub(super) fn share(memory: u64, total: Option<Bytes>) -> Result<u64, String> {
    let most = total.map_or(MEMORY_MAX, |total| total.0);
    if memory > most { Err("a process with more memory than there is".to_owned()) } else { Ok(memory) }
}

/// Returns a figure that is not too large. A negative one is, as NVML's types have it.
pub(super) fn at_most(value: u32, most: u32) -> Result<u32, String> {
    if value > most { Err(format!("less than 0 or more than {most}")) } else { Ok(value) }
}

/// Returns a minor number.
pub(super) fn minor(value: u32) -> Result<u32, String> {
    at_most(value, MINOR_MAX)
}

/// Returns a process id.
pub(super) fn pid(value: u32) -> Result<u32, String> {
    if value == 0 || value > PID_MAX { Err("a number that no process has".to_owned()) } else { Ok(value) }
}

/// Returns a version of CUDA such as 12080 as `12.8`.
pub(super) fn cuda(version: i32) -> Result<String, String> {
    let (major, minor) = (version / 1000, version % 1000 / 10);
    if (1..1000).contains(&major) { Ok(format!("{major}.{minor}")) } else { Err("no version".to_owned()) }
}

/// Returns a PCI address such as `00000000:01:00.0` as the kernel has it, `0000:01:00.0`.
pub(super) fn pci(text: &str) -> Result<String, String> {
    let wrong = || "no address of the bus".to_owned();
    let (domain, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (bus, rest) = rest.split_once(':').ok_or_else(wrong)?;
    let (device, function) = rest.split_once('.').ok_or_else(wrong)?;
    let hex = |text: &str, digits: usize| {
        let is_hex = !text.is_empty() && text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten().ok_or_else(wrong)
    };
    Ok(format!("{:04x}:{:02x}:{:02x}.{:x}", hex(domain, 8)?, hex(bus, 2)?, hex(device, 2)?, hex(function, 1)?))
}

/// Returns why a clock is held down, in words.
pub(super) fn throttle(bits: u64) -> Vec<String> {
    THROTTLE.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_cannot_be_true_are_not_taken() {
        assert!(memory(12 << 30, 1 << 30, 11 << 30).is_ok());
        for (total, reserved, used) in [(12, 0, 13), (12, 6, 7), (0, 0, 0), (12, u64::MAX, 13), (u64::MAX, 0, 0)] {
            assert!(memory(total, reserved, used).is_err(), "{total} {reserved} {used}");
        }
        assert_eq!(at_most(200, DEGREES_MAX), Ok(200));
        assert_eq!(at_most((-10_i32).cast_unsigned(), DEGREES_MAX), Err("less than 0 or more than 200".to_owned()));
        assert!(pid(0).is_err() && pid(u32::MAX).is_err() && pid(1).is_ok());
        assert!(share(13, Some(Bytes(12))).is_err() && share(12, Some(Bytes(12))).is_ok());
        assert!(minor(1 << 20).is_err());
    }

    #[test]
    fn figures_are_told_as_others_tell_them() {
        assert_eq!(cuda(12080).as_deref(), Ok("12.8"));
        assert!(cuda(-1).is_err());
        assert_eq!(pci("00000000:0A:00.0").as_deref(), Ok("0000:0a:00.0"));
        assert_eq!(pci("00010000:01:1f.7").as_deref(), Ok("10000:01:1f.7"));
        for text in ["", "01:00.0", "0000:01:00", "0000:+1:00.0", "zzzz:01:00.0", "0000:01:00.0\n"] {
            assert!(pci(text).is_err(), "{text:?}");
        }
        assert_eq!(throttle(0x41 | 0x04), ["sw_power_cap", "hw_thermal_slowdown"]);
        assert_eq!(throttle(1), Vec::<String>::new(), "idle is not held down");
    }
}

//! What the child says while it looks: a line before each call that may never return, and what was found since the line before.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use nixmox_api::GpuInventory;
use nixmox_core::gpu::Inventory;

/// What begins a line that says what is asked next.
pub(crate) const ASKS: &str = "? ";
/// What begins a line that says which GPU of NVIDIA's comes next, by its index.
pub(crate) const AT: &str = "@ ";
/// The last line.
pub(crate) const DONE: &str = "done";

/// Where it is said.
#[derive(Debug)]
pub(super) struct Progress {
    output: File,
}

impl Progress {
    /// Says it there.
    pub(super) fn new(output: OwnedFd) -> Self {
        Self { output: output.into() }
    }

    /// Says what is asked next.
    #[inline(never)]
    pub(super) fn asks(&mut self, call: &str, of: &str) {
        // Who does not listen learns it from the last line.
        let _ = self.line(format!("{ASKS}{call} {of}").trim_end().as_bytes());
    }

    /// Says which GPU of NVIDIA's comes next. What is told after that ends it.
    pub(super) fn begins(&mut self, index: u32) {
        let _ = self.line(format!("{AT}{index}").as_bytes());
    }

    /// Says what was found since that was said last. Drivers replace those that were told before; all else is added.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) fn tell(&mut self, found: &Inventory) -> io::Result<()> {
        self.line(&serde_json::to_vec(&GpuInventory::from(found))?)
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) fn done(&mut self) -> io::Result<()> {
        self.line(DONE.as_bytes())
    }

    fn line(&mut self, text: &[u8]) -> io::Result<()> {
        self.output.write_all(&[text, b"\n"].concat())
    }
}

/// What was read of what a child said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// All that it found; `None`: nothing was told.
    pub(crate) inventory: Option<GpuInventory>,
    /// The call that was about to be made when it last spoke, if it told nothing since.
    pub(crate) asks: Option<String>,
    /// The GPU of NVIDIA's that it was at then.
    pub(crate) at: Option<u32>,
    /// Whether it said that this was all.
    pub(crate) is_done: bool,
}

/// Reads what a child said. A line without an end counts as none: it is of a child that was ended in the middle.
pub(crate) fn read(text: &[u8]) -> Heard {
    let mut heard = Heard::default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if let Some(call) = line.strip_prefix(ASKS.as_bytes()) {
            heard.asks = Some(crate::host::line::clean(&String::from_utf8_lossy(call)));
        } else if let Some(index) = line.strip_prefix(AT.as_bytes()) {
            heard.at = std::str::from_utf8(index).ok().and_then(|index| index.parse().ok());
        } else if line == DONE.as_bytes() {
            heard.is_done = true;
        } else if let Ok(part) = serde_json::from_slice(line) {
            heard.add(part);
        }
    }
    heard
}

impl Heard {
    fn add(&mut self, part: GpuInventory) {
        let all = self.inventory.get_or_insert_default();
        all.gpus.extend(part.gpus);
        all.faults.extend(part.faults);
        if !part.drivers.is_empty() {
            all.drivers = part.drivers;
        }
        (self.asks, self.at) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use nixmox_api::{Gpu, GpuDriver, GpuFault};

    use super::*;

    #[test]
    fn the_last_call_is_heard_and_parts_make_a_whole() {
        let gpu = |id: &str| Gpu { id: id.to_owned(), ..Gpu::default() };
        let driver = |cuda: &str| GpuDriver { cuda: Some(cuda.to_owned()), ..GpuDriver::default() };
        let text = |part: GpuInventory| serde_json::to_string(&part).unwrap();
        let first = text(GpuInventory { drivers: vec![driver("1.0")], ..GpuInventory::default() });
        let second = text(GpuInventory {
            gpus: vec![gpu("GPU-1")],
            faults: vec![GpuFault::default()],
            ..GpuInventory::default()
        });
        let third = text(GpuInventory {
            gpus: vec![gpu("GPU-2")],
            drivers: vec![driver("2.0")],
            ..GpuInventory::default()
        });
        let begun = format!("{first}\n? nvmlInit_v2\n@ 0\n? nvmlDeviceGetName GPU-1\n{second}\n");
        let heard = read(begun.as_bytes());
        assert_eq!((heard.asks, heard.at, heard.is_done), (None, None, false));
        let heard = read(format!("{begun}@ 1\n? nvmlDeviceGetName GPU-2\n? nvml").as_bytes());
        assert_eq!(heard.asks.as_deref(), Some("nvmlDeviceGetName GPU-2"));
        assert_eq!((heard.at, heard.inventory.unwrap().gpus), (Some(1), vec![gpu("GPU-1")]));
        let heard = read(format!("{begun}@ 1\n? nvmlDeviceGetName GPU-2\n{third}\ndone\n").as_bytes());
        let all = heard.inventory.unwrap();
        assert_eq!((all.gpus, all.drivers), (vec![gpu("GPU-1"), gpu("GPU-2")], vec![driver("2.0")]));
        assert_eq!((all.faults.len(), heard.is_done, heard.at), (1, true, None));
        let heard = read(b"nonsense\n{\"gpus\": 3}\n\xff\n@ x\ndone");
        assert_eq!((heard.is_done, heard.at, heard.inventory), (false, None, None));
    }
}

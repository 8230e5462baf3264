//! What the child says while it looks: a line before each call that may never return, and what was found so far.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use nixmox_api::GpuInventory;
use nixmox_core::gpu::Inventory;

/// What begins a line that says what is asked next.
pub(crate) const ASKS: &str = "? ";

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

    /// Says what was found.
    ///
    /// # Errors
    /// When nobody listens.
    pub(super) fn tell(&mut self, found: &Inventory) -> io::Result<()> {
        self.line(&serde_json::to_vec(&GpuInventory::from(found))?)
    }

    fn line(&mut self, text: &[u8]) -> io::Result<()> {
        self.output.write_all(&[text, b"\n"].concat())
    }
}

/// What was read of what a child said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The newest inventory.
    pub(crate) inventory: Option<GpuInventory>,
    /// The call that was about to be made when it last spoke, if it found nothing since.
    pub(crate) asks: Option<String>,
    /// How many inventories there were; with two, the look is complete.
    pub(crate) inventories: usize,
}

/// Reads what a child said. A line without an end counts as one: it is of a child that was ended in the middle.
pub(crate) fn read(text: &[u8]) -> Heard {
    let mut heard = Heard::default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if let Some(call) = line.strip_prefix(ASKS.as_bytes()) {
            heard.asks = Some(crate::host::line::clean(&String::from_utf8_lossy(call)));
        } else if let Ok(inventory) = serde_json::from_slice(line) {
            heard.inventory = Some(inventory);
            heard.inventories += 1;
            heard.asks = None;
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_and_the_newest_inventory_are_heard() {
        let first = serde_json::to_string(&GpuInventory::default()).unwrap();
        let heard = read(format!("{first}\n? nvmlInit_v2\n? nvmlDeviceGetName GPU-1\n? nvml").as_bytes());
        assert_eq!(heard.inventories, 1);
        assert_eq!(heard.asks.as_deref(), Some("nvmlDeviceGetName GPU-1"));
        let heard = read(format!("{first}\n? nvmlInit_v2\n{first}\n").as_bytes());
        assert_eq!((heard.inventories, heard.asks), (2, None));
        let heard = read(b"nonsense\n{\"gpus\": 3}\n\xff\n");
        assert_eq!((heard.inventories, heard.inventory), (0, None));
    }
}

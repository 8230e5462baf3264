//! The GPUs as a simulator sees them: what is free of each, and what its runners hold.
//!
//! In a guest these are two files in a folder of its root, which the host's side (`compose`) reads and writes: `held`, lines
//! `PID INDEX BYTES` below a number that counts up, and `free`, lines `INDEX MINOR TOTAL FREE` below the number of the `held` that is
//! among them. So what is held counts before the next look, as with a real driver.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, thread};

/// What a runner holds of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The runner's process, as its guest counts.
    pub pid: u32,
    /// The GPU.
    pub gpu: usize,
    /// Bytes.
    pub bytes: u64,
}

/// A GPU that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its index, as the driver counts.
    pub index: usize,
    /// All of its memory, in bytes.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
}

/// Where GPUs are seen, and held.
pub trait Gpus: Send + Sync {
    /// Returns the GPUs that can be used, with all that was held before counted.
    fn look(&self) -> Vec<Gpu>;
    /// Says all that is held from now on.
    fn hold(&self, held: &[Held]);
}

/// GPUs of a guest, told in its folder.
#[derive(Debug)]
pub struct Inside {
    folder: PathBuf,
    nodes: PathBuf,
    written: Mutex<u64>,
}

/// How long the host's side may take to count what is held.
const COUNT_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

impl Inside {
    /// Opens the folder, and makes it. GPUs without a node `nvidiaMINOR` in `nodes` (`/dev`) cannot be used.
    pub fn open(folder: PathBuf, nodes: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        // What an earlier run wrote is answered by nobody.
        let _ = fs::remove_file(folder.join("free"));
        let inside = Self { folder, nodes, written: Mutex::new(u64::from(std::process::id())) };
        inside.hold(&[]);
        Ok(inside)
    }
}

impl Gpus for Inside {
    fn look(&self) -> Vec<Gpu> {
        let wanted = self.written.lock().map_or(0, |written| *written);
        let end = Instant::now() + COUNT_LIMIT;
        loop {
            let text = fs::read_to_string(self.folder.join("free")).unwrap_or_default();
            let mut lines = text.lines();
            let is_counted = lines.next().and_then(|line| line.parse().ok()) == Some(wanted);
            // Without its host's side there is no driver either.
            if is_counted || Instant::now() > end {
                return lines.filter_map(|line| self.gpu(line)).filter(|_| is_counted).collect();
            }
            thread::sleep(POLL);
        }
    }

    fn hold(&self, held: &[Held]) {
        let Ok(mut written) = self.written.lock() else { return };
        *written += 1;
        let mut text = format!("{written}\n");
        for Held { pid, gpu, bytes } in held {
            let _ = writeln!(text, "{pid} {gpu} {bytes}");
        }
        let (new, file) = (self.folder.join(".held.new"), self.folder.join("held"));
        let _ = fs::write(&new, text).and_then(|()| fs::rename(&new, &file));
    }
}

impl Inside {
    fn gpu(&self, line: &str) -> Option<Gpu> {
        let mut words = line.split(' ');
        let (index, minor) = (words.next()?.parse().ok()?, words.next()?);
        let node = self.nodes.join(format!("nvidia{minor}"));
        // As the driver's library does: what cannot be opened is not there.
        fs::OpenOptions::new().read(true).write(true).open(node).ok()?;
        Some(Gpu { index, total: words.next()?.parse().ok()?, free: words.next()?.parse().ok()? })
    }
}

/// GPUs in this process alone, for tests of the simulator and of its clients.
#[derive(Debug)]
pub struct Here {
    gpus: Mutex<(Vec<Gpu>, Vec<Held>)>,
}

impl Here {
    /// Makes GPUs of so many bytes each.
    pub fn new(totals: &[u64]) -> Self {
        let gpu = |(index, total): (usize, &u64)| Gpu { index, total: *total, free: *total };
        Self { gpus: Mutex::new((totals.iter().enumerate().map(gpu).collect(), Vec::new())) }
    }

    /// Lets somebody else use so much of a GPU, instead of what they used before.
    pub fn take(&self, index: usize, bytes: u64) {
        let Ok(mut gpus) = self.gpus.lock() else { return };
        for gpu in gpus.0.iter_mut().filter(|gpu| gpu.index == index) {
            gpu.free = gpu.total.saturating_sub(bytes);
        }
    }

    /// Returns all bytes that are held.
    pub fn held(&self) -> u64 {
        self.gpus.lock().map_or(0, |gpus| gpus.1.iter().map(|held| held.bytes).sum())
    }
}

impl Gpus for Here {
    fn look(&self) -> Vec<Gpu> {
        let Ok(gpus) = self.gpus.lock() else { return Vec::new() };
        let held = |index| gpus.1.iter().filter(|held| held.gpu == index).map(|held| held.bytes).sum();
        gpus.0.iter().map(|gpu| Gpu { free: gpu.free.saturating_sub(held(gpu.index)), ..*gpu }).collect()
    }

    fn hold(&self, held: &[Held]) {
        if let Ok(mut gpus) = self.gpus.lock() {
            held.clone_into(&mut gpus.1);
        }
    }
}

impl<T: Gpus + ?Sized> Gpus for std::sync::Arc<T> {
    fn look(&self) -> Vec<Gpu> {
        (**self).look()
    }

    fn hold(&self, held: &[Held]) {
        (**self).hold(held);
    }
}

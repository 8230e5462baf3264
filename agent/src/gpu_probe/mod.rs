//! `nixmox-agent gpu-probe`: the short-lived child that looks at the GPUs of the machine and ends.
//!
//! Owns everything that may hang or crash in it: NVML is a C library of the driver's that is loaded into the process that asks, and a driver
//! in trouble answers late, wrongly, or never. The agent reads what this child says, and kills it when its time is over (`host::gpu`).
//!
//! ```text
//! agent ── starts ──▶ gpu-probe ── files of /proc, /sys, /dev, /etc/cdi; NVML
//!       ◀── lines ──
//! ```
//!
//! The lines (`progress`): `? CALL` before a call of NVML, and twice an inventory: once without what NVML knows, once with it. So whoever
//! has to end this child knows which call hangs, and loses nothing of other vendors' GPUs.

mod amd;
mod cdi;
mod document;
mod driver;
mod drm;
mod fdinfo;
mod intel;
mod mig;
mod nodes;
mod nvidia;
mod owner;
mod plausible;
pub(crate) mod progress;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{dup2_stderr, dup2_stdout};
use nixmox_core::gpu::{Driver, Inventory};
use nixmox_core::model::Vendor;

use crate::host::paths::Paths;
use progress::Progress;

/// What the kernel ends first when memory runs out (`proc_pid_oom_score_adj(5)`); the agent's own score is far below, and a
/// child has that from it.
const OOM_SCORE: &str = "800";
/// Address space of the child. NVML maps the registers of every GPU and reserves much that it never touches, so this is only to keep a
/// driver that has gone mad from taking the machine with it.
const ADDRESS_SPACE_MAX: u64 = 64 << 30;
/// Most GPUs that are told, instances among them.
const GPUS_MAX: usize = 64;
/// Most processes that are told, over all GPUs.
const PROCESSES_MAX: usize = 1024;

/// Looks at the GPUs and writes what is found to standard output.
///
/// # Errors
/// When nothing can be written; what is wrong with GPUs is part of the answer.
pub fn run() -> io::Result<()> {
    look_below(&Paths::default())
}

/// The same with all paths below a folder, for tests.
///
/// # Errors
/// As `run`.
#[cfg(feature = "testing")]
pub fn run_below(root: &std::path::Path) -> io::Result<()> {
    look_below(&Paths::below(root))
}

fn look_below(paths: &Paths) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // A courtesy: without it, all goes on.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut progress = Progress::new(own_output()?);
    let found = look(paths, &mut progress);
    progress.tell(&found)
}

/// Takes standard output away from libraries that are loaded into this process: what they print is nobody's.
fn own_output() -> io::Result<OwnedFd> {
    // Closed in what a library may start, such as nvidia-modprobe: who reads waits for its end.
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    dup2_stderr(&nowhere)?;
    Ok(output)
}

/// Looks at everything. What is known without NVML is told before it is asked.
fn look(paths: &Paths, progress: &mut Progress) -> Inventory {
    let specifications = cdi::Specifications::read(paths);
    let mut inventory = Inventory::default();
    let cards = drm::cards(paths);
    for (vendor, gpus) in [(Vendor::Amd, amd::gpus(&cards)), (Vendor::Intel, intel::gpus(&cards))] {
        if !gpus.is_empty() {
            let driver = driver::of_mesa(paths, vendor);
            inventory.drivers.insert(vendor, driver);
            inventory.gpus.extend(gpus);
        }
    }
    fdinfo::add_processes(paths, &mut inventory.gpus);
    let facts = driver::of_nvidia(paths);
    if facts.is_there() {
        inventory.drivers.insert(Vendor::Nvidia, facts.driver.clone());
    }
    add_specifications(&mut inventory, &specifications, paths);
    // A reader that is gone is noticed at the end.
    let _ = progress.tell(&inventory);

    let answer = nvidia::look(paths, &facts, progress);
    if let Some(driver) = inventory.drivers.get_mut(&Vendor::Nvidia) {
        driver.cuda = answer.cuda;
    }
    // By vendor, and NVIDIA is the first.
    inventory.gpus.splice(0..0, answer.gpus);
    inventory.gpus.truncate(GPUS_MAX);
    inventory.faults = answer.faults;
    add_specifications(&mut inventory, &specifications, paths);
    inventory
}

/// Adds to each driver what specifications say of it.
fn add_specifications(inventory: &mut Inventory, specifications: &cdi::Specifications, paths: &Paths) {
    for (vendor, driver) in &mut inventory.drivers {
        let nodes = nodes::needed(driver, inventory.gpus.iter().filter(|gpu| gpu.vendor == *vendor));
        let judged = specifications.judge(*vendor, &nodes, &driver.user_space, paths);
        let Driver { cdi_mounts, cdi_complaints, .. } = driver;
        (*cdi_mounts, *cdi_complaints) = judged;
    }
}

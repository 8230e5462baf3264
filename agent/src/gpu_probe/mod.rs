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
//! The lines (`progress`): `@ INDEX` before a GPU of NVIDIA's and `? CALL` before a call of NVML; what is known without NVML, then what each
//! GPU told, then what was left to say; `done`. So whoever has to end this child knows which call of which GPU hangs, and loses nothing of the
//! others. It can then be started anew without that GPU: its arguments are the indices to leave out.

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
mod older;
mod owner;
mod plausible;
pub(crate) mod progress;

use std::collections::BTreeSet;
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

/// Looks at the GPUs, but those of NVIDIA's at these indices, and writes what is found to standard output.
///
/// # Errors
/// When nothing can be written, or an index is none; what is wrong with GPUs is part of the answer.
pub fn run(left_out: &[&str]) -> io::Result<()> {
    look_below(&Paths::default(), left_out)
}

/// The same with all paths below a folder, for tests.
///
/// # Errors
/// As `run`.
#[cfg(feature = "testing")]
pub fn run_below(root: &std::path::Path, left_out: &[&str]) -> io::Result<()> {
    look_below(&Paths::below(root), left_out)
}

fn look_below(paths: &Paths, left_out: &[&str]) -> io::Result<()> {
    let index = |text: &&str| text.parse().map_err(|_none| io::Error::from(io::ErrorKind::InvalidInput));
    let left_out: BTreeSet<u32> = left_out.iter().map(index).collect::<io::Result<_>>()?;
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // A courtesy: without it, all goes on.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut progress = Progress::new(own_output()?);
    look(paths, &left_out, &mut progress)?;
    progress.done()
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

/// Looks at everything and tells it. What is known without NVML is told before that is asked.
fn look(paths: &Paths, left_out: &BTreeSet<u32>, progress: &mut Progress) -> io::Result<()> {
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
    inventory.gpus.truncate(GPUS_MAX);
    fdinfo::add_processes(paths, &mut inventory.gpus);
    let facts = driver::of_nvidia(paths);
    if facts.is_there() {
        inventory.drivers.insert(Vendor::Nvidia, facts.driver.clone());
    }
    add_specifications(&mut inventory, &specifications, paths);
    progress.tell(&inventory)?;
    if !facts.is_there() {
        return Ok(());
    }

    let room = GPUS_MAX.saturating_sub(inventory.gpus.len());
    let answer = nvidia::look(paths, &facts, left_out, room, progress);
    if let Some(driver) = inventory.drivers.get_mut(&Vendor::Nvidia) {
        driver.cuda = answer.cuda;
    }
    inventory.gpus.extend(answer.gpus);
    add_specifications(&mut inventory, &specifications, paths);
    progress.tell(&Inventory { gpus: Vec::new(), drivers: inventory.drivers, faults: answer.faults })
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

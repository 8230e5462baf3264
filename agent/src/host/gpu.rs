//! The agent's side of looks at the GPUs: one child at a time, with limits of time.
//!
//! Owns starting, reading and ending it; what it does inside is `gpu_probe`'s. Whoever asks while a look is under way is given what it
//! finds. A child that waits in a driver cannot always be ended (state `D`): then there is no other one until it is gone.
//!
//! ```text
//! child ── "done" ──▶ the end
//!       ── silent or dead at a GPU ──▶ that GPU is left out for a while, with the fault ──▶ another child looks at the others
//!       ── silent or dead elsewhere ──▶ the end, with a fault
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nixmox_api::GpuInventory;
use nixmox_core::gpu::{Fault, FaultKind, Inventory};
use nixmox_core::model::Vendor;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::child::{Ends, end_of};
use super::line;
use crate::gpu_probe::progress::{self, Heard};

/// Time in which a child says something: a call that takes longer hangs. A GPU that nothing keeps awake takes one to three seconds to answer
/// the first call.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Time for a look, with all its children. Twenty GPUs that all have to wake up are done in it.
const LOOK_MAX: Duration = Duration::from_mins(1);
/// How long a GPU that ended a look is left out of the next ones.
const LEFT_OUT: Duration = Duration::from_mins(10);
/// Most children of one look.
const CHILDREN_MAX: usize = 8;
/// Longest answer that is read; 64 GPUs with a thousand processes take a third of it.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What the child is started as.
const ARGUMENT: &str = "gpu-probe";

/// Looks at the GPUs, through children.
#[derive(Debug)]
pub struct Gpus {
    program: PathBuf,
    /// What children find in their environment.
    environment: Vec<(String, String)>,
    limits: Limits,
    /// How many looks have ended.
    ended: AtomicU64,
    /// Held by whoever looks.
    looks: Mutex<Looks>,
}

/// How long children may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Until a child says the next word.
    silence: Duration,
    /// For all children of a look.
    look: Duration,
}

/// The look that is under way, or was the last.
#[derive(Debug, Default)]
struct Looks {
    /// What the last one found.
    last: Inventory,
    /// The last child, while it is not known to be gone.
    child: Option<Box<dyn Ends>>,
    /// GPUs of NVIDIA's that are left out, by index.
    left_out: BTreeMap<u32, LeftOut>,
}

/// A GPU that ended a child.
#[derive(Debug)]
struct LeftOut {
    fault: Fault,
    since: Instant,
}

impl Gpus {
    /// Returns what looks through this agent's program.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            environment: Vec::new(),
            limits: Limits { silence: SILENCE_MAX, look: LOOK_MAX },
            ended: AtomicU64::new(0),
            looks: Mutex::default(),
        }
    }

    /// Gives children an environment: for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }

    /// Gives children other limits, until the next word and for a whole look: for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn within(mut self, silence: Duration, look: Duration) -> Self {
        self.limits = Limits { silence, look };
        self
    }

    /// Looks at the GPUs. Never fails: what goes wrong is among what is found.
    pub async fn look(&self) -> Inventory {
        let ended = self.ended.load(Ordering::Relaxed);
        let mut looks = self.looks.lock().await;
        // Another one ended while its end was waited for: it was under way when this was asked.
        if self.ended.load(Ordering::Relaxed) == ended {
            looks.last = self.look_now(&mut looks).await;
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        looks.last.clone()
    }

    /// Looks through as many children as it takes to get past the GPUs that end them.
    async fn look_now(&self, looks: &mut Looks) -> Inventory {
        let until = Instant::now() + self.limits.look;
        looks.left_out.retain(|_, left_out| left_out.since.elapsed() < LEFT_OUT);
        let mut found = Inventory::default();
        for _ in 0..CHILDREN_MAX {
            let bad;
            (found, bad) = self.look_once(looks, until).await;
            let Some((index, fault)) = bad else { break };
            looks.left_out.insert(index, LeftOut { fault, since: Instant::now() });
            if looks.child.is_some() || Instant::now() >= until {
                break;
            }
        }
        found.faults.extend(looks.left_out.values().map(|left_out| left_out.fault.clone()));
        // Where none answers there is nobody to look past them for, and the driver as a whole may be well again in a moment.
        if !found.gpus.iter().any(|gpu| gpu.vendor == Vendor::Nvidia) {
            looks.left_out.clear();
        }
        found
    }

    /// Looks through one child. Returns what it found, and the GPU that ended it.
    async fn look_once(&self, looks: &mut Looks, until: Instant) -> Seen {
        if let Some(child) = looks.child.as_mut() {
            child.kill();
            if end_of(child.as_mut()).await.is_none() {
                let what = "the process that asks drivers cannot be ended: it waits in the kernel";
                return with_fault(Inventory::default(), None, FaultKind::Hangs, what);
            }
            looks.child = None;
        }
        let mut child = match self.start(looks.left_out.keys()) {
            Ok(child) => child,
            Err(error) => {
                let what = format!("{} {ARGUMENT}: {error}", self.program.display());
                return with_fault(Inventory::default(), None, FaultKind::Failed, &what);
            }
        };
        let output = child.stdout.take();
        let child = looks.child.insert(Box::new(child));
        let mut text = Vec::new();
        let stopped = match output {
            Some(output) => self.read(output, &mut text, until).await,
            None => None,
        };
        // Who closed its output ends by itself.
        let mut end = if stopped.is_none() { end_of(child.as_mut()).await } else { None };
        let has_ended = end.is_some();
        if !has_ended {
            child.kill();
            end = end_of(child.as_mut()).await;
        }
        if end.is_some() {
            looks.child = None;
        }
        let how = match (stopped, end) {
            (Some(how), _) => how,
            (None, Some(end)) if has_ended => How::Ended(end),
            (None, _) => How::Silent(self.limits.silence),
        };
        seen(progress::read(&text), &how)
    }

    /// Reads what a child says. Returns why no more of it is read; `None`: it closed its output.
    async fn read(&self, mut output: ChildStdout, text: &mut Vec<u8>, until: Instant) -> Option<How> {
        let Limits { silence, look } = self.limits;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(silence.min(left), output.read_buf(text)).await {
                Err(_late) if silence < left => return Some(How::Silent(silence)),
                Err(_late) => return Some(How::Slow(look)),
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(_)) if text.len() >= ANSWER_BYTES_MAX => return Some(How::Endless),
                Ok(Ok(_)) => {}
            }
        }
    }

    fn start<'a>(&self, left_out: impl Iterator<Item = &'a u32>) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg(ARGUMENT)
            .args(left_out.map(u32::to_string))
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// What was found, and the GPU of NVIDIA's that ended the child, by index, with the fault.
type Seen = (Inventory, Option<(u32, Fault)>);

/// How a child ended.
enum How {
    /// By itself.
    Ended(String),
    /// It said nothing for that long, and was given up.
    Silent(Duration),
    /// It went on saying something until the time for the look was over.
    Slow(Duration),
    /// It said more than anything could have to say.
    Endless,
}

/// Returns what a child said, with what is to be said of its end.
fn seen(heard: Heard, how: &How) -> Seen {
    let Heard { inventory, asks, at, is_done } = heard;
    // Before NVML is asked, everything else was told.
    let vendor = inventory.is_some().then_some(Vendor::Nvidia);
    let mut found = match inventory.map(GpuInventory::into_model) {
        None => Inventory::default(),
        Some(Ok(found)) => found,
        Some(Err(why)) => return with_fault(Inventory::default(), None, FaultKind::Rubbish, &why),
    };
    // GPUs of NVIDIA are told last.
    found.gpus.sort_by_key(|gpu| gpu.vendor);
    if is_done {
        return (found, None);
    }
    let of = at.map_or_else(String::new, |index| format!("GPU {index}: "));
    let asks = asks.map_or_else(String::new, |asks| format!(": {asks}"));
    let (kind, what) = match how {
        How::Ended(how) => {
            let what = format!("{of}the process that asked the driver ended without an answer ({how}){asks}");
            (FaultKind::Crashed, what)
        }
        How::Silent(limit) => {
            (FaultKind::Hangs, format!("{of}no answer of the driver within {} s{asks}", limit.as_secs_f32()))
        }
        How::Slow(limit) => {
            // Which GPU it was at then is no fault of that GPU.
            let what = format!("not all GPUs have answered within {} s", limit.as_secs_f32());
            return with_fault(found, vendor, FaultKind::Hangs, &what);
        }
        How::Endless => return with_fault(found, vendor, FaultKind::Rubbish, "an answer without end"),
    };
    match at {
        Some(index) => (found, Some((index, fault(vendor, kind, &what)))),
        None => with_fault(found, vendor, kind, &what),
    }
}

fn fault(vendor: Option<Vendor>, kind: FaultKind, message: &str) -> Fault {
    Fault { vendor, kind, message: line::clean(message) }
}

fn with_fault(mut found: Inventory, vendor: Option<Vendor>, kind: FaultKind, message: &str) -> Seen {
    found.faults.push(fault(vendor, kind, message));
    (found, None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::host::child::Stuck;

    #[tokio::test(start_paused = true)]
    async fn a_gpu_that_ended_a_look_is_asked_again_after_a_while() {
        let gpus = Gpus::new(PathBuf::from("/nonexistent"));
        let fault = fault(Some(Vendor::Nvidia), FaultKind::Crashed, "GPU 7: x");
        let mut looks = gpus.looks.lock().await;
        for _ in 0..2 {
            let left_out = LeftOut { fault: fault.clone(), since: Instant::now() };
            looks.left_out.insert(7, left_out);
            tokio::time::sleep(LEFT_OUT * 9 / 10).await;
            assert!(gpus.look_now(&mut looks).await.faults.contains(&fault));
            assert!(looks.left_out.is_empty(), "no other one answered");
        }
        looks.left_out.insert(7, LeftOut { fault: fault.clone(), since: Instant::now() });
        tokio::time::sleep(LEFT_OUT).await;
        assert!(!gpus.look_now(&mut looks).await.faults.contains(&fault));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_second_child_while_the_first_cannot_be_ended() {
        let is_let_go = Arc::new(AtomicBool::new(false));
        let gpus = Gpus::new(PathBuf::from("/nonexistent"));
        let child = Box::new(Stuck(Arc::clone(&is_let_go)));
        gpus.looks.lock().await.child = Some(child);
        let first = gpus.look().await;
        assert_eq!(first.faults.first().map(|fault| fault.kind), Some(FaultKind::Hangs));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(gpus.look().await, first, "as long as nothing changes, nothing new is said");
        }
        is_let_go.store(true, Ordering::Relaxed);
        let fault = gpus.look().await.faults.remove(0);
        assert_eq!(fault.kind, FaultKind::Failed, "the next one is started: {}", fault.message);
    }
}

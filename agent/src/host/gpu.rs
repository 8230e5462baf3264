//! The agent's side of looks at the GPUs: one child at a time, with a time limit.
//!
//! Owns starting, reading and ending it; what it does inside is `gpu_probe`'s. Whoever asks while a look is under way is given what it
//! finds. A child that waits in a driver cannot always be ended (state `D`): then there is no other one until it is gone.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nixmox_api::GpuInventory;
use nixmox_core::gpu::{Fault, FaultKind, Inventory};
use nixmox_core::model::Vendor;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::line;
use crate::gpu_probe::progress::{self, Heard};

/// Time for a look. A GPU that nothing keeps awake takes a second or two to answer the first call.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Time in which a child that was killed is gone, unless it waits in the kernel.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The wait between looks whether it is.
const END_PAUSE: Duration = Duration::from_millis(5);
/// Longest answer that is read; 64 GPUs with a thousand processes take a third of it.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// What the child is started as.
const ARGUMENT: &str = "gpu-probe";

/// Looks at the GPUs, through children.
#[derive(Debug)]
pub struct Gpus {
    program: PathBuf,
    /// What children find in their environment.
    environment: Vec<(String, String)>,
    limit: Duration,
    /// How many looks have ended.
    ended: AtomicU64,
    /// Held by whoever looks.
    looks: Mutex<Looks>,
}

/// The look that is under way, or was the last.
#[derive(Debug, Default)]
struct Looks {
    /// What the last one found.
    last: Inventory,
    /// The last child, while it is not known to be gone.
    child: Option<Started>,
}

/// A child and since when it looks.
#[derive(Debug)]
struct Started {
    child: Box<dyn Ends>,
    at: Instant,
}

/// What can be ended, and may take its time.
trait Ends: std::fmt::Debug + Send {
    /// Asks it to end.
    fn kill(&mut self);
    /// Returns how it ended; `None`: it has not.
    fn ended(&mut self) -> Option<String>;
}

impl Ends for Child {
    fn kill(&mut self) {
        // Fails where it is gone already.
        let _ = self.start_kill();
    }

    fn ended(&mut self) -> Option<String> {
        match self.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            // It is nobody's any more.
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Gpus {
    /// Returns what looks through this agent's program.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            environment: Vec::new(),
            limit: LOOK_LIMIT,
            ended: AtomicU64::new(0),
            looks: Mutex::default(),
        }
    }

    /// Gives children an environment and another time limit: for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with(mut self, environment: Vec<(String, String)>, limit: Duration) -> Self {
        (self.environment, self.limit) = (environment, limit);
        self
    }

    /// Looks at the GPUs. Never fails: what goes wrong is among what is found.
    pub async fn look(&self) -> Inventory {
        let ended = self.ended.load(Ordering::Relaxed);
        let mut looks = self.looks.lock().await;
        // Another one ended while its end was waited for: it was under way when this was asked.
        if self.ended.load(Ordering::Relaxed) == ended {
            looks.last = self.look_now(&mut looks.child).await;
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        looks.last.clone()
    }

    async fn look_now(&self, earlier: &mut Option<Started>) -> Inventory {
        if let Some(started) = earlier.as_mut() {
            started.child.kill();
            if end_of(started.child.as_mut()).await.is_none() {
                let seconds = started.at.elapsed().as_secs();
                let what = format!(
                    "the process that asks drivers cannot be ended: it waits in the kernel, since {seconds} s"
                );
                return with_fault(Inventory::default(), None, FaultKind::Hangs, &what);
            }
            *earlier = None;
        }
        let mut child = match self.start() {
            Ok(child) => child,
            Err(error) => {
                let what = format!("{} {ARGUMENT}: {error}", self.program.display());
                return with_fault(Inventory::default(), None, FaultKind::Failed, &what);
            }
        };
        let output = child.stdout.take();
        let started = earlier.insert(Started { child: Box::new(child), at: Instant::now() });
        let mut text = Vec::new();
        let read = async {
            match output {
                Some(output) => output.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await.is_ok(),
                None => false,
            }
        };
        let is_closed = timeout(self.limit, read).await.is_ok();
        let is_long = text.len() as u64 >= ANSWER_BYTES_MAX;
        // Who closed its output ends by itself.
        let mut end = if is_closed && !is_long { end_of(started.child.as_mut()).await } else { None };
        if end.is_none() {
            started.child.kill();
            end = end_of(started.child.as_mut()).await;
        }
        let how = match &end {
            _ if is_long => How::Endless,
            Some(how) if is_closed => How::Ended(how.clone()),
            _ => How::Late(self.limit),
        };
        if end.is_some() {
            *earlier = None;
        }
        inventory(progress::read(&text), &how)
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg(ARGUMENT)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// How a look ended.
enum How {
    /// The child ended by itself.
    Ended(String),
    /// It was given up.
    Late(Duration),
    /// It said more than anything could have to say.
    Endless,
}

/// Waits a moment for an end; `None`: it does not come.
async fn end_of(child: &mut dyn Ends) -> Option<String> {
    let until = Instant::now() + END_LIMIT;
    loop {
        match child.ended() {
            None if Instant::now() < until => tokio::time::sleep(END_PAUSE).await,
            ended => return ended,
        }
    }
}

/// Returns what a child said, with what is to be said of its end.
fn inventory(heard: Heard, how: &How) -> Inventory {
    let Heard { inventory, asks, inventories } = heard;
    // Before NVML is asked, everything else was told.
    let vendor = (inventories == 1).then_some(Vendor::Nvidia);
    let found = match inventory.map(GpuInventory::into_model) {
        None => Inventory::default(),
        Some(Ok(found)) => found,
        Some(Err(why)) => return with_fault(Inventory::default(), None, FaultKind::Rubbish, &why),
    };
    let asks = asks.map_or_else(String::new, |asks| format!(": {asks}"));
    match how {
        _ if inventories > 1 => found,
        How::Ended(how) => {
            let what = format!("the process that asked the driver ended without an answer ({how}){asks}");
            with_fault(found, vendor, FaultKind::Crashed, &what)
        }
        How::Late(limit) => {
            let what = format!("no answer of the driver within {} s{asks}", limit.as_secs_f32());
            with_fault(found, vendor, FaultKind::Hangs, &what)
        }
        How::Endless => with_fault(found, vendor, FaultKind::Rubbish, &format!("an answer without end{asks}")),
    }
}

fn with_fault(mut found: Inventory, vendor: Option<Vendor>, kind: FaultKind, message: &str) -> Inventory {
    found.faults.push(Fault { vendor, kind, message: line::clean(message) });
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Stands for a child that waits in the kernel until it is let go.
    #[derive(Debug)]
    struct Stuck(Arc<AtomicBool>);

    impl Ends for Stuck {
        fn kill(&mut self) {}

        fn ended(&mut self) -> Option<String> {
            self.0.load(Ordering::Relaxed).then(|| "signal: 9 (SIGKILL)".to_owned())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_second_child_while_the_first_cannot_be_ended() {
        let is_let_go = Arc::new(AtomicBool::new(false));
        let gpus = Gpus::new(PathBuf::from("/nonexistent"));
        let child = Box::new(Stuck(Arc::clone(&is_let_go)));
        gpus.looks.lock().await.child = Some(Started { child, at: Instant::now() });
        tokio::time::sleep(Duration::from_mins(1)).await;
        for _ in 0..3 {
            let fault = gpus.look().await.faults.remove(0);
            assert_eq!(fault.kind, FaultKind::Hangs);
            assert!(fault.message.contains("since 6"), "{}", fault.message);
        }
        is_let_go.store(true, Ordering::Relaxed);
        let fault = gpus.look().await.faults.remove(0);
        assert_eq!(fault.kind, FaultKind::Failed, "the next one is started: {}", fault.message);
    }
}

//! Looks at what guests have of devices: one at a time into each guest, and few at all.
//!
//! To look is to open nodes, and who opens one of a driver that hangs waits in the kernel, where nothing ends it. Such a child is in the
//! cgroup of the guest's unit, whose stop waits for it and whose `TasksMax=` counts it. So it is kept, and nobody looks into that guest before
//! it is gone; into others they do, and all other questions have turns of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, Semaphore};
use tokio::time::timeout;

use super::child::Kept;
use super::guest::{limit_of, start, talk};
use crate::guest_helper::{Answer, Request};

/// Looks at a time.
const LOOKS_MAX: usize = 2;

/// The child that looked last, while it is not known to be gone. Held by whoever looks.
type Last = Arc<Turn<Option<Kept>>>;

/// Looks into guests.
#[derive(Debug)]
pub(super) struct Looks {
    turns: Semaphore,
    /// By unit. Without those whose last child is gone.
    guests: Mutex<BTreeMap<String, Last>>,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(LOOKS_MAX), guests: Mutex::default() }
    }

    /// Looks through a child of this program; returns its answer, or why there is none. Waiting for a turn is not part of its time.
    pub(super) async fn answer(&self, program: &Path, request: &Request) -> Result<Answer, String> {
        let last = self.last(&request.unit);
        let mut last = last.lock().await;
        if let Some(earlier) = last.as_mut() {
            earlier.end().await.map_err(|since| {
                let seconds = since.as_secs();
                format!("the process that looked last cannot be ended: it waits in the kernel, since {seconds} s")
            })?;
            *last = None;
        }
        // Fails only when the semaphore is closed, which it never is.
        let _turn = self.turns.acquire().await;
        let (child, pipes) = start(program).map_err(|error| error.to_string())?;
        let underway = Underway(last.insert(Kept::new(Box::new(child))));
        let answer = match timeout(limit_of(request), talk(pipes, request)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_elapsed) => Err("no answer in time".to_owned()),
        };
        // Who has answered has nothing more to do.
        if underway.0.end().await.is_ok() {
            drop(underway);
            *last = None;
        }
        answer
    }

    fn last(&self, unit: &str) -> Last {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|_, last| match last.try_lock() {
            Ok(mut child) => child.as_mut().is_some_and(|child| !child.is_gone()) || Arc::strong_count(last) > 1,
            Err(_somebody_looks) => true,
        });
        Arc::clone(guests.entry(unit.to_owned()).or_default())
    }
}

/// A look whose answer somebody waits for: when they do not any more, its child ends where it can.
struct Underway<'a>(&'a mut Kept);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::guest_helper::Question;
    use crate::host::child::Stuck;
    use crate::host::guest::Guests;

    fn request(unit: &str, question: Question) -> Request {
        Request { leader: 1, unit: unit.to_owned(), timeout_ms: 60_000, question }
    }

    fn look(unit: &str) -> Request {
        request(unit, Question::Devices(Vec::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_second_child_in_a_guest_while_the_first_cannot_be_ended() {
        let (is_let_go, looks) = (Arc::new(AtomicBool::new(false)), Looks::new());
        *looks.last("a").lock().await = Some(Kept::new(Box::new(Stuck(Arc::clone(&is_let_go)))));
        tokio::time::sleep(Duration::from_mins(1)).await;
        let none = Path::new("/nonexistent");
        for _ in 0..3 {
            let why = looks.answer(none, &look("a")).await.unwrap_err();
            assert!(why.contains("waits in the kernel, since 6"), "{why}");
            // It has no turn, so others are looked into.
            let why = looks.answer(none, &look("b")).await.unwrap_err();
            assert!(why.contains("No such file"), "started: {why}");
        }
        is_let_go.store(true, Ordering::Relaxed);
        let why = looks.answer(none, &look("a")).await.unwrap_err();
        assert!(why.contains("No such file"), "started: {why}");
        drop(looks.last("c"));
        let left: Vec<String> = looks.guests.lock().unwrap().keys().cloned().collect();
        assert_eq!(left, ["c"], "nothing is kept of who is gone");
    }

    /// A helper that never answers what is asked of devices, and notes its process.
    fn hanging() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("helper");
        let script = r#"#!/bin/sh
read -r request
case "$request" in *Devices*) echo $$ >> "${0%/*}/pids"; exec sleep 4321;; esac
echo '{"healthy":true,"output":"well"}'
"#;
        // Written by another process: no child of other tests has it open while it is started.
        let write = format!("cat > \"$0\" <<'EOF'\n{script}EOF\nchmod 755 \"$0\"");
        assert!(std::process::Command::new("sh").args(["-c", &write]).arg(&program).status().unwrap().success());
        (dir, program)
    }

    fn pids(dir: &tempfile::TempDir) -> Vec<String> {
        let text = std::fs::read_to_string(dir.path().join("pids")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn looks_that_hang_are_few_and_in_nobodys_way() {
        let (dir, program) = hanging();
        let guests = Arc::new(Guests::new(program));
        let looks: Vec<_> = (0..12)
            .map(|number| {
                let guests = Arc::clone(&guests);
                tokio::spawn(async move { guests.answer(&look(&format!("guest{number}"))).await })
            })
            .collect();
        until("two look", || pids(&dir).len() == LOOKS_MAX).await;
        let well = timeout(Duration::from_secs(20), guests.ask(&request("guest0", Question::Ready))).await;
        assert!(well.is_ok_and(|well| well.healthy), "others are asked at once");
        assert_eq!(pids(&dir).len(), LOOKS_MAX);
        // Nobody waits for them any more.
        looks.iter().for_each(tokio::task::JoinHandle::abort);
        for look in looks {
            assert!(look.await.unwrap_err().is_cancelled());
        }
        let is_over = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
        };
        until("they end", || pids(&dir).iter().all(is_over)).await;
    }

    #[tokio::test]
    async fn a_look_that_is_late_is_ended() {
        let (dir, program) = hanging();
        let guests = Guests::new(program);
        let answer = guests.answer(&Request { timeout_ms: 0, ..look("a") }).await;
        assert!(answer.devices.is_none() && answer.output.contains("no answer in time"), "{answer:?}");
        let pid = pids(&dir).remove(0);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is gone");
    }
}

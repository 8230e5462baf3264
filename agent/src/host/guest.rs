//! The agent's side of the guest helper: one child per question, with a time limit.
//!
//! Owns starting, feeding and killing it. What it does inside is `guest_helper`'s.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::ProbeResult;
use super::line;
use crate::guest_helper::{Answer, Request};

/// Helpers at a time: a host that boots twenty containers must not be busy asking them.
const HELPERS_MAX: usize = 8;
/// Time beyond the question's own in which the helper may start and answer.
const HELPER_MARGIN: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Asks guests, through helper children.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) program: PathBuf,
    turns: Semaphore,
}

impl Guests {
    /// Returns what asks through the guest helper of this agent's program.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, turns: Semaphore::new(HELPERS_MAX) }
    }

    /// Asks one question. Waiting for a turn is not part of its time.
    pub(super) async fn ask(&self, request: &Request) -> ProbeResult {
        // Fails only when the semaphore is closed, which it never is.
        let _turn = self.turns.acquire().await;
        self.order(request).await
    }

    /// Asks for what takes long, beside all questions.
    pub(super) async fn order(&self, request: &Request) -> ProbeResult {
        let Answer { healthy, output, devices: _ } = self.answer_now(request).await;
        ProbeResult { healthy, output: line::clean(&output) }
    }

    /// Asks one question whose answer is more than a line.
    pub(super) async fn answer(&self, request: &Request) -> Answer {
        let _turn = self.turns.acquire().await;
        self.answer_now(request).await
    }

    async fn answer_now(&self, request: &Request) -> Answer {
        let limit = Duration::from_millis(request.timeout_ms) + HELPER_MARGIN;
        match tokio::time::timeout(limit, talk(&self.program, request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => unasked(request, &error.to_string()),
            // The child is killed with its handle.
            Err(_elapsed) => unasked(request, "no answer in time"),
        }
    }
}

fn unasked(request: &Request, why: &str) -> Answer {
    let output = line::clean(&format!("{} -> {why}", request.question));
    Answer { healthy: false, output, devices: None }
}

async fn talk(program: &Path, request: &Request) -> std::io::Result<Answer> {
    let mut child = Command::new(program)
        .arg("guest-helper")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let mut stdin = child.stdin.take().ok_or_else(broken)?;
    stdin.write_all(&serde_json::to_vec(request)?).await?;
    drop(stdin);
    let mut text = Vec::new();
    child.stdout.take().ok_or_else(broken)?.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await?;
    child.wait().await?;
    Ok(serde_json::from_slice(&text)?)
}

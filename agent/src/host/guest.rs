//! The agent's side of the guest helper: one child per question, with a time limit.
//!
//! Owns starting, feeding and killing it. What it does inside is `guest_helper`'s.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use super::ProbeResult;
use super::line;
use super::looks::Looks;
use crate::guest_helper::engine::Answered;
use crate::guest_helper::{Answer, Request};

/// Helpers at a time: a host that boots twenty containers must not be busy asking them.
const HELPERS_MAX: usize = 8;
/// Time beyond the question's own in which the helper may start and answer.
const HELPER_MARGIN: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// The same of an engine: a model has thousands of tensors, of some 100 bytes each.
const ENGINE_ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a helper is asked through, and answers through.
pub(super) type Pipes = (ChildStdin, ChildStdout);

/// Asks guests, through helper children.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) program: PathBuf,
    turns: Semaphore,
    looks: Looks,
}

impl Guests {
    /// Returns what asks through the guest helper of this agent's program.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, turns: Semaphore::new(HELPERS_MAX), looks: Looks::new() }
    }

    /// Asks one question. Waiting for a turn is not part of its time.
    pub(super) async fn ask(&self, request: &Request) -> ProbeResult {
        // Fails only when the semaphore is closed, which it never is.
        let _turn = self.turns.acquire().await;
        self.order(request).await
    }

    /// Asks for what takes long, beside all questions.
    pub(super) async fn order(&self, request: &Request) -> ProbeResult {
        let Answer { healthy, output, devices: _, engine: _ } = self.answer_now(request).await;
        ProbeResult { healthy, output: line::clean(&output) }
    }

    /// Looks at what a guest has of devices, which may never end.
    pub(super) async fn answer(&self, request: &Request) -> Answer {
        self.looks.answer(&self.program, request).await.unwrap_or_else(|why| unasked(request, &why))
    }

    /// Asks an engine of a guest, beside all other questions: a load takes minutes. Returns why that was not possible.
    pub(super) async fn engine(&self, request: &Request) -> Result<Answered, String> {
        let Answer { engine, output, .. } = self.answer_within(request, ENGINE_ANSWER_BYTES_MAX).await;
        engine.ok_or(output)
    }

    async fn answer_now(&self, request: &Request) -> Answer {
        self.answer_within(request, ANSWER_BYTES_MAX).await
    }

    async fn answer_within(&self, request: &Request, bytes_max: u64) -> Answer {
        let talk = async {
            let (mut child, pipes) = start(&self.program)?;
            let answer = talk_within(pipes, request, bytes_max).await?;
            child.wait().await?;
            Ok::<_, std::io::Error>(answer)
        };
        match tokio::time::timeout(limit_of(request), talk).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => unasked(request, &error.to_string()),
            // The child is killed with its handle.
            Err(_elapsed) => unasked(request, "no answer in time"),
        }
    }
}

fn unasked(request: &Request, why: &str) -> Answer {
    let output = line::clean(&format!("{} -> {why}", request.question));
    Answer { healthy: false, output, devices: None, engine: None }
}

/// Returns how long a helper may take.
pub(super) fn limit_of(request: &Request) -> Duration {
    Duration::from_millis(request.timeout_ms) + HELPER_MARGIN
}

/// Starts a helper, which ends with its handle where it can be ended.
pub(super) fn start(program: &Path) -> std::io::Result<(Child, Pipes)> {
    let mut child = Command::new(program)
        .arg("guest-helper")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    Ok((child, pipes.ok_or(std::io::ErrorKind::BrokenPipe)?))
}

/// Asks a helper and reads its answer.
pub(super) async fn talk(pipes: Pipes, request: &Request) -> std::io::Result<Answer> {
    talk_within(pipes, request, ANSWER_BYTES_MAX).await
}

async fn talk_within((mut stdin, stdout): Pipes, request: &Request, bytes_max: u64) -> std::io::Result<Answer> {
    stdin.write_all(&serde_json::to_vec(request)?).await?;
    drop(stdin);
    let mut text = Vec::new();
    stdout.take(bytes_max).read_to_end(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

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
use crate::guest_helper::engine::{Answered, Asked, What};
use crate::guest_helper::{Answer, Question, Request};

/// Helpers at a time: a host that boots twenty containers must not be busy asking them.
const HELPERS_MAX: usize = 8;
/// Time beyond the question's own in which the helper may start and answer.
const HELPER_MARGIN: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// The same of an engine that tells how it stands: at most 512 names of models that could be loaded and as many that are, of 256
/// bytes each.
const LOOK_BYTES_MAX: u64 = 4 << 20;
/// The same of one that tells what a model is made of: thousands of tensors, of some 100 bytes each.
const SHOW_BYTES_MAX: u64 = 64 << 20;
/// Looks at engines at a time, which have turns of their own: probes of health do not wait for engines that are slow.
const ENGINE_LOOKS_MAX: usize = 8;
/// Models that are told of at a time: each can take what its answer may.
const ENGINE_SHOWS_MAX: usize = 2;

/// What a helper is asked through, and answers through.
pub(super) type Pipes = (ChildStdin, ChildStdout);

/// Asks guests, through helper children.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) program: PathBuf,
    turns: Semaphore,
    engine_looks: Semaphore,
    engine_shows: Semaphore,
    looks: Looks,
}

impl Guests {
    /// Returns what asks through the guest helper of this agent's program.
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            turns: Semaphore::new(HELPERS_MAX),
            engine_looks: Semaphore::new(ENGINE_LOOKS_MAX),
            engine_shows: Semaphore::new(ENGINE_SHOWS_MAX),
            looks: Looks::new(),
        }
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

    /// Asks an engine of a guest, beside all other questions. Looks and questions about models wait for their turns, which is not part of
    /// their time; what changes something, of which there is one at a time for each engine, does not: a load takes minutes. Returns why it
    /// was not possible.
    pub(super) async fn engine(
        &self,
        leader: u32,
        unit: String,
        asked: Asked,
        limit: Duration,
    ) -> Result<Answered, String> {
        let (turns, bytes_max) = match &asked.what {
            What::Look => (Some(&self.engine_looks), LOOK_BYTES_MAX),
            What::Show(_) => (Some(&self.engine_shows), SHOW_BYTES_MAX),
            What::Unload(_) | What::Load { .. } => (None, ANSWER_BYTES_MAX),
        };
        let _turn = match turns {
            // Fails only when the semaphore is closed, which it never is.
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let request = Request { leader, unit, timeout_ms, question: Question::Engine(asked) };
        let Answer { engine, output, .. } = self.answer_within(&request, bytes_max).await;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use futures_util::future::join_all;

    use super::*;
    use crate::guest_helper::engine::Kind;

    fn asked(what: What) -> Asked {
        Asked { kind: Kind::Ollama, url: "http://localhost".to_owned(), what }
    }

    /// Returns what answers like this, a little later, and notes in the folder how many do so at the time.
    fn helper(folder: &Path, answer: &str) -> Guests {
        let program = folder.join("helper");
        let here = folder.display();
        std::fs::create_dir(folder.join("now")).unwrap();
        let script = format!(
            "#!/bin/sh\ncat >/dev/null\n: >{here}/now/$$\nset -- {here}/now/*\necho $# >>{here}/seen\nsleep 0.2\nrm {here}/now/$$\n{answer}\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Guests::new(program)
    }

    const DONE: &str = r#"echo '{"healthy":true,"output":"","engine":"Done"}'"#;

    #[tokio::test]
    async fn engines_are_looked_at_a_few_at_a_time_and_probes_do_not_wait_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let guests = helper(folder.path(), DONE);
        let limit = Duration::from_secs(20);
        let looks = join_all((0..40).map(|_| guests.engine(1, "x".to_owned(), asked(What::Look), limit)));
        let probe = async {
            let begun = std::time::Instant::now();
            let question = Question::Ready;
            guests.ask(&Request { leader: 1, unit: "x".to_owned(), timeout_ms: 20_000, question }).await;
            begun.elapsed()
        };
        let all = async {
            let begun = std::time::Instant::now();
            (looks.await, begun.elapsed())
        };
        let ((answers, took), probed) = tokio::join!(all, probe);
        assert!(answers.iter().all(|answer| *answer == Ok(Answered::Done)), "{answers:?}");
        assert!(probed < took / 2, "{probed:?} of {took:?}");
        let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
        let most = seen.lines().map(|line| line.parse::<usize>().unwrap()).max();
        assert!(most <= Some(ENGINE_LOOKS_MAX + 1), "{most:?}");
    }

    #[tokio::test]
    async fn a_look_may_answer_much_less_than_what_a_model_is_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let blanks = LOOK_BYTES_MAX;
        let guests = helper(folder.path(), &format!("head -c {blanks} /dev/zero | tr '\\0' ' '\n{DONE}"));
        let limit = Duration::from_secs(20);
        let ask = |what: What| guests.engine(1, "x".to_owned(), asked(what), limit);
        assert_eq!(ask(What::Show("a".to_owned())).await, Ok(Answered::Done));
        assert!(ask(What::Look).await.is_err());
        assert!(ask(What::Unload("a".to_owned())).await.is_err());
    }
}

//! The agent as a test sees it from outside the host: one blocking call, and waiting for what it reports.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nixmox_api::{SOCKET, Status};
use nixmox_testbed::Testbed;
use serde_json::{Value, json};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_mins(1);
/// How often a status is asked for while it is waited for.
const POLL: Duration = Duration::from_millis(50);

/// Calls a method of the agent as root and returns the reply's parameters. Errors of the agent are errors.
///
/// # Errors
/// When the agent cannot be reached, hangs up, or answers with an error.
pub fn call(bed: &Testbed, method: &str, parameters: &Value) -> Result<Value> {
    let mut stream = UnixStream::connect(bed.path(SOCKET)).context("cannot connect to the agent")?;
    stream.set_read_timeout(Some(CALL_LIMIT))?;
    let call = json!({ "method": format!("io.nixmox.Agent.{method}"), "parameters": parameters });
    let mut message = serde_json::to_vec(&call)?;
    message.push(0);
    stream.write_all(&message).context("the agent does not listen")?;
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply).context("the agent does not answer")?;
    let text = reply.strip_suffix(&[0]).context("the agent hung up")?;
    let mut reply: Value = serde_json::from_slice(text).context("the answer is no JSON")?;
    if reply.get("error").is_some() {
        bail!("{method}: {reply}");
    }
    Ok(reply.get_mut("parameters").map(Value::take).unwrap_or_default())
}

/// Returns the agent's status.
///
/// # Errors
/// As [`call`].
pub fn status(bed: &Testbed) -> Result<Status> {
    serde_json::from_value(call(bed, "Status", &json!({}))?).context("the status is not as the contract has it")
}

/// Waits until the agent's status is as `holds` wants it. An agent that is away is waited for.
///
/// # Errors
/// When it is not so within `limit`: with what was missing last, and the agent's journal.
pub fn wait_for(bed: &Testbed, limit: Duration, holds: impl Fn(&Status) -> Result<()>) -> Result<Status> {
    let end = Instant::now() + limit;
    loop {
        let missing = match status(bed) {
            Ok(status) => match holds(&status) {
                Ok(()) => return Ok(status),
                Err(missing) => missing,
            },
            Err(away) => away,
        };
        if Instant::now() > end {
            let journal = bed.journal(&["-u", "nixmox-agent", "-n", "60"]);
            let journal = journal.unwrap_or_else(|error| format!("{error:#}"));
            bail!("not within {limit:?}: {missing:#}\n--- journal\n{journal}");
        }
        thread::sleep(POLL);
    }
}

//! Requests of an engine: JSON there and back, in bounds, and what an error of it says.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::guest_helper::http::Url;
use crate::guest_helper::http::message::{Request, Response, exchange};
use crate::guest_helper::{Deadline, Trouble};
use crate::host::line;

/// Longest answer that is read: what Ollama tells of a model of a thousand tensors is some 100 KiB.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The wait between two looks at something that is not done yet.
const PAUSE: Duration = Duration::from_millis(100);

/// An engine that can be asked.
pub(super) struct Api<'a> {
    url: Url<'a>,
    addresses: Vec<IpAddr>,
    deadline: Deadline,
}

impl<'a> Api<'a> {
    /// To be called in the guest's network namespace.
    pub(super) fn new(url: &'a str, deadline: Deadline) -> Result<Self, Trouble> {
        let url = Url::parse(url).ok_or_else(|| Trouble::Url(url.to_owned()))?;
        Ok(Self { addresses: url.addresses(), url, deadline })
    }

    /// Asks for what is there.
    pub(super) fn get(&self, target: &str) -> Result<Response, Trouble> {
        self.exchange(target, None, ANSWER_BYTES_MAX)
    }

    /// Asks for something to be done.
    pub(super) fn post(&self, target: &str, body: &Value) -> Result<Response, Trouble> {
        self.post_within(target, body, ANSWER_BYTES_MAX)
    }

    /// The same, with another bound of the answer, in bytes.
    pub(super) fn post_within(&self, target: &str, body: &Value, answer_max: usize) -> Result<Response, Trouble> {
        let body = serde_json::to_vec(body).map_err(|error| Trouble::Engine(error.to_string()))?;
        self.exchange(target, Some(&body), answer_max)
    }

    fn exchange(&self, target: &str, body: Option<&[u8]>, answer_max: usize) -> Result<Response, Trouble> {
        let request = Request { host: self.url.host, target, body, answer_max };
        exchange(&self.addresses, self.url.port, &request, self.deadline)
    }

    /// Asks for what is there, in JSON.
    pub(super) fn read<T: DeserializeOwned>(&self, target: &str) -> Result<T, Trouble> {
        parsed(&self.get(target)?)
    }

    /// Waits a moment; fails when the time is over.
    pub(super) fn pause(&self) -> Result<(), Trouble> {
        std::thread::sleep(PAUSE.min(self.deadline.left()?));
        self.deadline.left().map(drop)
    }
}

/// Reads what was answered, unless that is an error.
pub(super) fn parsed<T: DeserializeOwned>(response: &Response) -> Result<T, Trouble> {
    accepted(response)?;
    serde_json::from_slice(&response.body)
        .map_err(|error| Trouble::Engine(line::clean(&format!("did not answer sensibly: {error}"))))
}

/// Passes on what is no error.
pub(super) fn accepted(response: &Response) -> Result<(), Trouble> {
    if (200..300).contains(&response.status) { Ok(()) } else { Err(Trouble::Engine(reason(response))) }
}

/// What an error says: Ollama a text, `llama-server` an object with one.
#[derive(Deserialize)]
struct Refusal {
    error: Value,
}

/// Returns why an engine did not do it, in one line.
pub(super) fn reason(response: &Response) -> String {
    if matches!(response.status, 401 | 403) {
        return format!(
            "it wants a key (status {}), and NixMox has none: let it listen inside the container only, without one",
            response.status
        );
    }
    let refusal = serde_json::from_slice::<Refusal>(&response.body).ok();
    let text = refusal.and_then(|Refusal { error }| match error {
        Value::String(text) => Some(text),
        Value::Object(parts) => parts.get("message").and_then(Value::as_str).map(str::to_owned),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    });
    let text = text.map(|text| line::clean(&text)).filter(|text| !text.is_empty());
    text.unwrap_or_else(|| format!("answered with status {}", response.status))
}

/// Returns a number that is not negative; what is larger than can be counted is the largest.
pub(super) fn unsigned(number: Option<&Number>) -> Option<u64> {
    /// 2^64.
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    let number = number?;
    number.as_u64().or_else(|| number.as_f64().filter(|number| *number >= TOO_LARGE).map(|_| u64::MAX))
}

/// Returns tokens; 0 is what engines say that know none.
pub(super) fn tokens(number: Option<&Number>) -> Option<u32> {
    unsigned(number).map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)).filter(|tokens| *tokens > 0)
}

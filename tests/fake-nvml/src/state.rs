//! What the stand-in tells, read from a file at each call.
//!
//! Lines of `KEY VALUE`; blanks before a key and lines that begin with `#` mean nothing. `gpu` begins a GPU, `mig` an instance of the
//! GPU above it; what follows is of it. Sizes are in bytes, with `M` and `G` for MiB and GiB. Names may be any bytes.
//!
//! ```text
//! driver 570.124.06
//! cuda 12080
//! gpu
//!   uuid GPU-1
//!   name NVIDIA GeForce RTX 3060
//!   minor 200
//!   pci 00000000:01:00.0
//!   total 12G
//!   reserved 300M
//!   used 1G
//!   process compute 4711 1G
//!   mig on
//! mig
//!   uuid MIG-1
//!   instance 1 0
//! error nvmlDeviceGetTemperature 15
//! hang nvmlInit_v2
//! ```
//!
//! Other keys of a GPU: `temperature`, `slowdown`, `power`, `limit`, `utilization`, `memory_utilization`, `throttle` (bits), `mig on|off`,
//! `process graphics PID SIZE`, `process compute PID -` (memory is not told), `processes COUNT` (that many, made up). What a GPU does not
//! say it does not know: the call is not supported. Faults, each with the name of a call: `error CALL CODE`, `hang CALL`, `crash CALL`
//! (SIGSEGV), `abort CALL`, `exit CALL` and `noise CALL`, which writes a lot to standard output. `of INDEX` before one of these makes it so for one
//! GPU alone. `calls VERSION` hides newer versions of calls that have several, as an older driver does: 1 and 2.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the state is, unless `$FAKE_NVML_STATE` says otherwise.
const STATE: &str = "/run/fake-nvidia/state";

/// All that is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The version of the driver.
    pub(crate) driver: Option<Vec<u8>>,
    /// The version of CUDA, as 12080.
    pub(crate) cuda: Option<i32>,
    /// The GPUs, in the order of their indices.
    pub(crate) gpus: Vec<Gpu>,
    /// What goes wrong, by call.
    pub(crate) faults: BTreeMap<String, Fault>,
    /// What goes wrong with one GPU, by call and the GPU's index.
    pub(crate) faults_of: BTreeMap<(String, usize), Fault>,
    /// The newest version that it knows of lists of processes; `None`: the third.
    pub(crate) calls: Option<i64>,
}

/// A GPU, or an instance of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gpu {
    /// What it says, by key.
    pub(crate) values: BTreeMap<String, Vec<u8>>,
    /// Who uses it.
    pub(crate) processes: Vec<Process>,
    /// Its instances.
    pub(crate) instances: Vec<Gpu>,
}

/// Who uses a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    /// Whether it computes; else it draws.
    pub(crate) computes: bool,
    /// Its id.
    pub(crate) pid: u32,
    /// Its memory; `None`: that is not told.
    pub(crate) memory: Option<u64>,
}

/// What goes wrong in a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It returns this.
    Error(u32),
    /// It never returns.
    Hang,
    /// It touches memory that is not there.
    Crash,
    /// It aborts.
    Abort,
    /// It ends the process with 0.
    Exit,
    /// It writes to standard output, and goes on.
    Noise,
}

impl State {
    /// Reads the file; `None`: there is none, as if no driver were loaded.
    pub(crate) fn read() -> Option<Self> {
        let path = std::env::var_os("FAKE_NVML_STATE").map_or_else(|| PathBuf::from(STATE), PathBuf::from);
        std::fs::read(path).ok().map(|text| Self::parse(&text))
    }

    /// Reads the text.
    fn parse(text: &[u8]) -> Self {
        let mut state = Self::default();
        let mut in_instance = false;
        for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            let (key, value) = word(line);
            match key.as_str() {
                "" => {}
                comment if comment.starts_with('#') => {}
                "driver" => state.driver = Some(value.to_vec()),
                "cuda" => state.cuda = number(value).and_then(|value| value.try_into().ok()),
                "error" | "hang" | "crash" | "abort" | "exit" | "noise" => {
                    let (call, fault) = fault(&key, value);
                    state.faults.insert(call, fault);
                }
                "of" => {
                    let (index, rest) = word(value);
                    let (kind, rest) = word(rest);
                    let (call, fault) = fault(&kind, rest);
                    state.faults_of.insert((call, index.parse().unwrap_or(usize::MAX)), fault);
                }
                "calls" => state.calls = number(value),
                "gpu" => {
                    in_instance = false;
                    state.gpus.push(Gpu::default());
                }
                "mig" if value.is_empty() => {
                    in_instance = true;
                    if let Some(gpu) = state.gpus.last_mut() {
                        gpu.instances.push(Gpu::default());
                    }
                }
                _ => {
                    let gpu = state.gpus.last_mut();
                    let of = if in_instance { gpu.and_then(|gpu| gpu.instances.last_mut()) } else { gpu };
                    if let Some(of) = of {
                        of.set(key, value);
                    }
                }
            }
        }
        state
    }
}

/// Returns what goes wrong, and in which call.
fn fault(kind: &str, value: &[u8]) -> (String, Fault) {
    let (call, rest) = word(value);
    let fault = match kind {
        "hang" => Fault::Hang,
        "crash" => Fault::Crash,
        "abort" => Fault::Abort,
        "exit" => Fault::Exit,
        "noise" => Fault::Noise,
        _ => Fault::Error(number(rest).and_then(|code| code.try_into().ok()).unwrap_or(999)),
    };
    (call, fault)
}

impl Gpu {
    fn set(&mut self, key: String, value: &[u8]) {
        if key == "process" {
            let (kind, rest) = word(value);
            let (pid, memory) = word(rest);
            let pid = number(pid.as_bytes()).and_then(|pid| pid.try_into().ok()).unwrap_or(0);
            self.processes.push(Process { computes: kind == "compute", pid, memory: size(memory) });
        } else if key == "processes" {
            let count = number(value).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
            let made_up = |pid| Process { computes: true, pid, memory: Some(1 << 20) };
            self.processes.extend((1..=count).map(made_up));
        } else {
            self.values.insert(key, value.to_vec());
        }
    }

    /// Returns a text that it says.
    pub(crate) fn text(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// Returns a number, or a size, that it says.
    pub(crate) fn size(&self, key: &str) -> Option<u64> {
        size(self.text(key)?)
    }

    /// Returns a number that it says, such as `-3`, as NVML's type has it.
    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        let text = std::str::from_utf8(self.text(key)?).ok()?;
        let hex = text.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16));
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a negative one is told as it would be"
        )]
        hex.unwrap_or_else(|| text.parse()).ok().map(|value| value as u32)
    }
}

/// Returns the first word of a line, and what follows it.
fn word(line: &[u8]) -> (String, &[u8]) {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (first, rest) = line.split_at(end);
    (String::from_utf8_lossy(first).into_owned(), rest.trim_ascii())
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `12G`, `300M` or a number of bytes.
fn size(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, shift) = match (text.strip_suffix('G'), text.strip_suffix('M')) {
        (Some(digits), _) => (digits, 30),
        (_, Some(digits)) => (digits, 20),
        (None, None) => (text, 0),
    };
    digits.parse::<u64>().ok().map(|value| value << shift)
}

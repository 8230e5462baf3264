//! What `nvidia-smi` tells: its tables of comma-separated values, its long list, and its list of instances.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Fields that are asked for, in their order (`nvidia-smi --help-query-gpu`).
const FIELDS: [&str; 14] = [
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "driver_version",
    "memory.total",
    "memory.reserved",
    "memory.used",
    "temperature.gpu",
    "power.draw",
    "enforced.power.limit",
    "utilization.gpu",
    "utilization.memory",
    "mig.mode.current",
];

/// Everything that it tells.
#[derive(Clone, Debug, Default)]
pub struct Smi {
    /// The GPUs, in its order.
    pub gpus: Vec<SmiGpu>,
    /// The version of CUDA.
    pub cuda: Option<String>,
    /// Who computes: the GPU, the process, and its memory in MiB.
    pub processes: Vec<(String, u32, Option<f64>)>,
    /// The instances, in its order.
    pub instances: Vec<String>,
    /// Lines of the long list, by GPU and name.
    details: BTreeMap<(String, String), String>,
}

/// What it tells of one GPU, by field.
#[derive(Clone, Debug, Default)]
pub struct SmiGpu(BTreeMap<&'static str, String>);

impl SmiGpu {
    /// Returns a field, if this GPU has it.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str).filter(|text| is_told(text))
    }

    /// Returns a field that is a figure.
    #[must_use]
    pub fn figure(&self, field: &str) -> Option<f64> {
        figure(self.text(field)?)
    }
}

impl Smi {
    /// Asks a program of that name.
    ///
    /// # Errors
    /// When it cannot be started, fails, or tells something else than it was asked for.
    pub fn ask(program: &str) -> Result<Self> {
        let fields = format!("--query-gpu={}", FIELDS.join(","));
        let csv = "--format=csv,noheader,nounits";
        let gpus = gpus(&run(program, &[&fields, csv])?)?;
        let processes = run(program, &["--query-compute-apps=gpu_uuid,pid,used_gpu_memory", csv])?;
        let long = run(program, &["-q"])?;
        let list = run(program, &["-L"])?;
        let (details, cuda) = details(&long);
        Ok(Self { gpus, cuda, processes: self::processes(&processes)?, instances: instances(&list), details })
    }

    /// Returns a line of the long list.
    #[must_use]
    pub fn detail(&self, uuid: &str, name: &str) -> Option<&str> {
        self.details.get(&(uuid.to_owned(), name.to_owned())).map(String::as_str).filter(|text| is_told(text))
    }
}

/// Returns the number that a text begins with: `95 C`.
pub(super) fn figure(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{program} {} failed: {}", arguments.join(" "), text.trim());
    Ok(text)
}

fn gpus(text: &str) -> Result<Vec<SmiGpu>> {
    let line = |line: &str| {
        let values: Vec<String> = line.split(", ").map(|value| value.trim().to_owned()).collect();
        ensure!(
            values.len() == FIELDS.len(),
            "{} values were asked for, and this is the answer: {line}",
            FIELDS.len()
        );
        Ok(SmiGpu(FIELDS.into_iter().zip(values).collect()))
    };
    text.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

fn processes(text: &str) -> Result<Vec<(String, u32, Option<f64>)>> {
    let line = |line: &str| {
        let values: Vec<&str> = line.split(", ").map(str::trim).collect();
        let [uuid, pid, memory] = values.as_slice() else { anyhow::bail!("this is no process: {line}") };
        let pid = pid.parse().with_context(|| format!("this is no process: {line}"))?;
        Ok(((*uuid).to_owned(), pid, figure(memory)))
    };
    text.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

/// Reads the long list. What is of a GPU comes below the line that begins with it, its UUID among the first.
fn details(text: &str) -> (BTreeMap<(String, String), String>, Option<String>) {
    let (mut found, mut uuid, mut cuda) = (BTreeMap::new(), String::new(), None);
    for line in text.lines() {
        if line.starts_with("GPU ") {
            uuid.clear();
        }
        let Some((name, value)) = line.split_once(" : ") else { continue };
        let (name, value) = (name.trim(), value.trim());
        if name == "GPU UUID" {
            value.clone_into(&mut uuid);
        } else if name == "CUDA Version" {
            cuda = Some(value.to_owned());
        } else if !uuid.is_empty() {
            found.entry((uuid.clone(), name.to_owned())).or_insert_with(|| value.to_owned());
        }
    }
    (found, cuda)
}

/// Reads the names of instances: `  MIG 1g.5gb     Device  0: (UUID: MIG-…)`.
fn instances(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, uuid) = line.trim().strip_prefix("MIG ")?.split_once("(UUID: ")?;
        Some(uuid.trim_end_matches(')').to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// Returns whether a value is one: `[N/A]`, `[Not Supported]` and `[Unknown Error]` are none.
fn is_told(text: &str) -> bool {
    !text.is_empty() && text != "N/A" && !text.starts_with('[')
}

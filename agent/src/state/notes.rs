//! What outlives a generation and is no part of it: holds, which specification of a job succeeded, restarts that were
//! accepted and are not done, which generations proved good, what services were given of the GPUs, and what models were measured to take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nixmox_core::model::{
    Bytes, ContainerName, ExitRecord, GpuId, GpuMount, Grant, Hold, InvocationId, Spec, StackName, Vendor, Word,
};
use nixmox_core::offload::arbiter::Load;
use nixmox_core::offload::estimate::KvType;
use serde::{Deserialize, Serialize};

use super::StateError;

const FORMAT: u64 = 1;

/// Successes of earlier specifications that are remembered of a job.
const EARLIER_MAX: usize = 16;

/// Generations of a stack that are remembered as good.
const GOOD_MAX: usize = 500;

/// Loads of models of which it is remembered what they were measured to take.
pub const MEASURED_MAX: usize = 500;

/// The notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Services held back by `stop`.
    pub holds: BTreeMap<ContainerName, Hold>,
    /// The last success of each job.
    pub completed: BTreeMap<ContainerName, ExitRecord>,
    /// Instances that `restart` asked to replace: an agent that dies forgets nothing that it has accepted.
    pub restarts: BTreeMap<ContainerName, InvocationId>,
    /// Successes of earlier specifications of each job, the newest last: one that comes back does not run again.
    pub earlier: BTreeMap<ContainerName, Vec<ExitRecord>>,
    /// By stack, the generations whose change of it has proven good: the newest few hundred.
    pub good: BTreeMap<StackName, BTreeSet<u64>>,
    /// What each service was last given of the GPUs: what runs goes on with it while nobody can look at them.
    pub grants: BTreeMap<ContainerName, Grant>,
    /// What each service was seen to need of their memory.
    pub vram: BTreeMap<ContainerName, VramSeen>,
    /// What loads of models were measured to take of it, the oldest first, each once; at most [`MEASURED_MAX`].
    pub measured: Vec<(Load, Bytes)>,
}

/// The most video memory that was seen of a service, over all of its GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VramSeen {
    /// Which run was seen last.
    pub invocation: InvocationId,
    /// The most in that run.
    pub most: Bytes,
    /// The most in the run before it.
    pub most_before: Bytes,
}

impl VramSeen {
    /// Returns what it is to be expected to need: the most of its last two runs, since the one that goes on may still grow.
    #[must_use]
    pub fn expected(&self) -> Bytes {
        self.most.max(self.most_before)
    }
}

/// The file `notes.json`.
#[derive(Clone, Debug)]
pub struct NotesFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    format: u64,
    holds: BTreeMap<String, HoldOnDisk>,
    completed: BTreeMap<String, CompletedOnDisk>,
    /// Invocation IDs by name.
    #[serde(default)]
    restarts: BTreeMap<String, String>,
    /// By name, the oldest first.
    #[serde(default)]
    earlier: BTreeMap<String, Vec<CompletedOnDisk>>,
    /// Generations by stack.
    #[serde(default)]
    good: BTreeMap<String, BTreeSet<u64>>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    grants: BTreeMap<String, GrantOnDisk>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vram: BTreeMap<String, VramOnDisk>,
    /// The oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    measured: Vec<MeasuredOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct GrantOnDisk {
    vendor: String,
    gpus: Vec<String>,
    budget: Option<u64>,
    nodes: Vec<PathBuf>,
    /// Source and target.
    mounts: Vec<(PathBuf, PathBuf)>,
    environment: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct VramOnDisk {
    invocation: String,
    most: u64,
    most_before: u64,
}

#[derive(Serialize, Deserialize)]
struct MeasuredOnDisk {
    /// Digest or name.
    model: String,
    context: u32,
    parallel: u32,
    /// In llama.cpp's word.
    kv: String,
    layers: u32,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct HoldOnDisk {
    by: String,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct CompletedOnDisk {
    invocation: String,
    spec: String,
}

impl NotesFile {
    /// Returns the notes below this folder (`/var/lib/nixmox`); the file need not exist.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("notes.json") }
    }

    /// Reads the notes; none are there before the first write.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load(&self) -> Result<Notes, StateError> {
        Ok(super::read::<OnDisk>(&self.path, FORMAT)?.map(Notes::from).unwrap_or_default())
    }

    /// Writes the notes.
    ///
    /// # Errors
    /// When they could not be written; the file is then as it was.
    pub fn write(&self, notes: &Notes) -> Result<(), StateError> {
        super::write(&self.path, &OnDisk::from(notes))
    }

    /// Writes the notes beside the file, to be put in its place a little later.
    ///
    /// # Errors
    /// When they could not be written; nothing is left behind then.
    pub fn prepare(&self, notes: &Notes) -> Result<Prepared, StateError> {
        Ok(Prepared { path: self.path.clone(), file: super::prepare(&self.path, &OnDisk::from(notes))? })
    }
}

/// Notes that are written and do not count yet; dropped, they never will.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    file: crate::disk::Prepared,
}

impl Prepared {
    /// Lets them count.
    ///
    /// # Errors
    /// When the file could not be put in its place; it is then as it was.
    pub fn commit(self) -> Result<(), StateError> {
        self.file.commit().map_err(super::not_written(&self.path))
    }
}

impl Notes {
    /// Notes that a job succeeded.
    pub fn complete(&mut self, name: &ContainerName, exit: &ExitRecord) {
        let before = self.completed.insert(name.clone(), exit.clone());
        let Some(before) = before.filter(|before| before.spec != exit.spec) else { return };
        let earlier = self.earlier.entry(name.clone()).or_default();
        earlier.retain(|other| other.spec != before.spec && other.spec != exit.spec);
        earlier.push(before);
        if earlier.len() > EARLIER_MAX {
            earlier.remove(0);
        }
    }

    /// Returns the success of a job with this specification; `None`: it never succeeded, or too long ago.
    #[must_use]
    pub fn completed_before(&self, name: &ContainerName, spec: &Spec) -> Option<&ExitRecord> {
        let earlier = self.earlier.get(name).into_iter().flatten();
        self.completed.get(name).into_iter().chain(earlier).find(|exit| exit.spec.as_ref() == Some(spec))
    }

    /// Returns whether the change of a stack in a generation has proven good.
    #[must_use]
    pub fn is_good(&self, stack: &StackName, generation: u64) -> bool {
        self.good.get(stack).is_some_and(|good| good.contains(&generation))
    }

    /// Notes that the change of a stack in a generation has proven good.
    pub fn prove(&mut self, stack: &StackName, generation: u64) {
        let good = self.good.entry(stack.clone()).or_default();
        good.insert(generation);
        while good.len() > GOOD_MAX {
            good.pop_first();
        }
    }

    /// Forgets what is about services that are not declared: it ended with them.
    pub fn retain_declared(&mut self, declared: impl Fn(&ContainerName) -> bool) {
        // What a stack was once stays true when it is gone.
        // Nor does a service need less video memory when it comes back, or a model.
        let Self { holds, completed, restarts, earlier, good: _, grants, vram: _, measured: _ } = self;
        grants.retain(|name, _| declared(name));
        holds.retain(|name, _| declared(name));
        completed.retain(|name, _| declared(name));
        earlier.retain(|name, _| declared(name));
        restarts.retain(|name, _| declared(name));
    }
}

impl From<OnDisk> for Notes {
    /// An entry that makes no sense is dropped: a hold less is a service that runs as declared.
    fn from(disk: OnDisk) -> Self {
        let hold =
            |(name, hold): (String, HoldOnDisk)| Some((name.parse().ok()?, Hold { by: hold.by, at: hold.at }));
        let record = |job: CompletedOnDisk| {
            Some(ExitRecord {
                invocation: invocation(&job.invocation)?,
                spec: Some(job.spec.parse::<Spec>().ok()?),
                result: "success".to_owned(),
                status: "0".to_owned(),
                stopped: false,
                oom_kills: 0,
            })
        };
        let completed = |(name, job): (String, CompletedOnDisk)| Some((name.parse().ok()?, record(job)?));
        let earlier = |(name, jobs): (String, Vec<CompletedOnDisk>)| {
            Some((name.parse().ok()?, jobs.into_iter().filter_map(record).collect()))
        };
        Self {
            holds: disk.holds.into_iter().filter_map(hold).collect(),
            completed: disk.completed.into_iter().filter_map(completed).collect(),
            earlier: disk.earlier.into_iter().filter_map(earlier).collect(),
            restarts: disk
                .restarts
                .iter()
                .filter_map(|(name, id)| Some((name.parse().ok()?, invocation(id)?)))
                .collect(),
            good: disk.good.into_iter().filter_map(|(name, good)| Some((name.parse().ok()?, good))).collect(),
            grants: disk
                .grants
                .into_iter()
                .filter_map(|(name, grant)| Some((name.parse().ok()?, grant.into_grant()?)))
                .collect(),
            vram: disk
                .vram
                .into_iter()
                .filter_map(|(name, seen)| Some((name.parse().ok()?, seen.into_seen()?)))
                .collect(),
            measured: disk.measured.into_iter().filter_map(MeasuredOnDisk::into_load).collect(),
        }
    }
}

impl From<&Notes> for OnDisk {
    fn from(notes: &Notes) -> Self {
        let hold = |(name, hold): (&ContainerName, &Hold)| {
            (name.to_string(), HoldOnDisk { by: hold.by.clone(), at: hold.at })
        };
        let on_disk = |record: &ExitRecord| {
            let spec = record.spec.as_ref()?.to_string();
            Some(CompletedOnDisk { invocation: record.invocation.to_string(), spec })
        };
        let completed = |(name, record): (&ContainerName, &ExitRecord)| Some((name.to_string(), on_disk(record)?));
        let earlier = |(name, records): (&ContainerName, &Vec<ExitRecord>)| {
            (name.to_string(), records.iter().filter_map(on_disk).collect())
        };
        Self {
            format: FORMAT,
            holds: notes.holds.iter().map(hold).collect(),
            completed: notes.completed.iter().filter_map(completed).collect(),
            earlier: notes.earlier.iter().map(earlier).collect(),
            restarts: notes.restarts.iter().map(|(name, id)| (name.to_string(), id.to_string())).collect(),
            good: notes.good.iter().map(|(name, good)| (name.to_string(), good.clone())).collect(),
            grants: notes.grants.iter().map(|(name, grant)| (name.to_string(), grant.into())).collect(),
            vram: notes.vram.iter().map(|(name, seen)| (name.to_string(), seen.into())).collect(),
            measured: notes.measured.iter().map(MeasuredOnDisk::from).collect(),
        }
    }
}

impl GrantOnDisk {
    /// Returns the grant; `None` when a part of it makes no sense: it is then given out anew.
    fn into_grant(self) -> Option<Grant> {
        let gpus: Option<Vec<GpuId>> = self.gpus.iter().map(|id| id.parse().ok()).collect();
        Some(Grant {
            vendor: Vendor::from_word(&self.vendor).ok()?,
            gpus: gpus.filter(|gpus| !gpus.is_empty())?,
            budget: self.budget.map(Bytes),
            nodes: self.nodes,
            mounts: self.mounts.into_iter().map(|(source, target)| GpuMount { source, target }).collect(),
            environment: self.environment,
        })
    }
}

impl From<&Grant> for GrantOnDisk {
    fn from(grant: &Grant) -> Self {
        let Grant { vendor, gpus, budget, nodes, mounts, environment } = grant;
        Self {
            vendor: vendor.as_word().to_owned(),
            gpus: gpus.iter().map(ToString::to_string).collect(),
            budget: budget.map(|budget| budget.0),
            nodes: nodes.clone(),
            mounts: mounts.iter().map(|mount| (mount.source.clone(), mount.target.clone())).collect(),
            environment: environment.clone(),
        }
    }
}

impl VramOnDisk {
    fn into_seen(self) -> Option<VramSeen> {
        let invocation = invocation(&self.invocation)?;
        Some(VramSeen { invocation, most: Bytes(self.most), most_before: Bytes(self.most_before) })
    }
}

impl From<&VramSeen> for VramOnDisk {
    fn from(seen: &VramSeen) -> Self {
        let VramSeen { invocation, most, most_before } = *seen;
        Self { invocation: invocation.to_string(), most: most.0, most_before: most_before.0 }
    }
}

impl MeasuredOnDisk {
    fn into_load(self) -> Option<(Load, Bytes)> {
        let Self { model, context, parallel, kv, layers, bytes } = self;
        let load = Load { model, context, parallel, kv: KvType::from_word(&kv)?, layers };
        Some((load, Bytes(bytes)))
    }
}

impl From<&(Load, Bytes)> for MeasuredOnDisk {
    fn from((load, bytes): &(Load, Bytes)) -> Self {
        let Load { model, context, parallel, kv, layers } = load;
        Self {
            model: model.clone(),
            context: *context,
            parallel: *parallel,
            kv: kv.as_word().to_owned(),
            layers: *layers,
            bytes: bytes.0,
        }
    }
}

fn invocation(text: &str) -> Option<InvocationId> {
    u128::from_str_radix(text, 16).ok().map(InvocationId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(kv: KvType) -> Load {
        Load { model: "sha256:1".to_owned(), context: 8192, parallel: 2, kv, layers: 33 }
    }

    #[test]
    fn notes_read_back() {
        let state = tempfile::tempdir().unwrap();
        let file = NotesFile::new(state.path());
        assert_eq!(file.load().unwrap(), Notes::default());
        let job = ExitRecord {
            invocation: InvocationId(7),
            spec: "system:0000002a".parse().ok(),
            result: "success".to_owned(),
            status: "0".to_owned(),
            stopped: false,
            oom_kills: 0,
        };
        let notes = Notes {
            holds: BTreeMap::from([("web".parse().unwrap(), Hold { by: "anna".to_owned(), at: 5 })]),
            earlier: BTreeMap::from([("migrate".parse().unwrap(), vec![job.clone()])]),
            completed: BTreeMap::from([("migrate".parse().unwrap(), job)]),
            restarts: BTreeMap::from([("db".parse().unwrap(), InvocationId(9))]),
            good: BTreeMap::from([("cloud".parse().unwrap(), BTreeSet::from([3, 4]))]),
            grants: BTreeMap::from([(
                "ollama".parse().unwrap(),
                Grant {
                    vendor: Vendor::Nvidia,
                    gpus: vec!["GPU-1".parse().unwrap()],
                    budget: Some(Bytes(1 << 30)),
                    nodes: vec!["/dev/nvidia1".into(), "/dev/nvidiactl".into()],
                    mounts: vec![GpuMount { source: "/usr/lib".into(), target: "/run/host/gpu/0".into() }],
                    environment: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
                },
            )]),
            vram: BTreeMap::from([(
                "ollama".parse().unwrap(),
                VramSeen { invocation: InvocationId(11), most: Bytes(7), most_before: Bytes(9) },
            )]),
            measured: [(KvType::Q8_0, 5), (KvType::F16, 3)].map(|(kv, gib)| (load(kv), Bytes(gib << 30))).to_vec(),
        };
        file.write(&notes).unwrap();
        assert_eq!(file.load().unwrap(), notes);
    }

    #[test]
    fn notes_of_an_earlier_version_are_read() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("notes.json"), r#"{"format":1,"holds":{},"completed":{}}"#).unwrap();
        assert_eq!(NotesFile::new(state.path()).load().unwrap(), Notes::default());
    }
}

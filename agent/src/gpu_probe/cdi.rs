//! CDI specifications (Container Device Interface, 1.1): what vendors' tools say that a container needs of the host.
//!
//! They are imported and compared, and never the only source: a file that was made before the module was loaded anew, or before the driver
//! was replaced, is common, and names numbers and libraries that are not there any more. What they want bound beside a driver's user space
//! is; what does not agree with the machine is told. Hooks and environment are for other runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use nixmox_core::gpu::{Node, UserSpace};
use nixmox_core::model::{GpuMount, Vendor, Word as _};
use serde_json::{Map, Value};

use super::document;
use crate::host::line;
use crate::host::paths::Paths;

/// Where they are; the later goes first.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Most files of a folder, mounts and complaints of a vendor.
const FILES_MAX: usize = 64;
const MOUNTS_MAX: usize = 256;
const COMPLAINTS_MAX: usize = 32;
/// Where guests have something of their own, or of ours: nothing is bound over it.
const TARGETS_KEPT: [&str; 10] =
    ["/", "/nix", "/run", "/proc", "/sys", "/dev", "/etc", "/usr", "/var", "/run/opengl-driver"];
/// The store, which guests share.
const STORE: &str = "/nix/store";
/// Fields that the specification knows, by place.
const FIELDS: [&str; 5] = ["cdiVersion", "kind", "annotations", "devices", "containerEdits"];
const DEVICE_FIELDS: [&str; 3] = ["name", "annotations", "containerEdits"];
const EDITS_FIELDS: [&str; 7] =
    ["env", "deviceNodes", "mounts", "hooks", "additionalGids", "intelRdt", "netDevices"];
const NODE_FIELDS: [&str; 9] =
    ["path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"];
const MOUNT_FIELDS: [&str; 4] = ["hostPath", "containerPath", "options", "type"];

/// What all files say, by vendor.
#[derive(Debug, Default)]
pub(super) struct Specifications(BTreeMap<Vendor, Specification>);

/// What the files of one vendor say.
#[derive(Debug, Default)]
struct Specification {
    /// What each device adds, by name, and under no name what all add. From a later folder it replaces that of an earlier one.
    edits: BTreeMap<(String, Option<String>), Edits>,
    complaints: Vec<String>,
}

/// What a device adds to a container.
#[derive(Debug)]
struct Edits {
    /// The file, for people.
    file: PathBuf,
    nodes: Vec<(PathBuf, Option<(u32, u32)>)>,
    mounts: Vec<GpuMount>,
}

impl Specifications {
    /// Reads all files.
    pub(super) fn read(paths: &Paths) -> Self {
        let mut all = Self::default();
        for folder in FOLDERS {
            let Ok(entries) = fs::read_dir(paths.host_path(Path::new(folder))) else { continue };
            let mut names = BTreeSet::new();
            names
                .extend(entries.take(FILES_MAX).flatten().filter_map(|entry| entry.file_name().into_string().ok()));
            for name in names {
                let file = Path::new(folder).join(name);
                let extension = file.extension().map(OsStr::as_encoded_bytes);
                let is_json = extension == Some(b"json");
                if is_json || extension == Some(b"yaml") || extension == Some(b"yml") {
                    all.add(paths, &file, is_json);
                }
            }
        }
        all
    }

    fn add(&mut self, paths: &Paths, file: &Path, is_json: bool) {
        let read = text(&paths.host_path(file)).and_then(|text| document::parse(&text, is_json));
        let value = match read {
            Ok(Value::Object(value)) => value,
            Ok(_) => return self.complain(vendors_of_name(file), file, "it is no mapping"),
            Err(why) => return self.complain(vendors_of_name(file), file, &format!("it cannot be read: {why}")),
        };
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(vendor) = vendor(kind) else {
            // Other hardware has files there as well.
            if kind.is_empty() {
                self.complain(vendors_of_name(file), file, "it has no `kind`");
            }
            return;
        };
        let specification = self.0.entry(vendor).or_default();
        if !value.get("cdiVersion").is_some_and(Value::is_string) {
            specification.complain(file, "it has no `cdiVersion`");
        }
        specification.check_fields(file, &value, &FIELDS);
        if let Some(edits) = value.get("containerEdits") {
            specification.add_edits(file, (kind.to_owned(), None), edits);
        }
        for device in value.get("devices").and_then(Value::as_array).into_iter().flatten() {
            let name = device.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            specification.check_fields(file, device.as_object().unwrap_or(&Map::new()), &DEVICE_FIELDS);
            if let Some(edits) = device.get("containerEdits") {
                specification.add_edits(file, (kind.to_owned(), Some(name)), edits);
            }
        }
    }

    fn complain(&mut self, vendors: Vec<Vendor>, file: &Path, what: &str) {
        for vendor in vendors {
            self.0.entry(vendor).or_default().complain(file, what);
        }
    }

    /// Returns what a vendor's files want bound beside its user space, sorted by target and each target once, and what of them does not
    /// agree with the machine. `nodes` are those of the driver and its GPUs.
    pub(super) fn judge(
        &self,
        vendor: Vendor,
        nodes: &[Node],
        user_space: &UserSpace,
        paths: &Paths,
    ) -> (Vec<GpuMount>, Vec<String>) {
        let Some(specification) = self.0.get(&vendor) else { return (Vec::new(), Vec::new()) };
        let mut judge =
            Judge { paths, nodes, complaints: specification.complaints.clone(), mounts: BTreeMap::new() };
        for edits in specification.edits.values() {
            judge.nodes_of(edits);
            judge.mounts_of(edits, user_space);
        }
        let mut files = BTreeSet::new();
        files.extend(specification.edits.values().map(|edits| edits.file.as_path()));
        if let [file] = files.into_iter().collect::<Vec<_>>().as_slice() {
            judge.missing(specification, file);
        }
        judge.complaints.truncate(COMPLAINTS_MAX);
        let mounts = judge.mounts.into_iter().take(MOUNTS_MAX);
        (mounts.map(|(target, source)| GpuMount { source, target }).collect(), judge.complaints)
    }
}

impl Specification {
    fn complain(&mut self, file: &Path, what: &str) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(line::clean(&format!("{}: {what}", file.display())));
        }
    }

    /// Complains of fields that are not known: what they want is not done.
    fn check_fields(&mut self, file: &Path, object: &Map<String, Value>, known: &[&str]) {
        for field in object.keys().filter(|field| !known.contains(&field.as_str())) {
            let what = format!("the field `{field}` is not known");
            if !self.complaints.iter().any(|complaint| complaint.ends_with(&line::clean(&what))) {
                self.complain(file, &what);
            }
        }
    }

    fn add_edits(&mut self, file: &Path, of: (String, Option<String>), edits: &Value) {
        let Some(edits) = edits.as_object() else { return self.complain(file, "`containerEdits` is no mapping") };
        self.check_fields(file, edits, &EDITS_FIELDS);
        let list = |key: &str| edits.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut nodes = Vec::new();
        for node in list("deviceNodes") {
            let Some(node) = node.as_object() else { continue };
            self.check_fields(file, node, &NODE_FIELDS);
            let path = absolute(node.get("hostPath")).or_else(|| absolute(node.get("path")));
            let Some(path) = path else {
                self.complain(file, "a device node has no absolute path");
                continue;
            };
            let number =
                |key: &str| node.get(key).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
            // 0 is what tools write that do not know (OCI runtime specification, "Devices").
            let number = number("major").zip(number("minor")).filter(|number| *number != (0, 0));
            nodes.push((path, number));
        }
        let mut mounts = Vec::new();
        for mount in list("mounts") {
            let Some(mount) = mount.as_object() else { continue };
            self.check_fields(file, mount, &MOUNT_FIELDS);
            match (absolute(mount.get("hostPath")), absolute(mount.get("containerPath"))) {
                (Some(source), Some(target)) => mounts.push(GpuMount { source, target }),
                // Of another kind, such as `tmpfs`.
                _ if mount.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "bind") => {}
                _ => self.complain(file, "a mount has no absolute paths"),
            }
        }
        let edits = Edits { file: file.to_owned(), nodes, mounts };
        if let Some(earlier) = self.edits.insert(of.clone(), edits)
            && earlier.file.parent() == file.parent()
        {
            let name = of.1.map_or_else(|| "what all have".to_owned(), |name| format!("the device `{name}`"));
            self.complain(file, &format!("{name} is in {} as well", earlier.file.display()));
        }
    }
}

/// Specifications beside the machine.
struct Judge<'a> {
    paths: &'a Paths,
    nodes: &'a [Node],
    complaints: Vec<String>,
    /// By target.
    mounts: BTreeMap<PathBuf, PathBuf>,
}

impl Judge<'_> {
    fn complain(&mut self, file: &Path, what: &str) {
        let complaint = line::clean(&format!("{}: {what}", file.display()));
        if self.complaints.len() < COMPLAINTS_MAX && !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    fn nodes_of(&mut self, edits: &Edits) {
        for (path, number) in &edits.nodes {
            let live = self.nodes.iter().find(|node| node.path == *path).and_then(|node| node.number);
            if let (Some((major, minor)), Some((live_major, live_minor))) = (number, live)
                && (*major, *minor) != (live_major, live_minor)
            {
                let what = format!(
                    "{} is {major}:{minor} there and {live_major}:{live_minor} in the running kernel",
                    path.display()
                );
                self.complain(&edits.file, &what);
            }
            if !self.paths.host_path(path).exists() {
                self.complain(&edits.file, &format!("the device {} is not there", path.display()));
            }
        }
    }

    fn mounts_of(&mut self, edits: &Edits, user_space: &UserSpace) {
        for GpuMount { source, target } in &edits.mounts {
            if is_covered(source, target, user_space) {
                continue;
            }
            if !self.paths.host_path(source).exists() {
                self.complain(&edits.file, &format!("{} is not there, and so is not bound", source.display()));
            } else if TARGETS_KEPT.iter().any(|kept| target == Path::new(kept)) {
                self.complain(&edits.file, &format!("nothing is bound over {}", target.display()));
            } else {
                self.mounts.insert(target.clone(), source.clone());
            }
        }
    }

    /// Complains of nodes that are needed and not named: the module that they are of was not loaded when the file was made.
    fn missing(&mut self, specification: &Specification, file: &Path) {
        let mut named = BTreeSet::new();
        named.extend(specification.edits.values().flat_map(|edits| edits.nodes.iter().map(|(path, _)| path)));
        for node in self.nodes {
            if !node.optional && node.number.is_some() && !named.contains(&&node.path) {
                self.complain(file, &format!("{} is needed and not named there", node.path.display()));
            }
        }
    }
}

/// Returns whether guests have a file without the mount.
fn is_covered(source: &Path, target: &Path, user_space: &UserSpace) -> bool {
    let is_of_driver = match user_space {
        UserSpace::None => false,
        UserSpace::OpenglDriver => source.starts_with("/run/opengl-driver"),
        UserSpace::Libraries(folders) => folders.iter().any(|folder| source.starts_with(folder)),
    };
    is_of_driver || (source.starts_with(STORE) && source == target)
}

/// Reads a file, if it is one and not too long.
fn text(file: &Path) -> Result<String, String> {
    // A pipe would never answer.
    let meta = fs::metadata(file).map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > document::BYTES_MAX {
        return Err("it is no file, or too long".to_owned());
    }
    let mut text = String::new();
    let open = fs::File::open(file).map_err(|error| error.to_string())?;
    open.take(document::BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Returns an absolute path without `..` and control characters.
fn absolute(value: Option<&Value>) -> Option<PathBuf> {
    let text = value?.as_str()?;
    let path = Path::new(text);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let fits = text.len() < 1024 && !text.chars().any(char::is_control);
    (path.is_absolute() && is_plain && fits).then(|| path.components().collect())
}

/// Returns whose a kind such as `nvidia.com/gpu` is.
fn vendor(kind: &str) -> Option<Vendor> {
    let (owner, _) = kind.split_once('/')?;
    Vendor::ALL.iter().copied().find(|vendor| {
        let domain = owner.strip_suffix(".com").unwrap_or(owner);
        domain.rsplit('.').next() == Some(vendor.as_word())
    })
}

/// Returns whose a file may be that does not say so: whom its name names, or anybody.
fn vendors_of_name(file: &Path) -> Vec<Vendor> {
    let name = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let named: Vec<Vendor> = Vendor::ALL.iter().copied().filter(|vendor| name.contains(vendor.as_word())).collect();
    if named.is_empty() { Vendor::ALL.to_vec() } else { named }
}

//! One service: name, system and everything without a group of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Candidate, Declared, Scope, SystemRef, adopted, flags, health, limits, network, offload, storage};
use crate::manifest::form::{Entry, Located, Misfit};
use crate::manifest::v1;
use crate::manifest::value;
use crate::model::{ContainerName, Device, GpuDevices, GpuId, GpuShare, Origin, Service, StackName};

/// Longest value of an environment variable: far below what the kernel passes to a program at once.
const ENVIRONMENT_LENGTH_MAX: usize = 32 * 1024;

/// How much of a refused name a proposed one keeps: with `my-` in front it has at most 63 characters.
const NAME_KEPT: usize = 60;

/// Makes a candidate of what is written; always does, unless the stack has no name to give it.
///
/// `key` is the name, or the folder of an included file with an empty span.
pub(super) fn resolve<'a>(
    scope: &mut Scope<'a>,
    key: &Located<String>,
    written: &'a v1::Service,
    stack: Option<&StackName>,
) -> Option<Candidate<'a>> {
    let adopt = written.adopt.get().copied().unwrap_or(false);
    let name = name(scope, key, adopt)?;
    // An adopted container that says it is a job was complained about.
    let kind = written.kind.get().copied().filter(|_| !adopt).unwrap_or_default();
    if adopt {
        adopted::check(scope, written);
    }
    let network = network::resolve(scope, written.network.get());
    let (mounts, tmpfs) = storage::resolve(scope, written);
    let gpu = written.gpu.get().map(|gpu| share(scope, gpu));
    let offload = offload::resolve(scope, written, kind, (&name, &network.network));

    let service = Service {
        // Without a name the stack is refused; its services are looked at all the same.
        stack: stack.cloned().or_else(|| "unnamed".parse().ok())?,
        origin: origin(scope, key, written),
        kind,
        system: system(scope, key, written, adopt),
        depends_on: BTreeMap::new(),
        dependency_stacks: BTreeMap::new(),
        health: health::resolve(scope, written, kind),
        limits: written.limits.get().map(|limits| limits::resolve(scope, limits)).unwrap_or_default(),
        ports: network.ports,
        network: network.network,
        mounts,
        tmpfs,
        credentials: storage::credentials(scope, written),
        environment: environment(scope, written),
        devices: devices(scope, written),
        gpu,
        offload,
        capabilities: capabilities(written),
        ephemeral: written.ephemeral.get().copied().unwrap_or(false),
        private_users: written.private_users.get().copied().unwrap_or_default(),
        nspawn_flags: flags::resolve(scope, written),
        restart: health::restart(scope, written, kind),
        name,
    };
    let declared = Declared { service };
    Some(Candidate { source: scope.source, span: key.span.clone(), written, declared })
}

fn origin(scope: &Scope<'_>, key: &Located<String>, written: &v1::Service) -> Origin {
    let health = written.keys.iter().find(|known| known.value == "health");
    Origin {
        file: scope.source.name().to_owned(),
        line: scope.source.line(key.span.start),
        health_line: health.map_or(0, |key| scope.source.line(key.span.start)),
    }
}

/// Checks a name, and returns it or one that stands for it from here on.
fn name(scope: &mut Scope<'_>, key: &Located<String>, adopt: bool) -> Option<ContainerName> {
    let text = key.value.as_str();
    let refused = match text.parse::<ContainerName>() {
        Err(error) => Some(error.to_string()),
        Ok(_) if adopt => None,
        Ok(_) => host_name_fault(text).map(|why| format!("`{text}` cannot be a host name: {why}")),
    };
    let similar: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_KEPT)
        .collect();
    let similar = similar.trim_matches('-');
    let similar = if similar.is_empty() || host_name_fault(similar).is_some() {
        format!("my-{}", if similar.is_empty() { "service" } else { similar })
    } else {
        similar.to_owned()
    };
    let Some(message) = refused else { return text.parse().ok() };
    let error = scope.error(&key.span, message);
    scope.report(if key.span.is_empty() {
        error.help(format!("the service is named after its folder; rename it, for example to `{similar}`"))
    } else {
        error.help(format!("for example `{similar}`"))
    });
    similar.parse().ok()
}

/// Says why a container's name cannot be its host name too; `None` when it can.
fn host_name_fault(name: &str) -> Option<&'static str> {
    // hostname(7): labels of letters, digits and hyphens. Resolvers take numbers for addresses (inet_aton(3)), and
    // these names for the machine itself or its router (nss-myhostname(8)).
    let number = |text: &str, radix: u32| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if name.chars().any(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')) {
        Some("only lower-case letters, digits and `-` are allowed")
    } else if name.ends_with('-') || name.starts_with('-') {
        Some("it must start and end with a letter or a digit")
    } else if number(name, 10) || name.strip_prefix("0x").is_some_and(|digits| number(digits, 16)) {
        Some("a number means an address")
    } else if matches!(name, "localhost" | "gateway") {
        Some("this name is taken by every machine itself")
    } else {
        None
    }
}

fn system(scope: &mut Scope<'_>, key: &Located<String>, written: &v1::Service, adopt: bool) -> SystemRef {
    let Some(located) = written.system.located() else {
        if !adopt && written.system.is_absent() && !matches!(written.adopt, Entry::Unreadable) {
            let error = scope.error(&key.span, format!("`{}` has no `system`", key.value));
            scope.report(error.help(format!(
                "add `system = \".#{}\"` or `system = \"./result\"`; `adopt = true` takes a container that is there",
                key.value
            )));
        }
        return SystemRef::Adopted;
    };
    let folder = scope.source.folder().to_path_buf();
    let (text, make): (&String, fn(std::path::PathBuf) -> SystemRef) = match &located.value {
        v1::System::Flake(installable) => return SystemRef::Flake { installable: installable.clone(), folder },
        v1::System::StorePath(path) => return SystemRef::StorePath(path.clone()),
        v1::System::Module(text) => (text, SystemRef::Module),
        v1::System::Link(text) => (text, SystemRef::Link),
    };
    // Only nix and the file system see this path: blanks and the like are harmless.
    make(value::lexical(&folder, text))
}

fn environment(scope: &mut Scope<'_>, written: &v1::Service) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for (key, value) in written.environment.get().iter().flat_map(|map| &map.0) {
        let name = key.value.as_str();
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(known) {
            let error = scope.error(&key.span, format!("`{}` is not the name of a variable", name.escape_debug()));
            scope.report(error.help("letters, digits and `_`, not starting with a digit"));
        }
        let control = value.value.char_indices().find(|(_, c)| c.is_control());
        if let Some((at, c)) = control {
            let misfit = Misfit::new(format!("`{}` cannot occur in the value of a variable", c.escape_default()));
            scope.fit::<()>(
                value,
                Err(misfit.at(at..at + c.len_utf8()).help("a longer text belongs in a file: `mounts`")),
            );
        } else if value.value.len() > ENVIRONMENT_LENGTH_MAX {
            let error =
                scope.error(&value.span, format!("the value is longer than {ENVIRONMENT_LENGTH_MAX} bytes"));
            scope.report(error.help("a longer text belongs in a file: `mounts`"));
        }
        environment.insert(key.value.clone(), value.value.clone());
    }
    environment
}

fn devices(scope: &mut Scope<'_>, written: &v1::Service) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for device in written.devices.get().into_iter().flatten() {
        if devices.iter().any(|other| other.path == device.value.path) {
            let error = scope.error(&device.span, format!("`{}` is here twice", device.value.path.display()));
            scope.report(error.help("name each device once, with all of its access"));
        } else {
            devices.push(device.value.clone());
        }
    }
    devices
}

fn capabilities(written: &v1::Service) -> Vec<String> {
    let names: BTreeSet<&str> =
        written.capabilities.get().into_iter().flatten().map(|capability| capability.value.0).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Returns what is asked of the GPUs.
fn share(scope: &mut Scope<'_>, written: &v1::Gpu) -> GpuShare {
    if let (Some(min), Some(max)) = (written.vram_min.located(), written.vram.get())
        && min.value > *max
    {
        let error = scope.error(&min.span, format!("`vram_min` is more than `vram`, {max}"));
        scope.report(error);
    } else if let (Some(min), true) = (written.vram_min.located(), written.vram.is_absent()) {
        let error = scope.error(&min.span, "`vram_min` says nothing without `vram`");
        scope.report(error.help("`vram` is what it wants, `vram_min` below which it waits"));
    }
    let mut ids: Vec<GpuId> = Vec::new();
    if let Some(v1::GpuDevices::Ids(written)) = written.devices.get() {
        for id in written {
            if ids.contains(&id.value) {
                let error = scope.error(&id.span, format!("`{}` is here twice", id.value));
                scope.report(error);
            } else {
                ids.push(id.value.clone());
            }
        }
    }
    GpuShare {
        vendor: written.vendor.get().copied(),
        devices: match written.devices.get() {
            None => GpuDevices::Count(1),
            Some(v1::GpuDevices::All) => GpuDevices::All,
            Some(v1::GpuDevices::Count(count)) => GpuDevices::Count(*count),
            Some(v1::GpuDevices::Ids(_)) => GpuDevices::Ids(ids),
        },
        vram: written.vram.get().copied(),
        vram_min: written.vram_min.get().copied(),
        priority: written.priority.get().map_or(GpuShare::PRIORITY, |priority| priority.0),
    }
}

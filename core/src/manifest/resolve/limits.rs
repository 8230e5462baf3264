//! Resource limits: what the numbers mean together.

use super::Scope;
use crate::manifest::form::{Entry, Map};
use crate::manifest::v1;
use crate::manifest::value;
use crate::model::{Bytes, IoLimit, Limits};

/// Below this nothing starts; who writes it left out a unit.
const MEMORY_LEAST: Bytes = Bytes(1 << 20);

/// Returns the limits.
pub(super) fn resolve(scope: &mut Scope<'_>, written: &v1::Limits) -> Limits {
    for (key, entry) in [("memory_high", &written.memory_high), ("memory_max", &written.memory_max)] {
        if let Some(limit) = entry.located()
            && limit.value < MEMORY_LEAST
        {
            let error = scope
                .error(&limit.span, format!("`{key}` of {} bytes: nothing starts with so little", limit.value.0));
            let written = scope.source.text().get(limit.span.clone()).unwrap_or_default();
            scope.report(if written.contains(|c: char| c.is_ascii_alphabetic()) {
                error.help("a small service needs some ten MiB: \"64M\"?")
            } else {
                error.help(format!("a size has a unit: \"{}M\" or \"{}G\"?", limit.value.0, limit.value.0))
            });
        }
    }
    let below_max = [
        ("memory_min", &written.memory_min),
        ("memory_low", &written.memory_low),
        ("memory_high", &written.memory_high),
    ];
    for (key, entry) in below_max {
        if let (Some(limit), Some(max)) = (entry.located(), written.memory_max.get())
            && limit.value > *max
        {
            let error = scope.error(&limit.span, format!("`{key}` is more than `memory_max`, {max}"));
            scope.report(error);
        }
    }
    if let Some(tasks) = written.tasks_max.located()
        && tasks.value == 0
    {
        let error = scope.error(&tasks.span, "`tasks_max` is at least 1");
        scope.report(error.help("leave it out for systemd's default"));
    }
    Limits {
        // To protect nothing is what the kernel does by itself, and systemd tells no difference.
        memory_min: written.memory_min.get().copied().filter(|bytes| bytes.0 > 0),
        memory_low: written.memory_low.get().copied().filter(|bytes| bytes.0 > 0),
        memory_high: written.memory_high.get().copied(),
        memory_max: written.memory_max.get().copied(),
        memory_swap_max: written.memory_swap_max.get().copied(),
        memory_zswap_max: written.memory_zswap_max.get().copied(),
        cpu_quota: written.cpu_quota.get().copied(),
        cpu_weight: written.cpu_weight.get().copied(),
        allowed_cpus: written.allowed_cpus.get().map(|cpus| cpus.0.clone()).unwrap_or_default(),
        tasks_max: written.tasks_max.get().copied(),
        io_weight: written.io_weight.get().copied(),
        io_read_bandwidth_max: bandwidth(scope, &written.io_read_bandwidth_max),
        io_write_bandwidth_max: bandwidth(scope, &written.io_write_bandwidth_max),
    }
}

fn bandwidth(scope: &mut Scope<'_>, entry: &Entry<Map<Bytes>>) -> Vec<IoLimit> {
    let mut limits: Vec<IoLimit> = Vec::new();
    for (key, rate) in entry.get().iter().flat_map(|map| &map.0) {
        if !key.value.starts_with('/') {
            let error = scope.error(&key.span, format!("`{}` is not an absolute path", key.value));
            scope.report(error.help("for example \"/dev/sda\", or a folder on the disk"));
            continue;
        }
        let path = value::host_path(scope.source.folder(), &key.value);
        let Some(path) = scope.fit(key, path) else { continue };
        if rate.value.0 == 0 {
            let error = scope.error(&rate.span, "a rate of 0 lets nothing through");
            scope.report(error);
        }
        if limits.iter().any(|limit| limit.path == path) {
            let error = scope.error(&key.span, format!("`{}` is here twice", path.display()));
            scope.report(error);
            continue;
        }
        limits.push(IoLimit { path, bytes_per_second: rate.value });
    }
    limits.sort();
    limits
}

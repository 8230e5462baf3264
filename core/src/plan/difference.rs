//! What differs between a running container and what is declared, where it can be changed live.

use std::fmt::Display;

use crate::container::Files;
use crate::model::{Assigned, ConfFile, Container, Device, DropIn, IoLimit, Limits, Reason};

/// Returns every live difference, the most telling first.
///
/// That our files differ is only said when nothing else explains it: a new limit is in the drop-in too.
pub(super) fn live(assigned: &Assigned, files: &Files, container: &Container) -> Vec<Reason> {
    let mut reasons = limits(&container.limits, &assigned.service.limits);
    if !same_devices(&container.devices, &assigned.device_rules()) {
        reasons.push(Reason::DeviceRules);
    }
    let conf_differs = files.conf.as_ref().is_some_and(|text| match &container.conf {
        ConfFile::Ours(found) => found != text,
        ConfFile::Absent | ConfFile::Foreign | ConfFile::Link => true,
    });
    let drop_in_differs = match &container.drop_in {
        DropIn::Ours(found) => *found != files.drop_in,
        DropIn::Absent => true,
    };
    if reasons.is_empty() && (conf_differs || drop_in_differs || container.reload_pending) {
        reasons.push(Reason::Files);
    }
    reasons
}

/// Returns a reason per limit that differs, in the order of the manifest's reference.
#[must_use]
pub fn limits(from: &Limits, to: &Limits) -> Vec<Reason> {
    // Taken apart, so that a new limit does not compile until it is compared.
    let Limits {
        memory_min,
        memory_low,
        memory_high,
        memory_max,
        memory_swap_max,
        memory_zswap_max,
        cpu_quota,
        cpu_weight,
        allowed_cpus,
        tasks_max,
        io_weight,
        io_read_bandwidth_max,
        io_write_bandwidth_max,
    } = from;
    if from == to {
        return Vec::new();
    }
    [
        number("memory_min", *memory_min, to.memory_min),
        number("memory_low", *memory_low, to.memory_low),
        number("memory_high", *memory_high, to.memory_high),
        number("memory_max", *memory_max, to.memory_max),
        number("memory_swap_max", *memory_swap_max, to.memory_swap_max),
        number("memory_zswap_max", *memory_zswap_max, to.memory_zswap_max),
        number("cpu_quota", *cpu_quota, to.cpu_quota),
        number("cpu_weight", *cpu_weight, to.cpu_weight),
        list("allowed_cpus", allowed_cpus, &to.allowed_cpus, u16::to_string),
        number("tasks_max", *tasks_max, to.tasks_max),
        number("io_weight", *io_weight, to.io_weight),
        list("io_read_bandwidth_max", io_read_bandwidth_max, &to.io_read_bandwidth_max, rate),
        list("io_write_bandwidth_max", io_write_bandwidth_max, &to.io_write_bandwidth_max, rate),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn number<T: PartialEq + Display>(key: &'static str, from: Option<T>, to: Option<T>) -> Option<Reason> {
    let text = |value: Option<T>| value.map_or("unset".to_owned(), |value| value.to_string());
    (from != to).then(|| Reason::Limit { key, from: text(from), to: text(to) })
}

fn list<T: PartialEq>(key: &'static str, from: &[T], to: &[T], show: fn(&T) -> String) -> Option<Reason> {
    let text = |values: &[T]| match values {
        [] => "unset".to_owned(),
        values => values.iter().map(show).collect::<Vec<_>>().join(" "),
    };
    (from != to).then(|| Reason::Limit { key, from: text(from), to: text(to) })
}

fn rate(limit: &IoLimit) -> String {
    format!("{}={}", limit.path.display(), limit.bytes_per_second)
}

/// Returns whether the rules are the same; the declared ones are in manifest order, systemd's sorted.
fn same_devices(observed: &[Device], declared: &[Device]) -> bool {
    if observed.len() != declared.len() {
        return false;
    }
    let mut sorted: Vec<&Device> = declared.iter().collect();
    sorted.sort_unstable();
    sorted.into_iter().eq(observed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::assigned;
    use crate::model::{GpuStanding, Grant, Vendor};

    #[test]
    fn the_nodes_of_its_gpus_are_among_the_rules_of_a_service() {
        let mut web = assigned("web", 1);
        web.gpu = GpuStanding::Granted(Grant {
            vendor: Vendor::Nvidia,
            gpus: vec!["GPU-1".parse().unwrap()],
            budget: None,
            nodes: vec!["/dev/nvidia0".into()],
            mounts: Vec::new(),
            environment: std::collections::BTreeMap::new(),
        });
        let files =
            Files { spec: crate::model::Spec::default(), conf: None, drop_in: String::new(), environment: None };
        let mut container = Container { drop_in: DropIn::Ours(String::new()), ..Container::default() };
        assert_eq!(live(&web, &files, &container), [Reason::DeviceRules]);
        container.devices = vec![Device { path: "/dev/nvidia0".into(), access: "rw".to_owned() }];
        assert_eq!(live(&web, &files, &container), []);
    }
}

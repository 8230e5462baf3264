//! Limits and device rules, to and from systemd's properties.
//!
//! Owns the spelling and the "not set" value of each property. The units are those of
//! org.freedesktop.systemd1(5): bytes, microseconds per second, weights, a bit mask of CPUs.

use std::path::PathBuf;

use nixmox_core::model::{Bytes, CpuQuota, Device, IoLimit, Limits, Protection, Weight};
use zbus::Variant;

use super::{Settings, UnitProperties};

/// Properties for `SetUnitProperties`, in the order in which they are set.
pub(in crate::host) type Properties = Vec<(String, Variant<'static>)>;

/// "infinity" for a limit and "not set" for a weight.
const NOT_SET: u64 = u64::MAX;

/// What decides which of a unit's values are declared by NixMox and which are the host's own.
pub(in crate::host) struct Context<'a> {
    /// What files other than ours assign.
    pub(in crate::host) others: &'a Settings,
    /// What our drop-in assigns.
    pub(in crate::host) ours: &'a Settings,
    /// The task limit of units that set none.
    pub(in crate::host) default_tasks_max: Option<u64>,
}

impl Context<'_> {
    /// Returns whether a value comes from the host's own files: then it is not ours to compare or to change.
    fn is_of_others(&self, key: &str) -> bool {
        self.others.assigns(key) && !self.ours.assigns(key)
    }
}

impl UnitProperties {
    /// Returns the limits in effect, without those that only the host's own files set.
    pub(in crate::host) fn limits(&self, context: &Context<'_>) -> Limits {
        let set = |key: &str, value: Option<u64>, not_set: u64| {
            value.filter(|value| *value != not_set && !context.is_of_others(key))
        };
        let bytes = |key, value, not_set| set(key, value, not_set).map(Bytes);
        let weight = |key, value| set(key, value, NOT_SET).and_then(|weight| Weight::try_from(weight).ok());
        // A unit without TasksMax= shows the default as if it were set.
        let tasks_not_set = context.default_tasks_max.filter(|_| !context.ours.assigns("TasksMax"));
        Limits {
            memory_min: bytes("MemoryMin", self.memory_min, 0),
            memory_low: bytes("MemoryLow", self.memory_low, 0),
            memory_high: bytes("MemoryHigh", self.memory_high, NOT_SET),
            memory_max: bytes("MemoryMax", self.memory_max, NOT_SET),
            memory_swap_max: bytes("MemorySwapMax", self.memory_swap_max, NOT_SET),
            memory_zswap_max: bytes("MemoryZSwapMax", self.memory_zswap_max, NOT_SET),
            cpu_quota: set("CPUQuota", self.cpu_quota, NOT_SET).and_then(CpuQuota::from_usec_per_sec),
            cpu_weight: weight("CPUWeight", self.cpu_weight),
            allowed_cpus: if context.is_of_others("AllowedCPUs") {
                Vec::new()
            } else {
                cpus(self.allowed_cpus.as_deref().unwrap_or_default())
            },
            tasks_max: set("TasksMax", self.tasks_max, NOT_SET).filter(|max| Some(*max) != tasks_not_set),
            io_weight: weight("IOWeight", self.io_weight),
            io_read_bandwidth_max: io_limits("IOReadBandwidthMax", self.io_read.as_deref(), context),
            io_write_bandwidth_max: io_limits("IOWriteBandwidthMax", self.io_write.as_deref(), context),
        }
    }

    /// Returns what only files of others make it protect.
    pub(in crate::host) fn protection(&self, others: &Settings) -> Protection {
        let set = |key, value: Option<u64>| others.assigns(key).then(|| Bytes(value.unwrap_or_default()));
        Protection { min: set("MemoryMin", self.memory_min), low: set("MemoryLow", self.memory_low) }
    }

    /// Returns the device rules in effect, sorted, without those that the host's own files set.
    pub(in crate::host) fn devices(&self, others: &Settings) -> Vec<Device> {
        let mut kept = others.devices.clone();
        let mut devices: Vec<Device> = self
            .device_allow
            .iter()
            .flatten()
            .filter(|rule| match kept.iter().position(|other| other == *rule) {
                // Each rule of the others hides one: the same rule declared by us is listed twice.
                Some(at) => {
                    kept.swap_remove(at);
                    false
                }
                None => true,
            })
            .map(|(node, access)| Device { path: PathBuf::from(node), access: access.clone() })
            .collect();
        devices.sort();
        devices.dedup();
        devices
    }
}

fn io_limits(key: &str, limits: Option<&[(String, u64)]>, context: &Context<'_>) -> Vec<IoLimit> {
    if context.is_of_others(key) {
        return Vec::new();
    }
    let mut limits: Vec<IoLimit> = limits
        .unwrap_or_default()
        .iter()
        .filter(|(_, rate)| *rate != NOT_SET)
        .map(|(path, rate)| IoLimit { path: PathBuf::from(path), bytes_per_second: Bytes(*rate) })
        .collect();
    limits.sort();
    limits
}

/// Reads a bit mask: bit 0 of byte 0 is CPU 0.
fn cpus(mask: &[u8]) -> Vec<u16> {
    let bits = mask
        .iter()
        .enumerate()
        .flat_map(|(byte, bits)| (0..8).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| byte * 8 + bit));
    bits.filter_map(|cpu| u16::try_from(cpu).ok()).collect()
}

fn cpu_mask(cpus: &[u16]) -> Vec<u8> {
    let mut mask = vec![0_u8; cpus.iter().max().map_or(0, |last| usize::from(last / 8) + 1)];
    for cpu in cpus {
        if let Some(byte) = mask.get_mut(usize::from(cpu / 8)) {
            *byte |= 1 << (cpu % 8);
        }
    }
    mask
}

/// Returns the properties that lead from the limits in effect to those declared; empty when they are the same.
pub(in crate::host) fn limit_changes(from: &Limits, to: &Limits, default_tasks_max: Option<u64>) -> Properties {
    // Taken apart, so that a new limit does not compile until it is set.
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
    } = to;
    let mut changes = Vec::new();
    let mut number = |key: &str, from: Option<u64>, to: Option<u64>, not_set: u64| {
        if from != to {
            changes.push((key.to_owned(), Variant::from(to.unwrap_or(not_set))));
        }
    };
    let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0);
    let weight = |weight: Option<Weight>| weight.map(|weight| u64::from(weight.get()));
    let quota = |quota: Option<CpuQuota>| quota.map(CpuQuota::usec_per_sec);
    number("MemoryMin", bytes(from.memory_min), bytes(*memory_min), 0);
    number("MemoryLow", bytes(from.memory_low), bytes(*memory_low), 0);
    number("MemoryHigh", bytes(from.memory_high), bytes(*memory_high), NOT_SET);
    number("MemoryMax", bytes(from.memory_max), bytes(*memory_max), NOT_SET);
    number("MemorySwapMax", bytes(from.memory_swap_max), bytes(*memory_swap_max), NOT_SET);
    number("MemoryZSwapMax", bytes(from.memory_zswap_max), bytes(*memory_zswap_max), NOT_SET);
    number("CPUQuotaPerSecUSec", quota(from.cpu_quota), quota(*cpu_quota), NOT_SET);
    number("CPUWeight", weight(from.cpu_weight), weight(*cpu_weight), NOT_SET);
    number("TasksMax", from.tasks_max, *tasks_max, default_tasks_max.unwrap_or(NOT_SET));
    number("IOWeight", weight(from.io_weight), weight(*io_weight), NOT_SET);
    if from.allowed_cpus != *allowed_cpus {
        changes.push(("AllowedCPUs".to_owned(), Variant::from(cpu_mask(allowed_cpus))));
    }
    let mut rates = |key: &str, from: &[IoLimit], to: &[IoLimit]| {
        let list = |limits: &[IoLimit]| -> Vec<(String, u64)> {
            limits.iter().map(|l| (l.path.to_string_lossy().into_owned(), l.bytes_per_second.0)).collect()
        };
        if from != to {
            // Assigning adds to the list, the empty list clears it: systemd.resource-control(5).
            changes.push((key.to_owned(), Variant::from(list(&[]))));
            if !to.is_empty() {
                changes.push((key.to_owned(), Variant::from(list(to))));
            }
        }
    };
    rates("IOReadBandwidthMax", &from.io_read_bandwidth_max, io_read_bandwidth_max);
    rates("IOWriteBandwidthMax", &from.io_write_bandwidth_max, io_write_bandwidth_max);
    changes
}

/// Returns what lets a unit go on that is slowed down at its `MemoryHigh=`; empty: it has none.
pub(in crate::host) fn unthrottled(unit: &UnitProperties) -> Properties {
    match unit.memory_high {
        None | Some(NOT_SET) => Vec::new(),
        Some(_) => vec![("MemoryHigh".to_owned(), Variant::from(NOT_SET))],
    }
}

/// Returns what allows these CPUs, which are all that may ever be there.
pub(in crate::host) fn all_cpus(possible: &[u16]) -> Properties {
    vec![("AllowedCPUs".to_owned(), Variant::from(cpu_mask(possible)))]
}

/// Returns the properties that make these the device rules, beside those of the host's own files.
///
/// `DeviceAllow` appends: the list is cleared and set whole in one call, so that no moment is without the rules of
/// the template.
pub(in crate::host) fn device_rules(others: &Settings, devices: &[Device]) -> Properties {
    let ours = devices.iter().map(|d| (d.path.to_string_lossy().into_owned(), d.access.clone()));
    let rules: Vec<(String, String)> = others.devices.iter().cloned().chain(ours).collect();
    let mut changes = vec![("DeviceAllow".to_owned(), Variant::from(Vec::<(String, String)>::new()))];
    if !rules.is_empty() {
        changes.push(("DeviceAllow".to_owned(), Variant::from(rules)));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::default();
        settings.add(text);
        settings
    }

    #[test]
    fn a_mask_of_cpus_reads_back() {
        for set in [vec![], vec![0], vec![7, 8], vec![1, 63, 64, 200]] {
            assert_eq!(cpus(&cpu_mask(&set)), set);
        }
        assert_eq!(cpus(&[0b101, 0, 1]), [0, 2, 16]);
    }

    #[test]
    fn all_cpus_are_set_as_a_mask() {
        let possible: Vec<u16> = (0..10).collect();
        assert_eq!(all_cpus(&possible), [("AllowedCPUs".to_owned(), Variant::from(vec![0xff_u8, 3]))]);
    }

    #[test]
    fn a_default_is_no_limit_unless_we_set_it() {
        let unit = UnitProperties { tasks_max: Some(100), memory_max: Some(NOT_SET), ..UnitProperties::default() };
        let none = Settings::default();
        let limits = |others: &Settings, ours: &Settings| {
            unit.limits(&Context { others, ours, default_tasks_max: Some(100) }).tasks_max
        };
        assert_eq!(limits(&none, &none), None);
        assert_eq!(limits(&none, &settings("[Service]\nTasksMax=100\n")), Some(100));
        // Set by the host's own files: not ours to compare.
        let unit = UnitProperties { memory_max: Some(7), ..UnitProperties::default() };
        let limits = |others: &Settings| {
            unit.limits(&Context { others, ours: &none, default_tasks_max: Some(100) }).memory_max
        };
        assert_eq!(limits(&settings("[Service]\nMemoryMax=7\n")), None);
        assert_eq!(limits(&none), Some(Bytes(7)), "set behind our back");
    }

    #[test]
    fn what_a_slice_protects_is_the_hosts_where_its_files_say_so() {
        let unit = UnitProperties { memory_min: Some(7), memory_low: Some(8), ..UnitProperties::default() };
        let protection = |text: &str| unit.protection(&settings(text));
        assert_eq!(protection("[Slice]\nCPUWeight=3\n"), Protection::default());
        let low = Protection { min: None, low: Some(Bytes(8)) };
        assert_eq!(protection("[Slice]\nMemoryLow=8\n"), low);
    }

    #[test]
    fn rules_of_the_template_are_not_ours_and_are_kept() {
        let others = settings("[Service]\nDeviceAllow=/dev/net/tun rwm\n");
        let rule = |node: &str, access: &str| (node.to_owned(), access.to_owned());
        let device_allow = Some(vec![rule("/dev/net/tun", "rwm"), rule("/dev/dri/card0", "rw")]);
        let unit = UnitProperties { device_allow, ..UnitProperties::default() };
        let ours = vec![Device { path: "/dev/dri/card0".into(), access: "rw".to_owned() }];
        assert_eq!(unit.devices(&others), ours);
        let kept = vec![rule("/dev/net/tun", "rwm"), rule("/dev/dri/card0", "rw")];
        let cleared = Variant::from(Vec::<(String, String)>::new());
        let expected = [("DeviceAllow".to_owned(), cleared), ("DeviceAllow".to_owned(), Variant::from(kept))];
        assert_eq!(device_rules(&others, &ours), expected);
    }

    #[test]
    fn only_what_differs_is_set_and_a_limit_that_goes_gets_its_default() {
        let from = Limits { memory_max: Some(Bytes(7)), tasks_max: Some(5), ..Limits::default() };
        let to = Limits { memory_max: Some(Bytes(7)), memory_min: Some(Bytes(1)), ..Limits::default() };
        let number = |key: &str, value: u64| (key.to_owned(), Variant::from(value));
        assert_eq!(limit_changes(&from, &to, Some(100)), [number("MemoryMin", 1), number("TasksMax", 100)]);
        assert!(limit_changes(&to, &to, Some(100)).is_empty());
    }
}

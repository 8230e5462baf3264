//! How a service stands with the GPUs, in the few columns of a table.

use nixmox_api::{GpuStatus, ServiceStatus};

use super::gpu::short;
use super::quantity::size;
use super::text;

/// Returns which GPUs services have, by a short name for each that is not that of another one.
pub(crate) fn ids<'a>(services: impl Iterator<Item = &'a ServiceStatus>) -> Vec<&'a str> {
    services.filter_map(|service| service.gpu.as_ref()).flat_map(|gpu| &gpu.gpus).map(String::as_str).collect()
}

/// Returns which GPUs a service has, `2 GPUs` of several; why it has none, or is to give some of it back, in one word; `-` for one that asks for none.
pub(crate) fn gpus(gpu: Option<&GpuStatus>, all: &[&str]) -> String {
    let Some(gpu) = gpu else { return "-".to_owned() };
    match (gpu.state.as_str(), gpu.gpus.as_slice()) {
        ("waiting", _) => "waits".to_owned(),
        ("yielding", _) => "yields".to_owned(),
        ("shrinking", _) => "shrinks".to_owned(),
        (_, []) => "-".to_owned(),
        (_, [one]) => short(one, all.iter().copied()),
        (_, several) => text::counted(several.len(), "GPU"),
    }
}

/// Returns `6.0G / 10G`, the parts aligned; `-` where neither is known.
pub(crate) fn memory(used: Option<u64>, budget: Option<u64>) -> String {
    let told = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
    if used.is_none() && budget.is_none() {
        return "-".to_owned();
    }
    format!("{} / {}", text::right(&told(used), 4), told(budget))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_one_several_or_waits() {
        let of = |state: &str, ids: &[&str]| {
            let ids = ids.iter().map(|&id| id.to_owned()).collect();
            gpus(
                Some(&GpuStatus { state: state.to_owned(), gpus: ids, budget: None, used: None }),
                &["GPU-5a6c0a2e-01"],
            )
        };
        assert_eq!(of("granted", &["GPU-5a6c0a2e-01"]), "GPU-5a6c0a2e");
        assert_eq!(of("granted", &["GPU-5a6c0a2e-01", "GPU-5a6c0a2e-02"]), "2 GPUs");
        assert_eq!(
            [
                of("waiting", &["GPU-5a6c0a2e-01"]),
                of("yielding", &[]),
                of("shrinking", &["GPU-5a6c0a2e-01"]),
                of("held", &[])
            ],
            ["waits", "yields", "shrinks", "-"]
        );
        assert_eq!(gpus(None, &[]), "-");
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        assert_eq!(memory(Some(6 << 30), Some(10 << 30)), "6.0G / 10G");
        assert_eq!(memory(Some(0), None), "  0B / -");
        assert_eq!(memory(None, Some(10 << 30)), "   - / 10G");
        assert_eq!(memory(None, None), "-");
    }
}

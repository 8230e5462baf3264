//! What another setting would change, and how much video memory is enough.

use nixmox_core::model::{Bytes, Offload};
use nixmox_core::offload::estimate::{Ask, Estimate, KvType, Layers, Room};

use super::outcome::{Alternative, Case, Enough, over, total};

/// The steps in which video memory is tried, per GPU: no finer than anybody declares it.
const STEP: u64 = 16 << 20;
/// The most steps: 16 TiB per GPU.
const STEPS_MAX: u64 = 1 << 20;
/// Which keys and values are tried: those that people use to save memory.
const KV: [KvType; 3] = [KvType::F16, KvType::Q8_0, KvType::Q4_0];

/// Returns what other settings would come to: how keys and values are kept, half and twice the context.
pub(super) fn settings(case: &Case, found: &Estimate) -> Vec<Alternative> {
    let asked = &case.ask;
    let kinds = KV.into_iter().filter(|kind| *kind != asked.keys).map(|kind| {
        // Engines keep them in fewer bits only where attention is computed in one pass.
        let ask = Ask { keys: kind, values: kind, flash_attention: true, ..asked.clone() };
        (format!("kv {}", kind.as_word()), ask)
    });
    let contexts = [asked.context / 2, asked.context.saturating_mul(2)];
    let contexts = contexts.into_iter().filter(|tokens| Offload::CONTEXT.contains(tokens));
    let contexts = contexts.map(|context| (format!("context {context}"), Ask { context, ..asked.clone() }));
    let of = |setting: String, ask: &Ask, found: &Estimate| Alternative {
        setting,
        layers: found.layers,
        fits: found.layers == found.layers_all && over(ask, found) == 0,
        gpu: found.gpus.iter().map(total).fold(0, u64::saturating_add),
        host: total(&found.host),
    };
    let all = kinds.chain(contexts).map(|(setting, ask)| of(setting, &ask, &case.estimate(&ask)));
    // As it is, for comparison.
    std::iter::once(of("as it is".to_owned(), asked, found)).chain(all).collect()
}

/// Returns from how much video memory on as many layers fit as now, one more, and all of them.
pub(super) fn enough(case: &Case, found: &Estimate) -> Vec<Enough> {
    let gpus = u64::try_from(case.ask.gpus.len()).unwrap_or(u64::MAX);
    if gpus == 0 {
        return Vec::new();
    }
    let wanted = match case.vram {
        // Without a budget all of them are what is asked for.
        None => vec![found.layers_all],
        Some(_) => vec![found.layers, found.layers.saturating_add(1), found.layers_all],
    };
    let mut wanted: Vec<u32> =
        wanted.into_iter().filter(|layers| (1..=found.layers_all).contains(layers)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let from = |layers: u32| {
        let steps = least(|steps| fits(case, layers, steps.saturating_mul(STEP)))?;
        Some(Enough { layers, vram: steps.saturating_mul(STEP).saturating_mul(gpus) })
    };
    wanted.into_iter().filter_map(from).collect()
}

/// Whether so many layers fit, with the whole context, where each GPU has so much for it.
fn fits(case: &Case, layers: u32, free: u64) -> bool {
    let room = |room: &Room| Room { total: room.total.max(Bytes(free)), free: Bytes(free) };
    let gpus = case.ask.gpus.iter().map(room).collect();
    let ask = Ask { gpus, layers: Layers::Auto, ..case.ask.clone() };
    let found = case.estimate(&ask);
    found.layers >= layers && found.context >= case.ask.context && over(&ask, &found) == 0
}

/// Returns the least number of steps with which it fits; `None`: not even the most are enough.
fn least(fits: impl Fn(u64) -> bool) -> Option<u64> {
    // First an end that is near: far ones cost nothing in memory, and models are small beside them.
    let mut high = 64;
    while !fits(high) {
        high *= 4;
        if high > STEPS_MAX {
            return None;
        }
    }
    let mut low = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_found_wherever_it_is() {
        for wanted in [0, 1, 63, 64, 65, 1000, 262_144] {
            assert_eq!(least(|steps| steps >= wanted), Some(wanted));
        }
        assert_eq!(least(|_| false), None);
    }
}

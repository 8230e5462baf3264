//! Engines: their versions, what places layers in each of them, and what holds them to a budget.
//!
//! What a variable or an option really does depends on the version; this is what ours build on (Ollama's `envconfig`, `llm`,
//! `server/sched.go` and `server/routes.go` at each tag; llama.cpp's `common/arg.cpp` and `common/fit.cpp` at b11434):
//!
//! | what | where | what it does |
//! |---|---|---|
//! | `OLLAMA_GPU_OVERHEAD` (bytes, per GPU) | Ollama up to 0.12.10 | taken off what is free before layers are counted |
//! | | 0.12.11 up to before 0.30 | the same, in the layout of the runner's own memory |
//! | | from 0.30 on | nothing for GGUF files: a line in the log, the tier of the default context, and what runs on MLX |
//! | `LLAMA_ARG_FIT_TARGET` (MiB to leave free, per GPU; 1024) | Ollama before 0.30 | nothing |
//! | | from 0.30 on, `llama-server` | `--fit` leaves as much free on each GPU; one value counts for all. Ollama adds what projectors take only where it is not set |
//! | `LLAMA_ARG_FIT` | as above | `off`: nothing is fitted, and the target has no meaning |
//! | `OLLAMA_CONTEXT_LENGTH` | from 0.5.13 on | tokens of a request that names none |
//! | default context | up to 0.6.6 | 2048 |
//! | | 0.6.7 up to 0.15.4 | 4096 |
//! | | from 0.15.5 on | by the memory of all GPUs less the overhead: below 23 GiB 4096, below 47 GiB 32768, else 262144 |
//! | `LLAMA_ARG_CTX_SIZE` | `llama-server` | tokens of all slots together; not set: as many as the model was trained on, or fewer by `--fit` |
//! | | Ollama | nothing: it says `-c` itself |
//! | `num_gpu`, `-ngl` | all | so many layers; with a number `--fit` changes nothing. 0.12.11 up to before 0.30 refuse a number that does not fit |
//! | negative `num_gpu` | Ollama | as many as fit; never loads anew what is loaded |
//! | `num_ctx` | Ollama | another number loads anew; from 0.9.3 on cut to what the model was trained on |
//! | `OLLAMA_KEEP_ALIVE` | Ollama | how long a model stays that nobody asks; 5 minutes unless set |
//! | `--sleep-idle-seconds` | `llama-server` | the same; it has no variable |

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use crate::model::Engine;
use crate::model::{Bytes, Offload};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What an engine leaves free of a GPU at least: a driver that is asked for the last page fails.
const MARGIN_MIN: u64 = 256 * MIB;
/// Ollama's default context where there is little memory, and that of versions before the tiers.
const CONTEXT_SMALL: u32 = 4096;

/// A version, as far as it is compared: `0.12.10`, or the build `11434` of llama.cpp as `0.0.11434`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

/// A text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version such as `0.12.10` or `b11434`")]
pub struct InvalidVersion;

/// What decides in an engine how much of a model is on the GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryEngine {
    /// Ollama's estimate layer by layer, before the model is loaded (up to 0.12.10).
    Layered,
    /// Ollama's layout of what its own runner has allocated (0.12.11 up to before 0.30).
    Exact,
    /// `llama-server --fit`, on its own or below Ollama (from 0.30 on).
    Fit,
}

/// A GPU, as it is when an engine is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// All of its memory.
    pub total: Bytes,
    /// What everybody but the engine has of it for good: what the driver keeps, what the desktop uses, and of each other service the larger of
    /// what it was promised and what it uses.
    ///
    /// An engine takes what is free but for a margin, and what others use is not free: of 24 GiB with a budget of 10, where 8 were promised to
    /// somebody, it must leave 6. With 14 a load of 10 would go to the CPU as soon as the 8 are used. It is fixed while the engine runs: where the 8
    /// are not used it can take up to 18, which the driver shows, and the arbiter has it give back.
    pub others: Bytes,
}

impl Version {
    /// Returns whether it says something: who builds Ollama from its source gets `0.0.0`.
    fn is_real(self) -> bool {
        self != Self(0, 0, 0)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Reads `0.12.10`, `v0.5`, `0.30.0-rc1` (as `0.30.0`), `b11434`, `11434` and `b11434-1a2b3c4`.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let text = text.trim();
        let text = text.split_once(['-', '+', ' ']).map_or(text, |(version, _)| version);
        let number = |part: &str| {
            let is_plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| is_plain).ok_or(InvalidVersion)
        };
        if let Some(build) = text.strip_prefix('b') {
            return Ok(Self(0, 0, number(build)?));
        }
        let parts: Vec<&str> = text.strip_prefix('v').unwrap_or(text).split('.').collect();
        match parts.as_slice() {
            [build] if !text.starts_with('v') => Ok(Self(0, 0, number(build)?)),
            [major] => Ok(Self(number(major)?, 0, 0)),
            [major, minor] => Ok(Self(number(major)?, number(minor)?, 0)),
            [major, minor, patch] => Ok(Self(number(major)?, number(minor)?, number(patch)?)),
            _none_or_more => Err(InvalidVersion),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(0, 0, build @ 1..) => f.pad(&format!("b{build}")),
            Self(major, minor, patch) => f.pad(&format!("{major}.{minor}.{patch}")),
        }
    }
}

/// Returns what places layers in an engine of this version; of one that does not say its version, what its newest does.
#[must_use]
pub fn memory_engine(engine: Engine, version: Option<Version>) -> MemoryEngine {
    match (engine, version.filter(|version| version.is_real())) {
        (Engine::Ollama, Some(version)) if version < Version(0, 12, 11) => MemoryEngine::Layered,
        (Engine::Ollama, Some(version)) if version < Version(0, 30, 0) => MemoryEngine::Exact,
        (Engine::Ollama | Engine::LlamaServer, _newest) => MemoryEngine::Fit,
    }
}

/// Returns the tokens of context that a model is loaded with when nobody says any.
///
/// `total` is the memory of all GPUs, less what `OLLAMA_GPU_OVERHEAD` keeps of each; `trained`: what the model was made for, `None`: nobody
/// knows. No engine goes beyond that.
#[must_use]
pub fn default_context(engine: Engine, version: Option<Version>, total: Bytes, trained: Option<u32>) -> u32 {
    let trained = trained.filter(|tokens| *tokens > 0);
    let usual = match engine {
        Engine::LlamaServer => return trained.unwrap_or(CONTEXT_SMALL),
        Engine::Ollama => match version.filter(|version| version.is_real()) {
            Some(version) if version < Version(0, 6, 7) => 2048,
            Some(version) if version < Version(0, 15, 5) => CONTEXT_SMALL,
            Some(_) | None => match total.0 / GIB {
                ..23 => CONTEXT_SMALL,
                23..47 => 32_768,
                47.. => 262_144,
            },
        },
    };
    trained.map_or(usual, |trained| usual.min(trained))
}

/// Returns the tokens of context that a model has which is loaded with so many; `trained` as above.
///
/// Ollama cuts what is asked for to what the model was made for, from 0.9.3 on.
#[must_use]
pub fn cut_context(engine: Engine, version: Option<Version>, asked: u32, trained: Option<u32>) -> u32 {
    let cuts = match engine {
        Engine::Ollama => {
            version.filter(|version| version.is_real()).is_none_or(|version| version >= Version(0, 9, 3))
        }
        Engine::LlamaServer => false,
    };
    trained.filter(|tokens| cuts && *tokens > 0).map_or(asked, |trained| asked.min(trained))
}

/// Returns the variables that hold an engine to its budget, and those of what is declared. `budget`: `None`, no limit; its GPUs may be none, where
/// nobody knows them. What the service declares itself goes first; that is the caller's.
///
/// The version is not known before the engine runs: each variable is set that one of them knows, the others ignore it. An engine looks at what
/// is free: what it must leave is therefore what is neither its own nor taken by others already.
#[must_use]
pub fn environment(offload: &Offload, budget: Option<Bytes>, devices: &[Device]) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    let margin = budget.filter(|_| !devices.is_empty()).map(|budget| margin(budget, devices));
    if let Some(margin) = margin {
        set("LLAMA_ARG_FIT_TARGET", margin.0.div_ceil(MIB).to_string());
    }
    match offload.engine {
        Engine::Ollama => {
            let mut context = offload.context;
            if let Some(margin) = margin {
                set("OLLAMA_GPU_OVERHEAD", margin.0.to_string());
                // From 0.15.5 on Ollama takes it off the memory of each GPU to find the default context; below 0 it counts from the other end and
                // finds the largest.
                let all = devices.iter().fold(0_u128, |sum, device| sum + u128::from(device.total.0));
                if u128::from(margin.0) * (devices.len() as u128) > all {
                    context = context.or(Some(CONTEXT_SMALL));
                }
            }
            if let Some(context) = context {
                set("OLLAMA_CONTEXT_LENGTH", context.to_string());
            }
            if let Some(idle) = offload.idle_unload {
                set("OLLAMA_KEEP_ALIVE", format!("{}s", idle.as_secs()));
            }
        }
        Engine::LlamaServer => {
            if let Some(context) = offload.context {
                set("LLAMA_ARG_CTX_SIZE", context.to_string());
            }
        }
    }
    environment
}

/// Returns what is to be left free of each GPU: the least with which an engine takes no more than its budget, of all of them together.
fn margin(budget: Bytes, devices: &[Device]) -> Bytes {
    let free = |device: &Device| device.total.0.saturating_sub(device.others.0);
    let takes = |margin: u64| -> u128 {
        devices.iter().map(|device| u128::from(free(device).saturating_sub(margin))).sum()
    };
    let (mut low, mut high) = (MARGIN_MIN, devices.iter().map(free).max().unwrap_or(0).max(MARGIN_MIN));
    while low < high {
        let middle = low + (high - low) / 2;
        if takes(middle) <= u128::from(budget.0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Bytes(low)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::CpuFallback;

    fn offload(engine: Engine) -> Offload {
        Offload {
            engine,
            url: engine.default_url().to_owned(),
            keep: Vec::new(),
            idle_unload: None,
            context: None,
            request_grace: None,
            cpu_fallback: CpuFallback::Refuse,
        }
    }

    fn gpu(total: u64, others: u64) -> Device {
        Device { total: Bytes(total * GIB), others: Bytes(others * GIB) }
    }

    #[test]
    fn versions_are_read_as_engines_say_them() {
        let read = |text: &str| text.parse::<Version>().ok();
        for (text, version) in [
            ("0.12.10", Version(0, 12, 10)),
            ("0.30.0-rc1", Version(0, 30, 0)),
            ("v0.5", Version(0, 5, 0)),
            ("v1", Version(1, 0, 0)),
            ("0.0.0", Version(0, 0, 0)),
            (" 0.6.8\n", Version(0, 6, 8)),
            ("0.11.4+dirty", Version(0, 11, 4)),
            ("b11434", Version(0, 0, 11434)),
            ("11434", Version(0, 0, 11434)),
            ("b11434-1a2b3c4", Version(0, 0, 11434)),
        ] {
            assert_eq!(read(text), Some(version), "{text}");
        }
        for text in ["", "b", "v", "0..1", "1.2.3.4", "-1", "+1.0", "0.x", "b-1", "99999999999", "١.٢"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(Version(0, 9, 6) < Version(0, 12, 10));
        assert_eq!(
            [Version(0, 0, 11434), Version(0, 12, 10), Version(0, 0, 0)].map(|version| version.to_string()),
            ["b11434", "0.12.10", "0.0.0"]
        );
    }

    #[test]
    fn ollama_had_three_memory_engines() {
        let of = |text: &str| memory_engine(Engine::Ollama, text.parse().ok());
        assert_eq!(["0.1.33", "0.6.8", "0.12.10"].map(of), [MemoryEngine::Layered; 3]);
        assert_eq!(["0.12.11", "0.20.0", "0.25.0-rc0"].map(of), [MemoryEngine::Exact; 3]);
        // Who builds it from its source has the newest, and so has who says nothing.
        assert_eq!(["0.30.0-rc0", "0.33.0", "0.0.0", "?"].map(of), [MemoryEngine::Fit; 4]);
        assert_eq!(memory_engine(Engine::LlamaServer, Some(Version(0, 0, 11434))), MemoryEngine::Fit);
    }

    #[test]
    fn the_default_context_depends_on_version_and_memory() {
        let of = |version: &str, gib: u64| {
            default_context(Engine::Ollama, version.parse().ok(), Bytes(gib * GIB), Some(131_072))
        };
        assert_eq!([of("0.5.7", 80), of("0.6.6", 80), of("0.6.7", 80), of("0.15.4", 80)], [2048, 2048, 4096, 4096]);
        assert_eq!(
            [of("0.15.5", 22), of("0.15.5", 23), of("0.33.0", 46), of("0.33.0", 47)],
            [4096, 32_768, 32_768, 131_072]
        );
        assert_eq!(default_context(Engine::Ollama, None, Bytes(80 * GIB), None), 262_144);
        assert_eq!(default_context(Engine::LlamaServer, None, Bytes(GIB), Some(8192)), 8192);
        assert_eq!(default_context(Engine::LlamaServer, None, Bytes(GIB), Some(0)), 4096);
    }

    #[test]
    fn a_context_beyond_what_a_model_was_made_for_is_cut_by_who_does_that() {
        let of = |engine, version: &str, trained| cut_context(engine, version.parse().ok(), 131_072, trained);
        assert_eq!(
            ["0.9.2", "0.9.3", "0.30.0", "0.0.0"].map(|version| of(Engine::Ollama, version, Some(8192))),
            [131_072, 8192, 8192, 8192]
        );
        assert_eq!(
            [Some(0), None, Some(262_144)].map(|trained| of(Engine::Ollama, "0.30.0", trained)),
            [131_072; 3]
        );
        assert_eq!(of(Engine::LlamaServer, "b11434", Some(8192)), 131_072);
    }

    #[test]
    fn an_engine_is_told_to_leave_what_is_not_its_own() {
        let told = environment(&offload(Engine::Ollama), Some(Bytes(8 * GIB)), &[gpu(24, 0)]);
        assert_eq!(told["OLLAMA_GPU_OVERHEAD"], (16 * GIB).to_string());
        assert_eq!(told["LLAMA_ARG_FIT_TARGET"], (16 * 1024).to_string());
        assert_eq!(told.len(), 2);
        // What others have is not free, and is not taken off once more.
        let beside = environment(&offload(Engine::LlamaServer), Some(Bytes(8 * GIB)), &[gpu(24, 12)]);
        assert_eq!(beside, BTreeMap::from([("LLAMA_ARG_FIT_TARGET".to_owned(), (4 * 1024).to_string())]));
    }

    #[test]
    fn a_load_within_the_budget_fits_while_others_use_what_they_were_promised_and_no_more_does() {
        let margin = |budget: u64, others: u64| {
            let told = environment(&offload(Engine::Ollama), Some(Bytes(budget * GIB)), &[gpu(24, others)]);
            told["OLLAMA_GPU_OVERHEAD"].parse::<u64>().unwrap() / GIB
        };
        // The desktop has 1, and 7 were promised to another service.
        let left = margin(10, 8);
        assert_eq!(left, 6);
        // All of it is used: what is free less the margin is the budget, no less and no more.
        assert_eq!(24 - 8 - left, 10);
        // Nobody else: as much again.
        assert_eq!(24 - margin(10, 0), 10);
    }

    #[test]
    fn a_little_is_left_free_whatever_the_budget() {
        let told = environment(&offload(Engine::LlamaServer), Some(Bytes(80 * GIB)), &[gpu(24, 0)]);
        assert_eq!(told["LLAMA_ARG_FIT_TARGET"], "256");
        let none = environment(&offload(Engine::LlamaServer), Some(Bytes(0)), &[gpu(24, 0)]);
        assert_eq!(none["LLAMA_ARG_FIT_TARGET"], (24 * 1024).to_string());
    }

    #[test]
    fn a_budget_is_split_over_gpus_that_are_not_alike_and_never_exceeded() {
        let devices = [gpu(24, 0), gpu(8, 1)];
        let told = environment(&offload(Engine::LlamaServer), Some(Bytes(16 * GIB)), &devices);
        let mib: u64 = told["LLAMA_ARG_FIT_TARGET"].parse().unwrap();
        let taken: u64 = [24 * 1024, 7 * 1024].iter().map(|free: &u64| free.saturating_sub(mib)).sum();
        assert!(taken <= 16 * 1024 && taken + 2 >= 16 * 1024, "{mib}: {taken}");
    }

    #[test]
    fn ollamas_default_context_does_not_turn_round_when_more_is_to_be_left_than_there_is() {
        let told = environment(&offload(Engine::Ollama), Some(Bytes(2 * GIB)), &[gpu(24, 0), gpu(8, 0), gpu(8, 0)]);
        assert_eq!(told["OLLAMA_CONTEXT_LENGTH"], "4096");
        let usual = environment(&offload(Engine::Ollama), Some(Bytes(2 * GIB)), &[gpu(24, 0)]);
        assert!(!usual.contains_key("OLLAMA_CONTEXT_LENGTH"));
    }

    #[test]
    fn what_is_declared_is_said_in_each_engines_words() {
        let declared =
            |engine| Offload { context: Some(8192), idle_unload: Some(Duration::from_mins(10)), ..offload(engine) };
        let ollama = environment(&declared(Engine::Ollama), None, &[gpu(24, 0)]);
        let expected = [("OLLAMA_CONTEXT_LENGTH", "8192"), ("OLLAMA_KEEP_ALIVE", "600s")];
        assert_eq!(ollama, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let server = environment(&declared(Engine::LlamaServer), Some(Bytes(GIB)), &[]);
        assert_eq!(server, BTreeMap::from([("LLAMA_ARG_CTX_SIZE".to_owned(), "8192".to_owned())]));
    }
}

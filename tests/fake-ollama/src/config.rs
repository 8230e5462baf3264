//! What a simulator is told: its version, its models, its slowness; and the environment that it finds itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::library::Model;
use crate::time;

/// What a simulator is, in lines `KEY VALUE`.
///
/// | key | value |
/// |---|---|
/// | `version` | such as `0.33.0`, the default |
/// | `model` | `NAME BLOCKS EMBEDDING HEADS KV_HEADS FEED_FORWARD VOCABULARY TRAIN_CONTEXT`; again for each |
/// | `load_takes` | seconds that a load takes; 0.5 |
/// | `memory_returns` | seconds after an unload until the driver has its memory back; 1 |
/// | `token_takes` | seconds per token of `num_predict` on a GPU, ten times that off it; 0.1 |
/// | `env` | `NAME=VALUE`, as if in its environment, where that does not say otherwise |
#[derive(Clone, Debug)]
pub struct Config {
    /// Its version.
    pub version: String,
    /// Its models.
    pub models: Vec<Model>,
    /// See `load_takes`.
    pub load_takes: Duration,
    /// See `memory_returns`.
    pub memory_returns: Duration,
    /// See `token_takes`.
    pub token_takes: Duration,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: "0.33.0".to_owned(),
            models: Vec::new(),
            load_takes: Duration::from_millis(500),
            memory_returns: Duration::from_secs(1),
            token_takes: Duration::from_millis(100),
            environment: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads lines; the error names the one that is no good.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let wrong = || format!("cannot read `{line}`");
            let (key, value) = line.split_once(' ').ok_or_else(wrong)?;
            let seconds =
                || value.parse().ok().and_then(|value| Duration::try_from_secs_f64(value).ok()).ok_or_else(wrong);
            match key {
                "version" => {
                    number(value).ok_or_else(wrong)?;
                    value.clone_into(&mut config.version);
                }
                "model" => config.models.push(Model::parse(value)?),
                "load_takes" => config.load_takes = seconds()?,
                "memory_returns" => config.memory_returns = seconds()?,
                "token_takes" => config.token_takes = seconds()?,
                "env" => {
                    let (name, value) = value.split_once('=').ok_or_else(wrong)?;
                    config.environment.insert(name.to_owned(), value.to_owned());
                }
                _ => return Err(wrong()),
            }
        }
        Ok(config)
    }

    /// Takes what an environment says over what the lines say.
    #[must_use]
    pub fn with_environment(mut self, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(environment);
        self
    }

    /// The version, as far as it is compared.
    fn number(&self) -> (u32, u32, u32) {
        number(&self.version).unwrap_or_default()
    }

    /// Whether `/api/ps` tells the context.
    pub(crate) fn tells_context(&self) -> bool {
        self.number() >= (0, 10, 0)
    }

    /// Whether layers are placed by llama.cpp, which knows `LLAMA_ARG_FIT_TARGET` and not `OLLAMA_GPU_OVERHEAD`.
    pub(crate) fn fits(&self) -> bool {
        self.number() >= (0, 30, 0)
    }

    /// Bytes of each GPU that it leaves alone where it places layers by itself.
    pub(crate) fn margin(&self) -> u64 {
        if self.fits() {
            self.variable("LLAMA_ARG_FIT_TARGET").unwrap_or(1024) << 20
        } else {
            self.variable("OLLAMA_GPU_OVERHEAD").unwrap_or(0).saturating_add(457 << 20)
        }
    }

    /// The context of a request that asks for none, on GPUs with so much memory in all.
    pub(crate) fn context(&self, total: u64) -> u64 {
        let by_total = match total >> 30 {
            _ if self.number() < (0, 15, 5) => 4096,
            ..23 => 4096,
            23..47 => 32_768,
            47.. => 262_144,
        };
        self.variable("OLLAMA_CONTEXT_LENGTH").filter(|length| *length > 0).unwrap_or(by_total)
    }

    /// Requests of a model at the same time.
    pub(crate) fn parallel(&self) -> u64 {
        self.variable("OLLAMA_NUM_PARALLEL").unwrap_or(1).max(1)
    }

    /// Models that may be loaded at the same time, beside so many GPUs.
    pub(crate) fn models_max(&self, gpus: usize) -> usize {
        let told = self.variable("OLLAMA_MAX_LOADED_MODELS").filter(|count| *count > 0);
        told.and_then(|count| count.try_into().ok()).unwrap_or(3 * gpus.max(1))
    }

    /// How long a model stays that nobody asks.
    pub(crate) fn keep_alive(&self) -> Duration {
        time::keep_alive_of_environment(self.environment.get("OLLAMA_KEEP_ALIVE").map(String::as_str))
    }

    /// Returns a model by its name, with or without its tag.
    pub(crate) fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name || model.name.strip_suffix(":latest") == Some(name))
    }

    fn variable(&self, name: &str) -> Option<u64> {
        self.environment.get(name)?.parse().ok()
    }
}

fn number(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Config;

    fn config(text: &str) -> Config {
        Config::parse(text).expect("it can be read")
    }

    #[test]
    fn each_version_knows_its_own_variable() {
        let both = "env OLLAMA_GPU_OVERHEAD=1073741824\nenv LLAMA_ARG_FIT_TARGET=3000\n";
        for old in ["0.6.8", "0.12.10", "0.12.11"] {
            assert_eq!(config(&format!("version {old}\n{both}")).margin(), (1 << 30) + (457 << 20), "{old}");
        }
        assert_eq!(config(&format!("version 0.33.0\n{both}")).margin(), 3000 << 20);
        assert_eq!(config("").margin(), 1 << 30, "what llama.cpp leaves by itself");
        assert!(!config("version 0.6.8").tells_context() && config("version 0.12.10").tells_context());
    }

    #[test]
    fn the_context_depends_on_all_memory_and_on_the_version() {
        let gib = 1 << 30;
        assert_eq!(config("").context(12 * gib), 4096);
        assert_eq!(config("").context(24 * gib), 32_768);
        assert_eq!(config("").context(96 * gib), 262_144);
        assert_eq!(config("version 0.12.11").context(96 * gib), 4096);
        assert_eq!(config("env OLLAMA_CONTEXT_LENGTH=8192").context(96 * gib), 8192);
    }

    #[test]
    fn a_typing_error_is_named() {
        for line in ["versoin 1", "version x", "load_takes soon", "env A", "model a 1"] {
            assert!(Config::parse(line).is_err(), "{line}");
        }
        assert_eq!(config("load_takes 0.25").load_takes, Duration::from_millis(250));
    }
}

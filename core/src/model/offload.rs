//! What runs models in a service, and what is asked of it.

use std::time::Duration;

/// What runs models in a service. Its video memory is the service's claim ([`super::GpuShare`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The program.
    pub engine: Engine,
    /// Where it is reached from inside the container: `http://HOST[:PORT]`, without a path.
    pub url: String,
    /// Models to be kept loaded, in manifest order without duplicates: what is named first is given up last.
    pub keep: Vec<String>,
    /// How long a model stays loaded that nobody asks; `None`: as long as the engine keeps it by itself.
    pub idle_unload: Option<Duration>,
    /// Tokens that a request may have, with its answer; `None`: as many as the engine gives by itself.
    pub context: Option<u32>,
    /// How long a request under way may take to finish when its model is to give memory back; then the container is stopped.
    /// `None`: as long as it takes.
    pub request_grace: Option<Duration>,
    /// What a model on the CPU means that should be on the GPU.
    pub cpu_fallback: CpuFallback,
}

/// A program that runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Ollama.
    Ollama,
    /// llama.cpp's `llama-server`.
    LlamaServer,
}

impl Engine {
    /// Returns where it listens when nobody says otherwise.
    #[must_use]
    pub fn default_url(self) -> &'static str {
        match self {
            Self::Ollama => "http://localhost:11434",
            Self::LlamaServer => "http://localhost:8080",
        }
    }
}

/// What a model on the CPU means that should be on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuFallback {
    /// Nothing: it is shown only.
    Allow,
    /// It is told by an event, and repaired where that is possible.
    Warn,
    /// Beside that, the service is unhealthy.
    Refuse,
}

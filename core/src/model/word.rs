//! The model's choices as words, the same in both directions.

use super::{Condition, CpuFallback, Engine, Kind, OnUnhealthy, PrivateUsers, Protocol, RestartPolicy, Vendor};

/// A choice of a few, as the word that manifests and the wire have for it.
pub trait Word: Copy + 'static {
    /// Every choice, in the order in which an error lists them.
    const ALL: &'static [Self];

    /// Returns the word.
    fn as_word(self) -> &'static str;

    /// Returns the choice of this word.
    ///
    /// # Errors
    /// When there is none: the text names those that there are.
    fn from_word(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|choice| choice.as_word() == text).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(|choice| format!("`{}`", choice.as_word())).collect();
            format!("{text:?} is none of {}", known.join(", "))
        })
    }
}

macro_rules! words {
    ($($type:ident { $($variant:ident => $word:literal),+ })+) => {$(
        impl Word for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    )+};
}

words! {
    Kind { Service => "service", Job => "job" }
    Condition { Started => "started", Healthy => "healthy", Completed => "completed" }
    OnUnhealthy { Report => "report", Restart => "restart" }
    Protocol { Tcp => "tcp", Udp => "udp" }
    PrivateUsers { No => "no", Pick => "pick" }
    Engine { Ollama => "ollama", LlamaServer => "llama-server" }
    CpuFallback { Allow => "allow", Warn => "warn", Refuse => "refuse" }
    Vendor { Nvidia => "nvidia", Amd => "amd", Intel => "intel" }
    RestartPolicy { No => "no", OnFailure => "on-failure", Always => "always" }
}

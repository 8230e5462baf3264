//! The model's choices as words, the same in both directions.

use nixmox_core::model::{Condition, Kind, OnUnhealthy, PrivateUsers, Protocol, RestartPolicy};

/// A choice that the wire writes as a word, with the manifest's spelling.
pub(crate) trait Word: Copy + 'static {
    /// Every choice, in the order in which an error lists them.
    const ALL: &'static [Self];

    /// Returns the word.
    fn as_word(self) -> &'static str;

    /// Returns the word as the wire has it.
    fn word(self) -> String {
        self.as_word().to_owned()
    }

    /// Returns the choice of this word.
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
    RestartPolicy { No => "no", OnFailure => "on-failure", Always => "always" }
}

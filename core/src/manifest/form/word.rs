//! Forms that are one of a few words.

use schemars::{Schema, json_schema};

use super::Misfit;
use crate::manifest::diagnostic::did_you_mean;

/// A type whose values are written as words; [`word!`] implements it.
pub(in super::super) trait Word: Sized + Copy + 'static {
    /// Each value with its word and what it means, in the order of the reference page.
    const WORDS: &'static [(Self, &'static str, &'static str)];

    /// Returns the value that a word stands for.
    fn from_word(text: &str) -> Result<Self, Misfit> {
        if let Some((value, ..)) = Self::WORDS.iter().find(|(_, word, _)| *word == text) {
            return Ok(*value);
        }
        let misfit = Misfit::new(format!("unknown word `{text}`"));
        let near = did_you_mean(text, Self::WORDS.iter().map(|(_, word, _)| *word));
        Err(misfit.help(near.map_or_else(
            || format!("write {}", either::<Self>()),
            |word| format!("did you mean `\"{word}\"`? It is {}", either::<Self>()),
        )))
    }
}

/// Returns the words as a choice: `"a", "b" or "c"`.
pub(in super::super) fn either<T: Word>() -> String {
    let words: Vec<String> = T::WORDS.iter().map(|(_, word, _)| format!("`\"{word}\"`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Returns the schema of a word, with what each means where a TOML language server shows it.
pub(in super::super) fn word_schema<T: Word>() -> Schema {
    let words: Vec<&str> = T::WORDS.iter().map(|(_, word, _)| *word).collect();
    let docs: Vec<&str> = T::WORDS.iter().map(|(_, _, doc)| *doc).collect();
    // `x-taplo` is an extension of the Taplo language server.
    json_schema!({ "type": "string", "enum": words, "x-taplo": { "docs": { "enumValues": docs } } })
}

/// Makes an enum a form: one word for each variant, with what it means.
macro_rules! word {
    ($type:ty { $($variant:ident $word:literal $doc:literal),+ $(,)? }) => {
        // A variant without a word does not compile.
        const _: fn($type) = |value| match value { $(<$type>::$variant => (),)+ };

        impl $crate::manifest::form::Word for $type {
            const WORDS: &'static [(Self, &'static str, &'static str)] = &[$((Self::$variant, $word, $doc)),+];
        }

        $crate::manifest::form::schema!($type, $crate::manifest::form::word_schema::<Self>());

        impl $crate::manifest::form::Form for $type {
            fn expected() -> std::borrow::Cow<'static, str> {
                $crate::manifest::form::either::<Self>().into()
            }

            fn values() -> Vec<(&'static str, &'static str)> {
                <Self as $crate::manifest::form::Word>::WORDS.iter().map(|(_, word, doc)| (*word, *doc)).collect()
            }

            fn read(
                value: &$crate::manifest::form::Value<'_>,
                reader: &mut $crate::manifest::form::Reader<'_>,
            ) -> Option<Self> {
                let toml::de::DeValue::String(text) = value.get_ref() else {
                    reader.mismatch::<Self>(value);
                    return None;
                };
                $crate::manifest::form::read_text(text, value, reader, $crate::manifest::form::Word::from_word)
            }
        }
    };
}
pub(in super::super) use word;

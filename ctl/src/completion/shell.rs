//! What differs between shells: the script that asks, how words are split, how an answer is written.

use std::ffi::{OsStr, OsString};

use clap::ValueEnum;

use super::Candidate;

/// A shell that completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// 4.4 or newer
    Bash,
    /// 5.0 or newer
    Zsh,
    /// 3.1 or newer
    Fish,
}

impl Shell {
    /// Returns the shell of this name; `None`: a name that no script of ours gives.
    pub(super) fn named(name: &OsStr) -> Option<Self> {
        name.to_str().and_then(|name| Self::from_str(name, false).ok())
    }

    /// Returns the script that sets completion up.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("nixmoxctl.bash"),
            Self::Zsh => include_str!("nixmoxctl.zsh"),
            Self::Fish => include_str!("nixmoxctl.fish"),
        }
    }

    /// Returns the words as they were typed, and what of the last one the shell does not want again.
    ///
    /// bash takes words apart at `=` and `:` (`COMP_WORDBREAKS`, bash(1)) and replaces only what stands behind them.
    pub(super) fn words(self, parts: Vec<OsString>) -> (Vec<OsString>, String) {
        match self {
            Self::Zsh | Self::Fish => (parts, String::new()),
            Self::Bash => {
                let mut words: Vec<OsString> = Vec::new();
                let mut typed = OsString::new();
                let mut is_glued = false;
                for part in parts {
                    let is_break = part == "=" || part == ":";
                    match words.last_mut() {
                        Some(word) if is_break || is_glued => {
                            typed.clone_from(word);
                            word.push(&part);
                        }
                        Some(_) | None => {
                            typed.clear();
                            words.push(part);
                        }
                    }
                    is_glued = is_break;
                }
                (words, typed.to_string_lossy().into_owned())
            }
        }
    }

    /// Returns the answer as the script reads it.
    pub(super) fn text(self, candidates: &[Candidate], typed: &str) -> String {
        candidates.iter().map(|candidate| self.line(candidate, typed) + "\n").collect()
    }

    fn line(self, Candidate { word, about }: &Candidate, typed: &str) -> String {
        match self {
            // Behind a whole word goes a blank, which bash does not add by itself when the script is about it.
            Self::Bash => format!("{} ", word.strip_prefix(typed).unwrap_or(word)),
            Self::Zsh if about.is_empty() => word.replace(':', "\\:"),
            Self::Zsh => format!("{}:{about}", word.replace(':', "\\:")),
            Self::Fish => format!("{word}\t{about}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &[&str]) -> (Vec<String>, String) {
        let (words, typed) = Shell::Bash.words(parts.iter().map(Into::into).collect());
        (words.into_iter().map(|word| word.into_string().unwrap()).collect(), typed)
    }

    #[test]
    fn what_bash_took_apart_is_one_word_again() {
        let plain = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(joined(&["ctl", "up", ""]), (plain(&["ctl", "up", ""]), String::new()));
        assert_eq!(joined(&["ctl", "--color", "=", "al"]), (plain(&["ctl", "--color=al"]), "--color=".to_owned()));
        assert_eq!(joined(&["ctl", "--color", "=", ""]), (plain(&["ctl", "--color="]), "--color=".to_owned()));
        assert_eq!(joined(&["ctl", "cp", "db", ":", "/v"]), (plain(&["ctl", "cp", "db:/v"]), "db:".to_owned()));
        assert_eq!(
            joined(&["ctl", "--file", "=", "x", "up", "po"]),
            (plain(&["ctl", "--file=x", "up", "po"]), String::new())
        );
    }

    #[test]
    fn each_shell_gets_a_line_that_it_understands() {
        let candidate = [Candidate { word: "--color=always".to_owned(), about: "a: b".to_owned() }];
        assert_eq!(Shell::Bash.text(&candidate, "--color="), "always \n");
        assert_eq!(Shell::Zsh.text(&candidate, ""), "--color=always:a: b\n");
        assert_eq!(Shell::Fish.text(&candidate, ""), "--color=always\ta: b\n");
    }
}

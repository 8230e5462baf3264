//! What a person says about builds: passed on to nix.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;

/// The heading of these options.
const HEADING: &str = "Options of builds";

/// What is passed on to nix.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NixOptions {
    /// Build and fetch nothing: what is not in the store yet is an error
    #[arg(long, help_heading = HEADING)]
    pub(crate) no_build: bool,
    /// Use no network, neither for inputs of flakes nor for binary caches
    #[arg(long, help_heading = HEADING)]
    pub(crate) offline: bool,
    /// Use another flake in place of an input
    #[arg(long, num_args = 2, value_names = ["INPUT", "REF"], help_heading = HEADING)]
    pub(crate) override_input: Vec<String>,
    /// The binary caches to fetch from, parted by blanks, in place of those that nix is set up with
    #[arg(long, value_name = "URLS", help_heading = HEADING)]
    pub(crate) substituters: Option<String>,
}

impl NixOptions {
    /// Returns what every nix that evaluates or builds is told.
    pub(super) fn of_nix(&self) -> Vec<OsString> {
        let mut words: Vec<&str> = Vec::new();
        if self.offline {
            words.push("--offline");
        }
        if let Some(urls) = &self.substituters {
            // nix does not ask caches on a machine that it takes to be offline; who names one knows better.
            words.extend(["--substituters", urls, "--option", "substitute", "true"]);
        }
        words.into_iter().map(OsString::from).collect()
    }

    /// Returns what a nix that evaluates flakes is told besides; paths are relative to the folder.
    pub(super) fn of_flakes(&self, folder: &Path) -> Vec<OsString> {
        let pairs = self.override_input.chunks_exact(2).flat_map(|pair| match pair {
            [input, reference] => {
                // nix runs in the folder of the flake, whoever typed this in another.
                let is_path = reference.starts_with('.');
                let reference = if is_path { folder.join(reference).into() } else { reference.into() };
                vec!["--override-input".into(), input.into(), reference]
            }
            _ => Vec::new(),
        });
        pairs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on_with_paths_from_where_they_were_typed() {
        let words = |words: Vec<OsString>| words.join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        let options = NixOptions {
            offline: true,
            override_input: ["nixpkgs", "./pkgs", "lib", "github:x/y", "a", "/srv/a"].map(str::to_owned).into(),
            substituters: Some("https://a https://b".to_owned()),
            ..NixOptions::default()
        };
        assert_eq!(
            words(options.of_nix()),
            "--offline --substituters https://a https://b --option substitute true"
        );
        assert_eq!(
            words(options.of_flakes(Path::new("/home/anna"))),
            "--override-input nixpkgs /home/anna/./pkgs --override-input lib github:x/y --override-input a /srv/a"
        );
        assert!(
            NixOptions::default().of_nix().is_empty() && NixOptions::default().of_flakes(Path::new("/")).is_empty()
        );
    }
}

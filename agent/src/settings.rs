//! The agent's own settings, `/etc/nixmox/agent.toml`; every key has a default and the file may be missing.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::metrics::Listen;

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is done about changes made behind the agent's back.
    pub drift: DriftPolicy,
    /// Containers started at the same time, at least 1; a job that starts for longer than a minute makes room. The default
    /// lets systemd use the machine fully and still keeps a boot with hundreds of containers from starving itself.
    pub parallel_starts: usize,
    /// Generations kept on disk, at least 1; the current one is never removed.
    pub keep_generations: usize,
    /// Where figures are given to Prometheus; `None`: nowhere.
    pub metrics: Option<MetricsSettings>,
}

/// The table `metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// Where to listen.
    pub listen: Listen,
}

/// What is done about changes made behind the agent's back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// They are reported, and undone after a time in which a person can declare them.
    #[default]
    Correct,
    /// They are reported. A container that died is still started again, as its `restart` says.
    Report,
}

/// Why the settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there and cannot be read.
    #[error("cannot read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "`{path}` is not valid; the agent's settings are `drift`, `parallel_starts`, `keep_generations` and `metrics.listen`"
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// The cause, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A number is 0.
    #[error("`{key}` in `{path}` must be at least 1")]
    Zero {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self { drift: DriftPolicy::default(), parallel_starts: 32, keep_generations: 100, metrics: None }
    }
}

impl Settings {
    /// Reads the settings; a missing file means all defaults.
    ///
    /// # Errors
    /// When the file is there and is not valid: the agent then does not start, rather than guess.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let settings: Self = match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|source| SettingsError::Form { path: path.to_owned(), source: Box::new(source) })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(source) => return Err(SettingsError::Io { path: path.to_owned(), source }),
        };
        let counts =
            [("parallel_starts", settings.parallel_starts), ("keep_generations", settings.keep_generations)];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((key, _)) => Err(SettingsError::Zero { path: path.to_owned(), key }),
            None => Ok(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installation_page_shows_the_defaults() {
        let page = include_str!("../../docs/install.md");
        let shown = page.split("\n```toml\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
        // Every key is there, and says what it would be without it.
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert_eq!(toml::from_str::<Settings>(shown).unwrap(), Settings::default());
    }

    #[test]
    fn metrics_are_given_where_the_page_about_them_says_and_only_on_this_machine() {
        let page = include_str!("../../docs/metrics.md");
        let shown = page.split("\n```toml\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
        let read = toml::from_str::<Settings>(shown).unwrap();
        assert_eq!(read.metrics.unwrap().listen, Listen::try_from("127.0.0.1:19558".to_owned()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "parallel_starts = 4\n\n[metrics]\nlisten = \"0.0.0.0:19558\"\n").unwrap();
        let told = format!("{:#}", anyhow::Error::from(Settings::load(&path).unwrap_err()));
        // The file, the line, the way out.
        for part in ["agent.toml` is not valid", "line 4", "is not loopback", "say `127.0.0.1:19558` or a path"] {
            assert!(told.contains(part), "`{part}` is not said: {told}");
        }
        for bad in ["[metrics]", "metrics = 3", "[metrics]\nlisten = 9558", "[metrics]\nport = 1"] {
            assert!(toml::from_str::<Settings>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_file_means_defaults_and_a_bad_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        assert_eq!(Settings::load(&path).unwrap(), Settings::default());
        std::fs::write(&path, "drift = \"report\"\nparallel_starts = 4\n").unwrap();
        assert_eq!(Settings::load(&path).unwrap().drift, DriftPolicy::Report);
        for bad in ["drif = 1", "drift = \"ignore\"", "parallel_starts = 0", "["] {
            std::fs::write(&path, bad).unwrap();
            assert!(Settings::load(&path).is_err(), "{bad}");
        }
    }
}

//! What an import says about what it read: what was not mapped, what came out otherwise, what is still to be done.

use serde::Serialize;

/// How much is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weight {
    /// It is not in what was written.
    NotMapped,
    /// It is there, and not as it was.
    Changed,
}

/// What is said about one place of a Compose file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Finding {
    /// The file, as messages call it.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The service, as the Compose file calls it; absent where it is about the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    /// The key, such as `build` or `environment.PUID`; `image` where the whole service is meant.
    pub(crate) key: String,
    /// How much is lost.
    pub(crate) weight: Weight,
    /// Why, in one sentence without a full stop. Holds no value of the file that may be a secret.
    pub(crate) reason: String,
    /// The way out; absent where nothing is to be done.
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    pub(crate) way_out: Option<String>,
}

/// A file that a person has to put a secret into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct SecretFile {
    /// The file on the host.
    pub(crate) path: String,
    /// What it holds, in words.
    pub(crate) holds: String,
    /// Where the Compose file has the value: file and line.
    pub(crate) from: String,
    /// The services that read it, in the order of the file.
    pub(crate) services: Vec<String>,
}

/// Where findings are collected.
#[derive(Debug, Default)]
pub(super) struct Findings {
    file: String,
    all: Vec<Finding>,
}

impl Findings {
    /// Returns an empty collection for a file.
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), all: Vec::new() }
    }

    /// Adds that something is not in what was written. An empty way out is none.
    pub(super) fn not_mapped(&mut self, service: Option<&str>, at: (&str, usize), reason: &str, way_out: &str) {
        self.add(Weight::NotMapped, service, at, reason, way_out);
    }

    /// Adds that something is there, and not as it was.
    pub(super) fn changed(&mut self, service: Option<&str>, at: (&str, usize), reason: &str, way_out: &str) {
        self.add(Weight::Changed, service, at, reason, way_out);
    }

    fn add(&mut self, weight: Weight, service: Option<&str>, at: (&str, usize), reason: &str, way_out: &str) {
        let (key, line) = at;
        self.all.push(Finding {
            file: self.file.clone(),
            line,
            service: service.map(ToOwned::to_owned),
            key: key.to_owned(),
            weight,
            reason: reason.to_owned(),
            way_out: (!way_out.is_empty()).then(|| way_out.to_owned()),
        });
    }

    /// Forgets what was said about a service, except that it is not there.
    pub(super) fn forget(&mut self, service: &str) {
        self.all.retain(|finding| finding.service.as_deref() != Some(service) || finding.key == "image");
    }

    /// Returns the findings in the order of the file.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.all.sort();
        self.all.dedup();
        self.all
    }
}

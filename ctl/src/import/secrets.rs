//! Where the secrets of a stack will lie: a file on the host for each, which a person fills.
//!
//! Values are only compared, so that one password that two services share is one file; they leave this module never.

use std::collections::BTreeMap;

use super::finding::SecretFile;

/// The folder on the host that secrets are expected in; what fills it (sops-nix, agenix, a person) is not ours.
const FOLDER: &str = "/run/secrets";

/// The secrets of a stack.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    stack: String,
    /// Files by path.
    files: BTreeMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    /// What it holds; compared, never shown.
    content: String,
    file: SecretFile,
}

impl Secrets {
    /// Returns the secrets of a stack that has none yet.
    pub(super) fn new(stack: &str) -> Self {
        Self { stack: stack.to_owned(), files: BTreeMap::new() }
    }

    /// Returns the path of the file that holds this content for a service, which is the same for the same content.
    ///
    /// `holds` says in words what is to be put into it, `from` where the Compose file has it.
    pub(super) fn place(&mut self, service: &str, name: &str, content: &str, holds: &str, from: &str) -> String {
        if let Some((path, kept)) = self.files.iter_mut().find(|(_, kept)| kept.content == content) {
            if !kept.file.services.iter().any(|known| known == service) {
                kept.file.services.push(service.to_owned());
            }
            return path.clone();
        }
        let stack = &self.stack;
        let short = format!("{FOLDER}/{stack}/{name}");
        let path =
            if self.files.contains_key(&short) { format!("{FOLDER}/{stack}/{service}-{name}") } else { short };
        let file = SecretFile {
            path: path.clone(),
            holds: holds.to_owned(),
            from: from.to_owned(),
            services: vec![service.to_owned()],
        };
        self.files.insert(path.clone(), Kept { content: content.to_owned(), file });
        path
    }

    /// Forgets a service that is not written after all.
    pub(super) fn forget(&mut self, service: &str) {
        for kept in self.files.values_mut() {
            kept.file.services.retain(|known| known != service);
        }
        self.files.retain(|_, kept| !kept.file.services.is_empty());
    }

    /// Returns the files, in the order of their paths.
    pub(super) fn into_files(self) -> Vec<SecretFile> {
        self.files.into_values().map(|kept| kept.file).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_secret_is_one_file_and_another_of_the_same_name_is_not() {
        let mut secrets = Secrets::new("cloud");
        let first = secrets.place("db", "password", "a", "the password", "compose.yml:1");
        assert_eq!(first, "/run/secrets/cloud/password");
        assert_eq!(secrets.place("app", "db-password", "a", "", ""), first);
        assert_eq!(secrets.place("other", "password", "b", "", ""), "/run/secrets/cloud/other-password");
        secrets.forget("db");
        let files = secrets.into_files();
        assert_eq!(files.len(), 2);
        assert_eq!(files[1].services, ["app"]);
    }
}

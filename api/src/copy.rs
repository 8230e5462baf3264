//! A copy between the host and a container: what is asked for, what became of it.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use crate::rule;

/// A copy of files out of a container, or into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct CopyRequest {
    /// The service.
    pub name: String,
    /// An absolute path in the container. Links on the way to it are resolved in the container.
    pub path: String,
    /// Whether files are copied into the container; else out of it.
    pub into: bool,
    /// Out of it: whether a link at the path is followed; else it is copied as a link.
    pub follow: bool,
}

/// The replies to `Copy`. The first comes with the descriptor; what the last one says is of the container's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct CopyReply {
    /// Objects that were copied: files, folders, links.
    pub objects: u64,
    /// Bytes of files that were copied.
    pub bytes: u64,
    /// What was not copied or not in full, each as `path: why`; the first twenty.
    pub skipped: Vec<String>,
    /// How many more there are.
    pub skipped_more: u64,
    /// Why the copy ended before its time, in one sentence; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl CopyRequest {
    /// Returns every fault of the request; whether the path is there is seen in the container.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        rule::guest_path(&self.path).err().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_container_is_absolute_and_may_be_anything_else() {
        let problems = |path: &str| {
            let path = path.to_owned();
            CopyRequest { name: "web".to_owned(), path, into: false, follow: false }.problems().len()
        };
        for path in ["/", "/etc/.", "/a/../b", "/with a\nline"] {
            assert_eq!(problems(path), 0, "{path:?}");
        }
        for path in ["", "etc", "/a\0b", &"/a".repeat(3000)] {
            assert_eq!(problems(path), 1, "{path:?}");
        }
    }
}

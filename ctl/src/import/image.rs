//! References of images: `postgres:17`, `ghcr.io/miniflux/miniflux@sha256:…`.

/// The parts of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// The whole, as it was written.
    pub(super) text: String,
    /// The name without the registry and without `library/`: `postgres`, `linuxserver/jellyfin`.
    pub(super) name: String,
    /// The tag; empty without one.
    pub(super) tag: String,
}

impl Image {
    /// Returns the parts of a reference; `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
        if text.is_empty() || !text.chars().all(known) {
            return None;
        }
        let without_digest = text.split('@').next().unwrap_or_default();
        // A `:` before the last `/` belongs to the registry's port.
        let (path, tag) = match without_digest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            Some(_) | None => (without_digest, ""),
        };
        let name = match path.split_once('/') {
            Some((registry, name)) if registry.contains(['.', ':']) || registry == "localhost" => name,
            Some(_) | None => path,
        };
        let name = name.strip_prefix("library/").unwrap_or(name).to_ascii_lowercase();
        (!name.is_empty()).then(|| Self { text: text.to_owned(), name, tag: tag.to_owned() })
    }

    /// Returns the number that the tag begins with: 17 of `17.2-alpine`.
    pub(super) fn major(&self) -> Option<u32> {
        let digits: String = self.tag.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_name_and_a_tag() {
        let parts = |text| Image::parse(text).map(|image| (image.name, image.tag));
        let of = |name: &str, tag: &str| Some((name.to_owned(), tag.to_owned()));
        assert_eq!(parts("postgres"), of("postgres", ""));
        assert_eq!(parts("docker.io/library/postgres:17.2-alpine"), of("postgres", "17.2-alpine"));
        assert_eq!(parts("localhost:5000/a/b"), of("a/b", ""));
        assert_eq!(parts("ghcr.io/miniflux/miniflux:latest@sha256:0123"), of("miniflux/miniflux", "latest"));
        assert_eq!(parts("a b"), None);
        assert_eq!(parts(""), None);
        assert_eq!(Image::parse("postgres:v17.2").and_then(|image| image.major()), Some(17));
    }
}

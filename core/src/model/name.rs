//! Names and store paths: parsed once, at the edge.

use std::fmt;
use std::str::FromStr;

/// Names a container, as in the unit `container@NAME.service`.
///
/// One to 63 characters from `[A-Za-z0-9_-]`, starting with a letter or a digit: what `nixos-container`
/// accepts and a unit instance needs no escaping for. A service that NixMox itself realises is held to the
/// narrower `[a-z0-9-]` by the manifest's checks, because its name is a host name too (hostname(7)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(String);

/// Names a stack: one to 63 characters from `[a-z0-9-]`, starting with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackName(String);

/// Names who declares a stack where no person's file does, as an option of NixOS: one to 255 characters, none of them a control
/// character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(String);

/// A path directly inside `/nix/store`, such as `/nix/store/<32 characters>-nixos-system-web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

/// A text that is not a container or stack name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: {why}")]
pub struct InvalidName {
    /// The refused text.
    pub text: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

/// A text that is not a path directly inside `/nix/store`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a store path: expected /nix/store/<32 characters>-<name>")]
pub struct InvalidStorePath {
    /// The refused text.
    pub text: String,
}

const NAME_LENGTH_MAX: usize = 63;
const OWNER_LENGTH_MAX: usize = 255;

fn check_name(text: &str, allowed: fn(char) -> bool, rule: &'static str) -> Result<(), InvalidName> {
    let why = if text.is_empty() {
        "it is empty"
    } else if text.len() > NAME_LENGTH_MAX {
        "it is longer than 63 characters"
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "it must start with a letter or a digit"
    } else if !text.chars().all(allowed) {
        rule
    } else {
        return Ok(());
    };
    Err(InvalidName { text: text.to_owned(), why })
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        check_name(text, allowed, "only letters, digits, `-` and `_` are allowed")?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for StackName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        check_name(text, allowed, "only lower-case letters, digits and `-` are allowed")?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Owner {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > OWNER_LENGTH_MAX {
            "it is longer than 255 characters"
        } else if text.chars().any(char::is_control) {
            "control characters are not allowed"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(InvalidName { text: text.to_owned(), why })
    }
}

impl FromStr for StorePath {
    type Err = InvalidStorePath;

    fn from_str(text: &str) -> Result<Self, InvalidStorePath> {
        // Grammar: Nix manual, "Store Path". Only characters that need no quoting anywhere are in it.
        let valid = text.strip_prefix("/nix/store/").and_then(|base| base.split_at_checked(32)).is_some_and(
            |(hash, name)| {
                hash.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
                    && name.len() > 1
                    && name.len() <= 212
                    && name.starts_with('-')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._?=".contains(c))
            },
        );
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidStorePath { text: text.to_owned() }) }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

as_text!(ContainerName, StackName, StorePath, Owner);

impl ContainerName {
    /// Returns the name of the systemd unit that runs this container.
    #[must_use]
    pub fn unit(&self) -> String {
        format!("container@{}.service", self.0)
    }

    /// Returns the container that a unit name stands for, if it is an instance of `container@.service`.
    #[must_use]
    pub fn from_unit(unit: &str) -> Option<Self> {
        unit.strip_prefix("container@")?.strip_suffix(".service")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_name_with_a_slash() {
        assert!("a/b".parse::<ContainerName>().is_err());
    }

    #[test]
    fn a_unit_name_leads_back_to_its_container() {
        let name: ContainerName = "web-1".parse().unwrap();
        assert_eq!(ContainerName::from_unit(&name.unit()), Some(name));
        assert_eq!(ContainerName::from_unit("sshd@web.service"), None);
    }

    #[test]
    fn refuses_a_store_path_that_climbs_out() {
        let hash = "a".repeat(32);
        assert!(format!("/nix/store/{hash}-x").parse::<StorePath>().is_ok());
        assert!(format!("/nix/store/{hash}-x/../y").parse::<StorePath>().is_err());
        assert!("/nix/store/short-x".parse::<StorePath>().is_err());
    }
}

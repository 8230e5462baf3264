//! `--file` for commands whose `-f` means to follow, as with Compose.
//!
//! An option of every command gives way to one of the same id in a command; what it says then is that of the former.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser as PathOrEmpty, TypedValueParser as _};

/// The stack file without its short form.
#[derive(Clone, Debug, Args)]
pub(crate) struct StackFile {
    /// The stack file, instead of the nearest nixmox.toml; -f before the command
    #[arg(id = "file", long = "file", value_name = "FILE", value_parser = PathOrEmpty::new().map(PathBuf::from), help_heading = crate::cli::EVERYWHERE)]
    _file: Option<PathBuf>,
}

//! Models in files of format GGUF, also those that are split into several.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use nixmox_core::offload::gguf::{self, Fault, Header, Source, Split};
use nixmox_core::offload::model::Model;

/// Why a file is no model that can be estimated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a device or the like.
    #[error("{path} is no file", path = path.display())]
    NoFile {
        /// What it was taken for.
        path: PathBuf,
    },
    /// It is no GGUF file, or one that is damaged.
    #[error("{path} {why}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, in one line that begins with a verb.
        why: String,
    },
    /// It is what sees or hears for a model.
    #[error("{path} is a projector, which sees or hears for a model", path = path.display())]
    Projector {
        /// The file.
        path: PathBuf,
    },
    /// It is a later part of a model.
    #[error("{path} is part {number} of a model that is split", path = path.display())]
    LaterPart {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        number: u64,
        /// The first part; `None`: its name does not tell.
        first: Option<PathBuf>,
    },
    /// It is the first part of a model, and its name does not say so.
    #[error("{path} is the first of {count} parts of a model, and its name does not tell the others", path = path.display())]
    Unnumbered {
        /// The file.
        path: PathBuf,
        /// How many parts there are.
        count: u64,
    },
}

impl FileError {
    /// Returns the way out.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "see that the file is there, with all of its parts beside it; of a service that runs models: SERVICE:MODEL".to_owned()
            }
            Self::Read { .. } => "see that you may read it".to_owned(),
            Self::NoFile { .. } => "name a file that ends in .gguf".to_owned(),
            Self::Content { .. } => "get it anew: a download may have been cut short, or it is no GGUF file".to_owned(),
            Self::Projector { .. } => "name the file of the model itself".to_owned(),
            Self::LaterPart { first: Some(first), .. } => {
                format!("give the first part, the others are found beside it: {}", first.display())
            }
            Self::LaterPart { first: None, .. } => "give the first part, the others are found beside it".to_owned(),
            Self::Unnumbered { count, .. } => {
                format!("give the files the names that they were made with: NAME-00001-of-{count:05}.gguf")
            }
        }
    }
}

/// Reads a model; of one that is split the first part is named, and the others lie beside it.
pub(crate) fn read(path: &Path) -> Result<Model, FileError> {
    let first = head(path)?;
    if first.is_projector() {
        return Err(FileError::Projector { path: path.to_owned() });
    }
    let name = path.file_name().and_then(|name| name.to_str()).and_then(Split::of);
    let part = |split: Split<'_>, number| path.with_file_name(split.part(number));
    if let Some(number) = first.number("split.no").filter(|number| *number > 0) {
        let first = name.map(|name| part(name, 1));
        return Err(FileError::LaterPart { path: path.to_owned(), number: number.saturating_add(1), first });
    }
    let count = first.number("split.count").unwrap_or(1);
    let mut heads = vec![first];
    match name {
        _ if count <= 1 => {}
        // The file says how many there are; its name only how they are called.
        Some(name) if u64::from(name.count()) == count => {
            for number in 2..=name.count() {
                heads.push(head(&part(name, number))?);
            }
        }
        Some(_) | None => return Err(FileError::Unnumbered { path: path.to_owned(), count }),
    }
    Model::of(&heads).map_err(|fault| FileError::Content { path: path.to_owned(), why: fault.to_string() })
}

fn head(path: &Path) -> Result<Header, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        // A pipe would be waited for.
        return Err(FileError::NoFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    match gguf::read(&mut Reader { left: about.len(), file: BufReader::new(file) }) {
        Ok(header) => Ok(header),
        Err(Fault::Source(source)) => Err(failed(source)),
        Err(Fault::Content(why)) => Err(FileError::Content { path: path.to_owned(), why }),
    }
}

/// A file that is read from its beginning on.
struct Reader {
    file: BufReader<File>,
    /// Bytes that are still to come.
    left: u64,
}

impl Source for Reader {
    type Error = io::Error;

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let wanted = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let Some(left) = self.left.checked_sub(wanted) else { return Ok(false) };
        self.left = left;
        match self.file.read_exact(buffer) {
            Ok(()) => Ok(true),
            // Somebody cut it off meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<bool> {
        let (Some(left), Ok(by)) = (self.left.checked_sub(bytes), i64::try_from(bytes)) else { return Ok(false) };
        self.left = left;
        self.file.seek_relative(by).map(|()| true)
    }
}

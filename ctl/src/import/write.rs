//! Files of a stack on disk: all of them or none, and nothing that was there is lost unasked.
//!
//! Every file is written beside its place under another name first. Only when all of them lie there are they put in
//! place, and a failure on the way takes back what was done.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Why files were not written. Nothing is left of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Files are there already.
    #[error("{} of the files to be written are there already, such as {}", .paths.len(), first(.paths))]
    Exists {
        /// Which; never empty.
        paths: Vec<PathBuf>,
    },
    /// A file or folder could not be made.
    #[error("cannot write {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn first(paths: &[PathBuf]) -> String {
    paths.first().map(|path| path.display().to_string()).unwrap_or_default()
}

/// The end of the names that files have before they are put in place, and of what they replace.
const NEW: &str = ".nixmox-new";
const OLD: &str = ".nixmox-old";

/// Writes files, their paths relative to a folder, which is made where it is missing. With `force`, files that are
/// there are replaced; what is no file is never.
pub(crate) fn write(folder: &Path, files: &[(PathBuf, String)], force: bool) -> Result<(), WriteError> {
    let places: Vec<PathBuf> = files.iter().map(|(path, _)| folder.join(path)).collect();
    let in_the_way = |path: &&PathBuf| match path.symlink_metadata() {
        Ok(metadata) => !(force && metadata.is_file()),
        Err(_missing) => false,
    };
    let paths: Vec<PathBuf> = places.iter().filter(in_the_way).cloned().collect();
    if !paths.is_empty() {
        return Err(WriteError::Exists { paths });
    }
    let mut done = Done::default();
    let written = done.write(&places, files);
    match written {
        Ok(()) => {
            done.forget();
            Ok(())
        }
        Err(error) => {
            done.take_back();
            Err(error)
        }
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Done {
    /// Folders that were made, outer ones first.
    folders: Vec<PathBuf>,
    /// Files beside their places.
    beside: Vec<PathBuf>,
    /// Files in their places that were not there before.
    placed: Vec<PathBuf>,
    /// Files that were replaced; what they were lies beside them.
    replaced: Vec<PathBuf>,
}

impl Done {
    fn write(&mut self, places: &[PathBuf], files: &[(PathBuf, String)]) -> Result<(), WriteError> {
        for (place, (_, text)) in places.iter().zip(files) {
            let error = |source| WriteError::Io { path: place.clone(), source };
            if let Some(folder) = place.parent() {
                self.make_folders(folder)?;
            }
            let beside = named(place, NEW);
            // Left over from one that was killed.
            let _missing = fs::remove_file(&beside);
            self.beside.push(beside.clone());
            let mut file = fs::File::create_new(&beside).map_err(error)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(error)?;
        }
        for place in places {
            let error = |source| WriteError::Io { path: place.clone(), source };
            if place.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                fs::rename(place, named(place, OLD)).map_err(error)?;
                self.replaced.push(place.clone());
            }
            // A link, unlike a rename, replaces nothing that came there in the meantime.
            fs::hard_link(named(place, NEW), place).map_err(error)?;
            self.placed.push(place.clone());
        }
        Ok(())
    }

    fn make_folders(&mut self, folder: &Path) -> Result<(), WriteError> {
        let mut missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
        missing.retain(|above| !above.as_os_str().is_empty());
        for above in missing.into_iter().rev() {
            fs::create_dir(above).map_err(|source| WriteError::Io { path: above.to_owned(), source })?;
            self.folders.push(above.to_owned());
        }
        Ok(())
    }

    /// Removes what is not needed any more. What cannot be removed harms nothing.
    fn forget(self) {
        for path in self.beside.into_iter().chain(self.replaced.iter().map(|place| named(place, OLD))) {
            let _left = fs::remove_file(path);
        }
    }

    /// Leaves everything as it was.
    fn take_back(self) {
        for path in self.placed.iter().chain(&self.beside) {
            let _left = fs::remove_file(path);
        }
        for place in &self.replaced {
            let _left = fs::rename(named(place, OLD), place);
        }
        for folder in self.folders.iter().rev() {
            // Only empty ones go.
            let _left = fs::remove_dir(folder);
        }
    }
}

fn named(place: &Path, end: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(end);
    place.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<(PathBuf, String)> {
        names.iter().map(|name| (PathBuf::from(name), format!("new {name}"))).collect()
    }

    /// Every file below a folder, with its text.
    fn tree(folder: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(tree(&path));
            } else {
                found.push((path.file_name().unwrap().display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_is_there_is_replaced_only_when_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "old").unwrap();
        let files = files(&["a", "b", "c/d"]);
        let refused = write(folder.path(), &files, false).unwrap_err();
        assert!(matches!(refused, WriteError::Exists { paths } if paths == [folder.path().join("b")]));
        assert_eq!(tree(folder.path()), [("b".to_owned(), "old".to_owned())]);
        write(folder.path(), &files, true).unwrap();
        let expected = [("a", "new a"), ("b", "new b"), ("d", "new c/d")];
        assert_eq!(tree(folder.path()), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_failure_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "old").unwrap();
        fs::write(folder.path().join("file"), "no folder").unwrap();
        let before = tree(folder.path());
        // The last one's folder is a file.
        let failed = write(folder.path(), &files(&["new/a", "b", "file/c"]), true).unwrap_err();
        assert!(matches!(failed, WriteError::Io { .. }), "{failed}");
        assert_eq!(tree(folder.path()), before);
        assert!(!folder.path().join("new").exists());
    }

    #[test]
    fn a_failure_while_files_are_put_in_place_puts_the_old_ones_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "old").unwrap();
        let places = [folder.path().join("a"), folder.path().join("b")];
        let mut done = Done::default();
        fs::create_dir(folder.path().join("b")).unwrap();
        assert!(done.write(&places, &files(&["a", "b"])).is_err());
        assert_eq!(done.replaced, [folder.path().join("a")]);
        done.take_back();
        assert_eq!(tree(folder.path()), [("a".to_owned(), "old".to_owned())]);
    }

    #[test]
    fn a_link_or_a_folder_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("a")).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let refused = write(folder.path(), &files(&["a", "b"]), true).unwrap_err();
        assert!(matches!(refused, WriteError::Exists { paths } if paths.len() == 2));
    }
}

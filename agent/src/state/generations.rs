//! The folder of generations: written by rename, read with distrust, pruned by count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nixmox_core::model::StorePath;

use super::generation::{FORMAT, OnDisk};
use super::{Generation, StateError};
use crate::disk;

/// The folder `generations` and the link `current` beside it.
#[derive(Clone, Debug)]
pub struct Generations {
    folder: PathBuf,
    current: PathBuf,
}

/// What was found on disk.
#[derive(Debug)]
pub struct Current {
    /// The current generation, or the newest good one where that is damaged; number 0 where there is none.
    pub generation: Generation,
    /// What was wrong with others, for a person.
    pub damage: Vec<StateError>,
}

/// The generations that remain after pruning.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Their numbers.
    pub numbers: BTreeSet<u64>,
    /// The store paths that they need, as far as they could be read.
    pub systems: BTreeSet<StorePath>,
    /// Those that the disk did not give: what they need is not known.
    pub unread: BTreeSet<u64>,
}

impl Generations {
    /// Returns the generations below this folder (`/var/lib/nixmox`), which need not exist.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("generations"), current: state.join("current") }
    }

    /// Returns the folder that they are below.
    #[must_use]
    pub fn state(&self) -> &Path {
        // Both are made from it.
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// Reads the current generation.
    ///
    /// # Errors
    /// `Newer` when the current one, or the newest there is, was written by a later version. `Io` when the
    /// folder cannot be listed. Damage is no error: the newest good generation stands in, and it is reported.
    pub fn load(&self) -> Result<Current, StateError> {
        let mut damage = Vec::new();
        let numbers = self.numbers()?;
        // The link says which one is current; without it (a first start, or somebody removed it), the newest.
        let linked = fs::read_link(&self.current).ok().as_deref().and_then(number_of);
        let candidates = linked.into_iter().chain(numbers.iter().rev().copied().filter(|n| Some(*n) != linked));
        for number in candidates {
            match self.read(number) {
                Ok(Some(generation)) => return Ok(Current { generation, damage }),
                Ok(None) => {}
                Err(error @ StateError::Newer { .. }) => return Err(error),
                Err(error) => damage.push(error),
            }
        }
        Ok(Current { generation: Generation::default(), damage })
    }

    /// Reads one generation; `None`: it is not there.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn read(&self, number: u64) -> Result<Option<Generation>, StateError> {
        let path = self.path(number);
        let Some(disk) = super::read::<OnDisk>(&path, FORMAT)? else { return Ok(None) };
        let generation =
            Generation::try_from(disk).map_err(|source| StateError::Damaged { path, source: Box::new(source) })?;
        Ok(Some(generation))
    }

    /// Returns the number that the next generation gets: no number is used twice, damaged ones included.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn next_number(&self) -> Result<u64, StateError> {
        Ok(self.numbers()?.last().map_or(1, |last| last.saturating_add(1)))
    }

    /// Writes a generation and makes it the current one; when it returns, both survive a power cut.
    ///
    /// # Errors
    /// When it could not be written; the current generation is then as it was.
    pub fn write(&self, generation: &Generation) -> Result<(), StateError> {
        let path = self.path(generation.number);
        fs::create_dir_all(&self.folder).map_err(|source| self.error("write", source))?;
        super::write(&path, &OnDisk::from(generation))?;
        let target = Path::new("generations").join(file_name(generation.number));
        disk::replace_link(&self.current, &target).map_err(|source| {
            // Half a change is none: without the link the file must not count as the newest.
            let _ = disk::remove_if_there(&path);
            StateError::Io { action: "write", path: self.current.clone(), source }
        })
    }

    /// Returns the numbers of the generations that there are, damaged ones included; the oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn kept(&self) -> Result<BTreeSet<u64>, StateError> {
        self.numbers()
    }

    /// Removes the oldest generations beyond `count`, never those that are needed, and returns what remains.
    ///
    /// # Errors
    /// When the folder cannot be listed. A file that cannot be removed stays, and a damaged one is passed over.
    pub fn prune(&self, count: usize, needed: &BTreeSet<u64>) -> Result<Kept, StateError> {
        let numbers = self.numbers()?;
        let surplus = numbers.len().saturating_sub(count.max(1));
        let mut kept = Kept::default();
        for (index, &number) in numbers.iter().enumerate() {
            if index < surplus && !needed.contains(&number) && disk::remove_if_there(&self.path(number)).is_ok() {
                continue;
            }
            kept.numbers.insert(number);
            match self.read(number) {
                Ok(Some(generation)) => kept.systems.extend(generation.systems().cloned()),
                Ok(None) | Err(StateError::Newer { .. } | StateError::Damaged { .. }) => {}
                Err(StateError::Io { .. }) => {
                    kept.unread.insert(number);
                }
            }
        }
        Ok(kept)
    }

    fn numbers(&self) -> Result<BTreeSet<u64>, StateError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(self.error("list", source)),
        };
        let mut numbers = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.error("list", source))?;
            numbers.extend(number_of(Path::new(&entry.file_name())));
        }
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(file_name(number))
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> StateError {
        StateError::Io { action, path: self.folder.clone(), source }
    }
}

fn file_name(number: u64) -> String {
    format!("{number}.json")
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64) -> Generation {
        Generation { number, made_at: 1_700_000_000, ..Generation::default() }
    }

    #[test]
    fn the_link_decides_which_one_is_current() {
        let state = tempfile::tempdir().unwrap();
        let generations = Generations::new(state.path());
        assert_eq!(generations.load().unwrap().generation, Generation::default());
        generations.write(&numbered(1)).unwrap();
        generations.write(&numbered(2)).unwrap();
        disk::replace_link(&state.path().join("current"), Path::new("generations/1.json")).unwrap();
        assert_eq!(generations.load().unwrap().generation.number, 1);
        assert_eq!(generations.next_number().unwrap(), 3);
    }

    #[test]
    fn a_torn_file_is_reported_and_the_newest_good_one_stands_in() {
        let state = tempfile::tempdir().unwrap();
        let generations = Generations::new(state.path());
        generations.write(&numbered(1)).unwrap();
        generations.write(&numbered(2)).unwrap();
        for torn in ["", "{", r#"{"format":1,"number":2}"#, "\0\0\0\0"] {
            fs::write(state.path().join("generations/2.json"), torn).unwrap();
            let current = generations.load().unwrap();
            assert_eq!((current.generation.number, current.damage.len()), (1, 1), "{torn:?}");
        }
        assert_eq!(generations.next_number().unwrap(), 3);
    }

    #[test]
    fn a_newer_format_is_refused_whole() {
        let state = tempfile::tempdir().unwrap();
        let generations = Generations::new(state.path());
        generations.write(&numbered(1)).unwrap();
        generations.write(&numbered(2)).unwrap();
        fs::write(state.path().join("generations/2.json"), r#"{"format":2,"whatever":true}"#).unwrap();
        assert!(matches!(generations.load(), Err(StateError::Newer { format: 2, known: 1, .. })));
    }

    #[test]
    fn pruning_keeps_what_is_needed() {
        let state = tempfile::tempdir().unwrap();
        let generations = Generations::new(state.path());
        for number in 1..=5 {
            generations.write(&numbered(number)).unwrap();
        }
        let kept = generations.prune(2, &BTreeSet::from([1])).unwrap();
        assert_eq!(kept.numbers, BTreeSet::from([1, 4, 5]));
        assert_eq!(generations.prune(2, &BTreeSet::from([1])).unwrap().numbers, BTreeSet::from([1, 4, 5]));
    }

    #[test]
    fn what_the_disk_does_not_give_is_not_taken_for_nothing() {
        let state = tempfile::tempdir().unwrap();
        let generations = Generations::new(state.path());
        generations.write(&numbered(1)).unwrap();
        generations.write(&numbered(2)).unwrap();
        fs::write(state.path().join("generations/1.json"), "torn").unwrap();
        let needed = BTreeSet::from([2]);
        let kept = generations.prune(2, &needed).unwrap();
        assert_eq!((kept.numbers, kept.unread), (BTreeSet::from([1, 2]), BTreeSet::new()));
        fs::remove_file(state.path().join("generations/1.json")).unwrap();
        fs::create_dir(state.path().join("generations/1.json")).unwrap();
        assert_eq!(generations.prune(2, &needed).unwrap().unread, BTreeSet::from([1]));
    }
}

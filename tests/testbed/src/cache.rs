//! The cache of built file systems: `$XDG_CACHE_HOME/nixmox/KIND-HASH`.
//!
//! An entry is built beside its place and renamed into it, under a lock that is released when its holder dies: an entry that
//! exists is whole, two runs never build the same one twice, and a killed run leaves only a `.tmp` folder that the next one removes.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    contained,
    machine::{self, say},
    recipe,
};

/// Entries that no run used for this long are removed when a new one is built.
const KEEP_UNUSED: Duration = Duration::from_hours(14 * 24);

/// The folder in which built file systems are kept between runs.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens `$XDG_CACHE_HOME/nixmox`, or `~/.cache/nixmox`; creates it.
    pub fn open() -> Result<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set: no place for the testbed's cache")?;
        let dir = base.join("nixmox");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Builds whatever is missing for a testbed with the homelab's systems. Takes one to three minutes once, then milliseconds.
    pub fn fill(&self) -> Result<()> {
        self.homelab().map(|_| ())
    }

    /// Returns the folder that all entries are in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the folder for what belongs to running testbeds.
    pub fn run_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join("run");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// Returns the root file system of the host; never written to after it is built.
    pub(crate) fn root(&self) -> Result<PathBuf> {
        self.entry(&format!("root-{}", recipe::root_hash()), |target| {
            say("building the host's root file system (once, about 30 s)");
            mmdebstrap(recipe::ROOT_PACKAGES, &[], target)?;
            run_script(recipe::ROOT_SCRIPT, &[target])
        })
    }

    /// Returns the overlay layer whose store holds the homelab's systems.
    pub(crate) fn homelab(&self) -> Result<PathBuf> {
        let root = self.root()?;
        self.entry(&format!("homelab-{}", recipe::homelab_hash()), |target| {
            let guest = self.guest()?;
            say("putting the homelab's systems into the store (once, about 20 s)");
            fs::create_dir_all(target)?;
            let init = target.with_extension("init");
            fs::write(&init, recipe::GUEST_INIT)?;
            let done = run_script(recipe::HOMELAB_SCRIPT, &[&root, &guest, &init, target]);
            fs::remove_file(&init)?;
            done
        })
    }

    /// Returns the root file system that booted Debian guests are made of.
    fn guest(&self) -> Result<PathBuf> {
        self.entry(&format!("guest-{}", recipe::guest_hash()), |target| {
            say("building the guests' root file system (once, about 40 s)");
            mmdebstrap(recipe::GUEST_PACKAGES, recipe::GUEST_EXCLUDES, target)
        })
    }

    /// Returns the entry `name`, building it with `build` when it is not there.
    pub(crate) fn entry(&self, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let place = self.dir.join(name);
        let stamp = self.dir.join(format!("{name}.used"));
        if !place.exists() {
            machine::prepare()?;
            let _lock = self.lock(name)?;
            if !place.exists() {
                let temporary = self.dir.join(format!("{name}.tmp"));
                self.remove_half_built(name)?;
                let begin = Instant::now();
                build(&temporary).with_context(|| format!("cannot build the cache entry {name}"))?;
                fs::rename(&temporary, &place).with_context(|| format!("cannot move {name} into place"))?;
                say(&format!("built {name} in {:.1} s", begin.elapsed().as_secs_f32()));
                self.forget_unused();
            }
        }
        fs::write(&stamp, []).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(place)
    }

    /// Removes what a killed or failed build of this entry left. The caller holds the lock.
    fn remove_half_built(&self, name: &str) -> Result<()> {
        let prefix = format!("{name}.tmp");
        for entry in fs::read_dir(&self.dir).with_context(|| format!("cannot read {}", self.dir.display()))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    fn lock(&self, name: &str) -> Result<Flock<File>> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((file, _)) => {
                say(&format!("waiting for another run that builds {name}"));
                Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, errno)| errno)
                    .with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Removes entries of old recipes. Failures do not matter: the next build tries again.
    fn forget_unused(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for stamp in entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "used"))
        {
            let age = fs::metadata(&stamp)
                .and_then(|meta| meta.modified())
                .map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
            if age.is_ok_and(|age| age > KEEP_UNUSED) {
                let _ = remove_tree(&stamp.with_extension(""));
                let _ = fs::remove_file(&stamp);
                let _ = fs::remove_file(stamp.with_extension("lock"));
            }
        }
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.is_dir() => fs::remove_file(path),
        _ => fs::remove_dir_all(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

pub(crate) fn mmdebstrap(packages: &[&str], excludes: &[&str], target: &Path) -> Result<()> {
    let mut argv: Vec<OsString> =
        ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory"]
            .map(OsString::from)
            .to_vec();
    argv.extend(excludes.iter().map(|exclude| format!("--dpkgopt=path-exclude={exclude}").into()));
    argv.push(format!("--include={}", packages.join(",")).into());
    argv.extend([recipe::SUITE.into(), target.into()]);
    contained::run(&argv).context("mmdebstrap could not build a root file system (does apt reach a Debian mirror?)")
}

pub(crate) fn run_script(script: &str, arguments: &[&Path]) -> Result<()> {
    let mut argv = ["sh", "-euc", script, "testbed"].map(OsString::from).to_vec();
    argv.extend(arguments.iter().map(OsString::from));
    contained::run(&argv)
}

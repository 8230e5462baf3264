//! Virtual machines: what they are made of, and the run of a scenario on one.
//!
//! ```text
//!  cache: tools ─┐                          run folder: programs ─┐
//!         disk ──┴─▶ booted (a snapshot) ──────────────────────────┴─▶ installed (a snapshot) ─▶ a copy for each scenario
//! ```
//!
//! Everything runs in the root with the tools, so the machine needs no QEMU. The driver is `vm-tests/driver`.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    build::{Build, guest_binary, workspace_root},
    cache::{Cache, mmdebstrap, run_script},
    contained, install,
    leftovers::RunDir,
    machine::{self, say},
    recipe,
};

/// Size of the disk with our programs. The same in every run: a snapshot knows it.
const PROGRAMS_BYTES: u64 = 64 << 20;
/// Runs the driver in the root with the tools. $1: that root; $2: the cache; $3: the run folder; $4: `vm-tests`; then what runs.
const IN_TOOLS: &str = r#"
root=$1 cache=$2 run=$3 tests=$4
shift 4
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/mnt"
mkdir "$root/mnt/cache" "$root/mnt/run" "$root/mnt/vm-tests"
mount --bind -o ro "$cache" "$root/mnt/cache"
mount --bind "$run" "$root/mnt/run"
mount --bind -o ro "$tests" "$root/mnt/vm-tests"
exec chroot "$root" "$@"
"#;

/// A machine with our programs installed, from which each scenario begins.
#[derive(Debug)]
pub struct Vm {
    cache: Cache,
    tools: PathBuf,
    /// Names of cache entries.
    disk: OsString,
    run: RunDir,
}

impl Vm {
    /// Builds what the cache lacks (3 min once), and installs the release build.
    pub fn prepare() -> Result<Self> {
        machine::prepare()?;
        let cache = Cache::open()?;
        let tools = cache.tools()?;
        let disk = cache.vm_disk(&tools)?;
        let booted = cache.booted(&tools, &disk)?;
        let vm = Self { run: RunDir::claim(&cache)?, cache, tools, disk: entry_name(&disk) };
        vm.write_programs()?;
        let booted = Path::new("/mnt/cache").join(entry_name(&booted)).join("disk.qcow2");
        let save = ["--snapshot", "booted", "--name", "installed", "--target", "/mnt/run/installed.qcow2"];
        vm.drive("snapshot", &booted, &save, "image/install.py").context("cannot install our programs")?;
        Ok(vm)
    }

    /// Runs the scenario `vm-tests/scenarios/NAME.py`; what it says is seen.
    pub fn run(&self, scenario: &str) -> Result<()> {
        let script = format!("scenarios/{scenario}.py");
        self.drive("run", Path::new("/mnt/run/installed.qcow2"), &["--snapshot", "installed"], &script)
    }

    /// Writes the disk with what is to be tested.
    fn write_programs(&self) -> Result<()> {
        let root = self.run.path().join("programs");
        install::lay_out(&root, Build::Release.programs()?.as_ref())?;
        install::put(guest_binary()?.as_path(), &root, "/usr/lib/vm-tests/static-guest/bin/guest", 0o755)?;
        // What scenarios call, and what each system does in its own way.
        for command in ["static-guest", "upgrade-agent"] {
            let program = workspace_root().join("vm-tests/image").join(command);
            install::put(&program, &root, &format!("/usr/bin/{command}"), 0o755)?;
        }
        blank(&self.run.path().join("programs.img"))?;
        let make = ["mke2fs", "-q", "-t", "ext4", "-d", "/mnt/run/programs", "/mnt/run/programs.img"];
        in_tools(&self.tools, &self.cache, self.run.path(), &make, contained::run)
    }

    fn drive(&self, command: &str, disk: &Path, more: &[&str], script: &str) -> Result<()> {
        let argv = driver(command, &self.disk, disk, more, script);
        in_tools(&self.tools, &self.cache, self.run.path(), &argv, contained::show)
    }
}

/// Returns the names of all scenarios, sorted.
pub fn scenarios() -> Result<Vec<String>> {
    let folder = workspace_root().join("vm-tests/scenarios");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let scripts = entries.flatten().map(|entry| entry.path());
    let scripts = scripts.filter(|path| path.extension().is_some_and(|extension| extension == "py"));
    let mut names: Vec<String> = scripts.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

impl Cache {
    /// Returns the root with QEMU, its tools and Python.
    fn tools(&self) -> Result<PathBuf> {
        self.entry(&format!("tools-{}", recipe::tools_hash()), |target| {
            say("building the root with QEMU (once, about 60 s)");
            mmdebstrap(recipe::TOOLS_PACKAGES, recipe::GUEST_EXCLUDES, target)
        })
    }

    /// Returns the folder with the kernel and the disk of a machine that has never booted.
    fn vm_disk(&self, tools: &Path) -> Result<PathBuf> {
        self.entry(&format!("vm-{}", recipe::vm_hash()), |target| {
            say("building the disk of virtual machines (once, about 90 s)");
            let (root, shell) = (target.with_extension("tmp.root"), target.with_extension("tmp.shell"));
            mmdebstrap(&[recipe::ROOT_PACKAGES, recipe::VM_PACKAGES].concat(), recipe::GUEST_EXCLUDES, &root)?;
            run_script(recipe::ROOT_SCRIPT, &[&root])?;
            fs::write(&shell, recipe::VM_SHELL)?;
            let done = run_script(recipe::VM_SCRIPT, &[&root, tools, target, &shell]);
            fs::remove_file(&shell)?;
            fs::remove_dir_all(&root)?;
            done
        })
    }

    /// Returns the folder with the disk of a machine that has booted once, and its snapshot.
    fn booted(&self, tools: &Path, disk: &Path) -> Result<PathBuf> {
        self.entry(&format!("booted-{}", recipe::booted_hash()), |target| {
            say("booting a virtual machine for the first time (once, about 40 s)");
            fs::create_dir_all(target)?;
            blank(&target.join("programs.img"))?;
            let save = ["--name", "booted", "--target", "/mnt/run/disk.qcow2"];
            let name = entry_name(disk);
            let fresh = Path::new("/mnt/cache").join(&name).join("disk.qcow2");
            let argv = driver("snapshot", &name, &fresh, &save, "image/first-boot.py");
            in_tools(tools, self, target, &argv, contained::run)?;
            fs::remove_file(target.join("programs.img")).context("cannot remove the blank disk")
        })
    }
}

/// Returns the driver's command line; `machine` is the cache entry with the kernel.
fn driver(command: &str, machine: &OsString, disk: &Path, more: &[&str], script: &str) -> Vec<OsString> {
    let of_machine = |file: &str| Path::new("/mnt/cache").join(machine).join(file).into_os_string();
    let mut argv: Vec<OsString> = ["python3", "-B", "/mnt/vm-tests/driver", command].map(OsString::from).to_vec();
    argv.extend(["--kernel".into(), of_machine("vmlinuz"), "--initrd".into(), of_machine("initrd")]);
    argv.extend(["--disk".into(), disk.into(), "--programs".into(), "/mnt/run/programs.img".into()]);
    argv.extend(["--folder".into(), "/mnt/run/machine".into()]);
    argv.extend(more.iter().map(OsString::from));
    argv.push(format!("/mnt/vm-tests/{script}").into());
    argv
}

fn in_tools<S: AsRef<std::ffi::OsStr>>(
    tools: &Path,
    cache: &Cache,
    run: &Path,
    argv: &[S],
    how: impl FnOnce(&[OsString]) -> Result<()>,
) -> Result<()> {
    let mut all = ["sh", "-euc", IN_TOOLS, "testbed"].map(OsString::from).to_vec();
    all.extend([tools.into(), cache.dir().into(), run.into(), workspace_root().join("vm-tests").into()]);
    all.extend(argv.iter().map(|argument| argument.as_ref().to_owned()));
    how(&all)
}

fn entry_name(entry: &Path) -> OsString {
    entry.file_name().unwrap_or_default().to_owned()
}

fn blank(path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.set_len(PROGRAMS_BYTES).with_context(|| format!("cannot make {} as large as it has to be", path.display()))
}

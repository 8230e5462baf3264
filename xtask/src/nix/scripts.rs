//! The scripts of `vm-tests/`, as NixOS checks the scripts of its tests before it runs them: pyflakes with the names of the driver,
//! mypy with its types. What a script may call stands in `vm-tests/calls`:
//!
//! ```text
//!  calls/both.pyi ──▶ every scenario                                   and so NixOS's driver and ours
//!  calls/ours.pyi ──▶ those that are marked, and the image's scripts   our driver alone
//!  calls/*.pyi    ──▶ driver/*.py                                      has all that is called so
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use nixmox_testbed::{NixRoot, python_packages, workspace_root};

use super::evaluation::Nixpkgs;
use super::flake;

/// The checkers, with all that they need.
const PACKAGES: [&str; 7] = [
    "ast_serialize==0.13.1",
    "librt==0.17.0",
    "mypy==2.4.1",
    "mypy_extensions==1.2.0",
    "pathspec==1.1.1",
    "pyflakes==4.1.0",
    "typing_extensions==4.16.0",
];

/// The Python that scripts are checked for, whatever the machine has: Debian 13's, which our driver runs them with.
const PYTHON: &str = "3.13";

/// What a scenario says in its first lines that NixOS's driver cannot run; vm-tests/nixos.nix looks for it, too.
const NOT_ON_NIXOS: &str = "# Not on NixOS: ";
/// Within how many lines.
const FIRST_LINES: usize = 5;

/// How many lines a scenario has at most: one story, read in one go.
const LINES: usize = 130;

/// Scripts, and what checks them.
pub(super) struct Scripts {
    /// Every scenario.
    scenarios: Vec<Script>,
    /// What only a NixOS can run.
    on_nixos: Vec<Script>,
    /// What our own driver runs beside them.
    image: Vec<Script>,
    /// What every script finds without an import.
    names: Vec<String>,
    packages: PathBuf,
    work: PathBuf,
}

struct Script {
    path: PathBuf,
    text: String,
}

impl Script {
    fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path, text })
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn is_left_out(&self) -> bool {
        self.text.lines().take(FIRST_LINES).any(|line| line.starts_with(NOT_ON_NIXOS))
    }
}

impl Scripts {
    /// Reads the scripts, and installs the checkers where the cache lacks them.
    pub(super) fn prepare(root: &NixRoot) -> Result<Self> {
        let stub = fs::read_to_string(folder().join("calls/both.pyi")).context("cannot read calls/both.pyi")?;
        Ok(Self {
            scenarios: read("scenarios")?,
            on_nixos: read("nixos")?,
            image: read("image")?,
            names: names(&stub),
            packages: python_packages("test-scripts", &PACKAGES)?,
            work: root.run_folder().join("test-scripts"),
        })
    }

    /// Looks for names that are not there, or there for nothing.
    pub(super) fn names(&self) -> Result<()> {
        let mut command = self.python("pyflakes");
        command
            .args(["scenarios", "nixos", "image", "driver", "calls"])
            .env("PYFLAKES_BUILTINS", self.names.join(","));
        silent(&run(&mut command)?)?;
        for script in self.scenarios.iter().chain(&self.on_nixos) {
            let lines = script.text.lines().count();
            ensure!(lines < LINES, "{}: {lines} lines, of fewer than {LINES}", script.path.display());
        }
        Ok(())
    }

    /// Checks how scripts call the driver, and what they make of what they get. NixOS looks at no function without annotations; this does.
    pub(super) fn types(&self) -> Result<()> {
        let (left_out, both): (Vec<&Script>, Vec<&Script>) =
            self.scenarios.iter().partition(|script| script.is_left_out());
        silent(&self.mypy(&[both, self.on_nixos.iter().collect()].concat(), "both")?)?;
        silent(&self.mypy(&[left_out, self.image.iter().collect()].concat(), "ours")?)
    }

    /// Asks of each script that is left out on NixOS whether it has to be.
    pub(super) fn left_out(&self) -> Result<()> {
        for script in self.scenarios.iter().filter(|script| script.is_left_out()) {
            let output = self.mypy(&[script], "both")?;
            let told = String::from_utf8_lossy(&output.stdout);
            let name = script.path.display();
            ensure!(
                told.contains("[attr-defined]"),
                "{name} calls nothing that NixOS's driver has not: take the line `{NOT_ON_NIXOS}...` out\n{told}"
            );
        }
        Ok(())
    }

    /// Asks whether the flake has each script as a check, and nothing else as its text.
    pub(super) fn checks(&self, root: &NixRoot, nixpkgs: &Nixpkgs) -> Result<()> {
        if !nixpkgs.writes_as_stand_in() {
            println!("left to the stand-in: a test of nixpkgs does not tell its script");
            return Ok(());
        }
        let of_nixos = self.on_nixos.iter().map(|script| ("nixos-", script));
        let scenarios = self.scenarios.iter().filter(|script| !script.is_left_out()).map(|script| ("vm-", script));
        let expected: BTreeMap<String, &str> = of_nixos
            .chain(scenarios)
            .map(|(prefix, script)| (format!("{prefix}{}", script.name()), script.text.as_str()))
            .collect();
        ensure!(!expected.is_empty(), "there are no scenarios");
        for system in flake::SYSTEMS {
            let made = flake::test_scripts(root, nixpkgs, system)?;
            for name in expected.keys().chain(made.keys()) {
                let (asked, has) = (expected.get(name).copied(), made.get(name).map(String::as_str));
                ensure!(asked == has, "checks.{system}.{name}: {}", told(asked.is_some(), has.is_some()));
            }
        }
        Ok(())
    }

    /// Compares our driver with what scripts may call.
    pub(super) fn calls(&self) -> Result<()> {
        let mut compare = Command::new("python3");
        compare.current_dir(folder()).args(["-B", "calls/compare.py", "calls/both.pyi", "calls/ours.pyi"]);
        silent(&run(compare.args(["driver/machine.py", "driver/__main__.py"]))?)?;
        let mut types = self.mypy_command("driver");
        silent(&run(types
            .args(["driver/__main__.py", "driver/machine.py", "driver/qemu.py"])
            .args(["calls/driver_offers.py", "calls/compare.py"]))?)
    }

    /// Has mypy look at scripts that may call what a stub says.
    fn mypy(&self, scripts: &[&Script], stub: &str) -> Result<Output> {
        let mut command = self.mypy_command(stub);
        let shadows = self.work.join(stub);
        fs::create_dir_all(&shadows).with_context(|| format!("cannot create {}", shadows.display()))?;
        for script in scripts {
            let shadow = shadows.join(script.path.file_name().unwrap_or_default());
            // In front of the first line, which is a comment: the numbers of the lines stay.
            let text = format!("from {stub} import {}; {}", self.names.join(", "), script.text);
            fs::write(&shadow, text).with_context(|| format!("cannot write {}", shadow.display()))?;
            command.arg("--shadow-file").arg(&script.path).arg(shadow);
        }
        run(command.args(scripts.iter().map(|script| &script.path)))
    }

    /// Each with a cache of its own: mypy keeps what it found by the file that a shadow stands for, whatever the shadow is.
    fn mypy_command(&self, cache: &str) -> Command {
        let mut command = self.python("mypy");
        command.args(["--python-version", PYTHON, "--no-implicit-optional", "--check-untyped-defs"]);
        command.args(["--no-color-output", "--no-error-summary", "--config-file=", "--cache-dir"]);
        let places = ["calls", "driver"].map(|place| folder().join(place).into_os_string());
        command.arg(self.work.join("mypy").join(cache)).env("MYPYPATH", places.join(&OsString::from(":")));
        command
    }

    fn python(&self, module: &str) -> Command {
        let mut command = Command::new("python3");
        command.current_dir(folder()).args(["-B", "-m", module]).env("PYTHONPATH", &self.packages);
        command
    }
}

fn folder() -> PathBuf {
    workspace_root().join("vm-tests")
}

/// Reads the scripts of a folder, sorted by name.
fn read(place: &str) -> Result<Vec<Script>> {
    let folder = folder().join(place);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut scripts: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "py")).collect();
    scripts.sort();
    scripts.into_iter().map(Script::read).collect()
}

/// Says what is wrong with a check.
fn told(is_script: bool, is_check: bool) -> &'static str {
    match (is_script, is_check) {
        (true, true) => "it runs another text than the script",
        (true, false) => "there is a script, and no check",
        (false, _) => "there is a check, and no script that it may be of",
    }
}

/// Returns the names that a stub declares by themselves, `NAME: TYPE`.
fn names(stub: &str) -> Vec<String> {
    let plain = |name: &str| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let declared = stub.lines().filter_map(|line| line.split_once(": "));
    declared.map(|(name, _)| name).filter(|name| plain(name)).map(str::to_owned).collect()
}

fn run(command: &mut Command) -> Result<Output> {
    let program = Path::new(command.get_program()).display().to_string();
    command.output().with_context(|| format!("cannot start {program}"))
}

/// Takes what a checker says for a fault.
fn silent(output: &Output) -> Result<()> {
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&told));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Script, names};

    #[test]
    fn names_of_a_stub_are_those_at_its_margin() {
        let stub = "\"\"\"Text: of it.\"\"\"\nclass Machine:\n    name: str\nmachine: Machine\nt: TestCase\n";
        assert_eq!(names(stub), ["machine", "t"]);
    }

    #[test]
    fn a_script_is_left_out_by_its_first_lines_alone() {
        let script = |text: &str| Script { path: "a.py".into(), text: text.to_owned() };
        assert!(script("# What it is.\n# Not on NixOS: it keeps a machine.\n").is_left_out());
        assert!(!script("# What it is.\n\n\n\n\n# Not on NixOS: too late.\n").is_left_out());
        assert!(!script("# What it is: not on NixOS.\n").is_left_out());
    }
}

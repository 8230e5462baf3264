//! One testbed: boot, the booted host's PID 1, and the end.
//!
//! ```text
//!  caller ── pipe ──▶ unshare ─▶ holder.sh (PID 1 of a PID namespace; overlay, cgroup) ─▶ systemd-nspawn ─▶ systemd (the leader)
//! ```
//!
//! The caller's end of the pipe is the life line: when it closes, the holder ends and the kernel ends everything below it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{build::Build, cache::Cache, install, leftovers::RunDir, machine};

/// Longest time a boot may take, on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_mins(3);
/// Longest time a power off may take: containers may take minutes to stop.
const POWER_OFF_LIMIT: Duration = Duration::from_mins(5);
const HOLDER: &str = include_str!("../assets/holder.sh");

/// What a testbed is made of.
#[derive(Clone, Debug)]
pub struct Options {
    name: String,
    build: Build,
    homelab: bool,
}

impl Options {
    /// A host with our debug build installed and the homelab's systems in its store. The name appears in messages alone.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), build: Build::Debug, homelab: true }
    }

    /// Installs this build of ours instead of the debug build.
    #[must_use]
    pub fn build(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// Leaves the homelab's systems out: saves the time of building them where nothing is cached.
    #[must_use]
    pub fn without_homelab(mut self) -> Self {
        self.homelab = false;
        self
    }
}

/// A booted host. Dropping it ends and removes everything that belongs to it.
#[derive(Debug)]
pub struct Testbed {
    name: String,
    holder: Child,
    /// `None` once the testbed is being dropped: closing it ends the holder.
    orders: Mutex<Option<ChildStdin>>,
    reports: Mutex<mpsc::Receiver<String>>,
    /// First process in the holder's namespaces, as seen from the machine.
    inside: i32,
    leader: AtomicI32,
    // Dropped last: takes away the cgroup and the folder.
    run: RunDir,
}

impl Testbed {
    /// Boots a host; builds what the cache and the target folder lack first. About 2 s when nothing is to be built.
    pub fn boot(options: &Options) -> Result<Self> {
        let bed = Self::prepare(options)?;
        bed.start().with_context(|| format!("cannot boot the testbed `{}`", options.name))?;
        Ok(bed)
    }

    /// Makes a host with everything installed and does not boot it: files can be put in before [`Testbed::start`].
    pub fn prepare(options: &Options) -> Result<Self> {
        machine::prepare()?;
        let cache = Cache::open()?;
        let mut lower = vec![cache.root()?];
        if options.homelab {
            lower.insert(0, cache.homelab()?);
        }
        let programs = options.build.programs()?;
        let bed = Self::hold(&options.name, &cache, &lower)?;
        install::install(&bed, programs.as_ref())?;
        Ok(bed)
    }

    fn hold(name: &str, cache: &Cache, lower: &[PathBuf]) -> Result<Self> {
        let run = RunDir::claim(cache)?;
        let layers: Vec<String> = lower.iter().map(|layer| layer.display().to_string()).collect();
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-euc", HOLDER, "testbed", run.name(), &layers.join(":")])
            .arg(run.console())
            .arg(run.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let orders = Mutex::new(holder.stdin.take());
        let stdout = holder.stdout.take().context("the holder has no standard output")?;
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let first = reports.recv_timeout(BOOT_LIMIT);
        if first.as_deref() != Ok("mounted") {
            drop(orders);
            let _ = holder.kill();
            let output = holder.wait_with_output().context("cannot wait for the holder")?;
            bail!("cannot mount the testbed's file systems: {}", String::from_utf8_lossy(&output.stderr));
        }
        let inside = children(holder.id().cast_signed()).first().copied().context("the holder has no process")?;
        Ok(Self {
            name: name.to_owned(),
            holder,
            orders,
            reports: Mutex::new(reports),
            inside,
            leader: AtomicI32::new(0),
            run,
        })
    }

    /// Boots a host that is off, and waits until its systemd has finished starting, well or with failed units.
    pub fn start(&self) -> Result<()> {
        let mut orders =
            self.orders.lock().map_err(|_| anyhow::anyhow!("a thread died while it gave the holder orders"))?;
        let pipe = orders.as_mut().context("the holder is gone")?;
        pipe.write_all(b"boot\n").context("the holder does not take orders")?;
        drop(orders);
        self.wait_for_boot(0)
    }

    /// Waits for a PID 1 other than `before` whose boot has finished.
    pub(crate) fn wait_for_boot(&self, before: i32) -> Result<()> {
        let end = Instant::now() + BOOT_LIMIT;
        loop {
            if let Some(leader) = self.find_leader().filter(|leader| *leader != before) {
                self.leader.store(leader, Ordering::Relaxed);
                // Blocks until the boot has finished, but fails while PID 1 does not answer yet.
                if self.root().join("run/systemd/private").exists() {
                    let state = self.exec(&["systemctl", "is-system-running", "--wait"])?;
                    if matches!(state.stdout.trim(), "running" | "degraded") {
                        return Ok(());
                    }
                }
            }
            if Instant::now() > end {
                bail!(
                    "the host did not finish booting within {BOOT_LIMIT:?}; its console:\n{}",
                    self.console_tail()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the host is off; returns nspawn's exit status.
    pub(crate) fn wait_for_off(&self) -> Result<String> {
        let reports =
            self.reports.lock().map_err(|_| anyhow::anyhow!("a thread died while it read the holder's reports"))?;
        let report = reports.recv_timeout(POWER_OFF_LIMIT);
        drop(reports);
        self.leader.store(0, Ordering::Relaxed);
        report.with_context(|| {
            format!("the host did not power off within {POWER_OFF_LIMIT:?}; its console:\n{}", self.console_tail())
        })
    }

    /// PID of the booted host's PID 1, as seen from the machine; 0 when it is off.
    #[must_use]
    pub fn leader(&self) -> i32 {
        self.leader.load(Ordering::Relaxed)
    }

    /// Name of the host, of its cgroup and of its folder on the machine.
    #[must_use]
    pub fn machine_name(&self) -> &str {
        self.run.name()
    }

    /// Root of the host's file system as seen from the machine. `/run`, `/proc` and other mounts are there only while it is booted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        match self.leader() {
            0 => PathBuf::from(format!("/proc/{}/root/run/bed/root", self.inside)),
            leader => PathBuf::from(format!("/proc/{leader}/root")),
        }
    }

    /// Address of the host's system bus, for a D-Bus client on the machine.
    #[must_use]
    pub fn bus_address(&self) -> String {
        format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", self.leader())
    }

    /// Last lines of the host's console.
    #[must_use]
    pub fn console_tail(&self) -> String {
        let text = fs::read(self.run.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// The process below the holder that is PID 1 of a PID namespace two levels deep.
    fn find_leader(&self) -> Option<i32> {
        let mut open = children(self.inside);
        while let Some(pid) = open.pop() {
            if is_booted_init(pid) {
                return Some(pid);
            }
            open.extend(children(pid));
        }
        None
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Ok(mut orders) = self.orders.lock() {
            orders.take();
        }
        if thread::panicking() {
            machine::say(&format!("console of `{}`, whose owner panicked:\n{}", self.name, self.console_tail()));
        }
        let _ = self.holder.wait();
    }
}

/// Children of a process, of all its threads; empty when it is gone.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

/// Tells whether a process is systemd running as PID 1 of its own PID namespace.
fn is_booted_init(pid: i32) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let namespaced = field("NSpid:");
    field("Name:") == "systemd" && namespaced.split_whitespace().count() > 2 && namespaced.ends_with("\t1")
}

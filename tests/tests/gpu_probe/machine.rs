//! A machine that lies in a folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nixmox_agent::host::Gpus;
use nixmox_core::gpu::{Gpu, Inventory};
use tempfile::TempDir;

/// Where the stand-in for NVML lies there.
const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1";
/// Time for a look; nothing but a driver that hangs should come near it.
const LIMIT: Duration = Duration::from_mins(1);

/// Two GPUs, as NVML tells of them. Their numbers are not the places that they have in its list.
pub(crate) const TWO: &str = "
driver 570.124.06
cuda 12080
gpu
  uuid GPU-11111111-2222-3333-4444-555555555555
  name NVIDIA GeForce RTX 3060
  minor 7
  pci 00000000:0A:00.0
  total 12G
  reserved 300M
  used 1G
  temperature 45
  slowdown 95
  power 35000
  limit 170000
  utilization 12
  memory_utilization 3
  throttle 0x44
  process compute 4711 700M
  process graphics 12 300M
gpu
  uuid GPU-99999999-2222-3333-4444-555555555555
  name NVIDIA GeForce RTX 4090
  minor 3
  pci 00000000:01:00.0
  total 24G
";

/// The machine.
pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    /// Returns one that has nothing.
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// Returns one with NVIDIA's driver, of which NVML tells this.
    pub(crate) fn with_nvidia(state: &str) -> Self {
        let machine = Self::new();
        machine.write(
            "proc/devices",
            "Character devices:\n  1 nvidia\n  5 nvidia-uvm\n 10 nvidia-caps\n\nBlock devices:\n",
        );
        machine.write("sys/module/nvidia/version", "570.124.06\n");
        machine.write("usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06", "");
        machine.link("libcuda.so.570.124.06", "usr/lib/x86_64-linux-gnu/libcuda.so.1");
        machine.install_nvml();
        machine.state(state);
        machine
    }

    /// Puts a GPU of NVIDIA's on the bus.
    pub(crate) fn plug_in(&self) {
        self.write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
        self.write("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n");
    }

    /// Puts the stand-in for NVML in its place.
    pub(crate) fn install_nvml(&self) {
        let library = nixmox_testbed::fake_nvml().unwrap();
        self.link(library.to_str().unwrap(), LIBRARY);
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Says what NVML tells from now on.
    pub(crate) fn state(&self, state: impl AsRef<[u8]>) {
        self.write("state", state);
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.made(path);
        fs::write(path, text).unwrap();
    }

    /// Writes a script and returns where. Another process writes it: what is open for writing here may be so in a child of another test
    /// for a moment, and then it cannot be started (`ETXTBSY`, execve(2)).
    pub(crate) fn script(&self, path: &str, text: &str) -> PathBuf {
        let (program, draft) = (self.made(path), self.made(&format!("{path}.draft")));
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        let copied = Command::new("cp").arg("-p").args([&draft, &program]).status().unwrap();
        assert!(copied.success());
        program
    }

    /// Makes a link, and the folders above it.
    pub(crate) fn link(&self, target: &str, path: &str) {
        let path = self.made(path);
        symlink(target, path).unwrap();
    }

    fn made(&self, path: &str) -> PathBuf {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Returns what looks at it, and gives up a call after that long.
    pub(crate) fn gpus(&self, limit: Duration) -> Gpus {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let environment = vec![
            ("PROBE_ROOT".to_owned(), path(self.root())),
            ("FAKE_NVML_STATE".to_owned(), path(&self.root().join("state"))),
        ];
        Gpus::new(env!("CARGO_BIN_EXE_gpu-check").into()).with(environment).within(limit, LIMIT)
    }

    /// Looks at it.
    pub(crate) fn look(&self) -> Inventory {
        self.look_for(LIMIT)
    }

    /// Looks at it, and gives up a call after that long.
    pub(crate) fn look_for(&self, limit: Duration) -> Inventory {
        block_on(self.gpus(limit).look())
    }

    /// Returns whether a process looks at it.
    pub(crate) fn is_looked_at(&self) -> bool {
        let root = self.root().to_str().unwrap().as_bytes();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        processes.filter_map(|process| fs::read(process.path().join("environ")).ok()).any(|environment| {
            environment.split(|byte| *byte == 0).any(|entry| entry.strip_prefix(b"PROBE_ROOT=") == Some(root))
        })
    }

    /// Looks at it and returns the GPUs, if nothing is wrong.
    pub(crate) fn gpus_of_look(&self) -> Vec<Gpu> {
        let found = self.look();
        assert_eq!(found.faults, []);
        found.gpus
    }
}

/// Runs what the agent would.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

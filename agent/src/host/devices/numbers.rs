//! The numbers that the running kernel has for nodes.
//!
//! NVIDIA's majors are handed out when its modules are loaded, and are other ones after the next time; `/proc/devices` has them
//! by name. Nodes of the kernel's own drivers are told by sysfs.

use std::collections::BTreeMap;
use std::path::Path;

use crate::host::paths::Paths;

/// Minors that NVIDIA's module has for itself.
const CONTROL_MINOR: u32 = 255;
const MODESET_MINOR: u32 = 254;
/// What the module of the GPUs is called in `/proc/devices`, by newer drivers and by older ones.
const GPU_NAMES: [&str; 2] = ["nvidia", "nvidia-frontend"];

/// A device by its major and minor number.
pub(crate) type Number = (u32, u32);

/// What NVIDIA's node of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nvidia {
    /// Of a GPU, or one that all share, by its minor.
    Gpu(u32),
    /// Of mode setting.
    Modeset,
    /// Of unified memory, by its minor.
    Uvm(u32),
    /// A right to an instance of a GPU (MIG), by its minor.
    Capability(u32),
}

impl Nvidia {
    /// Returns what a path names; `None`: it is none of NVIDIA's.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.to_str()?.strip_prefix("/dev/nvidia")?;
        match name {
            "ctl" => Some(Self::Gpu(CONTROL_MINOR)),
            "-modeset" => Some(Self::Modeset),
            "-uvm" => Some(Self::Uvm(0)),
            "-uvm-tools" => Some(Self::Uvm(1)),
            _ => match name.strip_prefix("-caps/nvidia-cap") {
                Some(minor) => decimal(minor).map(Self::Capability),
                None => decimal(name).map(Self::Gpu),
            },
        }
    }
}

/// Reads digits alone: `+1` and `01` name no node.
fn decimal(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The numbers of this moment.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    /// Majors of character devices by name.
    majors: BTreeMap<String, u32>,
    paths: Paths,
}

impl Numbers {
    /// Reads `/proc/devices`; one that cannot be read has none.
    pub(crate) fn read(paths: &Paths) -> Self {
        let text = std::fs::read_to_string(paths.kernel("/proc/devices")).unwrap_or_default();
        Self { majors: majors(&text), paths: paths.clone() }
    }

    /// Returns the number that the kernel has for a node; `None`: it knows no such device now, or nobody knows.
    pub(crate) fn of(&self, path: &Path) -> Option<Number> {
        match Nvidia::of(path) {
            Some(node) => self.of_nvidia(node),
            None => self.of_sysfs(path),
        }
    }

    fn of_nvidia(&self, node: Nvidia) -> Option<Number> {
        let major = |name: &str| self.majors.get(name).copied();
        match node {
            Nvidia::Gpu(minor) => Some((GPU_NAMES.into_iter().find_map(major)?, minor)),
            Nvidia::Modeset => self.of_nvidia(Nvidia::Gpu(MODESET_MINOR)),
            Nvidia::Uvm(minor) => Some((major("nvidia-uvm")?, minor)),
            Nvidia::Capability(minor) => Some((major("nvidia-caps")?, minor)),
        }
    }

    fn of_sysfs(&self, path: &Path) -> Option<Number> {
        let name = path.file_name()?.to_str()?;
        let class = match path.parent()?.to_str()? {
            "/dev/dri" => "drm",
            "/dev" if name == "kfd" => "kfd",
            _ => return None,
        };
        let text = std::fs::read_to_string(self.paths.kernel(&format!("/sys/class/{class}/{name}/dev"))).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}

/// Reads `proc_devices(5)` up to its block devices.
fn majors(text: &str) -> BTreeMap<String, u32> {
    let characters = text.lines().take_while(|line| *line != "Block devices:");
    characters
        .filter_map(|line| line.trim().split_once(' '))
        .filter_map(|(major, name)| Some((name.trim().to_owned(), major.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NEW: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n234 nvidia-caps\n510 nvidia-uvm\n\nBlock devices:\n  7 nvidia-uvm\n";
    const OLD: &str = "Character devices:\n195 nvidia-frontend\n";

    fn numbers(text: &str) -> (tempfile::TempDir, Numbers) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        fs::write(dir.path().join("proc/devices"), text).unwrap();
        let numbers = Numbers::read(&Paths::below(dir.path()));
        (dir, numbers)
    }

    #[test]
    fn the_live_majors_decide_by_whatever_name_the_driver_has() {
        let (_dir, new) = numbers(NEW);
        let of = |numbers: &Numbers, path: &str| numbers.of(Path::new(path));
        for (path, number) in [
            ("/dev/nvidia0", (195, 0)),
            ("/dev/nvidia12", (195, 12)),
            ("/dev/nvidiactl", (195, 255)),
            ("/dev/nvidia-modeset", (195, 254)),
            ("/dev/nvidia-uvm", (510, 0)),
            ("/dev/nvidia-uvm-tools", (510, 1)),
            ("/dev/nvidia-caps/nvidia-cap21", (234, 21)),
        ] {
            assert_eq!(of(&new, path), Some(number), "{path}");
        }
        for path in
            ["/dev/nvidia", "/dev/nvidia01", "/dev/nvidia+1", "/dev/nvidia-nvswitch0", "/dev/null", "/nvidia0"]
        {
            assert_eq!(of(&new, path), None, "{path}");
        }
        let (_dir, old) = numbers(OLD);
        assert_eq!(of(&old, "/dev/nvidia1"), Some((195, 1)));
        assert_eq!(of(&old, "/dev/nvidia-uvm"), None, "its module is not loaded");
    }

    #[test]
    fn sysfs_tells_the_numbers_of_the_kernels_own_drivers() {
        let (dir, numbers) = numbers(OLD);
        for (class, name, text) in [("drm", "renderD128", "226:128\n"), ("kfd", "kfd", "238:0\n")] {
            let folder = dir.path().join(format!("sys/class/{class}/{name}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("dev"), text).unwrap();
        }
        assert_eq!(numbers.of(Path::new("/dev/dri/renderD128")), Some((226, 128)));
        assert_eq!(numbers.of(Path::new("/dev/kfd")), Some((238, 0)));
        assert_eq!(numbers.of(Path::new("/dev/dri/renderD129")), None);
    }
}

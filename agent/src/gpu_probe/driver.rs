//! Drivers: which module is loaded, which user space containers would be given, and whether the two belong together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nixmox_core::gpu::{Driver, UserSpace};
use nixmox_core::model::Vendor;

use super::nodes::{Nvidia, of_sysfs};
use crate::host::devices::{link_of_driver, of_module};
use crate::host::line;
use crate::host::paths::Paths;

/// Where NixOS has the user space of graphics drivers (`hardware.graphics`).
const OPENGL_DRIVER: &str = "/run/opengl-driver";
/// What the running kernel was booted with, whatever was switched to since.
const BOOTED_SYSTEM: &str = "/run/booted-system";
/// Folders of libraries on other hosts: what is bound, and below which of them the driver's lie.
const LIBRARY_ROOTS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
/// Where a package has a folder of its own: all of it is nobody's business.
const PACKAGES: &str = "/opt";
/// Where libraries of NVIDIA are there.
const LIBRARY_FOLDERS: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
/// The library that programs for CUDA load; its file is named after its version.
const CUDA: &str = "libcuda.so.1";
/// NVML.
const NVML: &str = "libnvidia-ml.so.1";
/// Most files of a folder that are looked at.
const FILES_MAX: usize = 20_000;
/// Longest file that is read of `/proc`, `/sys` and `/etc`.
const TEXT_MAX: usize = 64 * 1024;
/// NVIDIA's number on the PCI bus, and the class of what draws or computes (PCI Code and ID Assignment, "Display controller").
const PCI_NVIDIA: &str = "0x10de";
const PCI_DISPLAY: &str = "0x03";

/// What files say of NVIDIA's driver.
#[derive(Debug)]
pub(super) struct Facts {
    /// What is known without asking NVML.
    pub(super) driver: Driver,
    /// The nodes that it has, and would have.
    pub(super) nodes: Nvidia,
    /// NVML's library, as containers would have it; `None`: there is none.
    pub(super) nvml: Option<PathBuf>,
    /// The one of the booted system, where that fits the loaded module and the other does not.
    pub(super) nvml_booted: Option<PathBuf>,
    /// Whether a GPU of NVIDIA is on the PCI bus.
    pub(super) has_hardware: bool,
}

impl Facts {
    /// Returns whether there is anything of NVIDIA: hardware or a module. A library alone, which programs that watch machines bring along, is
    /// nothing.
    pub(super) fn is_there(&self) -> bool {
        self.has_hardware || self.has_module()
    }

    /// Returns whether a module is loaded.
    pub(super) fn has_module(&self) -> bool {
        self.driver.module.is_some() || self.nodes.are_known()
    }
}

/// Looks for everything of NVIDIA's driver.
pub(super) fn of_nvidia(paths: &Paths) -> Facts {
    let nodes = Nvidia::read(paths);
    let module = of_module(paths);
    let (user_space, library) = user_space(paths);
    let nvml = existing(paths, &Path::new(OPENGL_DRIVER).join("lib").join(NVML));
    let nvml = nvml.or_else(|| in_folders(paths, NVML));
    let booted = booted_driver(paths).filter(|_| module.is_some() && module != library);
    let booted = booted.map(|driver| driver.join("lib"));
    let booted = booted.and_then(|folder| Some((version_in(paths, &folder)?, folder)));
    let booted = booted.filter(|(version, _)| Some(version) == module.as_ref());
    let nvml_booted = booted.as_ref().and_then(|(_, folder)| existing(paths, &folder.join(NVML)));
    let driver = Driver {
        module,
        library,
        booted: booted.map(|(version, _)| version),
        nodes: nodes.shared(),
        user_space,
        ..Driver::default()
    };
    Facts { driver, nodes, nvml, nvml_booted, has_hardware: has_hardware(paths) }
}

/// Looks for the user space of a driver whose module is the kernel's own.
pub(super) fn of_mesa(paths: &Paths, vendor: Vendor) -> Driver {
    let is_nixos = paths.host_path(&Path::new(OPENGL_DRIVER).join("lib")).is_dir();
    let shared = match vendor {
        Vendor::Amd => {
            let mut node = of_sysfs(paths, "/dev/kfd".to_owned(), "/sys/class/kfd/kfd/dev");
            // Drawing and decoding go without it.
            node.optional = node.number.is_none();
            vec![node]
        }
        Vendor::Nvidia | Vendor::Intel => Vec::new(),
    };
    let module = match vendor {
        Vendor::Amd => module_file(paths, "amdgpu"),
        Vendor::Nvidia | Vendor::Intel => None,
    };
    let user_space = if is_nixos { UserSpace::OpenglDriver } else { UserSpace::None };
    Driver { module, nodes: shared, user_space, ..Driver::default() }
}

/// Returns whether a GPU of NVIDIA is on the PCI bus, whatever became of its driver.
fn has_hardware(paths: &Paths) -> bool {
    let Ok(devices) = fs::read_dir(paths.kernel("/sys/bus/pci/devices")) else { return false };
    devices.flatten().any(|device| {
        let read = |file: &str| fs::read_to_string(device.path().join(file)).unwrap_or_default();
        read("vendor").trim() == PCI_NVIDIA && read("class").starts_with(PCI_DISPLAY)
    })
}

/// Returns the version that a module says it has.
fn module_file(paths: &Paths, module: &str) -> Option<String> {
    let text = fs::read_to_string(paths.kernel(&format!("/sys/module/{module}/version"))).ok()?;
    Some(line::clean(&text)).filter(|text| is_version(text))
}

/// Returns where the user space that containers are given is, and its version.
fn user_space(paths: &Paths) -> (UserSpace, Option<String>) {
    let folder = Path::new(OPENGL_DRIVER).join("lib");
    if let Some(version) = version_in(paths, &folder) {
        return (UserSpace::OpenglDriver, Some(version));
    }
    let found = LIBRARY_FOLDERS.iter().find_map(|folder| {
        let folder = Path::new(folder);
        // By which programs load it; without that link there is nothing to give.
        canonical(paths, &folder.join(CUDA))?;
        version_in(paths, folder)
    });
    let Some(version) = found else { return (UserSpace::None, None) };
    let mut folders = BTreeSet::new();
    // Of NVIDIA's many libraries some lie elsewhere on some hosts.
    for name in [CUDA, NVML, "libnvidia-ptxjitcompiler.so.1", "libnvcuvid.so.1"] {
        let link = |folder: &&str| {
            let link = Path::new(folder).join(name);
            canonical(paths, &link).map(|library| (link, library))
        };
        let Some((link, library)) = LIBRARY_FOLDERS.iter().find_map(link) else { continue };
        // The name by which programs load it may lie elsewhere than the file.
        folders.extend([link, library].iter().filter_map(|path| folder_of(path)));
    }
    (UserSpace::Libraries(folders.into_iter().collect()), Some(version))
}

/// Returns the folder that is bound for the sake of a library; `None`: it lies where no library does.
fn folder_of(library: &Path) -> Option<PathBuf> {
    if library.starts_with(PACKAGES) {
        return library.parent().filter(|folder| *folder != Path::new(PACKAGES)).map(Path::to_owned);
    }
    LIBRARY_ROOTS.iter().map(PathBuf::from).find(|root| library.starts_with(root))
}

/// Returns the version of the CUDA library in a folder: that of the file that its name leads to.
fn version_in(paths: &Paths, folder: &Path) -> Option<String> {
    let led_to = canonical(paths, &folder.join(CUDA));
    let of_name = |path: &Path| {
        let version = path.file_name()?.to_str()?.strip_prefix("libcuda.so.")?;
        is_version(version).then(|| version.to_owned())
    };
    led_to.as_deref().and_then(of_name).or_else(|| {
        let files = fs::read_dir(paths.host_path(folder)).ok()?;
        files.take(FILES_MAX).flatten().find_map(|file| of_name(&file.path()))
    })
}

/// Returns the driver that the booted system's configuration links to (`systemd.tmpfiles` in nixpkgs' `hardware.graphics`).
fn booted_driver(paths: &Paths) -> Option<PathBuf> {
    let folder = Path::new(BOOTED_SYSTEM).join("etc/tmpfiles.d");
    let files = fs::read_dir(paths.host_path(&folder)).ok()?;
    files.take(FILES_MAX).flatten().filter(|file| file.file_name().as_encoded_bytes().ends_with(b".conf")).find_map(
        |file| {
            let text = fs::read(file.path()).ok().filter(|text| text.len() < TEXT_MAX)?;
            String::from_utf8_lossy(&text).lines().find_map(link_of_driver).map(PathBuf::from)
        },
    )
}

/// Returns the first of the folders' files of this name.
fn in_folders(paths: &Paths, name: &str) -> Option<PathBuf> {
    LIBRARY_FOLDERS.iter().find_map(|folder| existing(paths, &Path::new(folder).join(name)))
}

/// Returns a path as it is opened, if something is there.
fn existing(paths: &Paths, path: &Path) -> Option<PathBuf> {
    Some(paths.host_path(path)).filter(|path| path.is_file())
}

/// Returns where a path leads to, as the host has it.
fn canonical(paths: &Paths, path: &Path) -> Option<PathBuf> {
    let root = paths.host_path(Path::new("/"));
    let found = fs::canonicalize(paths.host_path(path)).ok()?;
    let root = fs::canonicalize(root).ok()?;
    found.strip_prefix(root).ok().map(|path| Path::new("/").join(path))
}

/// Returns whether a word is a version such as `570.124.06`.
fn is_version(word: &str) -> bool {
    let is_number =
        |part: &str| !part.is_empty() && part.len() < 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    word.contains('.') && word.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns a root with these files, and folders above them.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn link(root: &tempfile::TempDir, target: &str, path: &str) {
        symlink(target, root.path().join(path)).unwrap();
    }

    #[test]
    fn the_version_of_the_module_is_found_in_both_places() {
        let proc = |text: &str| {
            let root = root(&[("proc/driver/nvidia/version", text)]);
            of_nvidia(&Paths::below(root.path())).driver.module
        };
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc version 12.2.0\n";
        assert_eq!(proc(closed).as_deref(), Some("535.183.01"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (builder@host)  \n";
        assert_eq!(proc(open).as_deref(), Some("570.124.06"));
        assert_eq!(proc("GCC version: 12.2.0\n"), None);
        let root = root(&[("sys/module/nvidia/version", "550.54.14\n"), ("proc/driver/nvidia/version", closed)]);
        assert_eq!(of_nvidia(&Paths::below(root.path())).driver.module.as_deref(), Some("550.54.14"));
    }

    #[test]
    fn a_driver_of_another_version_than_the_module_gives_way_to_the_booted_systems() {
        for line in [
            "L+ /run/opengl-driver - - - - /nix/store/old-drivers",
            "'L+' '/run/opengl-driver' '-' '-' '-' '-' /nix/store/old-drivers",
        ] {
            let root = root(&[
                ("sys/module/nvidia/version", "550.54.14\n"),
                ("run/opengl-driver/lib/libcuda.so.570.124.06", ""),
                ("run/opengl-driver/lib/libnvidia-ml.so.1", ""),
                ("run/booted-system/etc/tmpfiles.d/graphics-driver.conf", &format!("d /x - - - -\n{line}\n")),
                ("nix/store/old-drivers/lib/libcuda.so.550.54.14", ""),
                ("nix/store/old-drivers/lib/libnvidia-ml.so.1", ""),
            ]);
            link(&root, "libcuda.so.570.124.06", "run/opengl-driver/lib/libcuda.so.1");
            let facts = of_nvidia(&Paths::below(root.path()));
            assert_eq!(facts.driver.user_space, UserSpace::OpenglDriver);
            assert_eq!(facts.driver.library.as_deref(), Some("570.124.06"));
            assert_eq!(facts.driver.booted.as_deref(), Some("550.54.14"));
            assert!(facts.nvml_booted.is_some_and(|path| path.ends_with("old-drivers/lib/libnvidia-ml.so.1")));
            // Once the machine has booted with it, there is nothing to give way to.
            fs::write(root.path().join("sys/module/nvidia/version"), "570.124.06\n").unwrap();
            let facts = of_nvidia(&Paths::below(root.path()));
            assert_eq!((facts.driver.booted, facts.nvml_booted), (None, None));
            // One that does not fit either is none.
            fs::write(root.path().join("sys/module/nvidia/version"), "560.1.1\n").unwrap();
            assert_eq!(of_nvidia(&Paths::below(root.path())).driver.booted, None);
        }
    }

    #[test]
    fn libraries_among_the_hosts_are_found_where_links_lead() {
        let root = root(&[
            ("usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.183.01", ""),
            ("usr/lib64/libnvidia-ml.so.1", ""),
        ]);
        link(&root, "nvidia/current/libcuda.so.535.183.01", "usr/lib/x86_64-linux-gnu/libcuda.so.1");
        let facts = of_nvidia(&Paths::below(root.path()));
        let folders = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")];
        assert_eq!(facts.driver.user_space, UserSpace::Libraries(folders));
        assert_eq!(facts.driver.library.as_deref(), Some("535.183.01"));
        assert!(facts.nvml.is_some());
        assert!(!facts.is_there(), "a library alone drives nothing");
    }

    #[test]
    fn of_what_packages_have_for_themselves_the_librarys_own_folder_is_bound() {
        let root = root(&[("opt/nvidia/535/lib/libcuda.so.535.183.01", ""), ("opt/secrets/key", "")]);
        fs::create_dir_all(root.path().join("usr/lib/x86_64-linux-gnu")).unwrap();
        link(&root, "../../../opt/nvidia/535/lib/libcuda.so.535.183.01", "usr/lib/x86_64-linux-gnu/libcuda.so.1");
        let facts = of_nvidia(&Paths::below(root.path()));
        let folders = vec![PathBuf::from("/opt/nvidia/535/lib"), PathBuf::from("/usr/lib")];
        assert_eq!(facts.driver.user_space, UserSpace::Libraries(folders));
        assert_eq!(facts.driver.library.as_deref(), Some("535.183.01"));
    }

    #[test]
    fn hardware_is_what_the_bus_says() {
        let class = |vendor: &str, class: &str| {
            let root = root(&[
                ("sys/bus/pci/devices/0000:01:00.0/vendor", vendor),
                ("sys/bus/pci/devices/0000:01:00.0/class", class),
            ]);
            of_nvidia(&Paths::below(root.path())).is_there()
        };
        assert!(class("0x10de\n", "0x030000\n") && class("0x10de\n", "0x030200\n"));
        assert!(!class("0x10de\n", "0x040300\n"), "the sound of it is no GPU");
        assert!(!class("0x1002\n", "0x030000\n"));
    }
}

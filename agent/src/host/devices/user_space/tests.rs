//! The user space of NixOS and of other hosts, in a temporary root.

use std::fs;

use super::*;

struct Root {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl Root {
    fn new(module: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(&dir.path().canonicalize().unwrap());
        let root = Self { dir, paths };
        root.module(module);
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.paths.host_path(Path::new(path))
    }

    fn module(&self, version: &str) {
        self.write("/sys/module/nvidia/version", format!("{version}\n"));
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    fn library(&self, path: &str) {
        self.write(path, [ELF.as_slice(), b"..."].concat());
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        let _ = fs::remove_file(self.at(path));
        symlink(if target.starts_with('/') { self.at(target) } else { target.into() }, self.at(path)).unwrap();
    }

    /// A NixOS with this version switched to and that one booted.
    fn nixos(&self, current: &str, booted: &str) {
        for version in [current, booted] {
            self.write(&format!("/nix/store/drivers-{version}/lib/libcuda.so.{version}"), "");
        }
        self.link("/run/opengl-driver", &format!("/nix/store/drivers-{current}"));
        self.write(
            "/run/booted-system/etc/tmpfiles.d/graphics-driver.conf",
            format!("# made\n'L+' '/run/opengl-driver' '-' '-' '-' '-' '/nix/store/drivers-{booted}'\n"),
        );
    }

    fn prepare(&self, grant: &Grant) -> Result<PathBuf, StepError> {
        prepare(&self.paths, grant)?;
        Ok(fs::canonicalize(self.at("/run/nixmox/gpu/nvidia")).unwrap())
    }
}

fn grant(mounts: &[(&str, &str)]) -> Grant {
    let mount = |(source, target): &(&str, &str)| GpuMount { source: source.into(), target: target.into() };
    Grant {
        vendor: Vendor::Nvidia,
        gpus: vec!["GPU-1".parse().unwrap()],
        budget: None,
        nodes: Vec::new(),
        mounts: mounts.iter().map(mount).collect(),
        environment: BTreeMap::new(),
    }
}

const LINK: (&str, &str) = ("/run/nixmox/gpu/nvidia", "/run/opengl-driver");

#[test]
fn the_user_space_that_fits_the_loaded_module_is_taken() {
    let root = Root::new("535.1");
    root.nixos("535.1", "520.1");
    assert_eq!(root.prepare(&grant(&[LINK])).unwrap(), root.at("/nix/store/drivers-535.1"));
    // Switched to another driver, and not yet booted.
    root.nixos("550.1", "535.1");
    assert_eq!(root.prepare(&grant(&[LINK])).unwrap(), root.at("/nix/store/drivers-535.1"));
    root.module("550.1");
    assert_eq!(root.prepare(&grant(&[LINK])).unwrap(), root.at("/nix/store/drivers-550.1"));
    assert_eq!(fs::read_dir(root.at("/run/nixmox/gpu")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn where_none_fits_it_is_refused_with_both_versions() {
    let root = Root::new("520.1");
    root.nixos("550.1", "535.1");
    let error = root.prepare(&grant(&[LINK])).unwrap_err();
    assert_eq!(error.to_string(), "the loaded NVIDIA module is 520.1, and its user space 550.1");
    assert!(error.hint().unwrap().contains("reboot"));
    assert!(!root.at("/run/nixmox/gpu/nvidia").exists());
    fs::remove_file(root.at("/nix/store/drivers-550.1/lib/libcuda.so.550.1")).unwrap();
    let error = root.prepare(&grant(&[LINK])).unwrap_err();
    assert!(matches!(error, StepError::GpuLibraryMissing { .. }), "{error}");
}

#[test]
fn lines_of_tmpfiles_are_read_as_nixos_wrote_and_writes_them() {
    for line in [
        "L+ /run/opengl-driver - - - - /nix/store/x",
        "'L+' '/run/opengl-driver' '-' '-' '-' '-' '/nix/store/x'",
        "L /run/opengl-driver - - - - \"/nix/store/x\"",
    ] {
        assert_eq!(link_of(line).as_deref(), Some("/nix/store/x"), "{line}");
    }
    for line in [
        "L+ /run/opengl-driver-32 - - - - /x",
        "d /run/opengl-driver - - - - /x",
        "L+ /run/opengl-driver",
        "",
        "L+ /run/opengl-driver - - - - x",
    ] {
        assert_eq!(link_of(line), None, "{line}");
    }
}

/// A Debian: the driver's libraries lie in a folder of their own, and links lead there.
fn debian(root: &Root, version: &str) {
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    for name in ["libcuda.so", "libnvidia-ml.so", "libGLESv2_nvidia.so"] {
        root.library(&format!("{folder}/nvidia/current/{name}.{version}"));
        root.link(&format!("{folder}/{name}.1"), &format!("/etc/alternatives/{name}.1"));
        root.link(&format!("/etc/alternatives/{name}.1"), &format!("{folder}/nvidia/current/{name}.{version}"));
    }
}

const USR_LIB: (&str, &str) = ("/usr/lib", "/run/host/gpu/0");

#[test]
fn libraries_of_a_host_are_collected_as_guests_see_them() {
    let root = Root::new("550.1");
    debian(&root, "550.1");
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    root.library(&format!("{folder}/libc.so.6"));
    root.library(&format!("{folder}/libGLESv2.so.2"));
    root.library(&format!("{folder}/libcudart.so.12"));
    root.library("/opt/libcuda-elsewhere.so.1");
    root.link(&format!("{folder}/libcuda-elsewhere.so.1"), "/opt/libcuda-elsewhere.so.1");
    root.write(&format!("{folder}/libnvidia-32.so.1"), [0x7f, b'E', b'L', b'F', 9, 0]);
    root.write(&format!("{folder}/libnvidia-notes.so"), "text");
    fs::create_dir_all(root.at(&format!("{folder}/libnvidia-folder.so"))).unwrap();
    let made = root.prepare(&grant(&[LINK, USR_LIB])).unwrap();
    let links = read_links(&made.join("lib")).unwrap();
    let names: Vec<&str> = links.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "libGLESv2_nvidia.so.1",
            "libGLESv2_nvidia.so.550.1",
            "libcuda.so.1",
            "libcuda.so.550.1",
            "libnvidia-ml.so.1",
            "libnvidia-ml.so.550.1"
        ]
    );
    let inside = format!("/run/host/gpu/0/{}-linux-gnu/nvidia/current/libcuda.so.550.1", std::env::consts::ARCH);
    assert_eq!(links["libcuda.so.1"], PathBuf::from(inside));
}

#[test]
fn what_containers_have_bound_stays_when_the_driver_changes() {
    let root = Root::new("550.1");
    debian(&root, "550.1");
    let grant = grant(&[LINK, USR_LIB]);
    let first = root.prepare(&grant).unwrap();
    assert_eq!(root.prepare(&grant).unwrap(), first, "nothing has changed");
    debian(&root, "560.2");
    let error = root.prepare(&grant).unwrap_err();
    assert!(
        matches!(&error, StepError::GpuDriverMismatch { module, library } if module == "550.1" && library == "560.2"),
        "{error}"
    );
    root.module("560.2");
    let second = root.prepare(&grant).unwrap();
    assert_ne!(second, first);
    assert!(first.join("lib/libcuda.so.1").is_symlink(), "a container that runs has it");
}

#[test]
fn libraries_that_an_upgrade_left_behind_do_not_count() {
    let root = Root::new("570.124.06");
    debian(&root, "570.86.16");
    debian(&root, "570.124.06");
    let old = format!("/usr/lib/{}-linux-gnu/libcuda.so.570.86.16", std::env::consts::ARCH);
    root.library(&old);
    root.prepare(&grant(&[LINK, USR_LIB])).unwrap();
    // Nor a newer one that nothing leads to.
    root.library(&old.replace("570.86.16", "580.1"));
    root.prepare(&grant(&[LINK, USR_LIB])).unwrap();
    debian(&root, "570.86.16");
    let error = root.prepare(&grant(&[LINK, USR_LIB])).unwrap_err();
    assert!(
        matches!(&error, StepError::GpuDriverMismatch { library, .. } if library == "570.86.16"),
        "what programs are given counts: {error}"
    );
}

#[test]
fn a_source_that_is_gone_is_named() {
    let root = Root::new("550.1");
    debian(&root, "550.1");
    let gone = ("/usr/share/vulkan", "/usr/share/vulkan");
    let error = root.prepare(&grant(&[LINK, USR_LIB, gone])).unwrap_err();
    assert!(matches!(&error, StepError::GpuMountMissing { path } if path == Path::new(gone.0)), "{error}");
    let error = root.prepare(&grant(&[LINK])).unwrap_err();
    assert!(matches!(error, StepError::GpuLibraryMissing { .. }), "{error}");
}

#[test]
fn other_vendors_have_what_the_system_has() {
    let root = Root::new("1.1");
    let mesa = Grant { vendor: Vendor::Amd, ..grant(&[("/run/nixmox/gpu/mesa", "/run/opengl-driver")]) };
    assert!(matches!(prepare(&root.paths, &mesa).unwrap_err(), StepError::GpuLibraryMissing { .. }));
    root.nixos("550.1", "550.1");
    prepare(&root.paths, &mesa).unwrap();
    assert_eq!(fs::canonicalize(root.at("/run/nixmox/gpu/mesa")).unwrap(), root.at("/nix/store/drivers-550.1"));
    drop(root.dir);
}

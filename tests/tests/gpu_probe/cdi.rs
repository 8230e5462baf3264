//! CDI specifications: what is taken of them, and what is told.

use nixmox_core::gpu::Driver;
use nixmox_core::model::Vendor;

use super::machine::{Machine, TWO};

/// A specification as `nvidia-ctk cdi generate` makes it, of two GPUs.
const GOOD: &str = "
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: \"0\"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia7
- name: \"1\"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia3
      hostPath: /dev/nvidia3
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia7
    - path: /dev/nvidia3
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
  - path: /dev/nvidia-uvm
    major: 5
    minor: 0
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache]
  mounts:
  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06
    containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06
    options: [ro, nosuid, nodev, bind]
  - hostPath: /usr/bin/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, nodev, bind]
";

/// Returns a machine with two GPUs and all that its specification names.
fn machine() -> Machine {
    let machine = Machine::with_nvidia(TWO);
    for node in ["nvidia7", "nvidia3", "nvidiactl", "nvidia-uvm"] {
        machine.link("/dev/null", &format!("dev/{node}"));
    }
    machine.write("usr/bin/nvidia-smi", "");
    machine
}

/// Returns what is known of NVIDIA's driver.
fn driver(machine: &Machine) -> Driver {
    let found = machine.look();
    assert_eq!((found.faults.as_slice(), found.gpus.len()), ([].as_slice(), 2));
    found.drivers[&Vendor::Nvidia].clone()
}

/// Returns what is complained of.
fn complaints(file: &str, text: &str) -> Vec<String> {
    let machine = machine();
    machine.write(file, text);
    driver(&machine).cdi_complaints
}

#[test]
fn what_is_beside_the_user_space_is_taken_and_nothing_is_complained_of() {
    let machine = machine();
    machine.write("etc/cdi/nvidia.yaml", GOOD);
    // Other hardware has files there as well.
    machine.write("etc/cdi/other.json", r#"{"cdiVersion": "0.3.0", "kind": "vendor.example/net", "devices": []}"#);
    machine.write("etc/cdi/notes.txt", "no specification");
    let driver = driver(&machine);
    assert_eq!(driver.cdi_complaints, Vec::<String>::new());
    let mounts: Vec<_> = driver.cdi_mounts.iter().map(|mount| mount.source.to_str().unwrap()).collect();
    assert_eq!(mounts, ["/usr/bin/nvidia-smi"], "the library is among those that are bound as folders");
}

#[test]
fn json_is_read_as_yaml_is() {
    let machine = machine();
    machine.write(
        "var/run/cdi/nvidia.json",
        "{\n\t\"cdiVersion\": \"0.5.0\", \"kind\": \"nvidia.com/gpu\",\n\t\"containerEdits\": {\"deviceNodes\": [{\"path\": \"/dev/nvidia-uvm\", \"major\": 510, \"minor\": 0}]}, \"devices\": []}\n",
    );
    let complaints = driver(&machine).cdi_complaints;
    let stale = "/var/run/cdi/nvidia.json: /dev/nvidia-uvm is 510:0 there and 5:0 in the running kernel";
    assert!(complaints.iter().any(|complaint| complaint == stale), "{complaints:?}");
}

#[test]
fn a_specification_of_another_time_is_told() {
    let stale = GOOD.replace("major: 5\n", "major: 510\n");
    assert_eq!(
        complaints("etc/cdi/nvidia.yaml", &stale),
        ["/etc/cdi/nvidia.yaml: /dev/nvidia-uvm is 510:0 there and 5:0 in the running kernel"]
    );
    let without = GOOD.replace("  - path: /dev/nvidia-uvm\n    major: 5\n    minor: 0\n", "");
    assert_ne!(without, GOOD);
    assert_eq!(
        complaints("etc/cdi/nvidia.yaml", &without),
        ["/etc/cdi/nvidia.yaml: /dev/nvidia-uvm is needed and not named there"]
    );
    let gone = GOOD.replace("/usr/bin/nvidia-smi", "/usr/bin/nvidia-debugdump");
    assert_eq!(
        complaints("etc/cdi/nvidia.yaml", &gone),
        ["/etc/cdi/nvidia.yaml: /usr/bin/nvidia-debugdump is not there, and so is not bound"]
    );
    let node = GOOD
        .replace("- path: /dev/nvidiactl\n", "- path: /dev/nvidiactl\n  - path: /dev/nvidia-caps/nvidia-cap9\n");
    assert_eq!(
        complaints("etc/cdi/nvidia.yaml", &node),
        ["/etc/cdi/nvidia.yaml: the device /dev/nvidia-caps/nvidia-cap9 is not there"]
    );
}

#[test]
fn a_later_folder_goes_before_an_earlier_one() {
    let machine = machine();
    machine.write("etc/cdi/nvidia.yaml", GOOD.replace("major: 5\n", "major: 510\n"));
    machine.write("var/run/cdi/nvidia.yaml", GOOD);
    assert_eq!(driver(&machine).cdi_complaints, Vec::<String>::new());
    // Two files of one folder are not told apart.
    machine.write("var/run/cdi/other.yaml", GOOD);
    let complaints = driver(&machine).cdi_complaints;
    assert!(complaints[0].ends_with("is in /var/run/cdi/nvidia.yaml as well"), "{complaints:?}");
}

#[test]
fn a_field_that_is_not_known_is_told_and_the_rest_is_used() {
    let newer = GOOD.replace("  hooks:\n", "  futureEdits: [x]\n  hooks:\n");
    assert_eq!(
        complaints("etc/cdi/nvidia.yaml", &newer),
        ["/etc/cdi/nvidia.yaml: the field `futureEdits` is not known"]
    );
}

#[test]
fn nothing_is_bound_over_what_guests_have() {
    for target in ["/", "/nix", "/etc", "/run/opengl-driver", "/usr/../etc", "usr", "/a\nb"] {
        let hostile = GOOD.replace("containerPath: /usr/bin/nvidia-smi", &format!("containerPath: {target:?}"));
        let machine = machine();
        machine.write("etc/cdi/nvidia.yaml", hostile);
        let driver = driver(&machine);
        assert_eq!(driver.cdi_mounts, [], "{target}");
        assert_eq!(driver.cdi_complaints.len(), 1, "{target}: {:?}", driver.cdi_complaints);
    }
}

#[test]
fn files_that_are_no_specifications_are_told() {
    let deep = format!("kind: {}", "[".repeat(10_000));
    let long = format!("{GOOD}# {}\n", "x".repeat(2 << 20));
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nkind: nvidia.com/gpu\n";
    for text in ["", "- a\n", "kind: [\n", "\u{1}", &deep, &long, bomb, "cdiVersion: 0.5.0\n"] {
        let complaints = complaints("etc/cdi/nvidia.yaml", text);
        let [complaint] = complaints.as_slice() else { panic!("{complaints:?}") };
        assert!(complaint.starts_with("/etc/cdi/nvidia.yaml: it "), "{complaint}");
    }
    // What would never answer is not opened.
    let machine = machine();
    machine.write("etc/cdi/x.yaml", "");
    std::fs::remove_file(machine.root().join("etc/cdi/x.yaml")).unwrap();
    nix::unistd::mkfifo(&machine.root().join("etc/cdi/x.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(driver(&machine).cdi_complaints.len(), 1);
}

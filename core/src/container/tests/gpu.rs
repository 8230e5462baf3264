//! What a grant of GPUs becomes in the texts.

use std::collections::BTreeMap;

use super::*;
use crate::model::{GpuMount, GpuStanding, Grant, OPTIONAL_NODES, Vendor};

fn grant() -> Grant {
    Grant {
        vendor: Vendor::Nvidia,
        gpus: vec!["GPU-1".parse().unwrap()],
        budget: Some(Bytes(8 << 30)),
        nodes: ["/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl"].map(PathBuf::from).into(),
        mounts: vec![GpuMount { source: "/run/nixmox/gpu/nvidia".into(), target: "/run/opengl-driver".into() }],
        environment: BTreeMap::from([("LD_LIBRARY_PATH".into(), "/run/opengl-driver/lib".into())]),
    }
}

/// A service with that grant and nothing else of its own.
fn granted() -> Assigned {
    Assigned { gpu: GpuStanding::Granted(grant()), ..assigned("web", 3) }
}

fn with(change: impl FnOnce(&mut Grant)) -> Assigned {
    let mut grant = grant();
    change(&mut grant);
    Assigned { gpu: GpuStanding::Granted(grant), ..assigned("web", 3) }
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

#[test]
fn a_grant_is_bound_allowed_and_in_the_environment() {
    let files = files(&granted(), &layout()).unwrap();
    insta::assert_snapshot!(lines(files.conf.as_ref().unwrap(), "EXTRA_").concat(), @r#"EXTRA_NSPAWN_FLAGS="--bind-ro=/run/nixmox/guests:/run/host/nixmox --bind-ro=/run/nixmox/env/web.conf:/run/systemd/system.conf.d/50-nixmox.conf --bind=/dev/nvidia-uvm --bind=/dev/nvidia1 --bind=/dev/nvidiactl --bind-ro=/run/nixmox/gpu/nvidia:/run/opengl-driver""#);
    assert_eq!(
        lines(&files.drop_in, "DeviceAllow="),
        ["DeviceAllow=/dev/nvidia-uvm rw", "DeviceAllow=/dev/nvidia1 rw", "DeviceAllow=/dev/nvidiactl rw"]
    );
    insta::assert_snapshot!(files.environment.unwrap(), @r#"
    # Written by nixmox-agent.
    [Manager]
    DefaultEnvironment="LD_LIBRARY_PATH=/run/opengl-driver/lib"
    "#);
    assert!(writable_sources(&files.conf.unwrap()).is_empty(), "any number of containers share a GPU");
}

#[test]
fn what_a_service_declares_itself_goes_first_and_is_there_once() {
    let mut own = granted();
    own.service.environment = [("LD_LIBRARY_PATH".into(), "/mine".into()), ("A".into(), "b".into())].into();
    own.service.devices = vec![
        Device { path: "/dev/nvidia1".into(), access: "m".into() },
        Device { path: "/dev/fuse".into(), access: "r".into() },
    ];
    own.service.mounts = vec![mount("/srv/driver", "/run/opengl-driver", true)];
    let files = files(&own, &layout()).unwrap();
    let environment = lines(files.environment.as_ref().unwrap(), "DefaultEnvironment=");
    assert_eq!(environment, ["DefaultEnvironment=\"A=b\"", "DefaultEnvironment=\"LD_LIBRARY_PATH=/mine\""]);
    assert_eq!(
        lines(&files.drop_in, "DeviceAllow="),
        [
            "DeviceAllow=/dev/nvidia1 rwm",
            "DeviceAllow=/dev/fuse r",
            "DeviceAllow=/dev/nvidia-uvm rw",
            "DeviceAllow=/dev/nvidiactl rw"
        ]
    );
    let conf = files.conf.unwrap();
    assert_eq!(conf.matches("--bind=/dev/nvidia1 ").count(), 1, "{conf}");
    assert_eq!(conf.matches(":/run/opengl-driver").count(), 1, "{conf}");
}

#[test]
fn an_adopted_container_is_allowed_its_nodes_and_no_more() {
    let mut adopted = granted();
    adopted.service.system = System::Adopted;
    let files = files(&adopted, &layout()).unwrap();
    assert_eq!((files.conf, &files.spec), (None, &Spec::default()));
    assert_eq!(lines(&files.drop_in, "DeviceAllow=").len(), 3);
}

#[test]
fn the_fingerprint_of_a_grant_is_the_same_in_every_version() {
    insta::assert_snapshot!(spec(&granted()), @"system:b992d503,network:1f317038,gpu:2c854ced,slice:08c70141");
}

#[test]
fn a_restart_is_for_the_vendor_and_environment_alone() {
    let changed = |other: &Assigned| spec(&granted()).differences(&spec(other));
    assert_eq!(changed(&assigned("web", 3)), [SpecField::Gpu], "there is no share any more");
    assert_eq!(changed(&with(|grant| grant.vendor = Vendor::Amd)), [SpecField::Gpu]);
    assert_eq!(changed(&with(|grant| grant.environment.clear())), [SpecField::Gpu]);
    assert_eq!(changed(&with(|grant| grant.nodes.push("/dev/nvidia2".into()))), []);
    assert_eq!(changed(&with(|grant| grant.mounts.clear())), []);
    assert_eq!(changed(&with(|grant| grant.budget = None)), []);
    assert_eq!(changed(&with(|grant| grant.gpus.push("GPU-2".parse().unwrap()))), []);
    let waits = GpuStanding::Waiting { keeps: Some(grant()), why: "full".into(), hint: String::new() };
    assert_eq!(changed(&Assigned { gpu: waits, ..assigned("web", 3) }), [], "it goes on with what it has");
}

#[test]
fn with_users_of_its_own_other_nodes_are_a_restart() {
    let mapped = |change: fn(&mut Grant)| {
        let mut assigned = with(change);
        assigned.service.private_users = PrivateUsers::Pick;
        spec(&assigned)
    };
    let more = mapped(|grant| grant.nodes.push("/dev/nvidia2".into()));
    assert_eq!(mapped(|_| ()).differences(&more), [SpecField::Gpu]);
    let optional = mapped(|grant| grant.nodes.extend(OPTIONAL_NODES.map(PathBuf::from)));
    assert_eq!(mapped(|_| ()).differences(&optional), [], "what it goes without");
}

#[test]
fn a_path_that_cannot_be_carried_is_refused() {
    for (source, target) in [("/a b", "/x"), ("/x", "relative"), ("/x\n", "/x")] {
        let mounts = vec![GpuMount { source: source.into(), target: target.into() }];
        assert!(files(&with(|grant| grant.mounts = mounts), &layout()).is_err(), "{source}:{target}");
    }
    assert!(files(&with(|grant| grant.nodes = vec!["/dev/x --bind=/".into()]), &layout()).is_err());
    let colon = vec![GpuMount { source: "/a:b".into(), target: "/x".into() }];
    let conf = files(&with(|grant| grant.mounts = colon), &layout()).unwrap().conf.unwrap();
    assert!(conf.contains(r"--bind-ro=/a\\:b:/x"), "{conf}");
}

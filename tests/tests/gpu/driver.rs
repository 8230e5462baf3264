//! The driver's user space and environment in a guest.

use nixmox_agent::host::{Host, StepError};
use nixmox_core::model::{Assigned, GpuStanding, Grant, Mount};

use crate::grants::{OPENS, tries};
use crate::inside::{open, shell};
use crate::service::{assigned, files, name};
use crate::stand_in::{self, GPUS, LIBRARY, MAJOR, VERSION, grant, with_mounts};

/// What every guest has bound, and what it leads to on hosts that are not NixOS.
const LINK: (&str, &str) = ("/run/nixmox/gpu/nvidia", "/run/opengl-driver");
const FOLDER: (&str, &str) = ("/usr/lib", "/run/host/gpu/0");

fn given(mounts: &[(&str, &str)]) -> Assigned {
    Assigned { gpu: GpuStanding::Granted(granted(mounts)), ..assigned("web", "web", 1) }
}

fn granted(mounts: &[(&str, &str)]) -> Grant {
    with_mounts(grant(&[GPUS[1]]), mounts)
}

fn store(version: &str) -> String {
    format!("/nix/store/{}-graphics-drivers-{version}", "0".repeat(32))
}

/// Nothing of a container that was refused has run.
fn nothing_ran() {
    assert_eq!(shell("systemctl show -P ExecMainStartTimestampMonotonic container@web"), "0");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn libraries_of_the_host_reach_a_guest_where_they_fit_the_module() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let web = given(&[LINK, FOLDER]);
    let install = |version: &str| {
        shell(&format!(
            "cd /usr/lib/$(uname -m)-linux-gnu; rm -f libcuda*; touch libcuda.so.999.1; cp -L libc.so.6 libcuda.so.{version}; ln -s libcuda.so.{version} libcuda.so.1"
        ))
    };
    install("560.1");
    shell(&stand_in::version(VERSION));
    let error = host.start(&web, &files(&web)).await.expect_err("they do not fit");
    assert_eq!(error.to_string(), format!("the loaded NVIDIA module is {VERSION}, and its user space 560.1"));
    nothing_ran();
    install(VERSION);
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(tries("web")[LIBRARY], OPENS, "through the links");
    let view = host.look_into(&name("web"), &granted(&[])).await;
    assert_eq!((view.library.as_deref(), view.fault), (Some(VERSION), None));

    // Another one starts after an upgrade and a reload; this one keeps its folder.
    install("560.1");
    shell(&stand_in::version("560.1"));
    let mut other = given(&[LINK, FOLDER]);
    other.service.name = name("other");
    other.addresses = assigned("other", "web", 2).addresses;
    host.start(&other, &files(&other)).await.expect("it starts");
    assert_eq!(tries("other")[LIBRARY], OPENS);
    let view = host.look_into(&name("web"), &granted(&[])).await;
    assert_eq!(view.library.as_deref(), Some(VERSION), "its folder is not taken away");

    // A source that was there when somebody looked.
    host.stop(&name("web")).await.expect("it stops");
    let web = given(&[LINK, FOLDER, ("/usr/share/gone", "/usr/share/gone")]);
    let error = host.start(&web, &files(&web)).await.expect_err("a source is missing");
    assert!(matches!(&error, StepError::GpuMountMissing { path } if path.ends_with("gone")), "{error}");
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn the_user_space_of_a_booted_nixos_is_taken_where_that_fits() {
    shell(&stand_in::make_nodes(MAJOR));
    let host = open();
    let web = given(&[LINK]);
    for version in ["560.1", VERSION] {
        let folder = store(version);
        shell(&format!(
            "mkdir -p {folder}/lib; cd {folder}/lib; echo > libcuda.so.{version}; ln -s libcuda.so.{version} libcuda.so.1"
        ));
    }
    // Switched to the newer one; the older one is what was booted.
    shell(&format!("ln -sfn {} /run/opengl-driver", store("560.1")));
    shell(&stand_in::version(VERSION));
    let error = host.start(&web, &files(&web)).await.expect_err("neither fits");
    assert!(matches!(error, StepError::GpuDriverMismatch { .. }), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("reboot")));
    nothing_ran();
    let line = format!("'L+' '/run/opengl-driver' '-' '-' '-' '-' '{}'", store(VERSION));
    shell(&format!(
        "mkdir -p /run/booted-system/etc/tmpfiles.d; echo \"{line}\" > /run/booted-system/etc/tmpfiles.d/graphics-driver.conf"
    ));
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(shell("readlink /run/nixmox/gpu/nvidia"), store(VERSION));
    assert_eq!(tries("web")[LIBRARY], OPENS);
    assert_eq!(host.look_into(&name("web"), &granted(&[])).await.library.as_deref(), Some(VERSION));

    // As after the reboot.
    host.stop(&name("web")).await.expect("it stops");
    shell(&stand_in::version("560.1"));
    host.start(&web, &files(&web)).await.expect("it starts");
    assert_eq!(host.look_into(&name("web"), &granted(&[])).await.library.as_deref(), Some("560.1"));
}

/// NixOS links its own user space there where `hardware.graphics` is enabled.
#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn a_guest_that_would_link_drivers_of_its_own_keeps_those_of_the_host() {
    let host = open();
    let (hosts, own) = (store(VERSION), store("560.1"));
    shell(&format!("mkdir -p {hosts}/lib {own}/lib; touch {hosts}/lib/libcuda.so.{VERSION}"));
    shell(&format!("ln -sfn {hosts} /run/opengl-driver"));
    shell(&stand_in::version(VERSION));
    let rules = "/root/graphics-driver.conf";
    shell(&format!("echo 'L+ /run/opengl-driver - - - - {own}' > {rules}"));
    let mut debian = assigned("debian", "debian", 1);
    debian.gpu = GpuStanding::Granted(granted(&[LINK]));
    debian.service.mounts.push(Mount {
        source: rules.into(),
        target: "/run/tmpfiles.d/graphics-driver.conf".into(),
        read_only: true,
        create: false,
        must_be_mountpoint: false,
    });
    host.start(&debian, &files(&debian)).await.expect("it boots");
    assert_eq!(shell("systemctl -M debian is-system-running --wait"), "running");
    let has_hosts = async || {
        let view = host.look_into(&name("debian"), &granted(&[])).await;
        assert_eq!((view.library.as_deref(), view.fault), (Some(VERSION), None));
    };
    has_hosts().await;
    // What it cannot make (EX_CANTCREAT, sysexits.h) is no failure of that unit (`SuccessExitStatus=`).
    let status = "systemctl -M debian show -P Result -P ExecMainStatus systemd-tmpfiles-setup";
    assert_eq!(shell(status), "success\n73");
    // As a switch inside does.
    shell("systemd-run -M debian -q --wait -p SuccessExitStatus=CANTCREAT systemd-tmpfiles --create --remove");
    has_hosts().await;
}

#[tokio::test]
#[ignore = "runs inside the testbed"]
async fn the_environment_of_a_grant_reaches_services_of_a_booted_guest() {
    let host = open();
    let mut debian = assigned("debian", "debian", 1);
    debian.gpu = GpuStanding::Granted(granted(&[]));
    debian.service.environment.insert("GREETING".to_owned(), "hi".to_owned());
    host.start(&debian, &files(&debian)).await.expect("it boots");
    let of_service =
        |command: &str| shell(&format!("systemd-run -M debian -q --wait --pipe /bin/sh -c '{command}'"));
    assert_eq!(of_service("echo $$LD_LIBRARY_PATH $$GREETING"), "/run/opengl-driver/lib hi");
    // A service of the guest's own systemd, several cgroups below.
    let node = stand_in::node(GPUS[1]);
    assert_eq!(of_service(&format!("exec 3<>{node} && echo opens")), "opens");
    host.stop(&name("debian")).await.expect("it stops");
    debian.service.environment.insert("LD_LIBRARY_PATH".to_owned(), "/mine".to_owned());
    host.start(&debian, &files(&debian)).await.expect("it boots");
    assert_eq!(of_service("echo $$LD_LIBRARY_PATH"), "/mine", "its own goes first");
}

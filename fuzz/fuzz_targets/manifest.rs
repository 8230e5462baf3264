//! The manifest from any bytes: no panic, places inside the texts, an error wherever there is no value, and a value
//! that the container's files can carry wherever there is none.
//!
//! The input is a stack file and, behind a line that begins with `#---`, an included one.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use nixmox_core::container::{Layout, files};
use nixmox_core::manifest::{Diagnostic, SourceFile, Stack, SystemRef, parse_service, parse_stack, resolve};
use nixmox_core::model::{Addresses, Assigned, GpuStanding, Network};

fuzz_target!(init: plant_if_asked(), |bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (stack, service) = text.split_once("\n#---").unwrap_or((text.as_ref(), ""));
    let stack = SourceFile::new("nixmox.toml", "/stack", stack);
    let service = SourceFile::new("web/service.toml", "/stack/web", service);

    let included = if service.text().is_empty() { vec![] } else { vec![parse_service(service.clone())] };
    let findings = match resolve(&parse_stack(stack.clone()), &included) {
        Ok(resolved) => {
            assert!(!resolved.warnings.iter().any(Diagnostic::is_error), "a stack with an error");
            check_carried(&resolved);
            resolved.warnings
        }
        Err(findings) => {
            assert!(findings.iter().any(Diagnostic::is_error), "no stack, and no error");
            findings
        }
    };
    for place in findings.iter().flat_map(|finding| std::iter::once(&finding.place).chain(&finding.related)) {
        let source = [&stack, &service].into_iter().find(|source| source.name() == place.file);
        let source = source.expect("a file of the input");
        assert!(source.text().get(place.span.clone()).is_some(), "a place outside of the text: {place:?}");
        assert!(source.line_text(place.line).is_some(), "a line outside of the text: {place:?}");
    }
});

fn plant_if_asked() {
    if std::env::var_os("NIXMOX_PLANTED").is_some() {
        nixmox_core::planted::plant();
    }
}

/// Whatever passes the checks can be written into a container's files.
fn check_carried(stack: &Stack) {
    let addresses = Addresses { host: Ipv4Addr::new(10, 233, 1, 1), local: Ipv4Addr::new(10, 233, 1, 2) };
    let layout = Layout { agent: "/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: true };
    for declared in &stack.services {
        let path = match &declared.service.system {
            SystemRef::StorePath(path) => path.clone(),
            SystemRef::Flake { .. } | SystemRef::Module(_) | SystemRef::Link(_) | SystemRef::Adopted => {
                let path = format!("/nix/store/{}-system", "0".repeat(32));
                path.parse().expect("a store path")
            }
        };
        let private = matches!(declared.service.network, Network::Private { .. });
        let assigned = Assigned {
            service: declared.with_system(path),
            addresses: private.then_some(addresses),
            gpu: GpuStanding::None,
        };
        if let Err(error) = files(&assigned, &layout) {
            panic!("what passed the checks cannot be carried: {error}");
        }
    }
}

//! Systems that are built: the real nix, a real flake, and modules with a stand-in for nixpkgs, until the containers run.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod closures;
mod garbage;
mod modules;
mod options;
mod outputs;
mod progress;

use nixmox_testbed::{Options, Testbed};

/// A host on which every call of nix is written down.
fn boot(name: &str) -> Testbed {
    let bed = Testbed::boot(&Options::new(name).without_homelab()).expect("a host");
    let wrapper = "#!/bin/sh\necho \"$@\" >> /tmp/nix-calls\nexec /usr/bin/nix \"$@\"\n";
    bed.write_file("/usr/local/bin/nix", wrapper, 0o755).expect("a wrapper");
    bed
}

/// Returns the calls of nix since this was last asked, without what all of them have.
fn calls(bed: &Testbed) -> Vec<String> {
    let calls = bed.succeed("cat /tmp/nix-calls; rm -f /tmp/nix-calls").expect("nix was called");
    let common = "--extra-experimental-features nix-command flakes ";
    calls.lines().map(|call| call.trim_start_matches(common).to_owned()).collect()
}

/// Returns how many of these calls build something.
fn builds(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.starts_with("build ") && !call.contains("--dry-run")).count()
}

//! How the agent is linked: small, since it stays resident beside everything else.
//!
//! Its relocations are packed (`DT_RELR`, needs glibc 2.36): 0.14 MiB. A release aborts where it panics, so nothing ever
//! looks up how to unwind (`panic = "abort"`): what says so is left out, 0.07 MiB of index and 0.49 MiB of tables, which
//! `release.ld` discards. Functions that came out the same are folded, 0.13 MiB, where the linker is the one that Rust's toolchains bring
//! for this target (LLVM's): others may not know the flag, and then the program is as much larger and the same. What alone could tell, that two
//! functions have one address, nothing here asks.
#![allow(clippy::print_stdout, reason = "this is how a build script talks to cargo")]

use std::path::Path;
use std::process::Command;

/// The target that Rust links with LLVM's linker by itself.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=release.ld");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/release.ld");
        if brings_linker() {
            println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        }
    }
}

/// Returns whether the compiler links with the linker that it brings: it has one, and nobody chose another.
fn brings_linker() -> bool {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_chosen =
        std::env::var_os("RUSTC_LINKER").is_some() || variable("CARGO_ENCODED_RUSTFLAGS").contains("link");
    let sysroot = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output();
    let sysroot =
        sysroot.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let linker = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("bin/gcc-ld/ld.lld");
    variable("TARGET") == TARGET && !is_chosen && linker.exists()
}

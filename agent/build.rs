//! How the agent is linked: small, since it stays resident beside everything else.
//!
//! Its relocations are packed (`DT_RELR`, needs glibc 2.36): 0.14 MiB. A release aborts where it panics, so nothing ever
//! looks up how to unwind (`panic = "abort"`): what says so is left out, 0.07 MiB of index and 0.49 MiB of tables, which
//! `release.ld` discards.
#![allow(clippy::print_stdout, reason = "this is how a build script talks to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=release.ld");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/release.ld");
    }
}

//! How the agent is linked: its relocations packed (`DT_RELR`), which takes 0.14 MiB off the program. Needs glibc 2.36.
#![allow(clippy::print_stdout, reason = "this is how a build script talks to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}

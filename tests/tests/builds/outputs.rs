//! Which output of a flake a service runs, and that all of them are built at once.

use std::process::Command;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use super::{boot, builds, calls};

#[test]
fn a_name_is_a_configuration_else_a_package_and_all_is_built_at_once() {
    let bed = boot("builds-outputs");
    let stack = Stack::new(&bed, "outputs");
    let (one, other) = (Behaviour::new().log("one"), Behaviour::new().log("other"));
    let packages = [("web", &one), ("db", &one), ("same", &other)];
    let more = "      twin = same;\n      \"a.b\" = same;\n";
    bed.static_guest_flake_with("/srv/outputs", &packages, &[("web", &other), ("alone", &one)], more)
        .expect("a flake");
    let service = |name: &str, system: &str| {
        let text = format!("system = '{system}'\n");
        bed.write_file(format!("/srv/outputs/services/{name}/service.toml"), text, 0o644).expect("a service");
    };
    // Named from below the flake, from elsewhere, and as nix names it; some are the same derivation.
    for (name, system) in [
        ("web", ".#web"),
        ("db", ".#db"),
        ("alone", ".#nixosConfigurations.alone"),
        ("path", ".#packages.x86_64-linux.web"),
        ("dotted", ".#\"a.b\""),
        ("same", "../..#same"),
        ("twin", "/srv/outputs#twin"),
        ("git", "git+file:///srv/outputs#same"),
    ] {
        service(name, system);
    }
    let manifest = "format = 1\n[stack]\nname = \"outputs\"\ninclude = [\"services/*/service.toml\"]\n";
    bed.write_file("/srv/outputs/nixmox.toml", manifest, 0o644).expect("a manifest");
    // Its nix needs no git, and has none.
    let copy = tempfile::tempdir().expect("a folder");
    let script = format!("cp -r {}/. . && git init --quiet && git add .", bed.path("/srv/outputs").display());
    let status = Command::new("sh").args(["-c", &script]).current_dir(copy.path()).status();
    assert!(status.expect("git runs").success(), "no repository");
    bed.copy_in(copy.path(), "/srv/outputs").expect("a repository");

    let up = stack.succeed("up").expect("it comes up");
    assert!(up.stderr.contains("built "), "{up}");
    let made = calls(&bed);
    assert_eq!(builds(&made), 1, "one build: {made:#?}");
    let asked = made.iter().filter(|call| call.starts_with("eval ")).count();
    // Two flakes, as far as is known without nix: the folder, and the repository.
    assert_eq!(asked, 2, "one question for each flake: {made:#?}");

    let system = |name: &str| stack.field(name, "system").expect("it is known");
    let built = |attribute: &str| {
        let script =
            format!("/usr/bin/nix build --no-link --print-out-paths 'git+file:///srv/outputs#{attribute}'");
        bed.succeed(&script).expect("nix builds it")
    };
    assert_eq!(system("web"), built("nixosConfigurations.web.config.system.build.toplevel"));
    assert_eq!(system("path"), built("packages.x86_64-linux.web"));
    assert_ne!(system("path"), system("web"));
    assert_eq!(system("db"), built("db"));
    assert_eq!(system("alone"), built("nixosConfigurations.alone.config.system.build.toplevel"));
    for name in ["same", "twin", "dotted", "git"] {
        assert_eq!(system(name), built("same"), "{name}");
    }

    // Nothing is to be built any more, and so nothing is said of it.
    let again = stack.succeed("up").expect("it is up");
    assert!(!again.stderr.contains("built"), "{again}");
}

#[test]
fn what_nix_cannot_evaluate_is_told_once_in_its_own_words() {
    let bed = boot("builds-failing");
    let stack = Stack::new(&bed, "failing");
    let more = "      broken = throw \"broken on purpose\";\n";
    bed.static_guest_flake_with("/srv/failing", &[], &[], more).expect("a flake");
    stack
        .declare(&["[services.a]\nsystem = \".#nothing\"", "[services.b]\nsystem = \".#broken\""])
        .expect("a stack");
    let nothing = stack.refuse("up", 1, &["does not provide attribute", "nix build failed"]).expect("it is told");
    assert_eq!(nothing.stderr.matches("does not provide").count(), 1, "{nothing}");
    assert!(!nothing.stderr.contains("@nix"), "{nothing}");

    stack.declare(&["[services.b]\nsystem = \".#broken\""]).expect("a stack");
    stack.refuse("plan", 1, &["broken on purpose", "for .#broken"]).expect("it is told");
    bed.write_file("/srv/failing/flake.nix", "{ outputs = _: throw \"no outputs\"; }", 0o644).expect("a flake");
    let told = stack.refuse("plan", 1, &["no outputs", "nix eval failed"]).expect("it is told");
    assert_eq!(told.stderr.matches("error: no outputs").count(), 1, "{told}");
}

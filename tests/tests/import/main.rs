//! What `import compose` writes, on a real Nix: every module parses and evaluates, and a stack of it comes up.
//!
//! nixpkgs is out of reach of a build machine, so that a stand-in takes its place: the flake, the folders and the
//! modules are those that are written, the options have NixOS's names and types, and the systems are static guests.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

use std::fs;
use std::path::{Path, PathBuf};

use nixmox_testbed::{Behaviour, blocks};
use nixmox_tests::shared::Host;

const FIXTURES: [&str; 4] = ["all", "media", "miniflux", "nextcloud"];
const STAND_IN: [&str; 4] = ["flake.nix", "lib.nix", "nixos.nix", "pkgs.nix"];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Puts the stand-in for nixpkgs into `/srv/stand-in`, with these guests by the names of their services.
fn put_stand_in(host: &Host, guests: &[(&str, &Behaviour)]) {
    for name in STAND_IN {
        let text = fs::read(repository("tests/tests/import/stand-in").join(name)).expect("a file of this test");
        host.write_file(format!("/srv/stand-in/{name}"), text, 0o644).expect("written");
    }
    let guest = host.guest("any", &Behaviour::new()).expect("a system");
    let guests =
        guests.iter().map(|(name, guest)| ((*name).to_owned(), host.guest(name, guest).expect("a system").into()));
    let guests: serde_json::Map<String, serde_json::Value> = guests.collect();
    let busybox = host
        .succeed(
            "mkdir -p /tmp/busybox/bin && cp /usr/bin/busybox /tmp/busybox/bin/ && nix-store --add /tmp/busybox",
        )
        .expect("added");
    let paths = serde_json::json!({ "busybox": busybox.trim(), "guest": guest, "guests": guests });
    host.write_file("/srv/stand-in/paths.json", paths.to_string(), 0o644).expect("written");
}

/// Has the flake of an imported stack take the stand-in for nixpkgs.
fn take_stand_in(host: &Host, name: &str) {
    let url = "github:NixOS/nixpkgs/nixos-26.05";
    host.succeed(&format!(
        "grep -qF {url} /srv/{name}/flake.nix && sed -i s,{url},path:/srv/stand-in, /srv/{name}/flake.nix"
    ))
    .expect("the flake has nixpkgs for its input");
}

/// Imports a Compose file in `/srv/compose`.
fn import(host: &Host, name: &str, text: &str) -> String {
    host.write_file(format!("/srv/compose/{name}.yml"), text, 0o644).expect("written");
    let said = host.succeed(&format!("cd /srv/compose && nixmoxctl import compose {name}.yml -o /srv/{name}"));
    take_stand_in(host, name);
    said.expect("imported")
}

#[test]
fn every_module_parses_and_evaluates_against_the_options_it_sets() {
    let host = Host::boot("import-eval").expect("the host boots");
    put_stand_in(&host, &[]);
    for name in FIXTURES {
        let path = repository("ctl/src/import/tests/fixtures").join(format!("{name}.yml"));
        import(&host, name, &fs::read_to_string(path).expect("a fixture"));
        host.succeed(&format!("nixmoxctl check -f /srv/{name}")).expect("the manifest is right");
        host.succeed(&format!(
            "find /srv/{name} -name '*.nix' -print0 | xargs -0 -n1 nix-instantiate --parse >/dev/null"
        ))
        .expect("every file parses");
        // As `up` does it, in the folder of a service.
        let evaluated = host
            .succeed(&format!(
                "for service in /srv/{name}/services/*/; do cd $service && nix --extra-experimental-features 'nix-command flakes' \
                 eval --offline --raw ../..#$(basename $service).drvPath || exit 1; echo; done"
            ))
            .expect("every module evaluates");
        assert!(evaluated.lines().all(|line| line.starts_with("/nix/store/")), "{evaluated}");
        assert!(evaluated.lines().count() >= 2, "{evaluated}");
    }
    // The stand-in is no rubber stamp: an option that NixOS does not have is refused.
    host.succeed("sed -i 's/appendOnly/apendOnly/' /srv/nextcloud/services/redis/service.nix").expect("changed");
    let refused = host.fail(
        "cd /srv/nextcloud/services/redis && nix --extra-experimental-features 'nix-command flakes' eval --offline --raw ../..#redis.drvPath",
    );
    let refused = refused.expect("refused").stderr;
    assert!(refused.contains("apendOnly") && refused.contains("does not exist"), "{refused}");
}

#[test]
fn an_imported_stack_comes_up_in_its_order() {
    let host = Host::boot("import-up").expect("the host boots");
    put_stand_in(&host, &[("cache", &Behaviour::new().tcp(11211)), ("my-web", &Behaviour::new().tcp(80))]);
    let said = import(
        &host,
        "shop",
        "services:\n  my_web:\n    image: nginx:alpine\n    ports: ['8090:80']\n    depends_on: {cache: {condition: service_healthy}}\n    \
         volumes: [html:/usr/share/nginx/html]\n  cache: {image: memcached, mem_limit: 64m}\n  shop: {build: .}\nvolumes: {html: }\n",
    );
    assert!(said.contains("2 of 3 services"), "{said}");
    let up = host.succeed("nixmoxctl up -f /srv/shop").expect("it comes up");
    let at = |service: &str, what: &str| {
        up.lines().position(|line| line.contains(service) && line.contains(what)).expect("it is told")
    };
    assert!(at("cache", "healthy after") < at("my-web", "create"), "{up}");
    let status = host.succeed("nixmoxctl status -f /srv/shop").expect("a status");
    assert!(status.contains("2 healthy"), "{status}");
    host.succeed("test -d /srv/compose/html").expect("the volume's folder was made below /srv");
    host.succeed("nixmoxctl down -f /srv/shop").expect("taken down");
}

#[test]
fn whoever_follows_the_page_has_a_stack() {
    let host = Host::boot("import-page").expect("the host boots");
    put_stand_in(&host, &[("cache", &Behaviour::new().tcp(11211))]);
    host.write_file("/srv/cloud/compose.yml", "services:\n  cache: {image: memcached}\n", 0o644).expect("written");
    for block in blocks("docs/import.md").expect("a page") {
        assert_eq!(block.language, "console");
        for command in block.text.lines() {
            let command = command.strip_prefix("$ ").expect("a command");
            host.succeed(&format!("cd /srv && {command}")).expect("it does what the page says");
            if command.contains("import") {
                take_stand_in(&host, "cloud");
            }
        }
    }
    let status = host.succeed("nixmoxctl status -f /srv/cloud").expect("a status");
    assert!(status.contains("1 healthy"), "{status}");
}

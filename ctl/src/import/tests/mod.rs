//! Whole imports of real-world files: what is written, what is said, and that no secret is in either.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;

use super::{Import, ImportError, Source, Surroundings, catalog, compose};

mod keys;
mod robust;

const NEXTCLOUD: &str = include_str!("fixtures/nextcloud.yml");
const MINIFLUX: &str = include_str!("fixtures/miniflux.yml");
const MEDIA: &str = include_str!("fixtures/media.yml");
const ALL: &str = include_str!("fixtures/all.yml");

/// What every secret of the fixtures begins with or holds.
const CANARY: &str = "canary";

/// Imports a text that lies in `/home/me/project`, with these files beside it and these variables.
fn import_with(text: &str, files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Import, ImportError> {
    let files: BTreeMap<PathBuf, &str> =
        files.iter().map(|(name, text)| (Path::new("/home/me/project").join(name), *text)).collect();
    let read = |path: &Path| {
        files.get(path).map(|text| (*text).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let folder = PathBuf::from("/home/me/project");
    let source = Source { name: "compose.yml".to_owned(), folder, text: text.to_owned() };
    compose(&source, &Surroundings { variable: &variable, read: &read })
}

fn import(text: &str) -> Import {
    import_with(text, &[], &[("HOME", "/home/me")]).unwrap()
}

/// Everything of an import as one text: the files, then what is said.
fn told(import: &Import) -> String {
    let files = import.files.iter().map(|(path, text)| format!("======== {}\n{text}", path.display()));
    let said =
        crate::render::import(import, "compose.yml", Path::new("out"), Some(80), crate::render::Style::default());
    files.collect::<Vec<_>>().join("\n") + "\n======== said\n" + &said
}

/// The text of a file that is written.
fn file<'a>(import: &'a Import, path: &str) -> &'a str {
    import.files.iter().find(|(known, _)| known == Path::new(path)).map(|(_, text)| text.as_str()).unwrap()
}

#[test]
fn nextcloud_with_mariadb_and_redis() {
    assert_snapshot!(told(&import(NEXTCLOUD)));
}

#[test]
fn miniflux_with_postgresql() {
    assert_snapshot!(told(&import(MINIFLUX)));
}

#[test]
fn traefik_and_jellyfin_among_images_that_nobody_knows() {
    assert_snapshot!(told(&import(MEDIA)));
}

#[test]
fn every_well_known_image() {
    assert_snapshot!(told(&import(ALL)));
}

#[test]
fn every_image_that_is_known_is_in_the_fixture_and_on_the_page() {
    let import = import(ALL);
    let page = include_str!("../../../../docs/import.md").replace('\n', " ");
    for title in catalog::titles() {
        let begins = format!("# {title}, for image ");
        assert!(import.files.iter().any(|(_, text)| text.starts_with(&begins)), "no fixture for {title}");
        assert!(page.contains(title), "docs/import.md does not name {title}");
    }
}

#[test]
fn what_is_written_passes_the_check_of_the_manifest() {
    for (name, text) in [("nextcloud", NEXTCLOUD), ("miniflux", MINIFLUX), ("media", MEDIA), ("all", ALL)] {
        let import = import(text);
        let folder = tempfile::tempdir().unwrap();
        super::write(folder.path(), &import.files, false).unwrap();
        let ran = crate::testing::Place::in_folder(folder.path()).run("check --json");
        let checked: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, &checked["services"]), (0, &import.services.len().into()), "{name}: {}", ran.out);
        let warnings: Vec<&str> =
            checked["diagnostics"].as_array().unwrap().iter().filter_map(|one| one["message"].as_str()).collect();
        assert!(warnings.iter().all(|warning| warning.starts_with("`gpu` is read")), "{name}: {warnings:?}");
    }
}

#[test]
fn no_secret_is_written_or_said() {
    for text in [NEXTCLOUD, MINIFLUX, MEDIA, ALL] {
        assert!(text.contains(CANARY));
        let import =
            import_with(text, &[], &[("DB_PASSWORD", "canary-of-the-environment"), ("HOME", "/home/me")]).unwrap();
        let json = crate::render::import_json(&import, "compose.yml", Path::new("out")).to_string();
        for told in [told(&import), json] {
            let line = told.lines().find(|line| line.contains(CANARY));
            assert_eq!(line, None);
        }
    }
}

#[test]
fn every_credential_that_a_module_reads_is_one_that_the_manifest_gives() {
    let mut read = 0;
    for text in [NEXTCLOUD, MINIFLUX, MEDIA, ALL] {
        let import = import(text);
        for service in &import.services {
            let manifest = file(&import, &format!("services/{}/service.toml", service.name));
            let module = file(&import, &format!("services/{}/service.nix", service.name));
            for path in module.split("/run/credentials/").skip(1) {
                let path = path.split(['"', '}']).next().unwrap();
                let (owner, name) = path.split_once('/').unwrap();
                let given = [format!("{name} = \"/"), format!("\"{name}\" = \"/")];
                assert!(given.iter().any(|given| manifest.contains(given)), "{}: {name}", service.name);
                let lists = module.split("LoadCredential = [").skip(1).filter_map(|list| list.split(']').next());
                let mut loaded = lists.flat_map(str::split_whitespace);
                let loads = loaded.any(|loaded| loaded.trim_matches('"') == name);
                assert!(owner == "@system" || loads, "{}: {name}", service.name);
                read += 1;
            }
        }
    }
    assert!(read > 10, "{read}");
}

#[test]
fn one_password_of_two_services_is_one_file() {
    let import = import(NEXTCLOUD);
    let shared = import.secrets.iter().find(|secret| secret.path.ends_with("/mysql-password")).unwrap();
    assert_eq!(shared.services, ["db", "app"]);
}

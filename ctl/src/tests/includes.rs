//! What a stack file includes, and files that cannot be read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::testing::{Place, Ran};

const SERVICE: &str = "system = \".#x\"\n";

/// A stack that includes this, with these folders of one service each.
fn stack(include: &str, services: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("format = 1\n[stack]\nname = \"cloud\"\ninclude = [{include}]\n");
    fs::write(folder.path().join("nixmox.toml"), text).unwrap();
    for service in services {
        let below = folder.path().join(service);
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("service.toml"), SERVICE).unwrap();
    }
    folder
}

fn check(folder: &Path) -> Ran {
    Place::in_folder(folder).run("check")
}

/// Returns the complaints with their lines joined.
fn unwrapped(ran: &Ran) -> String {
    ran.err.replace("\n  │ ", " ").replace("\n        ", "")
}

fn names(folder: &Path) -> Vec<String> {
    let ran = Place::in_folder(folder).run("config");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let service = |line: &str| serde_json::from_str::<nixmox_api::Service>(line).unwrap().name;
    ran.out.lines().map(service).collect()
}

#[test]
fn two_stars_match_folders_at_any_depth_and_follow_no_link() {
    let folder = stack("\"svc/**/service.toml\"", &["svc/a", "svc/x/b", "svc/.hidden/c", "elsewhere/d"]);
    symlink(".", folder.path().join("svc/loop")).unwrap();
    symlink("..", folder.path().join("svc/x/up")).unwrap();
    symlink("../elsewhere", folder.path().join("svc/result")).unwrap();
    assert_eq!(names(folder.path()), ["a", "b"]);
    // Without `**`, a link is what somebody wrote.
    let folder = stack("\"svc/*/service.toml\"", &["svc/a", "elsewhere/d"]);
    symlink("../elsewhere/d", folder.path().join("svc/linked")).unwrap();
    assert_eq!(names(folder.path()), ["a", "linked"]);
}

#[test]
fn a_file_that_is_named_twice_is_one_service_however_it_is_spelt() {
    let folder = stack("\"svc/*/service.toml\", \"svc/../svc/a/service.toml\"", &["svc/a"]);
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn one_file_may_be_several_services_by_links() {
    let folder = stack("\"svc/*/service.toml\"", &["svc/a"]);
    fs::create_dir(folder.path().join("svc/b")).unwrap();
    symlink("../a/service.toml", folder.path().join("svc/b/service.toml")).unwrap();
    assert_eq!(names(folder.path()), ["a", "b"]);
}

#[test]
fn the_stack_file_is_no_service_of_itself() {
    let folder = stack("\"*.toml\"", &[]);
    let ran = check(folder.path());
    assert!(ran.code == 0 && ran.err.contains("`*.toml` matches no file"), "{ran:?}");
    let folder = stack("\"nixmox.toml\"", &[]);
    let ran = check(folder.path());
    assert!(ran.code == 1 && ran.err.contains("`nixmox.toml` is this stack file itself"), "{ran:?}");
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_what_is_wrong_elsewhere() {
    let folder = stack("\"svc/*/service.toml\"", &["svc/typo"]);
    let text = fs::read_to_string(folder.path().join("nixmox.toml")).unwrap();
    fs::write(folder.path().join("nixmox.toml"), text + "wrong = 1\n").unwrap();
    let typo = format!("{SERVICE}depends_on = [\"loop\"]\ntypo = 1\n");
    fs::write(folder.path().join("svc/typo/service.toml"), typo).unwrap();
    for name in ["loop", "dangling", "folder", "latin1", "fifo", "huge"] {
        fs::create_dir_all(folder.path().join("svc").join(name)).unwrap();
    }
    let file = |name: &str| folder.path().join("svc").join(name).join("service.toml");
    symlink("service.toml", file("loop")).unwrap();
    symlink("nowhere", file("dangling")).unwrap();
    fs::create_dir(file("folder")).unwrap();
    fs::write(file("latin1"), b"# a\nsystem = \".#caf\xe9\"\n").unwrap();
    assert!(Command::new("mkfifo").arg(file("fifo")).status().unwrap().success());
    fs::File::create(file("huge")).unwrap().set_len(5 << 20).unwrap();
    let ran = check(folder.path());
    for said in [
        "cannot read svc/loop/service.toml: Too many levels of symbolic links (os error 40)",
        "cannot read svc/dangling/service.toml: No such file or directory (os error 2)",
        "cannot read svc/folder/service.toml: is a directory",
        "cannot read svc/latin1/service.toml: line 2 is not UTF-8; save the file as UTF-8",
        "cannot read svc/fifo/service.toml: it is not a regular file",
        "cannot read svc/huge/service.toml: it is longer than 4 MiB",
        "unknown key `wrong`",
        "unknown key `typo`",
        "nixmox.toml: 8 errors\n",
    ] {
        assert!(unwrapped(&ran).contains(said), "{said}: {}", ran.err);
    }
    // What could not be read may well be there.
    assert!(!ran.err.contains("no service `loop`"), "{}", ran.err);
}

#[test]
fn a_pattern_that_does_not_mean_what_it_says_is_refused_with_what_does() {
    for (pattern, help) in [
        ("/etc/x.toml", "`../` leads out of the stack's folder"),
        ("~/x.toml", "neither `~` nor variables are expanded"),
        ("$HOME/x.toml", "neither `~` nor variables are expanded"),
        ("svc/**", "`**/service.toml`"),
        ("svc/a**/x.toml", "is not a pattern of file names"),
    ] {
        let folder = stack(&format!("\"{pattern}\""), &["svc/a"]);
        let ran = check(folder.path());
        assert!(ran.code == 1 && unwrapped(&ran).contains(help), "{pattern}: {}", ran.err);
    }
}

#[test]
fn of_many_mistakes_the_first_are_shown_and_all_are_counted() {
    use std::fmt::Write as _;
    let folder = stack("\"*.none\"", &[]);
    let mut text = fs::read_to_string(folder.path().join("nixmox.toml")).unwrap();
    for number in 0..2000 {
        writeln!(text, "[services.s{number}]\nwrong = 1").unwrap();
    }
    fs::write(folder.path().join("nixmox.toml"), text).unwrap();
    let begun = std::time::Instant::now();
    let ran = check(folder.path());
    assert_eq!(ran.err.matches("─[nixmox.toml").count(), 50, "{}", ran.err);
    assert!(ran.err.ends_with("\nand 3951 more\n\nerror: nixmox.toml: 4000 errors, 1 warning\n"), "{}", ran.err);
    // Far from the minute that drawing them all would take.
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn a_stack_file_is_named_by_its_folder_too_and_what_is_none_has_a_way_out() {
    let folder = stack("\"svc/*/service.toml\"", &["svc/a"]);
    let below = folder.path().join("svc");
    let ran = Place::in_folder(&below).run("check -f ..");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("1 service"), "{}", ran.out);
    for arguments in ["check -f a", "check -f missing", "check -f /dev/null"] {
        let ran = Place::in_folder(&below).run(arguments);
        assert_eq!(ran.code, 1, "{arguments}");
        assert!(ran.err.contains("  try   name a stack file, or the folder of one: -f FILE\n"), "{}", ran.err);
    }
}

#[test]
fn an_empty_name_of_a_file_is_none() {
    let parsed = crate::cli::parse(["nixmoxctl", "check", "--file="].map(Into::into)).unwrap();
    assert_eq!(parsed.options.file, Some(std::path::PathBuf::new()));
    let folder = stack("", &[]);
    let below = folder.path().join("below");
    fs::create_dir(&below).unwrap();
    let mut place = Place::in_folder(&below);
    place.file = Some(std::path::PathBuf::new());
    assert_eq!(place.run("check").code, 0);
}

//! Trees there and back, and what hostile streams and hostile folders cannot do.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, fstat, mkfifoat, openat, renameat_with,
    utimensat,
};
use tempfile::TempDir;

use crate::header::{self, Entry, Kind, ZEROS, padding};
use crate::{PackError, Report, Target, UnpackError, pack, unpack};

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn packed(path: &Path, name: &str) -> (Vec<u8>, Report) {
    let mut stream = Vec::new();
    let report = pack(open(path).as_fd(), name.as_bytes(), &mut stream).unwrap();
    (stream, report)
}

/// Unpacks a stream as it is below a folder.
fn unpacked(stream: &[u8], folder: &Path) -> Result<Report, UnpackError> {
    unpacked_as(stream, folder, None)
}

fn unpacked_as(mut stream: &[u8], folder: &Path, name: Option<&str>) -> Result<Report, UnpackError> {
    let folder = open(folder);
    let target = Target {
        folder: folder.as_fd(),
        name: name.map(AsRef::as_ref),
        must_be_folder: false,
        must_be_file: false,
        owners: rustix::process::geteuid().is_root(),
        modes: 0o7777,
    };
    unpack(&mut stream, target)
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o644, user: 0, group: 0, time: (0, 0) }
}

/// A stream of entries; files hold `x`.
fn stream(entries: &[Entry]) -> Vec<u8> {
    let mut stream = Vec::new();
    for entry in entries {
        header::write(entry, &mut stream).unwrap();
        if let Kind::File { size } = entry.kind {
            stream.extend(vec![b'x'; usize::try_from(size).unwrap()]);
            stream.extend_from_slice(padding(size));
        }
    }
    stream.extend_from_slice(&[ZEROS, ZEROS].concat());
    stream
}

fn link(target: &Path) -> Kind {
    Kind::Link { target: target.to_str().unwrap().into() }
}

const FILE: Kind = Kind::File { size: 1 };

/// A folder with one of each that is carried.
fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "content").unwrap();
    fs::write(root.join("a/empty"), "").unwrap();
    fs::write(root.join("large"), vec![7; 300_001]).unwrap();
    fs::write(root.join("é\n\"-".to_owned() + &"x".repeat(200)), "named").unwrap();
    symlink("../../nowhere", root.join("a/link")).unwrap();
    fs::set_permissions(root.join("a/empty"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o2555)).unwrap();
    for path in ["a/b/file", "a/b", "a"] {
        let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, root.join(path), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
    folder
}

/// Everything below a folder, in one text.
fn told(folder: &Path) -> String {
    let mut lines = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let content = match found.file_type() {
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            kind if kind.is_dir() => {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            _ => match fs::read(&path).unwrap() {
                long if long.len() > 100 => format!("{} bytes, all {:?}", long.len(), BTreeSet::from_iter(long)),
                short => format!("{short:?}"),
            },
        };
        let (mode, owner) = (found.mode(), (found.uid(), found.gid()));
        let time = (found.mtime(), found.mtime_nsec());
        lines.push(format!("{:?} {mode:o} {owner:?} {time:?} {content}", path.strip_prefix(folder).unwrap()));
    }
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (from, into) = (sample(), tempfile::tempdir().unwrap());
    let (stream, report) = packed(&from.path().join("root"), "root");
    assert_eq!((report.objects, report.bytes, report.skipped.len()), (8, 300_013, 0), "{report:?}");
    let back = unpacked(&stream, into.path()).unwrap();
    assert_eq!((back.objects, back.bytes, back.skipped.len()), (8, 300_013, 0), "{back:?}");
    assert_eq!(told(&into.path().join("root")), told(&from.path().join("root")));
    // Under another name, and over what is there.
    unpacked_as(&stream, into.path(), Some("other")).unwrap();
    assert_eq!(told(&into.path().join("other")), told(&from.path().join("root")));
    let again = unpacked_as(&stream, into.path(), Some("other")).unwrap();
    assert_eq!((again.objects, again.skipped.len()), (8, 0), "{again:?}");
    // Its content alone.
    let (stream, _) = packed(&from.path().join("root"), ".");
    fs::create_dir(into.path().join("content")).unwrap();
    unpacked(&stream, &into.path().join("content")).unwrap();
    assert!(into.path().join("content/a/b/file").exists());
    unpacked_as(&stream, into.path(), Some("named")).unwrap();
    assert_eq!(told(&into.path().join("named")), told(&from.path().join("root")));
}

#[test]
fn a_file_and_a_link_alone_come_back() {
    let (from, into) = (sample(), tempfile::tempdir().unwrap());
    for (path, name) in [("root/a/b/file", "file"), ("root/a/link", "link")] {
        let (stream, report) = packed(&from.path().join(path), name);
        assert_eq!(report.objects, 1);
        unpacked(&stream, into.path()).unwrap();
        assert_eq!(told(&into.path().join(name)), told(&from.path().join(path)));
    }
    let special = from.path().join("fifo");
    mkfifoat(CWD, &special, Mode::RUSR).unwrap();
    let refused = pack(open(&special).as_fd(), b"fifo", &mut io::sink());
    assert!(matches!(refused, Err(PackError::Kind("a FIFO"))), "{refused:?}");
}

#[test]
fn what_cannot_be_carried_is_skipped_and_named() {
    let from = sample();
    let root = from.path().join("root");
    mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    symlink("/proc", root.join("proc")).unwrap();
    let (stream, mut report) = packed(&root, "root");
    report.skipped.sort();
    assert_eq!(report.skipped, ["root/fifo: it is a FIFO", "root/socket: it is a socket"]);
    let into = tempfile::tempdir().unwrap();
    unpacked(&stream, into.path()).unwrap();
    assert!(!into.path().join("root/fifo").exists());
    assert!(fs::symlink_metadata(into.path().join("root/proc")).unwrap().file_type().is_symlink());
    // No more names than anybody reads, and none that steers a terminal.
    for index in 0..50 {
        mkfifoat(CWD, root.join(format!("\u{1b}[2J{index}")), Mode::RUSR).unwrap();
    }
    let (_, report) = packed(&root, "root");
    assert_eq!((report.skipped.len(), report.skipped_more), (20, 32));
    assert!(!report.skipped.concat().contains('\u{1b}'));
}

#[test]
fn a_tree_without_end_is_cut_off() {
    let from = tempfile::tempdir().unwrap();
    let deep = from.path().join(vec!["d"; 300].join("/"));
    fs::create_dir_all(deep).unwrap();
    let (_, report) = packed(from.path(), "deep");
    assert_eq!(report.objects, 201);
    assert!(report.skipped[0].ends_with("deeper than 200 folders"), "{report:?}");
}

#[test]
fn a_hostile_stream_makes_nothing_outside() {
    let house = tempfile::tempdir().unwrap();
    let (outside, into) = (house.path().join("outside"), house.path().join("into"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&into).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let before = told(&outside);
    let absolute = outside.join("new");
    let evil = stream(&[
        entry("..", Kind::Folder),
        entry("../outside/new", FILE),
        entry(absolute.to_str().unwrap(), FILE),
        entry("a/../../outside/new", FILE),
        // A link, and then something through it.
        entry("away", link(&outside)),
        entry("away/new", FILE),
        entry("away/kept", FILE),
        entry("away", Kind::Folder),
        entry("away/folder", Kind::Folder),
        entry("file", link(&outside.join("kept"))),
        // It replaces the link.
        entry("file", FILE),
        entry("a/..", FILE),
        entry("up", link(Path::new(".."))),
        entry("up/outside/new", FILE),
        entry("good", FILE),
    ]);
    for name in [None, Some("named")] {
        let report = unpacked_as(&evil, &into, name).unwrap();
        assert!(report.skipped.len() >= 6, "{report:?}");
        let refused = report.skipped.iter().filter(|skipped| skipped.ends_with("its path leads out")).count();
        assert_eq!(refused, 5, "{report:?}");
        assert_eq!(told(&outside), before, "{name:?}");
        let mut names: Vec<_> =
            fs::read_dir(house.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["into", "outside"]);
    }
    assert!(fs::symlink_metadata(into.join("file")).unwrap().is_file());
    assert_eq!(fs::read_to_string(into.join("good")).unwrap(), "x");
    // Links that are there already are replaced, and pipes are not taken away.
    symlink(&outside, into.join("planted")).unwrap();
    symlink(outside.join("kept"), into.join("target")).unwrap();
    mkfifoat(CWD, into.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    unpacked(&stream(&[entry("planted/new", FILE), entry("target", FILE), entry("pipe", FILE)]), &into).unwrap();
    assert_eq!(told(&outside), before);
    assert!(fs::symlink_metadata(into.join("pipe")).unwrap().file_type().is_fifo());
    fs::create_dir(into.join("folder")).unwrap();
    let report = unpacked(&stream(&[entry("folder", FILE), entry("good", Kind::Folder)]), &into).unwrap();
    assert_eq!((report.skipped.len(), report.objects), (2, 0), "{report:?}");
}

#[test]
fn who_swaps_folders_for_links_meanwhile_leads_nothing_out() {
    let house = tempfile::tempdir().unwrap();
    let (outside, into, from) =
        (house.path().join("outside"), house.path().join("into"), house.path().join("from"));
    for folder in [&outside, &into.join("a/b"), &from.join("a/b")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(outside.join("secret"), "SECRET").unwrap();
    fs::write(from.join("a/b/secret"), "public").unwrap();
    fs::write(from.join("file"), "public").unwrap();
    mkfifoat(CWD, from.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    for base in [&into, &from] {
        symlink(&outside, base.join("a/link")).unwrap();
    }
    let secret = entry("a/b/s", link(&outside.join("secret")));
    let evil = stream(
        &(0..30).map(|index| entry(&format!("a/b/{}", index % 5), FILE)).chain([secret]).collect::<Vec<_>>(),
    );
    let before = told(&outside);
    let (done, opened) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (base, one, other) in [(&into, "a/b", "a/link"), (&from, "a/b", "a/link"), (&from, "file", "fifo")] {
            let (done, opened) = (&done, &opened);
            scope.spawn(move || {
                let base = open(base);
                while !done.load(Ordering::Relaxed) {
                    renameat_with(&base, one, &base, other, RenameFlags::EXCHANGE).unwrap();
                    // Only while somebody reads from it, a FIFO can be opened so (fifo(7)).
                    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fifo = |name| openat(&base, name, flags, Mode::empty()).is_ok_and(|fifo| is_fifo(&fifo));
                    if one == "file" && (fifo(one) || fifo(other)) {
                        opened.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        let _ends = EndsOnDrop(&done);
        // Until all of it happened, for otherwise nothing was tried.
        let (mut written, mut refused, mut read, mut rounds) = (0, 0, 0, 0);
        while written == 0 || refused == 0 || read == 0 || rounds < 1500 {
            rounds += 1;
            assert!(rounds < 100_000, "{written} {refused} {read}");
            if rounds % 30 == 0 {
                let report = unpacked(&evil, &into).unwrap();
                written += report.objects;
                refused += report.skipped.len();
            }
            let (stream, report) = packed(&from, "from");
            read += report.objects;
            assert!(!stream.windows(6).any(|bytes| bytes == b"SECRET"), "what lies outside was read");
        }
    });
    assert_eq!(told(&outside), before);
    assert!(!opened.load(Ordering::Relaxed), "a FIFO was opened");
}

fn is_fifo(file: &OwnedFd) -> bool {
    FileType::from_raw_mode(fstat(file).unwrap().st_mode) == FileType::Fifo
}

/// Ends the threads that go on until then, also when a check fails.
struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_stream_that_breaks_off_says_so_and_leaves_no_half_file() {
    let into = tempfile::tempdir().unwrap();
    let whole = stream(&[entry("a", FILE), entry("b", Kind::File { size: 5000 })]);
    for length in [0, 100, 513, 1024, 1536 + 100, 1536 + 512 + 700, whole.len() - 1024] {
        let broken = unpacked(&whole[..length], into.path());
        assert!(matches!(broken, Err(UnpackError::Stream(_))), "{length}: {broken:?}");
        let names: Vec<_> = fs::read_dir(into.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == "a" || name == "b"), "{length}: {names:?}");
    }
    // A file that shrinks while it is read is made up to what was promised.
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("f"), vec![b'y'; 1 << 20]).unwrap();
    let path = from.path().join("f");
    let mut shrinking = Shrinking { path: &path, written: Vec::new() };
    let report = pack(open(&path).as_fd(), b"f", &mut shrinking).unwrap();
    assert!(report.skipped[0].contains("shorter"), "{report:?}");
    unpacked(&shrinking.written, into.path()).unwrap();
    assert_eq!(fs::metadata(into.path().join("f")).unwrap().len(), 1 << 20);
}

/// Takes a stream, and makes its file shorter with the first bytes.
struct Shrinking<'a> {
    path: &'a Path,
    written: Vec<u8>,
}

impl io::Write for Shrinking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fs::File::options().write(true).open(self.path)?.set_len(10)?;
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn other_programs_read_and_write_it() {
    let (from, into) = (sample(), tempfile::tempdir().unwrap());
    let (stream, _) = packed(&from.path().join("root"), "root");
    fs::write(into.path().join("ours.tar"), &stream).unwrap();
    let run = |script: &str| {
        let output =
            std::process::Command::new("sh").args(["-ec", script]).current_dir(into.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run("mkdir theirs && tar --numeric-owner -xpf ours.tar -C theirs");
    assert_eq!(told(&into.path().join("theirs/root")), told(&from.path().join("root")));
    for format in ["gnu", "pax", "ustar"] {
        run(&format!(
            "tar --format={format} -C theirs -cf {format}.tar root/a $(test {format} = ustar || echo root) && mkdir {format}"
        ));
        let mut stream = Vec::new();
        fs::File::open(into.path().join(format!("{format}.tar"))).unwrap().read_to_end(&mut stream).unwrap();
        unpacked(&stream, &into.path().join(format)).unwrap();
        assert!(into.path().join(format).join("root/a/b/file").exists());
    }
    assert_eq!(told(&into.path().join("pax/root/a")), told(&from.path().join("root/a")));
}

#[test]
fn a_fifo_that_is_there_is_not_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file", "link"] {
        mkfifoat(CWD, folder.path().join(name), Mode::RWXU).unwrap();
    }
    let stream = stream(&[entry("file", FILE), entry("link", link(Path::new("/etc")))]);
    let report = unpacked(&stream, folder.path()).unwrap();
    assert_eq!(report.skipped, ["file: a FIFO is there", "link: a FIFO is there"]);
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_type().unwrap()).collect();
    assert!(left.len() == 2 && left.iter().all(FileTypeExt::is_fifo), "{left:?}");
}

#[test]
fn what_is_the_kernels_is_not_packed_as_something_empty() {
    let error = pack(open(Path::new("/proc/version")).as_fd(), b"version", &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("/proc"), "{error}");
}

//! Files of a guest that are models, and those that are not.

use std::fs;
use std::os::unix::fs::symlink;

use nix::fcntl::open;

use super::*;

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A head with one key, an array that is left out, and one tensor.
fn gguf(tensor: &str) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(3_u64.to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    text(&mut bytes, "llama");
    text(&mut bytes, "split.count");
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend(2_u32.to_le_bytes());
    text(&mut bytes, "tokenizer.ggml.scores");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(6_u32.to_le_bytes());
    bytes.extend(5000_u64.to_le_bytes());
    bytes.extend(vec![0; 20_000]);
    text(&mut bytes, tensor);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(32_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(vec![0; 4096]);
    bytes
}

struct Guest {
    dir: tempfile::TempDir,
    root: OwnedFd,
}

fn guest() -> Guest {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root");
    fs::create_dir_all(path.join("models")).unwrap();
    let root = open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    Guest { dir, root }
}

impl Guest {
    fn at(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(path.trim_start_matches('/'))
    }

    fn why(&self, path: &str) -> String {
        read(&self.root, path).unwrap_err().to_string()
    }
}

#[test]
fn the_head_of_a_file_is_read_and_links_stay_in_the_guest() {
    let guest = guest();
    fs::write(guest.at("models/a.gguf"), gguf("token_embd.weight")).unwrap();
    symlink("/models/a.gguf", guest.at("models/absolute")).unwrap();
    symlink("../../../models/a.gguf", guest.at("models/up")).unwrap();
    for path in ["/models/a.gguf", "/models/absolute", "/models/up", "/models/../../models/a.gguf"] {
        let header = read(&guest.root, path).unwrap().into_header().unwrap();
        assert_eq!(header.tensors[0].name, "token_embd.weight", "{path}");
        assert_eq!(header.text("general.architecture"), Some("llama"));
    }
    fs::write(guest.dir.path().join("host.gguf"), gguf("a")).unwrap();
    symlink(guest.dir.path().join("host.gguf"), guest.at("models/out")).unwrap();
    assert!(guest.why("/models/out").contains("No such file"), "{}", guest.why("/models/out"));
}

#[test]
fn files_of_a_split_model_are_one() {
    let guest = guest();
    let part = |number: u32| format!("/models/m-{number:05}-of-00002.gguf");
    fs::write(guest.at(&part(1)), gguf("a")).unwrap();
    assert!(guest.why(&part(1)).contains("m-00002-of-00002.gguf"), "the second is missing");
    fs::write(guest.at(&part(2)), gguf("b")).unwrap();
    let head = read(&guest.root, &part(1)).unwrap();
    assert_eq!(head.tensors.iter().map(|tensor| tensor.0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(!head.metadata.contains_key("split.count"), "it is one now");
    assert!(guest.why("/models/m-00001-of-99999.gguf").contains("99999 files, and 256 are the most"));
    for plain in ["/m-1-of-2.gguf", "/m-00001-of-00002", "/m-0000x-of-00002.gguf", "/m.gguf"] {
        assert_eq!(parts(plain).unwrap(), [plain]);
    }
}

#[test]
fn only_regular_files_are_opened() {
    let guest = guest();
    nix::unistd::mkfifo(&guest.at("models/fifo"), Mode::S_IRWXU).unwrap();
    for path in ["/models/fifo", "/models"] {
        assert!(guest.why(path).ends_with("it is no regular file"), "{}", guest.why(path));
    }
    assert!(guest.why("models/a.gguf").contains("give it an absolute path"));
    fs::write(guest.at("models/a"), &gguf("a")[..200]).unwrap();
    fs::write(guest.at("models/b"), "#!/bin/sh").unwrap();
    for path in ["/models/a", "/models/b"] {
        assert!(guest.why(path).starts_with(path), "{}", guest.why(path));
    }
}

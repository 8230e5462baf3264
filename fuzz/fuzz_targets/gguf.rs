//! Heads of GGUF files from any bytes: no panic, no more memory kept than was read is worth, messages on one clean line,
//! and a model that has what it says.
//!
//! The input is one file, or the files of one model behind each other, each at a multiple of 32 bytes.
#![no_main]

use std::mem::size_of;

use libfuzzer_sys::fuzz_target;
use nixmox_core::offload::gguf::{Header, MAX_KEPT, Tensor, Value, read};
use nixmox_core::offload::model::{Model, bytes};

/// Where the next file of a split model begins.
const STEP: usize = 32;

/// Files that are read of one input.
const FILES: usize = 4;

/// Longest message, in characters.
const LINE: usize = 400;

fuzz_target!(init: plant_if_asked(), |input: &[u8]| {
    let mut files = Vec::new();
    let mut rest = input;
    while files.len() < FILES && !rest.is_empty() {
        let before = rest.len();
        match read(&mut rest) {
            Ok(header) => {
                let taken = before - rest.len();
                check_header(&header, taken);
                files.push(header);
                rest = rest.get(taken.next_multiple_of(STEP) - taken..).unwrap_or_default();
            }
            Err(fault) => {
                check_line(&fault.to_string());
                break;
            }
        }
    }
    match Model::of(&files) {
        Ok(model) => check_model(&model, &files),
        Err(fault) => check_line(&fault.to_string()),
    }
});

fn plant_if_asked() {
    if std::env::var_os("NIXMOX_PLANTED").is_some() {
        nixmox_core::planted::plant();
    }
}

/// A message is one line of plain characters, however hostile the names in it.
fn check_line(line: &str) {
    assert!(!line.chars().any(char::is_control), "a message with a control character: {line:?}");
    assert!(!line.is_empty() && line.chars().count() <= LINE, "a message that is no line: {line:?}");
}

/// What is kept was read: nothing is reserved because the file says so.
fn check_header(header: &Header, taken: usize) {
    let mut kept = header.tensors.capacity() * size_of::<Tensor>();
    for tensor in &header.tensors {
        kept += tensor.name.capacity() + tensor.shape.capacity() * size_of::<u64>();
        assert!((1..=4).contains(&tensor.shape.len()), "{tensor:?}");
        let numbers: u128 = tensor.shape.iter().map(|extent| u128::from(*extent)).product();
        let expected = numbers / u128::from(tensor.kind.block()) * u128::from(tensor.kind.block_bytes());
        assert_eq!(u128::from(tensor.bytes), expected, "{tensor:?}");
    }
    for (key, value) in &header.metadata {
        kept += size_of::<(String, Value)>() + key.capacity();
        kept += match value {
            Value::Text(text) => text.capacity(),
            Value::Numbers(numbers) => numbers.capacity() * size_of::<i64>(),
            Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Bool(_) | Value::Length(_) => 0,
        };
    }
    // A byte of an array becomes eight, and a list holds up to as much again in reserve.
    assert!(kept <= 1024 + 16 * taken, "{taken} bytes were read, and {kept} are kept");
    assert!(u64::try_from(kept).is_ok_and(|kept| kept <= MAX_KEPT), "{kept} bytes are kept");
}

/// Every tensor of the files is in one place of the model.
fn check_model(model: &Model, files: &[Header]) {
    assert!(!model.layers.is_empty() && !model.output.is_empty() && !model.input.is_empty());
    let all = files.iter().map(|file| bytes(&file.tensors)).fold(0, u64::saturating_add);
    assert_eq!(model.weights(), all, "bytes of the model, and of its files");
    for key in ["attention.head_count", "attention.head_count_kv", "feed_forward_length", "block_count"] {
        let numbers = model.numbers(key);
        assert!(numbers.is_none_or(|numbers| numbers.len() == model.layers.len()), "{key}");
    }
}

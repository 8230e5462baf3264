//! The bytes of a file with a head and holes for weights.
#![allow(clippy::cast_possible_truncation, reason = "figures of models are small")]

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use nixmox_core::offload::gguf::{Header, Value};

const ALIGNMENT: u64 = 32;

/// Writes a hollow file with this head.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// When a value of the head is of a kind that no model here has.
pub fn hollow(header: &Header, path: &Path) -> io::Result<()> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((header.tensors.len() as u64).to_le_bytes());
    bytes.extend((header.metadata.len() as u64).to_le_bytes());
    for (key, value) in &header.metadata {
        text(&mut bytes, key);
        put(&mut bytes, value);
    }
    let mut offset = 0_u64;
    for tensor in &header.tensors {
        text(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        for extent in &tensor.shape {
            bytes.extend(extent.to_le_bytes());
        }
        bytes.extend(tensor.kind.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += tensor.bytes.next_multiple_of(ALIGNMENT);
    }
    while !(bytes.len() as u64).is_multiple_of(ALIGNMENT) {
        bytes.push(0);
    }
    let mut file = File::create(path)?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64 + offset)
}

fn put(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Unsigned(number) => {
            bytes.extend(4_u32.to_le_bytes());
            bytes.extend((*number as u32).to_le_bytes());
        }
        Value::Float(number) => {
            bytes.extend(6_u32.to_le_bytes());
            bytes.extend((*number as f32).to_le_bytes());
        }
        Value::Text(value) => {
            bytes.extend(8_u32.to_le_bytes());
            text(bytes, value);
        }
        Value::Numbers(numbers) => {
            bytes.extend(9_u32.to_le_bytes());
            bytes.extend(5_u32.to_le_bytes());
            bytes.extend((numbers.len() as u64).to_le_bytes());
            for number in numbers {
                bytes.extend((*number as i32).to_le_bytes());
            }
        }
        Value::Signed(_) | Value::Bool(_) | Value::Length(_) => panic!("no shape has such a value"),
    }
}

fn text(bytes: &mut Vec<u8>, value: &str) {
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value.as_bytes());
}

//! The bytes of a GGUF file, version 3.

use nixmox_core::offload::gguf::Tensor;

/// What the places of tensors are multiples of.
const ALIGNMENT: u64 = 32;

/// A value of metadata, as files have it.
pub(super) enum Entry {
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

/// A file.
pub(super) struct Part {
    pub(super) metadata: Vec<(String, Entry)>,
    pub(super) tensors: Vec<Tensor>,
}

impl Part {
    /// Returns all that comes before the weights.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(length(self.tensors.len()));
        bytes.extend(length(self.metadata.len()));
        for (key, entry) in &self.metadata {
            text(&mut bytes, key);
            put(&mut bytes, entry);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            text(&mut bytes, &tensor.name);
            bytes.extend(u32::try_from(tensor.shape.len()).unwrap_or(u32::MAX).to_le_bytes());
            for extent in &tensor.shape {
                bytes.extend(extent.to_le_bytes());
            }
            bytes.extend(tensor.kind.number().to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += tensor.bytes.next_multiple_of(ALIGNMENT);
        }
        let end = bytes.len().next_multiple_of(usize::try_from(ALIGNMENT).unwrap_or(1));
        bytes.resize(end, 0);
        bytes
    }

    /// Returns the bytes of all weights, with what is between them.
    pub(super) fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes.next_multiple_of(ALIGNMENT)).sum()
    }
}

/// Returns how many bytes follow so many, up to the next place of a tensor.
pub(super) fn padding(bytes: u64) -> usize {
    usize::try_from(bytes.next_multiple_of(ALIGNMENT) - bytes).unwrap_or(0)
}

/// Writes a value behind the number of its type.
fn put(bytes: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::U16(number) => {
            bytes.extend(2_u32.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        Entry::U32(number) => {
            bytes.extend(4_u32.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        Entry::I32(number) => {
            bytes.extend(5_u32.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        Entry::F32(number) => {
            bytes.extend(6_u32.to_le_bytes());
            bytes.extend(number.to_le_bytes());
        }
        Entry::Text(value) => {
            bytes.extend(8_u32.to_le_bytes());
            text(bytes, value);
        }
        Entry::Texts(values) => {
            array(bytes, 8, values.len());
            for value in values {
                text(bytes, value);
            }
        }
        Entry::F32s(numbers) => {
            array(bytes, 6, numbers.len());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Entry::I32s(numbers) => {
            array(bytes, 5, numbers.len());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
}

fn array(bytes: &mut Vec<u8>, kind: u32, count: usize) {
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(length(count));
}

fn text(bytes: &mut Vec<u8>, value: &str) {
    bytes.extend(length(value.len()));
    bytes.extend(value.as_bytes());
}

fn length(count: usize) -> [u8; 8] {
    u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes()
}

//! How numbers of tensors are stored (ggml's types): their numbers in files, their names, and what they take.

use std::fmt;

/// A type of ggml that is in use; others cannot be made.
///
/// Numbers lie in blocks: `block` of them take `block_bytes`. Ordered by its number in files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType(Storage);

/// What is known of a type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Storage {
    number: u32,
    name: &'static str,
    block: u16,
    block_bytes: u16,
}

/// All types, as of llama.cpp b11434 (`ggml/include/ggml.h`, `ggml/src/ggml-common.h`): number, name, numbers in a block,
/// bytes of a block.
const TYPES: [(u32, &str, u16, u16); 35] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

/// The number that Ollama gave to `MXFP4` before ggml had a number for it: its own files of gpt-oss carry it.
const OLLAMA_MXFP4: u32 = 4;

impl TensorType {
    /// 32 bits.
    pub const F32: Self = Self::at(0);
    /// 16 bits.
    pub const F16: Self = Self::at(1);

    const fn at(index: usize) -> Self {
        let (number, name, block, block_bytes) = TYPES[index];
        Self(Storage { number, name, block, block_bytes })
    }

    /// Returns the type of a number in files; `None`: there is none, or it was removed.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let number = if number == OLLAMA_MXFP4 { 39 } else { number };
        Self::all().find(|kind| kind.number() == number)
    }

    /// Returns the type of a name such as `Q4_K`, however it is spelled; `None`: there is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Returns all types, by their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        TYPES.iter().map(|&(number, name, block, block_bytes)| Self(Storage { number, name, block, block_bytes }))
    }

    /// Returns its number in files.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Returns its name, such as `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Returns how many numbers are in a block; rows are whole blocks. 1 to 256.
    #[must_use]
    pub fn block(self) -> u64 {
        u64::from(self.0.block)
    }

    /// Returns the bytes of a block; 1 or more.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        u64::from(self.0.block_bytes)
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

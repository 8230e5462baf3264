//! The reader of heads: in bounded memory and time, whatever a file claims.
//!
//! Nothing is reserved because a file says how much is to come: what is kept grows with what was read, each byte of it is
//! paid for from [`MAX_KEPT`] before, and every turn of a loop takes bytes from the file, of which [`MAX_HEAD`] are the most.

use std::collections::BTreeSet;
use std::mem::size_of;

use super::text::quoted;
use super::{Fault, Header, MAX_DIMENSIONS, MAX_KEPT_ENTRIES, MAX_KEPT_TEXT, Source, Tensor, TensorType, Value};

/// Most bytes of a head: the largest vocabularies take about 20 MiB.
pub const MAX_HEAD: u64 = 256 << 20;

/// Most memory that is kept of a head, in bytes; with the room that a growing list holds in reserve.
pub const MAX_KEPT: u64 = 64 << 20;

/// Most bytes of a key (the format's own bound is 65535; real ones have up to 60).
pub const MAX_KEY: u64 = 1024;

/// Most keys; real files have up to some hundred.
pub const MAX_KEYS: u64 = 4096;

/// Most bytes of a text, also of those that are not kept: some files carry their whole tokenizer as one.
pub const MAX_TEXT: u64 = 64 << 20;

/// Most entries of an array, and of all arrays in it.
pub const MAX_ARRAY: u64 = 16 << 20;

/// Most arrays within each other.
pub const MAX_ARRAY_DEPTH: u32 = 4;

/// Most bytes of a tensor's name (ggml's own bound is 63).
pub const MAX_TENSOR_NAME: u64 = 255;

/// Most tensors; the largest models that keep each expert by itself have some ten thousand.
pub const MAX_TENSORS: u64 = 65_536;

/// The key of the alignment of tensors, and what it is where it is not said.
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// Reads the head of a file, however hostile: in bounded memory and time.
///
/// Reads from where the source stands to the end of the list of tensors, and not a byte more. Versions 2 and 3, in little
/// endian. Arrays that are long or have no whole numbers, and long texts, are left out: see [`Value::Length`].
///
/// # Errors
/// See [`Fault`].
pub fn read<S: Source>(source: &mut S) -> Result<Header, Fault<S::Error>> {
    let mut reader = Reader { source, at: 0, kept: 0 };
    let (tensors, keys) = reader.counts()?;
    let mut header = Header::default();
    for _ in 0..keys {
        let start = reader.at;
        let key = reader.name("a key", MAX_KEY)?;
        if key.is_empty() {
            return Err(content(format!("a key at byte {start} is empty")));
        }
        if header.metadata.contains_key(&key) {
            return Err(content(format!("key {} is there twice, again at byte {start}", quoted(&key))));
        }
        // Twice, for the nodes of the map, which are half empty at worst.
        reader.pay(2 * size_of::<(String, Value)>())?;
        let value = reader.value(&key)?;
        header.metadata.insert(key, value);
    }
    let alignment = alignment(&header)?;
    let mut names = BTreeSet::new();
    for _ in 0..tensors {
        let start = reader.at;
        let tensor = reader.tensor(alignment)?;
        if !names.insert(tensor.name.clone()) {
            return Err(content(format!("tensor {} is there twice, again at byte {start}", quoted(&tensor.name))));
        }
        header.tensors.push(tensor);
    }
    Ok(header)
}

fn content<E>(what: String) -> Fault<E> {
    Fault::Content(what)
}

/// Returns what the places of tensors are multiples of.
fn alignment<E>(header: &Header) -> Result<u64, Fault<E>> {
    match header.metadata.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() && u32::try_from(*alignment).is_ok() => {
            Ok(*alignment)
        }
        Some(value) => Err(content(format!(
            "`{ALIGNMENT}` is {}, and has to be a power of two of at most 32 bits",
            match value {
                Value::Unsigned(number) => number.to_string(),
                Value::Signed(number) => number.to_string(),
                Value::Float(_) | Value::Bool(_) | Value::Text(_) | Value::Numbers(_) | Value::Length(_) =>
                    "no number".to_owned(),
            }
        ))),
    }
}

/// A type of metadata, by its number in files.
#[derive(Clone, Copy)]
enum Kind {
    Unsigned(u8),
    Signed(u8),
    Float(u8),
    Bool,
    Text,
    Array,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Float(4),
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Float(8),
            _ => return None,
        })
    }

    /// Returns the bytes of a value; `None`: it says so itself.
    fn width(self) -> Option<u8> {
        match self {
            Self::Unsigned(width) | Self::Signed(width) | Self::Float(width) => Some(width),
            Self::Bool => Some(1),
            Self::Text | Self::Array => None,
        }
    }
}

struct Reader<'a, S> {
    source: &'a mut S,
    /// Bytes that were read.
    at: u64,
    /// Bytes of memory that are kept.
    kept: u64,
}

impl<S: Source> Reader<'_, S> {
    /// Reads what comes before the keys, and returns the numbers of tensors and keys.
    fn counts(&mut self) -> Result<(u64, u64), Fault<S::Error>> {
        let magic = self.array::<4>("the first four bytes")?;
        match &magic {
            b"GGUF" => {}
            b"FUGG" => return Err(content("is a GGUF file in big endian, which is not read".to_owned())),
            _ => return Err(content("is no GGUF file: its first four bytes are not `GGUF`".to_owned())),
        }
        let version = self.u32("the version")?;
        match version {
            2 | 3 => {}
            1 => {
                let advice = "convert the model again with a newer llama.cpp";
                return Err(content(format!("is of version 1 of GGUF, which engines no longer load: {advice}")));
            }
            version if version.trailing_zeros() >= 16 && version != 0 => {
                let version = version.swap_bytes();
                return Err(content(format!(
                    "is a GGUF file in big endian (version {version}), which is not read"
                )));
            }
            version => {
                return Err(content(format!("is of version {version} of GGUF, and versions 2 and 3 are read")));
            }
        }
        let tensors = self.u64("the number of tensors")?;
        let keys = self.u64("the number of keys")?;
        if tensors > MAX_TENSORS {
            return Err(content(format!("claims {tensors} tensors, and {MAX_TENSORS} are the most that are read")));
        }
        if keys > MAX_KEYS {
            return Err(content(format!("claims {keys} keys, and {MAX_KEYS} are the most that are read")));
        }
        Ok((tensors, keys))
    }

    fn value(&mut self, key: &str) -> Result<Value, Fault<S::Error>> {
        let what = &format!("the value of key {}", quoted(key));
        let kind = self.kind(what)?;
        if let Some(width) = kind.width() {
            return self.scalar(kind, width, what);
        }
        match kind {
            Kind::Array => self.array_value(what),
            Kind::Text | Kind::Unsigned(_) | Kind::Signed(_) | Kind::Float(_) | Kind::Bool => self.text(what),
        }
    }

    fn kind(&mut self, what: &str) -> Result<Kind, Fault<S::Error>> {
        let start = self.at;
        let number = self.u32(what)?;
        Kind::from_number(number)
            .ok_or_else(|| content(format!("{what} is of type {number} at byte {start}, and there is none")))
    }

    fn scalar(&mut self, kind: Kind, width: u8, what: &str) -> Result<Value, Fault<S::Error>> {
        let mut bytes = [0; 8];
        self.fill(bytes.get_mut(..usize::from(width)).unwrap_or_default(), what)?;
        let raw = u64::from_le_bytes(bytes);
        Ok(match kind {
            Kind::Unsigned(_) | Kind::Text | Kind::Array => Value::Unsigned(raw),
            Kind::Signed(_) => {
                // Moved to the top and back, so that its sign fills what is above.
                let above = 64_u32.saturating_sub(u32::from(width).saturating_mul(8));
                let number = raw.wrapping_shl(above).cast_signed().wrapping_shr(above);
                u64::try_from(number).map_or(Value::Signed(number), Value::Unsigned)
            }
            Kind::Float(4) => Value::Float(f64::from(f32::from_bits(u32::try_from(raw).unwrap_or_default()))),
            Kind::Float(_) => Value::Float(f64::from_bits(raw)),
            Kind::Bool => Value::Bool(raw != 0),
        })
    }

    /// Reads a text that is kept as far as it is short.
    fn text(&mut self, what: &str) -> Result<Value, Fault<S::Error>> {
        let bytes = self.length(what, MAX_TEXT)?;
        if bytes > MAX_KEPT_TEXT {
            self.skip(bytes, what)?;
            return Ok(Value::Length(bytes));
        }
        // What is no UTF-8 becomes U+FFFD, of three bytes.
        self.pay(usize::try_from(bytes.saturating_mul(3)).unwrap_or(usize::MAX))?;
        let raw = self.bytes(bytes, what)?;
        Ok(Value::Text(String::from_utf8(raw).unwrap_or_else(|error| {
            let mut text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            text.shrink_to_fit();
            text
        })))
    }

    fn array_value(&mut self, what: &str) -> Result<Value, Fault<S::Error>> {
        let (kind, count) = self.array_head(what)?;
        let is_whole = matches!(kind, Kind::Unsigned(_) | Kind::Signed(_) | Kind::Bool);
        let Some(width) = kind.width().filter(|_| is_whole && count <= MAX_KEPT_ENTRIES) else {
            let mut left = MAX_ARRAY.saturating_sub(count);
            self.skip_entries(kind, count, 1, &mut left, what)?;
            return Ok(Value::Length(count));
        };
        // Twice, for the room that a growing list holds in reserve.
        self.pay(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(2 * size_of::<i64>()))?;
        let mut numbers = Vec::new();
        let mut is_counted = true;
        for _ in 0..count {
            let number = match self.scalar(kind, width, what)? {
                Value::Unsigned(number) => i64::try_from(number).ok(),
                Value::Signed(number) => Some(number),
                Value::Bool(truth) => Some(i64::from(truth)),
                Value::Float(_) | Value::Text(_) | Value::Numbers(_) | Value::Length(_) => None,
            };
            is_counted &= number.is_some();
            numbers.push(number.unwrap_or_default());
        }
        // An entry beyond 63 bits is nothing that is counted by layer.
        Ok(if is_counted { Value::Numbers(numbers) } else { Value::Length(count) })
    }

    fn array_head(&mut self, what: &str) -> Result<(Kind, u64), Fault<S::Error>> {
        let kind = self.kind(what)?;
        let count = self.length(what, MAX_ARRAY)?;
        Ok((kind, count))
    }

    /// Leaves out entries of an array; `left` is how many more may be in the arrays among them.
    fn skip_entries(
        &mut self,
        kind: Kind,
        count: u64,
        depth: u32,
        left: &mut u64,
        what: &str,
    ) -> Result<(), Fault<S::Error>> {
        if let Some(width) = kind.width() {
            return self.skip(count.saturating_mul(u64::from(width)), what);
        }
        for _ in 0..count {
            if !matches!(kind, Kind::Array) {
                let bytes = self.length(what, MAX_TEXT)?;
                self.skip(bytes, what)?;
                continue;
            }
            if depth >= MAX_ARRAY_DEPTH {
                let at = self.at;
                return Err(content(format!(
                    "{what} has more than {MAX_ARRAY_DEPTH} arrays in each other at byte {at}"
                )));
            }
            let (kind, count) = self.array_head(what)?;
            *left = left
                .checked_sub(count)
                .ok_or_else(|| content(format!("{what} has more than {MAX_ARRAY} entries in all its arrays")))?;
            self.skip_entries(kind, count, depth.saturating_add(1), left, what)?;
        }
        Ok(())
    }

    fn tensor(&mut self, alignment: u64) -> Result<Tensor, Fault<S::Error>> {
        let start = self.at;
        let name = self.name("the name of a tensor", MAX_TENSOR_NAME)?;
        // The name is there twice while names are compared; twice the tensor, for the room of a growing list.
        self.pay(name.len().saturating_add(2 * size_of::<String>()))?;
        self.pay(2 * size_of::<Tensor>() + MAX_DIMENSIONS * size_of::<u64>())?;
        let what = &format!("tensor {}", quoted(&name));
        let dimensions = self.u32(what)?;
        let dimensions =
            usize::try_from(dimensions).ok().filter(|count| *count <= MAX_DIMENSIONS).ok_or_else(|| {
                content(format!(
                    "{what} at byte {start} has {dimensions} dimensions, and {MAX_DIMENSIONS} are the most"
                ))
            })?;
        let mut shape = Vec::with_capacity(dimensions);
        for _ in 0..dimensions {
            shape.push(self.u64(what)?);
        }
        let number = self.u32(what)?;
        let kind = TensorType::from_number(number).ok_or_else(|| {
            content(format!("{what} at byte {start} is of type {number}, which there is not, or no longer"))
        })?;
        let offset = self.u64(what)?;
        let tensor = Tensor::new(name, kind, shape)
            .map_err(|fault| content(format!("{fault} (at byte {start} of the file)")))?;
        if offset.checked_rem(alignment) != Some(0) {
            let at = format!("at {offset}, which is no multiple of {alignment}");
            return Err(content(format!("{what} at byte {start} has its data {at}")));
        }
        if offset.checked_add(tensor.bytes).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(content(format!("{what} at byte {start} has its data at {offset}, beyond any file")));
        }
        Ok(tensor)
    }

    /// Reads a name, which is kept.
    fn name(&mut self, what: &str, limit: u64) -> Result<String, Fault<S::Error>> {
        let start = self.at;
        let bytes = self.length(what, limit)?;
        self.pay(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let raw = self.bytes(bytes, what)?;
        String::from_utf8(raw).map_err(|error| {
            let name = quoted(&String::from_utf8_lossy(error.as_bytes()));
            content(format!("{what} at byte {start} is no UTF-8: {name}"))
        })
    }

    /// Reads a length, and refuses one beyond the limit.
    fn length(&mut self, what: &str, limit: u64) -> Result<u64, Fault<S::Error>> {
        let start = self.at;
        let length = self.u64(what)?;
        if length > limit {
            return Err(content(format!(
                "{what} claims a length of {length} at byte {start}, and {limit} is the most that is read"
            )));
        }
        Ok(length)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault<S::Error>> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Fault<S::Error>> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault<S::Error>> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Reads bytes that were paid for, and whose length was checked.
    fn bytes(&mut self, bytes: u64, what: &str) -> Result<Vec<u8>, Fault<S::Error>> {
        let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
        self.fill(&mut buffer, what)?;
        Ok(buffer)
    }

    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<(), Fault<S::Error>> {
        let start = self.at;
        self.advance(u64::try_from(buffer.len()).unwrap_or(u64::MAX), what)?;
        self.source.fill(buffer).map_err(Fault::Source)?.then_some(()).ok_or_else(|| ends(start, what))
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<(), Fault<S::Error>> {
        let start = self.at;
        self.advance(bytes, what)?;
        self.source.skip(bytes).map_err(Fault::Source)?.then_some(()).ok_or_else(|| ends(start, what))
    }

    fn advance(&mut self, bytes: u64, what: &str) -> Result<(), Fault<S::Error>> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= MAX_HEAD).ok_or_else(|| {
            content(format!("its head goes on beyond {MAX_HEAD} bytes, which is the most that is read, in {what}"))
        })?;
        Ok(())
    }

    /// Takes memory that will be kept from what there is for all.
    fn pay(&mut self, bytes: usize) -> Result<(), Fault<S::Error>> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.kept = self.kept.checked_add(bytes).filter(|kept| *kept <= MAX_KEPT).ok_or_else(|| {
            let at = self.at;
            content(format!("its head takes more than {MAX_KEPT} bytes of memory, which is the most, at byte {at}"))
        })?;
        Ok(())
    }
}

fn ends<E>(start: u64, what: &str) -> Fault<E> {
    content(format!("ends at or behind byte {start}, within {what}"))
}

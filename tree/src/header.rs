//! The headers of a stream: tar as POSIX has it (pax(1), "ustar Interchange Format" and "pax Header Block"), and what
//! GNU tar writes instead of it.

use std::io::{self, Read, Write};

/// Everything in a tar is a multiple of this.
pub(crate) const BLOCK: usize = 512;
/// Longest record beside a header that is read: it holds a path or two.
const RECORDS_MAX: u64 = 64 * 1024;
/// Seven octal digits.
const OCTAL_SHORT_MAX: u64 = 0o7_777_777;
/// Eleven octal digits.
const OCTAL_LONG_MAX: u64 = 0o77_777_777_777;
const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const USER: std::ops::Range<usize> = 108..116;
const GROUP: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const TIME: std::ops::Range<usize> = 136..148;
const SUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file; so many bytes follow, filled up to whole blocks.
    File {
        size: u64,
    },
    Folder,
    Link {
        target: Vec<u8>,
    },
    /// Something that is not carried, with the word for it; so many bytes follow.
    Other {
        what: &'static str,
        size: u64,
    },
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The path, without a final `/`.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The lowest twelve bits of `st_mode`.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The last change of the content, in seconds since 1970, and nanoseconds.
    pub(crate) time: (i64, u32),
}

/// Writes a header.
pub(crate) fn write(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    let (kind, size, target): (u8, u64, &[u8]) = match &entry.kind {
        Kind::File { size } => (b'0', *size, &[]),
        Kind::Folder => (b'5', 0, &[]),
        Kind::Link { target } => (b'2', 0, target),
        Kind::Other { .. } => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let mut path = entry.path.clone();
    if entry.kind == Kind::Folder {
        path.push(b'/');
    }
    let (seconds, nanoseconds) = entry.time;
    let mut records = Vec::new();
    if path.len() > NAME.len() {
        record(&mut records, "path", &path);
    }
    if target.len() > LINK.len() {
        record(&mut records, "linkpath", target);
    }
    for (key, value, max) in [
        ("size", size, OCTAL_LONG_MAX),
        ("uid", entry.user.into(), OCTAL_SHORT_MAX),
        ("gid", entry.group.into(), OCTAL_SHORT_MAX),
    ] {
        if value > max {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    if nanoseconds != 0 || seconds < 0 {
        // A fraction counts up from the second below (pax(1)), as in `struct timespec`, while `-1.5` would count down.
        let fraction = if seconds < 0 { String::new() } else { format!(".{nanoseconds:09}") };
        record(&mut records, "mtime", format!("{seconds}{fraction}").as_bytes());
    }
    if !records.is_empty() {
        let block = Block::new(b"pax", b'x', records.len() as u64, &[], 0o600, (0, 0), 0);
        out.write_all(&block.0)?;
        out.write_all(&records)?;
        out.write_all(padding(records.len() as u64))?;
    }
    let time = u64::try_from(seconds).unwrap_or(0);
    let block = Block::new(&path, kind, size, target, entry.mode, (entry.user, entry.group), time);
    out.write_all(&block.0)
}

/// Returns what fills contents of this length up to whole blocks.
pub(crate) fn padding(length: u64) -> &'static [u8] {
    let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    let missing = (BLOCK - over) % BLOCK;
    ZEROS.get(..missing).unwrap_or_default()
}

/// What a stream ends with, twice.
pub(crate) const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Reads the next header; `None` at the regular end of the stream.
pub(crate) fn read(input: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut extra = Extra::default();
    loop {
        let mut block = Block([0; BLOCK]);
        input.read_exact(&mut block.0)?;
        if block.0 == ZEROS {
            return Ok(None);
        }
        if block.sum() != block.number(SUM)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no tar, or a broken one"));
        }
        let size = block.number(SIZE)?;
        match block.0.get(KIND).copied().unwrap_or_default() {
            b'x' => extra.take_records(&records(input, size)?)?,
            b'L' => extra.path = Some(until_zero(&records(input, size)?).to_vec()),
            b'K' => extra.target = Some(until_zero(&records(input, size)?).to_vec()),
            // What is said of all entries is no path, size or owner.
            b'g' => drop(records(input, size)?),
            kind => return Ok(Some(entry(&block, kind, extra)?)),
        }
    }
}

/// What stands beside a header.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u32>,
    group: Option<u32>,
    time: Option<(i64, u32)>,
}

impl Extra {
    fn take_records(&mut self, mut records: &[u8]) -> io::Result<()> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "a record that is not of pax");
        while !records.is_empty() {
            // "LENGTH KEY=VALUE\n", where the length counts all of it.
            let blank = records.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = number(records.get(..blank).unwrap_or_default()).ok_or_else(broken)?;
            let record = records.get(blank + 1..length.wrapping_sub(1)).ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) =
                (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(broken)?),
                b"uid" => self.user = Some(number(value).ok_or_else(broken)?),
                b"gid" => self.group = Some(number(value).ok_or_else(broken)?),
                b"mtime" => self.time = time(value),
                _ => {}
            }
            records = records.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

fn entry(block: &Block, kind: u8, extra: Extra) -> io::Result<Entry> {
    let size = match extra.size {
        Some(size) => size,
        None => block.number(SIZE)?,
    };
    let mut path = extra.path.unwrap_or_else(|| block.path());
    // Old programs have files of that name instead of a kind.
    let is_folder = kind == b'5' || path.ends_with(b"/") && matches!(kind, b'0' | 0);
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    let kind = match kind {
        _ if is_folder => Kind::Folder,
        b'0' | b'7' | 0 => Kind::File { size },
        b'2' => Kind::Link { target: extra.target.unwrap_or_else(|| until_zero(block.field(LINK)).to_vec()) },
        b'1' => Kind::Other { what: "a hard link", size: 0 },
        b'3' | b'4' => Kind::Other { what: "a device", size: 0 },
        b'6' => Kind::Other { what: "a FIFO", size: 0 },
        b'S' => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a sparse file of GNU tar; use --format=pax"));
        }
        _ => Kind::Other { what: "something that is not known here", size },
    };
    let short = |range| -> io::Result<u32> { Ok(u32::try_from(block.number(range)?).unwrap_or(u32::MAX)) };
    let seconds = i64::try_from(block.number(TIME)?).unwrap_or(0);
    Ok(Entry {
        path,
        kind,
        mode: short(MODE)? & 0o7777,
        user: extra.user.map_or_else(|| short(USER), Ok)?,
        group: extra.group.map_or_else(|| short(GROUP), Ok)?,
        time: extra.time.unwrap_or((seconds, 0)),
    })
}

/// A header as it stands in a stream.
struct Block([u8; BLOCK]);

impl Block {
    fn new(
        path: &[u8],
        kind: u8,
        size: u64,
        target: &[u8],
        mode: u32,
        (user, group): (u32, u32),
        time: u64,
    ) -> Self {
        let mut block = Self([0; BLOCK]);
        block.set(NAME, path);
        block.set_number(MODE, mode.into());
        block.set_number(USER, user.into());
        block.set_number(GROUP, group.into());
        block.set_number(SIZE, size);
        block.set_number(TIME, time);
        block.set(KIND..KIND + 1, &[kind]);
        block.set(LINK, target);
        block.set(MAGIC, b"ustar\x0000");
        let sum = block.sum();
        block.set(SUM, format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn field(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    /// Sets a field to as much of a value as it holds.
    fn set(&mut self, range: std::ops::Range<usize>, value: &[u8]) {
        let field = self.0.get_mut(range).unwrap_or_default();
        field.iter_mut().zip(value).for_each(|(place, byte)| *place = *byte);
    }

    /// Sets a field to a number; one that it cannot hold stands in a record beside the header.
    fn set_number(&mut self, range: std::ops::Range<usize>, value: u64) {
        let digits = range.len() - 1;
        let text = format!("{value:0digits$o}");
        let fits = if text.len() > digits { "0".repeat(digits) } else { text };
        self.set(range, fits.as_bytes());
    }

    /// Reads a number: octal, or as GNU tar writes large ones.
    fn number(&self, range: std::ops::Range<usize>) -> io::Result<u64> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "a number that is not of tar");
        let field = self.field(range);
        if let Some((first, rest)) = field.split_first()
            && *first == 0x80
        {
            let shifted = |value: u64, byte: &u8| Some(value.checked_mul(256)? | u64::from(*byte));
            return rest.iter().try_fold(0, shifted).ok_or_else(broken);
        }
        let text: Vec<u8> = field.iter().copied().skip_while(|byte| *byte == b' ').collect();
        let digits = text.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
        let digit = |value: u64, byte: &u8| match byte {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
            _ => None,
        };
        digits.iter().try_fold(0, digit).ok_or_else(broken)
    }

    /// The sum of all bytes, with blanks where it stands itself.
    fn sum(&self) -> u64 {
        let counted = |(index, byte): (usize, &u8)| u64::from(if SUM.contains(&index) { b' ' } else { *byte });
        self.0.iter().enumerate().map(counted).sum()
    }

    fn path(&self) -> Vec<u8> {
        let name = until_zero(self.field(NAME));
        let prefix = until_zero(self.field(PREFIX));
        // GNU tar has other things there.
        if prefix.is_empty() || !self.field(MAGIC).starts_with(b"ustar\0") {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds = if seconds.starts_with('-') { 0 } else { digits.parse().ok()? };
    Some((seconds.parse().ok()?, nanoseconds))
}

/// Adds a record: its length counts itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Reads what stands beside a header.
fn records(input: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > RECORDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a record that is too long"));
    }
    let mut records = Vec::new();
    input.take(size).read_to_end(&mut records)?;
    let mut rest = vec![0; padding(size).len()];
    input.read_exact(&mut rest)?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File { size: 3 },
            mode: 0o4755,
            user: 1000,
            group: 100,
            time: (1_763_647_352, 0),
        }
    }

    fn there_and_back(entry: &Entry) -> Entry {
        let mut stream = Vec::new();
        write(entry, &mut stream).unwrap();
        assert_eq!(stream.len() % BLOCK, 0);
        stream.extend_from_slice(&ZEROS);
        let mut stream = stream.as_slice();
        let read_back = read(&mut stream).unwrap().unwrap();
        assert_eq!(read(&mut stream).unwrap(), None);
        read_back
    }

    #[test]
    fn every_entry_comes_back_as_it_was() {
        let long = "d/".repeat(90) + "é";
        for entry in [
            file("a"),
            file(&long),
            file(&"x".repeat(100)),
            Entry { kind: Kind::Folder, ..file("a/b") },
            Entry { kind: Kind::Folder, ..file(&"x".repeat(100)) },
            Entry { kind: Kind::Link { target: b"../../etc/passwd".to_vec() }, ..file("l") },
            Entry { kind: Kind::Link { target: long.clone().into_bytes() }, ..file("l") },
            Entry { kind: Kind::File { size: 20 << 30 }, ..file("large") },
            Entry { user: u32::MAX - 1, group: 0o10_000_000, ..file("owned") },
            Entry { time: (1, 5), ..file("then") },
            Entry { time: (-5, 0), ..file("before") },
            Entry { path: b"\xff\n\"".to_vec(), ..file("") },
        ] {
            assert_eq!(there_and_back(&entry), entry);
        }
    }

    #[test]
    fn what_is_no_tar_is_refused_whatever_it_is() {
        let mut good = Vec::new();
        write(&file("a"), &mut good).unwrap();
        // What stands behind the digits of the sum is no part of it.
        for at in (0..BLOCK).filter(|at| !(SUM.end - 2..SUM.end).contains(at)) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert!(read(&mut bad.as_slice()).is_err(), "byte {at}");
        }
        for length in 0..BLOCK {
            assert!(read(&mut &good[..length]).is_err());
        }
        // A record that claims to be longer than it is, or than memory.
        for records in ["9 a=b\n", "x a=b\n", "6 a\n", "0 a=b\n", "1 a=b\n", "99999999999999999999 a=b\n"] {
            let block = Block::new(b"pax", b'x', records.len() as u64, &[], 0, (0, 0), 0);
            let stream = [&block.0, records.as_bytes(), padding(records.len() as u64), &good].concat();
            assert!(read(&mut stream.as_slice()).is_err(), "{records:?}");
        }
        let block = Block::new(b"pax", b'x', OCTAL_LONG_MAX, &[], 0, (0, 0), 0);
        assert!(read(&mut block.0.as_slice()).is_err());
    }
}

//! Heads by hand: what is in them, what is refused, and that no claim of a file costs anything.

use std::convert::Infallible;

use super::{
    Fault, Header, MAX_HEAD, MAX_KEPT, MAX_KEPT_TEXT, MAX_KEYS, MAX_TENSORS, NoTensor, ShownTensor, Source, Tensor,
    TensorType, Value, read,
};

/// What a hostile file claims there is of everything.
const HUGE: u64 = 1 << 60;

/// A head, piece by piece.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    /// Begins a file of version 3 with so many tensors and keys.
    fn head(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    /// A key and the type of its value.
    fn key(self, key: &str, kind: u32) -> Self {
        self.text(key).u32(kind)
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let head = self.text(name).u32(u32::try_from(shape.len()).unwrap());
        shape.iter().fold(head, |bytes, extent| bytes.u64(*extent)).u32(kind).u64(offset)
    }

    fn read(&self) -> Result<Header, String> {
        read(&mut self.0.as_slice()).map_err(|fault| fault.to_string())
    }

    #[track_caller]
    fn refused(&self, expected: &str) {
        let fault = self.read().expect_err("a refusal");
        assert!(fault.contains(expected), "{fault}");
        assert!(!fault.chars().any(char::is_control), "{fault:?}");
    }

    /// Returns the only value of a file.
    fn value(&self) -> Value {
        self.read().expect("a head").metadata.into_values().next().expect("a value")
    }
}

fn one_key(kind: u32) -> Bytes {
    Bytes::head(0, 1).key("a.key", kind)
}

fn array(kind: u32, count: u64) -> Bytes {
    one_key(9).u32(kind).u64(count)
}

#[test]
fn each_type_takes_what_it_takes_in_ggml() {
    // As the blocks of `ggml-common.h` are put together: scales, then numbers.
    const HALF: u64 = 2;
    let types = [
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, HALF + 32 / 2),
        (3, "Q4_1", 32, 2 * HALF + 32 / 2),
        (6, "Q5_0", 32, HALF + 4 + 32 / 2),
        (7, "Q5_1", 32, 2 * HALF + 4 + 32 / 2),
        (8, "Q8_0", 32, HALF + 32),
        (9, "Q8_1", 32, 2 * HALF + 32),
        (10, "Q2_K", 256, 2 * HALF + 256 / 16 + 256 / 4),
        (11, "Q3_K", 256, HALF + 256 / 4 + 256 / 8 + 12),
        (12, "Q4_K", 256, 2 * HALF + 12 + 256 / 2),
        (13, "Q5_K", 256, 2 * HALF + 12 + 256 / 2 + 256 / 8),
        (14, "Q6_K", 256, HALF + 256 / 16 + 3 * 256 / 4),
        (15, "Q8_K", 256, 4 + 256 + 256 / 16 * 2),
        (16, "IQ2_XXS", 256, HALF + 256 / 8 * 2),
        (17, "IQ2_XS", 256, HALF + 256 / 8 * 2 + 256 / 32),
        (18, "IQ3_XXS", 256, HALF + 3 * 256 / 8),
        (19, "IQ1_S", 256, HALF + 256 / 8 + 256 / 16),
        (20, "IQ4_NL", 32, HALF + 32 / 2),
        (21, "IQ3_S", 256, HALF + 13 * 256 / 32 + 256 / 64),
        (22, "IQ2_S", 256, HALF + 256 / 4 + 256 / 16),
        (23, "IQ4_XS", 256, HALF + 2 + 256 / 64 + 256 / 2),
        (24, "I8", 1, 1),
        (25, "I16", 1, 2),
        (26, "I32", 1, 4),
        (27, "I64", 1, 8),
        (28, "F64", 1, 8),
        (29, "IQ1_M", 256, 256 / 8 + 256 / 16 + 256 / 32),
        (30, "BF16", 1, 2),
        (34, "TQ1_0", 256, HALF + 256 / 64 + (256 - 4 * 256 / 64) / 5),
        (35, "TQ2_0", 256, HALF + 256 / 4),
        (39, "MXFP4", 32, 1 + 32 / 2),
        (40, "NVFP4", 64, 64 / 16 + 64 / 2),
        (41, "Q1_0", 128, HALF + 128 / 8),
        (42, "Q2_0", 64, HALF + 64 / 4),
    ];
    assert_eq!(TensorType::all().count(), types.len());
    for (number, name, block, bytes) in types {
        let kind = TensorType::from_number(number).expect(name);
        assert_eq!((kind.number(), kind.name(), kind.block(), kind.block_bytes()), (number, name, block, bytes));
        assert_eq!(TensorType::from_name(&name.to_lowercase()), Some(kind));
    }
    for removed in [5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
        assert_eq!(TensorType::from_number(removed), None, "{removed}");
    }
    assert_eq!((TensorType::F32.name(), TensorType::F16.name()), ("F32", "F16"));
    assert_eq!(TensorType::from_number(4).map(TensorType::name), Some("MXFP4"), "as Ollama numbered it");
    assert_eq!(TensorType::from_name("Q4_K_M"), None, "a mixture of types is none");
}

#[test]
fn versions_and_byte_orders_that_are_not_read_are_named() {
    for version in [2, 3] {
        let bytes = Bytes(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
        assert_eq!(bytes.read(), Ok(Header::default()));
    }
    Bytes(b"GGUF".to_vec()).u32(1).u32(0).u32(0).refused("version 1 of GGUF");
    Bytes(b"GGUF".to_vec()).u32(4).u64(0).u64(0).refused("is of version 4 of GGUF, and versions 2 and 3");
    Bytes(b"GGUF".to_vec()).u32(0).refused("is of version 0");
    Bytes(b"GGUF".to_vec()).raw(&3_u32.to_be_bytes()).refused("in big endian (version 3)");
    Bytes(b"FUGG".to_vec()).u32(3).refused("in big endian");
    Bytes(b"PK\x03\x04....".to_vec()).refused("is no GGUF file");
    Bytes(b"GG".to_vec()).refused("ends at or behind byte 0, within the first four bytes");
}

#[test]
fn values_of_each_type_are_read() {
    let cases = [
        (one_key(0).raw(&[200]), Value::Unsigned(200)),
        (one_key(1).raw(&[0xff]), Value::Signed(-1)),
        (one_key(1).raw(&[5]), Value::Unsigned(5)),
        (one_key(2).raw(&[0xff, 0xff]), Value::Unsigned(65_535)),
        (one_key(3).raw(&[0x00, 0x80]), Value::Signed(-32_768)),
        (one_key(4).u32(u32::MAX), Value::Unsigned(u64::from(u32::MAX))),
        (one_key(5).raw(&(-7_i32).to_le_bytes()), Value::Signed(-7)),
        (one_key(6).raw(&0.5_f32.to_le_bytes()), Value::Float(0.5)),
        (one_key(7).raw(&[0]), Value::Bool(false)),
        (one_key(7).raw(&[2]), Value::Bool(true)),
        (one_key(8).text("llama"), Value::Text("llama".to_owned())),
        (one_key(8).u64(1).raw(&[0xff]), Value::Text("\u{fffd}".to_owned())),
        (one_key(10).u64(u64::MAX), Value::Unsigned(u64::MAX)),
        (one_key(11).raw(&i64::MIN.to_le_bytes()), Value::Signed(i64::MIN)),
        (one_key(12).raw(&0.1_f64.to_le_bytes()), Value::Float(0.1)),
        (array(4, 2).u32(8).u32(4), Value::Numbers(vec![8, 4])),
        (array(5, 1).raw(&(-1_i32).to_le_bytes()), Value::Numbers(vec![-1])),
        (array(7, 3).raw(&[1, 0, 1]), Value::Numbers(vec![1, 0, 1])),
        (array(4, 0), Value::Numbers(vec![])),
        (array(10, 1).u64(u64::MAX), Value::Length(1)),
        (array(6, 1).raw(&1_f32.to_le_bytes()), Value::Length(1)),
        (array(8, 2).text("a").text("bc"), Value::Length(2)),
        (array(0, 1024).raw(&[7; 1024]), Value::Numbers(vec![7; 1024])),
        (array(0, 1025).raw(&[7; 1025]), Value::Length(1025)),
        (array(9, 2).u32(4).u64(1).u32(5).u32(8).u64(1).text("a"), Value::Length(2)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(bytes.value(), expected);
        // And nothing more is read than there is of it.
        let mut rest = [bytes.0.as_slice(), b"rest"].concat();
        let mut rest = rest.as_mut_slice() as &[u8];
        read(&mut rest).expect("a head");
        assert_eq!(rest, b"rest", "{expected:?}");
    }
    let long = "x".repeat(usize::try_from(MAX_KEPT_TEXT).unwrap() + 1);
    assert_eq!(one_key(8).text(&long).value(), Value::Length(MAX_KEPT_TEXT + 1));
    one_key(13).refused("the value of key `a.key` is of type 13 at byte 37, and there is none");
}

#[test]
fn tensors_are_read_in_the_order_of_the_file() {
    let head = Bytes::head(3, 0)
        .tensor("b", &[256, 3], 12, 0)
        .tensor("a", &[32, 2, 2, 2], 8, 448)
        .tensor("scalar", &[], 0, 736)
        .read()
        .unwrap();
    let tensors: Vec<(&str, &str, &[u64], u64)> = head
        .tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.kind.name(), tensor.shape.as_slice(), tensor.bytes))
        .collect();
    assert_eq!(
        tensors,
        [("b", "Q4_K", &[256, 3][..], 432), ("a", "Q8_0", &[32, 2, 2, 2], 272), ("scalar", "F32", &[1], 4)]
    );
}

#[test]
fn tensors_that_cannot_be_are_refused_by_name() {
    let one = |shape: &[u64], kind, offset| Bytes::head(1, 0).tensor("w", shape, kind, offset);
    one(&[1, 1, 1, 1, 1], 0, 0).refused("tensor `w` at byte 24 has 5 dimensions, and 4 are the most");
    one(&[4, 0], 0, 0).refused("tensor `w` has a dimension of 0");
    one(&[100], 12, 0).refused("has rows of 100 numbers, and Q4_K stores whole blocks of 256");
    one(&[HUGE, 16], 0, 0).refused("is larger than any memory");
    one(&[1 << 32, 1 << 32], 24, 0).refused("is larger than any memory");
    one(&[1 << 62, 1], 25, 0).refused("is larger than any memory");
    one(&[4], 5, 0).refused("is of type 5, which there is not, or no longer");
    one(&[4], 99, 0).refused("is of type 99");
    one(&[4], 0, 8).refused("has its data at 8, which is no multiple of 32");
    one(&[4], 0, u64::MAX - 31).refused("beyond any file");
    one(&[1 << 59], 0, i64::MAX as u64 - 31).refused("beyond any file");
    Bytes::head(2, 0).tensor("w", &[4], 0, 0).tensor("w", &[4], 0, 32).refused("tensor `w` is there twice");
    Bytes::head(1, 0).text(&"n".repeat(256)).refused("claims a length of 256 at byte 24, and 255");
    Bytes::head(1, 0).u64(2).raw(&[0xff, 0xfe]).refused("is no UTF-8");
}

#[test]
fn the_alignment_is_what_the_file_says() {
    let with = |alignment| Bytes::head(1, 1).key("general.alignment", 4).u32(alignment);
    assert!(with(8).tensor("w", &[4], 0, 8).read().is_ok());
    with(64).tensor("w", &[4], 0, 32).refused("no multiple of 64");
    for alignment in [0, 3, 33] {
        with(alignment).refused(&format!("`general.alignment` is {alignment}, and has to be a power of two"));
    }
    Bytes::head(0, 1).key("general.alignment", 8).text("32").refused("is no number");
    Bytes::head(0, 1).key("general.alignment", 10).u64(1 << 40).refused("has to be a power of two of at most");
}

#[test]
fn keys_that_are_empty_or_there_twice_are_refused() {
    Bytes::head(0, 2)
        .key("k", 7)
        .raw(&[1])
        .key("k", 7)
        .raw(&[1])
        .refused("key `k` is there twice, again at byte 38");
    Bytes::head(0, 1).key("", 7).raw(&[1]).refused("a key at byte 24 is empty");
    Bytes::head(0, 1).u64(2000).refused("a key claims a length of 2000 at byte 24, and 1024 is the most");
}

/// A file that goes on for ever, and counts what is asked of it.
#[derive(Default)]
struct Endless {
    head: Vec<u8>,
    /// What comes again and again behind the head.
    again: Vec<u8>,
    at: usize,
    /// Largest buffer that was to be filled.
    largest: usize,
    /// Bytes that were read, and left out.
    passed: u64,
    calls: u64,
}

impl Source for Endless {
    type Error = Infallible;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Infallible> {
        self.largest = self.largest.max(buffer.len());
        for byte in buffer.iter_mut() {
            let next = self.at.checked_sub(self.head.len()).map(|at| self.again[at % self.again.len()]);
            *byte = next.unwrap_or_else(|| self.head[self.at]);
            self.at += 1;
        }
        self.skip(buffer.len() as u64).map(|_| true)
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, Infallible> {
        self.passed += bytes;
        self.calls += 1;
        Ok(true)
    }
}

#[test]
fn a_claim_of_any_number_costs_nothing() {
    let claims = [
        (Bytes::head(HUGE, 0), format!("claims {HUGE} tensors, and {MAX_TENSORS} are the most")),
        (Bytes::head(0, HUGE), format!("claims {HUGE} keys, and {MAX_KEYS} are the most")),
        (Bytes::head(0, 1).u64(HUGE), format!("a key claims a length of {HUGE}")),
        (one_key(8).u64(HUGE), format!("the value of key `a.key` claims a length of {HUGE}")),
        (array(4, HUGE), format!("the value of key `a.key` claims a length of {HUGE}")),
        (array(8, HUGE), format!("the value of key `a.key` claims a length of {HUGE}")),
        (array(9, HUGE), format!("the value of key `a.key` claims a length of {HUGE}")),
        (array(9, 1).u32(0).u64(HUGE), format!("the value of key `a.key` claims a length of {HUGE}")),
        (array(8, 1).u64(HUGE), format!("the value of key `a.key` claims a length of {HUGE}")),
        (Bytes::head(1, 0).u64(HUGE), format!("the name of a tensor claims a length of {HUGE}")),
    ];
    for (bytes, expected) in claims {
        bytes.refused(&expected);
        let mut endless = Endless { head: bytes.0.clone(), again: vec![1], ..Endless::default() };
        assert!(matches!(read(&mut endless), Err(Fault::Content(fault)) if fault.contains(&expected)));
        assert_eq!(endless.passed, bytes.0.len() as u64, "nothing is read behind the claim");
        assert!(endless.largest <= 16, "{expected}: {}", endless.largest);
    }
}

#[test]
fn arrays_in_each_other_have_an_end() {
    let nested = |depth: u64| (1..depth).fold(array(9, 1), |bytes, _| bytes.u32(9).u64(1)).u32(0).u64(0);
    assert_eq!(nested(3).value(), Value::Length(1));
    nested(4).refused("has more than 4 arrays in each other");
    nested(5000).refused("has more than 4 arrays in each other");
    // Many at each depth: all of them together are counted.
    let wide = (0..3).fold(array(9, 1 << 20), |bytes, _| bytes.u32(0).u64(8 << 20).raw(&[]));
    let mut endless = Endless { head: wide.0, again: vec![0], ..Endless::default() };
    // The source leaves out what it is asked to, without going on: the same head of an array comes again.
    let fault = read(&mut endless).expect_err("too many entries");
    assert!(fault.to_string().contains("entries in all its arrays"), "{fault}");
}

#[test]
fn what_is_kept_has_a_bound_however_long_the_file_goes_on() {
    let key = |number: u32| format!("key {number:04}");
    let text = "x".repeat(usize::try_from(MAX_KEPT_TEXT).unwrap());
    let bytes = (0..1000).fold(Bytes::head(0, 1000), |bytes, number| bytes.key(&key(number), 8).text(&text));
    bytes.refused(&format!("takes more than {MAX_KEPT} bytes of memory"));
    let numbers = [1; 1024];
    let bytes = (0..MAX_KEYS).fold(Bytes::head(0, MAX_KEYS), |bytes, number| {
        bytes.key(&format!("key {number:04}"), 9).u32(0).u64(1024).raw(&numbers)
    });
    bytes.refused(&format!("takes more than {MAX_KEPT} bytes of memory"));
}

#[test]
fn what_is_read_has_a_bound_however_long_the_file_goes_on() {
    // A text of 64 MiB again and again, each of which alone may be.
    let again = Bytes::default().u64(64 << 20).0;
    let mut endless = Endless { head: array(8, 1 << 20).0, again, ..Endless::default() };
    let fault = read(&mut endless).expect_err("a bound").to_string();
    assert!(fault.contains(&format!("goes on beyond {MAX_HEAD} bytes")), "{fault}");
    assert!(endless.passed <= MAX_HEAD && endless.calls < 100, "{} calls", endless.calls);
}

#[test]
fn names_in_messages_are_short_and_on_one_line() {
    let name = format!("a\n\u{1b}[31m\u{202e}{}", "ä".repeat(100));
    let fault = Bytes::head(1, 0).tensor(&name, &[3], 2, 0).read().unwrap_err();
    assert!(fault.contains(r"`a\u{a}\u{1b}[31m\u{202e}ää"), "{fault}");
    assert!(fault.contains("ä…`"), "{fault}");
    assert!(fault.chars().count() < 200, "{fault}");
    let fault = Bytes::head(1, 0).tensor(&"\u{1}".repeat(255), &[3], 2, 0).read().unwrap_err();
    assert!(fault.contains(r"\u{1}\u{1}…`") && fault.chars().count() < 200, "escapes count too: {fault}");
    one_key(8).u64(5).raw(b"abc").refused("within the value of key `a.key`");
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_broken() {
    struct Broken;
    impl Source for Broken {
        type Error = &'static str;
        fn fill(&mut self, _buffer: &mut [u8]) -> Result<bool, &'static str> {
            Err("no permission")
        }
        fn skip(&mut self, _bytes: u64) -> Result<bool, &'static str> {
            Err("no permission")
        }
    }
    assert_eq!(read(&mut Broken), Err(Fault::Source("no permission")));
}

#[test]
fn what_an_engine_says_makes_the_same_head_as_the_file() {
    let file = Bytes::head(1, 4)
        .key("general.architecture", 8)
        .text("llama")
        .key("llama.block_count", 4)
        .u32(2)
        .key("llama.attention.head_count_kv", 9)
        .u32(4)
        .u64(2)
        .u32(8)
        .u32(4)
        .key("llama.attention.causal", 7)
        .raw(&[1])
        .tensor("token_embd.weight", &[256, 10], 12, 0)
        .read()
        .unwrap();
    let said = serde_json::json!({
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.attention.head_count_kv": [8, 4],
        "llama.attention.causal": true,
        "tokenizer.ggml.tokens": null,
    });
    let tensor = ShownTensor { name: "token_embd.weight", kind: "Q4_K", shape: &[256, 10] };
    let shown = Header::shown(said.as_object().unwrap(), [tensor]);
    assert_eq!(shown, Ok(file));
    let values = serde_json::json!({ "a": -1, "b": 0.5, "c": ["x", "y"], "d": {}, "e": vec![1; 1025] });
    let shown = Header::shown(values.as_object().unwrap(), []).unwrap();
    let expected = [Value::Signed(-1), Value::Float(0.5), Value::Length(2), Value::Length(1025)];
    assert_eq!(shown.metadata.into_values().collect::<Vec<_>>(), expected);
    let refused = |tensors: &[ShownTensor<'static>]| {
        Header::shown(&serde_json::Map::new(), tensors.iter().copied()).unwrap_err().to_string()
    };
    let unknown = ShownTensor { kind: "Q9\n", ..tensor };
    assert_eq!(refused(&[unknown]), r"tensor `token_embd.weight` is of type `Q9\u{a}`, which there is not");
    assert_eq!(refused(&[tensor, tensor]), "tensor `token_embd.weight` is there twice");
    assert!(refused(&[ShownTensor { shape: &[10, 256], ..tensor }]).contains("rows of 10 numbers"));
}

#[test]
fn a_tensor_is_as_large_as_its_type_says() {
    let bytes = |kind: &str, shape: &[u64]| {
        Tensor::new("w", TensorType::from_name(kind).unwrap(), shape.to_vec()).map(|tensor| tensor.bytes)
    };
    assert_eq!(bytes("F32", &[]), Ok(4));
    assert_eq!(bytes("Q4_K", &[4096, 128_256]), Ok(295_501_824));
    assert_eq!(bytes("MXFP4", &[2880, 5760, 32]), Ok(2880 * 5760 * 32 / 32 * 17));
    let fault = NoTensor("tensor `w` of 4611686018427387904 x 2 numbers is larger than any memory".to_owned());
    assert_eq!(bytes("I8", &[1 << 62, 2]), Err(fault));
}

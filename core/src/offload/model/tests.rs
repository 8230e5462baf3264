//! Models put together by hand, and one whose figures were published.

use std::collections::BTreeMap;

use super::{MAX_LAYERS, Model, NotAModel, bytes};
use crate::offload::gguf::{Header, Tensor, TensorType, Value};

fn tensor(name: impl Into<String>, kind: &str, shape: &[u64]) -> Tensor {
    Tensor::new(name, TensorType::from_name(kind).expect("a type"), shape.to_vec()).expect("a tensor")
}

fn header(metadata: &[(&str, Value)], tensors: Vec<Tensor>) -> Header {
    let metadata: BTreeMap<String, Value> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Header { metadata, tensors }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A small model of three layers.
fn small() -> Header {
    let mut tensors = vec![tensor("token_embd.weight", "F32", &[8, 10]), tensor("output_norm.weight", "F32", &[8])];
    tensors.push(tensor("output.weight", "F32", &[8, 10]));
    tensors.extend((0..3).map(|layer| tensor(format!("blk.{layer}.attn_q.weight"), "F32", &[8, 8])));
    header(&[("general.architecture", text("llama")), ("llama.block_count", Value::Unsigned(3))], tensors)
}

/// The same with something changed.
fn with(change: impl FnOnce(&mut Header)) -> Result<Model, NotAModel> {
    let mut header = small();
    change(&mut header);
    Model::of(&[header])
}

fn set(header: &mut Header, key: &str, value: Value) {
    header.metadata.insert(key.to_owned(), value);
}

#[track_caller]
fn refused(model: Result<Model, NotAModel>, expected: &str) {
    let fault = model.expect_err("a refusal").to_string();
    assert!(fault.contains(expected), "{fault}");
}

/// Bytes in MiB, to two digits, as engines log them.
fn mib(bytes: u64) -> String {
    let hundredths = (bytes * 100 + (1 << 19)) >> 20;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[test]
fn llama3_8b_takes_what_engines_log_for_it() {
    // Q4_K_M: every second matrix or so that matters more is of Q6_K: the first and last eighth, and each third between.
    let is_finer = |layer: u64| !(4..28).contains(&layer) || (layer - 4) % 3 == 2;
    let mut tensors = vec![
        tensor("token_embd.weight", "Q4_K", &[4096, 128_256]),
        tensor("output_norm.weight", "F32", &[4096]),
        tensor("output.weight", "Q6_K", &[4096, 128_256]),
    ];
    for layer in 0..32 {
        let kind = if is_finer(layer) { "Q6_K" } else { "Q4_K" };
        let parts: [(&str, &str, &[u64]); 9] = [
            ("attn_norm", "F32", &[4096]),
            ("attn_q", "Q4_K", &[4096, 4096]),
            ("attn_k", "Q4_K", &[4096, 1024]),
            ("attn_v", kind, &[4096, 1024]),
            ("attn_output", "Q4_K", &[4096, 4096]),
            ("ffn_norm", "F32", &[4096]),
            ("ffn_gate", "Q4_K", &[4096, 14_336]),
            ("ffn_up", "Q4_K", &[4096, 14_336]),
            ("ffn_down", kind, &[14_336, 4096]),
        ];
        tensors.extend(parts.map(|(part, kind, shape)| tensor(format!("blk.{layer}.{part}.weight"), kind, shape)));
    }
    let metadata = [
        ("general.architecture", text("llama")),
        ("general.name", text("Meta-Llama-3-8B-Instruct")),
        ("llama.block_count", Value::Unsigned(32)),
        ("llama.attention.head_count_kv", Value::Unsigned(8)),
    ];
    let model = Model::of(&[header(&metadata, tensors)]).expect("a model");
    let layers: Vec<u64> = model.layers.iter().map(|layer| bytes(layer)).collect();
    assert_eq!(layers.iter().min().map(|layer| mib(*layer)).as_deref(), Some("117.03"));
    assert_eq!(layers.iter().max().map(|layer| mib(*layer)).as_deref(), Some("132.50"));
    let repeating: u64 = layers.iter().sum();
    assert_eq!(mib(repeating), "3992.50");
    assert_eq!(mib(bytes(&model.output)), "410.99");
    assert_eq!(mib(repeating + bytes(&model.output)), "4403.49");
    assert_eq!(mib(bytes(&model.input)), "281.81");
    assert_eq!(model.weights(), repeating + bytes(&model.output) + bytes(&model.input));
    assert_eq!(model.numbers("attention.head_count_kv"), Some(vec![8; 32]));
    assert_eq!(model.name.as_deref(), Some("Meta-Llama-3-8B-Instruct"));
}

#[test]
fn tensors_are_sorted_by_their_names() {
    let names = [
        "position_embd.weight",
        "token_types.weight",
        "token_embd_norm.weight",
        "per_layer_token_embd.weight",
        "output.bias",
        "cls.output.weight",
        "enc.output_norm.weight",
        "dec.blk.1.attn_q.weight",
        "enc.blk.2.attn_q.weight",
        "v.blk.0.attn_q.weight",
        "mm.0.weight",
        "a.conv1d.weight",
        "rope_freqs.weight",
        "output_extra.weight",
        "enc.output_normal.weight",
        "blk.x.weight",
        "blk.1",
        "blk.+1.weight",
        "v",
    ];
    let model = with(|header| header.tensors.extend(names.map(|name| tensor(name, "F32", &[4])))).expect("a model");
    let names = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(&model.input),
        "token_embd.weight position_embd.weight token_types.weight token_embd_norm.weight \
         per_layer_token_embd.weight"
    );
    assert_eq!(
        names(&model.output),
        "output_norm.weight output.weight output.bias cls.output.weight enc.output_norm.weight"
    );
    assert_eq!(names(&model.layers[1]), "blk.1.attn_q.weight dec.blk.1.attn_q.weight");
    assert_eq!(names(&model.layers[2]), "blk.2.attn_q.weight enc.blk.2.attn_q.weight");
    assert_eq!(names(&model.projector), "v.blk.0.attn_q.weight mm.0.weight a.conv1d.weight");
    assert_eq!(
        names(&model.others),
        "rope_freqs.weight output_extra.weight enc.output_normal.weight blk.x.weight blk.1 blk.+1.weight v"
    );
    assert!(!model.is_tied);
}

#[test]
fn tokens_are_the_output_once_more_where_there_is_none() {
    let model = with(|header| header.tensors.retain(|tensor| tensor.name != "output.weight")).expect("a model");
    assert!(model.is_tied);
    assert_eq!(model.output.last(), model.input.first());
    assert_eq!(model.weights(), 4 * (80 + 8 + 3 * 64), "and are in the file once");
    refused(
        with(|header| header.tensors.retain(|tensor| tensor.name != "token_embd.weight")),
        "has no tensor `tok",
    );
}

#[test]
fn layers_that_are_missing_or_too_many_are_named() {
    let without = |layers: &[&str]| {
        with(|header| header.tensors.retain(|tensor| !layers.iter().any(|layer| tensor.name.starts_with(layer))))
    };
    refused(without(&["blk.1."]), "has no tensor of layer 1 (`blk.1.`), of 3 layers");
    refused(without(&["blk.0.", "blk.2."]), "has no tensor of 2 of its 3 layers, layer 0 (`blk.0.`) the first");
    let beyond = |number: &str| {
        let name = format!("blk.{number}.attn_q.weight");
        with(|header| header.tensors.push(tensor(name, "F32", &[8])))
    };
    refused(beyond("3"), "tensor `blk.3.attn_q.weight` is beyond its 3 layers");
    refused(beyond("99999999999999999999999"), "is beyond its 3 layers");
    for count in [0, MAX_LAYERS + 1, 1 << 60, u64::MAX] {
        refused(
            with(|header| set(header, "llama.block_count", Value::Unsigned(count))),
            &format!("claims {count} layers, and 1 to 1024 can be"),
        );
    }
    let missing = "does not say how many layers it has: `llama.block_count` is missing";
    refused(with(|header| drop(header.metadata.remove("llama.block_count"))), missing);
    refused(with(|header| set(header, "llama.block_count", text("3"))), missing);
}

#[test]
fn layers_that_guess_ahead_or_compute_nothing_are_no_fault() {
    // On top of the layers that are counted: they are in the file, and no engine loads them.
    let ahead = |number: u64| {
        with(|header| {
            set(header, "llama.nextn_predict_layers", Value::Unsigned(1));
            header.tensors.push(tensor(format!("blk.{number}.nextn.eh_proj.weight"), "F32", &[8]));
        })
    };
    let model = ahead(3).expect("a model");
    assert_eq!((model.layers.len(), model.others.len()), (3, 1));
    refused(ahead(4), "is beyond its 3 layers");
    // Counted among them, as newer files have it.
    let model = ahead(2).expect("a model");
    assert_eq!((model.layers[2].len(), model.others.len()), (2, 0));
    let empty = |heads: [i64; 3]| {
        with(|header| {
            header.tensors.retain(|tensor| !tensor.name.starts_with("blk.1."));
            set(header, "llama.attention.head_count", Value::Numbers(heads.to_vec()));
            set(header, "llama.feed_forward_length", Value::Numbers(vec![16, 0, 16]));
        })
    };
    assert_eq!(empty([4, 0, 4]).expect("a model").layers[1], []);
    refused(empty([4, 4, 4]), "has no tensor of layer 1");
    let decoder = with(|header| {
        set(header, "llama.decoder_block_count", Value::Unsigned(4));
        header.tensors.push(tensor("dec.blk.3.attn_q.weight", "F32", &[8]));
    });
    assert_eq!(decoder.expect("a model").layers.len(), 4);
}

#[test]
fn numbers_are_of_the_architecture_and_by_layer() {
    let model = with(|header| {
        set(header, "llama.attention.head_count", Value::Unsigned(4));
        set(header, "llama.attention.head_count_kv", Value::Numbers(vec![1, 2, 3]));
        set(header, "llama.feed_forward_length", Value::Numbers(vec![1, 2, 3, 4]));
        set(header, "llama.short", Value::Numbers(vec![1, 2]));
        set(header, "llama.negative", Value::Numbers(vec![1, 2, -3]));
        set(header, "llama.word", text("4"));
        set(header, "other.key", Value::Unsigned(9));
    })
    .expect("a model");
    assert_eq!(model.number("attention.head_count"), Some(4));
    assert_eq!(model.numbers("attention.head_count"), Some(vec![4; 3]));
    assert_eq!(model.number("attention.head_count_kv"), None);
    assert_eq!(model.numbers("attention.head_count_kv"), Some(vec![1, 2, 3]));
    assert_eq!(model.numbers("feed_forward_length"), Some(vec![1, 2, 3]), "what is behind the layers is left out");
    for key in ["short", "negative", "word", "key", "missing"] {
        assert_eq!((model.number(key), model.numbers(key)), (None, None), "{key}");
    }
}

#[test]
fn what_is_no_model_is_named() {
    let kind = |key: &str, value: &str| with(|header| set(header, key, text(value)));
    refused(kind("general.architecture", "clip"), "is a projector (mmproj), not a model");
    refused(kind("general.type", "mmproj"), "is a projector (mmproj), not a model");
    refused(kind("general.type", "adapter"), "is of type `adapter`, not a model");
    refused(kind("general.architecture", "controlvector"), "is a controlvector, not a model");
    refused(kind("general.architecture", ""), "does not say its architecture");
    refused(with(|header| drop(header.metadata.remove("general.architecture"))), "does not say its architecture");
    assert!(kind("general.type", "model").is_ok());
    refused(Model::of(&[]), "has no file");
}

/// The small model in three files, in their order.
fn split() -> Vec<Header> {
    let whole = small();
    let count = i64::try_from(whole.tensors.len()).unwrap().unsigned_abs();
    let mut parts: Vec<Header> = whole.tensors.chunks(2).map(|tensors| header(&[], tensors.to_vec())).collect();
    parts[0].metadata = whole.metadata;
    for (number, part) in (0_u64..).zip(&mut parts) {
        set(part, "split.no", Value::Unsigned(number));
        set(part, "split.count", Value::Unsigned(3));
        set(part, "split.tensors.count", Value::Unsigned(count));
    }
    parts
}

#[test]
fn the_files_of_a_split_model_make_one_in_any_order() {
    let mut whole = Model::of(&[small()]).expect("a model");
    whole.metadata.clear();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let files: Vec<Header> = order.iter().map(|part| split()[*part].clone()).collect();
        let mut model = Model::of(&files).expect("a model");
        assert_eq!(model.metadata.get("split.no"), Some(&Value::Unsigned(0)), "that of the first");
        model.metadata.clear();
        assert_eq!(model, whole, "{order:?}");
    }
}

#[test]
fn files_that_make_no_whole_model_are_refused() {
    let parts = split();
    let of =
        |numbers: &[usize]| Model::of(&numbers.iter().map(|number| parts[*number].clone()).collect::<Vec<_>>());
    refused(of(&[0, 2]), "is split into 3 files, and part 2 is missing");
    refused(of(&[1]), "is split into 3 files, and parts 1, 3 are missing");
    refused(of(&[0, 1, 1]), "has part 2 of 3 twice");
    refused(Model::of(&[small(), small()]), "has 2 files, and one of them is no part of a split model");
    let changed = |part: usize, key: &str, value: Value| {
        let mut parts = split();
        set(&mut parts[part], key, value);
        Model::of(&parts)
    };
    refused(changed(1, "split.count", Value::Unsigned(4)), "has a part of 3 and a part of 4");
    refused(changed(1, "split.no", Value::Unsigned(3)), "`split.no` is missing, or not below 3");
    refused(changed(1, "split.no", text("1")), "`split.no` is missing, or not below 3");
    refused(changed(1, "split.count", text("3")), "`split.count` is no number");
    let many = Value::Unsigned(1 << 60);
    refused(changed(0, "split.count", many.clone()), "and 65535 are the most");
    refused(
        changed(2, "split.tensors.count", many),
        "has 6 tensors in all its files, and `split.tensors.count` is",
    );
    let mut first = split().remove(0);
    set(&mut first, "split.count", Value::Unsigned(65_535));
    refused(Model::of(&[first]), "65534 parts are missing: 2, 3, 4, 5, 6 and more");
    let mut twice = split();
    let again = twice[0].tensors[0].clone();
    twice[2].tensors.push(again);
    refused(Model::of(&twice), "has tensor `token_embd.weight` twice, in two of its files");
    let mut alone = small();
    set(&mut alone, "split.count", Value::Unsigned(1));
    assert!(Model::of(&[alone]).is_ok());
}

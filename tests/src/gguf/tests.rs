//! What is written is a model, and the one that was asked for.

use std::path::PathBuf;

use nixmox_core::offload::gguf::{Header, TensorType, read};
use nixmox_core::offload::model::Model;

use super::{Architecture, LEAST_TOKENS, Recipe};

fn kind(name: &str) -> TensorType {
    TensorType::from_name(name).expect("a type")
}

fn recipes() -> Vec<Recipe> {
    let base = Recipe::default();
    vec![
        base.clone(),
        Recipe { is_tied: true, kind: kind("Q8_0"), ..base.clone() },
        Recipe { architecture: Architecture::Qwen2, kind: kind("F16"), ..base.clone() },
        Recipe { experts: 4, experts_used: 2, kind: kind("Q4_0"), ..base.clone() },
        Recipe { architecture: Architecture::Qwen3Moe, experts: 4, experts_used: 2, ..base.clone() },
        Recipe { architecture: Architecture::Gemma, head_length: Some(64), kind: kind("BF16"), ..base.clone() },
        Recipe { architecture: Architecture::Gemma3, layers: 7, parts: 3, ..base },
    ]
}

fn headers(recipe: &Recipe) -> Vec<Header> {
    let heads = recipe.heads().expect("heads");
    heads.iter().map(|head| read(&mut head.as_slice()).expect("a head")).collect()
}

#[test]
fn each_kind_of_model_is_read_back_as_it_was_asked_for() {
    for recipe in recipes() {
        let model = Model::of(&headers(&recipe)).expect("a model");
        assert_eq!(model.architecture, recipe.architecture.name());
        assert_eq!(model.layers.len(), usize::try_from(recipe.layers).unwrap());
        assert_eq!(model.is_tied, recipe.is_tied || recipe.architecture == Architecture::Gemma, "{recipe:?}");
        assert_eq!(model.number("embedding_length"), Some(u64::from(recipe.embedding)));
        assert_eq!(model.number("attention.key_length"), Some(u64::from(recipe.head())));
        assert_eq!(model.input[0].shape, [recipe.embedding, recipe.vocabulary].map(u64::from));
        assert_eq!(model.input[0].kind, recipe.kind);
        let is_expert = model.layers[0].iter().any(|tensor| tensor.name == "blk.0.ffn_up_exps.weight");
        assert_eq!(is_expert, recipe.experts > 0);
        assert!(model.others.is_empty() && model.projector.is_empty(), "{:?}", model.others);
    }
}

#[test]
fn files_are_as_long_as_their_heads_say_hollow_or_not() {
    let folder = tempfile::tempdir().unwrap();
    for (index, recipe) in recipes().into_iter().enumerate() {
        for is_hollow in [false, true] {
            let recipe = Recipe { is_hollow, ..recipe.clone() };
            let paths = recipe.write(folder.path(), &format!("model{index}")).expect("files");
            let heads = recipe.heads().unwrap();
            assert_eq!(paths.len(), heads.len());
            for ((path, head), header) in paths.iter().zip(&heads).zip(headers(&recipe)) {
                let data: u64 = header.tensors.iter().map(|tensor| tensor.bytes.next_multiple_of(32)).sum();
                let length = std::fs::metadata(path).unwrap().len();
                assert_eq!(length, head.len() as u64 + data, "{}", path.display());
            }
        }
    }
}

#[test]
fn the_same_recipe_gives_the_same_weights_however_it_is_split() {
    let folder = tempfile::tempdir().unwrap();
    let data = |parts: u32, seed: u64, name: &str| {
        let recipe = Recipe { parts, seed, kind: kind("Q8_0"), ..Recipe::default() };
        let paths = recipe.write(folder.path(), name).unwrap();
        let heads = recipe.heads().unwrap();
        let parts = paths.iter().zip(&heads);
        parts.flat_map(|(path, head)| std::fs::read(path).unwrap().split_off(head.len())).collect::<Vec<u8>>()
    };
    let whole = data(1, 1, "whole");
    assert!(whole == data(1, 1, "again"), "the same again");
    assert!(whole == data(4, 1, "split"), "split");
    assert!(whole != data(1, 2, "other"), "another seed");
    assert!(folder.path().join("split-00004-of-00004.gguf").exists());
}

#[test]
fn the_head_of_a_file_that_is_cut_anywhere_is_refused_without_a_panic() {
    let recipe = Recipe { layers: 1, vocabulary: 12, ..Recipe::default() };
    let head = recipe.heads().unwrap().remove(0);
    let mut rest = head.as_slice();
    read(&mut rest).expect("a head");
    // What is left is only what lies between the list of tensors and their data.
    assert!(rest.len() < 32, "{}", rest.len());
    let end = head.len() - rest.len();
    for cut in 0..end {
        let fault = read(&mut &head[..cut]).expect_err("a head that ends too early");
        assert!(fault.to_string().starts_with("ends at or behind byte"), "{cut}: {fault}");
    }
}

#[test]
fn a_model_whose_rows_are_no_whole_blocks_is_refused() {
    let recipe = Recipe { kind: kind("Q4_K"), ..Recipe::default() };
    let fault = recipe.heads().expect_err("rows of 128").to_string();
    assert!(fault.contains("rows of 128 numbers"), "{fault}");
}

/// Files from which the fuzz target begins: `UPDATE_CORPUS=1` writes them anew.
#[test]
fn the_fuzz_target_begins_from_what_is_written_here() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/gguf");
    let small = Recipe { layers: 2, vocabulary: 8, ..Recipe::default() };
    assert!(small.vocabulary < LEAST_TOKENS);
    let seeds = [
        ("llama", small.clone()),
        ("tied", Recipe { is_tied: true, kind: kind("Q8_0"), ..small.clone() }),
        ("experts", Recipe { experts: 4, experts_used: 2, kind: kind("Q4_0"), ..small.clone() }),
        ("gemma3", Recipe { architecture: Architecture::Gemma3, layers: 1, ..small.clone() }),
        ("qwen2", Recipe { architecture: Architecture::Qwen2, kind: kind("F16"), layers: 1, ..small.clone() }),
        ("split", Recipe { parts: 2, ..small }),
    ];
    for (name, recipe) in seeds {
        // The target puts the files of one model behind each other.
        let bytes = recipe.heads().unwrap().concat();
        assert!(bytes.len() <= 4096, "{name}: {} bytes are more than the fuzzer takes", bytes.len());
        let path = folder.join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{} is another file", path.display());
    }
}

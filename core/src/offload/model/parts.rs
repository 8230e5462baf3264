//! The files of a model that is split, as one.

use std::collections::{BTreeMap, BTreeSet};

use super::NotAModel;
use crate::offload::gguf::text::quoted;
use crate::offload::gguf::{Header, Tensor, Value};

/// Most files of a model: llama.cpp counts them in 16 bits.
const MAX_PARTS: u64 = 65_535;

/// Most missing files that are named.
const NAMED: usize = 5;

/// Returns the head that has the metadata, and the tensors of all files, in the order of the parts.
pub(super) fn joined(files: &[Header]) -> Result<(&Header, Vec<Tensor>), NotAModel> {
    let first = files.first().ok_or_else(|| NotAModel("has no file".to_owned()))?;
    let parts = match files {
        [_] if count_of(first)?.is_none() => vec![first],
        _ => sorted(files)?,
    };
    let first = parts.first().copied().unwrap_or(first);
    let tensors: Vec<Tensor> = parts.iter().flat_map(|part| &part.tensors).cloned().collect();
    let mut names = BTreeSet::new();
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        return Err(NotAModel(format!("has tensor {} twice, in two of its files", quoted(&twice.name))));
    }
    for claimed in parts.iter().filter_map(|part| part.metadata.get("split.tensors.count")) {
        let count = u64::try_from(tensors.len()).unwrap_or(u64::MAX);
        if *claimed != Value::Unsigned(count) {
            let claimed =
                if let Value::Unsigned(claimed) = claimed { claimed.to_string() } else { "no number".to_owned() };
            return Err(NotAModel(format!(
                "has {count} tensors in all its files, and `split.tensors.count` is {claimed}"
            )));
        }
    }
    Ok((first, tensors))
}

/// Returns of how many files this is one; `None`: it is the only one.
fn count_of(file: &Header) -> Result<Option<u64>, NotAModel> {
    match file.metadata.get("split.count") {
        None | Some(Value::Unsigned(0 | 1)) => Ok(None),
        Some(Value::Unsigned(count)) if *count <= MAX_PARTS => Ok(Some(*count)),
        Some(Value::Unsigned(count)) => {
            Err(NotAModel(format!("claims to be split into {count} files, and {MAX_PARTS} are the most")))
        }
        Some(_) => {
            Err(NotAModel("does not say into how many files it is split: `split.count` is no number".to_owned()))
        }
    }
}

/// Returns the parts in their order; all have to be there, once.
fn sorted(files: &[Header]) -> Result<Vec<&Header>, NotAModel> {
    let mut parts = BTreeMap::new();
    let mut all = None;
    for file in files {
        let Some(count) = count_of(file)? else {
            let files = files.len();
            return Err(NotAModel(format!("has {files} files, and one of them is no part of a split model")));
        };
        if let Some(other) = all.replace(count).filter(|other| *other != count) {
            return Err(NotAModel(format!(
                "has a part of {other} and a part of {count}: they are not of one model"
            )));
        }
        let Some(number) = file.number("split.no").filter(|number| *number < count) else {
            return Err(NotAModel(format!("has a part whose `split.no` is missing, or not below {count}")));
        };
        if parts.insert(number, file).is_some() {
            return Err(NotAModel(format!("has part {} of {count} twice", number.saturating_add(1))));
        }
    }
    let all = all.unwrap_or_default();
    // Counted from 1, as in the names of files.
    let missing: Vec<String> = (0..all)
        .filter(|number| !parts.contains_key(number))
        .take(NAMED)
        .map(|number| number.saturating_add(1).to_string())
        .collect();
    let count = all.saturating_sub(u64::try_from(parts.len()).unwrap_or(u64::MAX));
    match missing.as_slice() {
        [] => Ok(parts.into_values().collect()),
        [one] => Err(NotAModel(format!("is split into {all} files, and part {one} is missing"))),
        named if count > u64::try_from(named.len()).unwrap_or(u64::MAX) => Err(NotAModel(format!(
            "is split into {all} files, and {count} parts are missing: {} and more",
            named.join(", ")
        ))),
        named => Err(NotAModel(format!("is split into {all} files, and parts {} are missing", named.join(", ")))),
    }
}

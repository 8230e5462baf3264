//! What the models of an engine are made of: asked once for each, kept while the engine has it, and never of too many.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::model::Model;
use nixmox_core::offload::seen::EngineView;

/// Models that are known of one engine at most.
const MODELS_MAX: usize = 32;
/// Time until a question is put again that was not answered.
const RETRY: Duration = Duration::from_secs(30);
/// The longest of such times.
const RETRY_MAX: Duration = Duration::from_mins(30);

/// What is known.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Models {
    known: BTreeMap<String, Model>,
    asked: BTreeMap<String, Asked>,
    /// What is asked about now.
    asking: Option<String>,
}

/// A model that was asked about.
#[derive(Debug)]
struct Asked {
    /// Its digest at that time; empty: the engine does not tell, or it was not loaded.
    digest: String,
    /// When it is asked about again, and after which time the last time; `None`: it is known.
    again: Option<(Duration, Duration)>,
}

impl Models {
    /// Returns the models that are known, by the engine's name for them.
    pub(super) fn known(&self) -> &BTreeMap<String, Model> {
        &self.known
    }

    /// Returns the layers that a model has, with its output.
    pub(in crate::reconcile) fn layers_all(&self, name: &str) -> Option<u32> {
        let repeating = u32::try_from(self.known.get(name)?.layers.len()).ok()?;
        repeating.checked_add(1).filter(|_| repeating > 0)
    }

    /// Takes note of what the engine has; what is known of others is forgotten.
    pub(super) fn seen(&mut self, view: &EngineView) {
        let is_there = |name: &String| {
            view.available.is_empty()
                || view.available.contains(name)
                || view.loaded.iter().any(|model| model.name == *name)
        };
        // Another model may have taken the name.
        let is_same = |name: &String, asked: &Asked| {
            let loaded = view.loaded.iter().find(|model| model.name == *name && !model.digest.is_empty());
            loaded.is_none_or(|loaded| loaded.digest == asked.digest)
        };
        self.asked.retain(|name, asked| is_there(name) && is_same(name, asked));
        self.known.retain(|name, _| self.asked.contains_key(name));
    }

    /// Returns the next model that is to be asked about, with its digest: those that are loaded, and those to be kept.
    pub(super) fn begin(&mut self, now: Duration, view: &EngineView, keep: &[String]) -> Option<(String, String)> {
        if self.asking.is_some() {
            return None;
        }
        let loaded = view.loaded.iter().map(|model| (&model.name, model.digest.as_str()));
        let is_there = |name: &&String| view.available.is_empty() || view.available.contains(name);
        let kept = keep.iter().filter(is_there).map(|name| (name, ""));
        let is_due = |(name, _): &(&String, &str)| {
            let asked = self.asked.get(*name);
            !name.is_empty() && asked.is_none_or(|asked| asked.again.is_some_and(|(at, _)| at <= now))
        };
        let (name, digest) = loaded.chain(kept).find(is_due)?;
        let (name, digest) = (name.clone(), digest.to_owned());
        if !self.asked.contains_key(&name) && self.asked.len() >= MODELS_MAX {
            let is_wanted =
                |name: &String| keep.contains(name) || view.loaded.iter().any(|model| model.name == *name);
            let unwanted = self.asked.keys().find(|name| !is_wanted(name)).cloned()?;
            self.asked.remove(&unwanted);
            self.known.remove(&unwanted);
        }
        self.asking = Some(name.clone());
        Some((name, digest))
    }

    /// Takes in the answer.
    pub(super) fn shown(&mut self, now: Duration, name: String, digest: String, shown: Result<Header, String>) {
        self.asking = None;
        let model = shown.ok().and_then(|header| Model::of(&[header]).ok());
        let again = model.is_none().then(|| {
            let before = self.asked.get(&name).and_then(|asked| asked.again);
            let wait = before.map_or(RETRY, |(_, wait)| wait.saturating_mul(2).min(RETRY_MAX));
            (now.saturating_add(wait), wait)
        });
        match model {
            Some(model) => drop(self.known.insert(name.clone(), model)),
            None => drop(self.known.remove(&name)),
        }
        self.asked.insert(name, Asked { digest, again });
    }

    /// Returns when a question is due that was not answered before. One that is due already is not wanted any more.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        if self.asking.is_some() {
            return None;
        }
        self.asked.values().filter_map(|asked| asked.again.map(|(at, _)| at)).filter(|at| *at > now).min()
    }

    /// Knows a model.
    #[cfg(test)]
    pub(super) fn put(&mut self, name: &str, model: Model) {
        self.asked.insert(name.to_owned(), Asked { digest: String::new(), again: None });
        self.known.insert(name.to_owned(), model);
    }
}

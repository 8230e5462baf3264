//! A page with models of an engine that answers, of one that is silent, and of one that is down.

use std::sync::Arc;

use nixmox_api::{OffloadModel, OffloadService, OffloadsReply};

use crate::metrics::families::{self, Page};
use crate::metrics::tests::{SECRET, own, page};
use crate::metrics::text::Form;

/// One engine that answers, with a model on the GPU, one on the CPU that should not be there, and one that is not loaded; one that is
/// silent; and one that is down.
pub(in crate::metrics) fn sample() -> OffloadsReply {
    let secret = || SECRET.to_owned();
    let model = |name: &str, state: &str, size, size_vram| OffloadModel {
        name: name.to_owned(),
        state: state.to_owned(),
        size,
        size_vram,
        hint: secret(),
        ..OffloadModel::default()
    };
    let service = |name: &str, state: &str| OffloadService {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        state: state.to_owned(),
        reason: secret(),
        version: secret(),
        decision: secret(),
        ..OffloadService::default()
    };
    let models = vec![
        model("llama3:8b", "gpu", Some(6000), Some(6000)),
        OffloadModel { incident: secret(), ..model("qwen3:4b", "cpu", Some(3000), Some(0)) },
        model("nomic-embed-text", "unloaded", None, None),
    ];
    let web = OffloadService { models, ..service("web", "answers") };
    let db = OffloadService { models: vec![model("old", "gpu", Some(1), Some(1))], ..service("db", "silent") };
    OffloadsReply { services: vec![web, db, service("mail", "down")] }
}

#[test]
fn where_no_service_runs_models_nothing_is_said() {
    for offloads in [None, Some(Arc::default())] {
        let page = Page { offloads, ..page() };
        assert!(!families::write(&page, &own(), Form::OpenMetrics).contains("model"), "{:?}", page.offloads);
    }
}

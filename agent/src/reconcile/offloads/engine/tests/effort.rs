//! What a decision costs, whatever a model is said to be made of.

use nixmox_core::offload::estimate::Room;
use nixmox_core::offload::gguf::{Tensor, TensorType, Value};
use nixmox_core::offload::model::Model;

use super::*;
use crate::reconcile::offloads::ESTIMATES_MAX;

#[test]
fn a_model_of_a_thousand_layers_does_not_hold_a_round_up() {
    let tensor = |name: String| Tensor {
        name,
        kind: TensorType::from_number(0).unwrap(),
        shape: vec![1024, 1024],
        bytes: 4 << 20,
    };
    let of_layer = |layer: u32| {
        ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down", "ffn_gate"]
            .map(|part| tensor(format!("blk.{layer}.{part}.weight")))
            .to_vec()
    };
    let model = Model {
        architecture: "llama".to_owned(),
        name: None,
        layers: (0..1000).map(of_layer).collect(),
        input: vec![tensor("token_embd.weight".to_owned())],
        output: vec![tensor("output.weight".to_owned())],
        is_tied: false,
        projector: Vec::new(),
        others: Vec::new(),
        metadata: BTreeMap::from([
            ("general.architecture".to_owned(), Value::Text("llama".to_owned())),
            ("llama.block_count".to_owned(), Value::Unsigned(1000)),
            ("llama.context_length".to_owned(), Value::Unsigned(10_000_000)),
            ("llama.embedding_length".to_owned(), Value::Unsigned(1024)),
            ("llama.attention.head_count".to_owned(), Value::Unsigned(8)),
        ]),
    };
    let names: Vec<String> = (0..2).map(|number| format!("m{number}")).collect();
    let mut engine = Engine::new(InvocationId(1), Duration::ZERO);
    for name in &names {
        engine.models.put(name, model.clone());
    }
    let loaded =
        names.iter().map(|name| LoadedModel { size_vram: None, context: Some(1_000_000), ..loaded(name, 0) });
    let seen = EngineSeen::Answers(EngineView {
        loaded: loaded.collect(),
        available: names.clone(),
        is_multi: true,
        ..EngineView::default()
    });
    let mut given = given(1 << 30, "game");
    given.offload.keep = names;
    given.rooms = vec![Room { total: Bytes(24 << 30), free: Bytes(20 << 30) }];
    given.used = Some(Bytes(20 << 30));
    let (mut rounds, mut longest, mut step) = (0, Duration::ZERO, None);
    while step.is_none() && rounds < 100 {
        let now = Duration::from_secs(60 + rounds);
        (given.used_at, rounds) = (now, rounds + 1);
        engine.looked(now, seen.clone());
        engine.estimates.allow(ESTIMATES_MAX);
        let began = std::time::Instant::now();
        step = engine.decide(now, &given, &Measured::default());
        longest = longest.max(began.elapsed());
    }
    println!("{rounds} rounds, {longest:?} the longest: {step:?}");
    assert!(step.is_some() && rounds > 1, "{rounds}");
}

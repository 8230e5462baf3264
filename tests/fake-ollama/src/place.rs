//! Where the layers of a model go.

use crate::gpus::Gpu;
use crate::library::{CONTEXT_OVERHEAD, Model};

/// What a load takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Layers on GPUs.
    pub(crate) layers: u64,
    /// Bytes by GPU, as the driver counts them; each GPU once.
    pub(crate) gpus: Vec<(usize, u64)>,
    /// All bytes, as the engine counts them.
    pub(crate) size: u64,
    /// What of that is on GPUs, as the engine counts it: without what the driver takes for itself.
    pub(crate) size_vram: u64,
}

/// Returns what a load takes with so many layers on GPUs, or with as many as fit; `tokens` are those of all requests.
///
/// Layers that repeat come before the output. GPUs are filled one after another; where one alone is enough, the one with the most room.
/// Without any GPU, all is on the CPU, whatever was asked for. `None`: an explicit number that does not fit.
pub(crate) fn place(model: &Model, tokens: u64, layers: Option<u64>, gpus: &[Gpu], margin: u64) -> Option<Placed> {
    let room = |gpu: &Gpu| if layers.is_some() { gpu.free } else { gpu.free.saturating_sub(margin) };
    let wanted = layers.unwrap_or(model.layers()).min(model.layers());
    let mut order: Vec<(usize, u64)> = gpus.iter().map(|gpu| (gpu.index, room(gpu))).collect();
    order.sort_by_key(|(index, room)| (std::cmp::Reverse(*room), *index));
    let alone = order.first().map(|first| fill(model, tokens, wanted, &[*first]));
    let placed = match alone {
        Some(alone) if alone.layers == wanted => alone,
        _ => {
            order.sort_unstable();
            fill(model, tokens, wanted, &order)
        }
    };
    (layers.is_none() || gpus.is_empty() || placed.layers == wanted).then_some(placed)
}

fn fill(model: &Model, tokens: u64, wanted: u64, gpus: &[(usize, u64)]) -> Placed {
    let mut placed = Placed { size: model.total(tokens), ..Placed::default() };
    for (index, room) in gpus {
        let fixed = |with_output| model.compute(with_output) + CONTEXT_OVERHEAD;
        let mut layers = 0;
        let mut bytes = 0;
        while placed.layers + layers < wanted {
            let is_output = placed.layers + layers == model.blocks;
            let next = bytes + if is_output { model.output_layer() } else { model.layer(tokens) };
            if next + fixed(is_output) > *room {
                break;
            }
            (bytes, layers) = (next, layers + 1);
        }
        if layers > 0 {
            let with_output = placed.layers + layers > model.blocks;
            placed.layers += layers;
            placed.gpus.push((*index, bytes + fixed(with_output)));
            placed.size_vram += bytes + model.compute(with_output);
        }
    }
    // What is counted twice on several GPUs is no part of it.
    placed.size_vram = placed.size_vram.min(placed.size);
    if placed.layers == model.layers() {
        // The input alone is not there; engines count a whole model as whole.
        placed.size_vram = placed.size;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::place;
    use crate::gpus::Gpu;
    use crate::library::Model;

    fn model() -> Model {
        Model::parse("big 16 4096 32 8 14336 32000 8192").expect("it is one")
    }

    fn gpus(free: &[u64]) -> Vec<Gpu> {
        let gpu = |(index, free): (usize, &u64)| Gpu { index, total: 12 << 30, free: *free << 20 };
        free.iter().enumerate().map(gpu).collect()
    }

    #[test]
    fn as_many_layers_as_fit_are_placed() {
        let whole = place(&model(), 4096, None, &gpus(&[12_000]), 0).expect("placed");
        assert_eq!((whole.layers, whole.size), (17, whole.size_vram));
        assert!((3 << 30..6 << 30).contains(&whole.gpus[0].1), "{whole:?}");
        let part = place(&model(), 4096, None, &gpus(&[2_000]), 0).expect("placed");
        assert!((1..17).contains(&part.layers) && part.size_vram < part.size, "{part:?}");
        assert!(part.gpus[0].1 <= 2_000 << 20);
        let less = place(&model(), 4096, None, &gpus(&[2_000]), 500 << 20).expect("placed");
        assert!(less.layers < part.layers, "what is to be left alone counts");
        let none = place(&model(), 4096, None, &gpus(&[100]), 0).expect("placed");
        assert_eq!((none.layers, none.size_vram, none.gpus.len()), (0, 0, 0));
    }

    #[test]
    fn an_explicit_number_is_exactly_that_or_nothing() {
        let five = place(&model(), 4096, Some(5), &gpus(&[12_000]), 11 << 30).expect("no margin counts");
        assert_eq!(five.layers, 5);
        assert_eq!(place(&model(), 4096, Some(17), &gpus(&[2_000]), 0), None);
        assert_eq!(place(&model(), 4096, Some(17), &[], 0).expect("placed").layers, 0);
        assert_eq!(place(&model(), 4096, Some(99), &gpus(&[12_000]), 0).expect("placed").layers, 17);
        assert_eq!(place(&model(), 4096, Some(0), &gpus(&[0]), 0).expect("placed").layers, 0);
    }

    #[test]
    fn the_emptiest_gpu_is_taken_where_it_is_enough_and_several_where_not() {
        let one = place(&model(), 4096, None, &gpus(&[6_000, 9_000]), 0).expect("placed");
        assert_eq!(one.gpus.iter().map(|gpu| gpu.0).collect::<Vec<_>>(), [1]);
        let two = place(&model(), 4096, None, &gpus(&[3_000, 3_500]), 0).expect("placed");
        assert_eq!((two.layers, two.gpus.len()), (17, 2), "{two:?}");
    }
}

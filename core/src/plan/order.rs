//! An order over a graph that should have no cycle, and does not fail when it has one.

/// Returns every node once, each after what `before` says comes before it, ties in the order of numbers; and the
/// edges `(before, node)` that had to be ignored because they closed a cycle.
///
/// `before(node)` has node numbers below `count`.
pub(super) fn topological<I>(count: usize, before: impl Fn(usize) -> I) -> (Vec<usize>, Vec<(usize, usize)>)
where
    I: IntoIterator<Item = usize>,
{
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; count];
    let mut order = Vec::with_capacity(count);
    let mut ignored = Vec::new();
    // A stack of our own: a chain of 10,000 services would overflow the thread's.
    let mut stack: Vec<(usize, I::IntoIter)> = Vec::new();
    for root in 0..count {
        let mut next = Some(root);
        loop {
            if let Some(node) = next.take()
                && let Some(mark) = marks.get_mut(node)
            {
                match mark {
                    Mark::New => {
                        *mark = Mark::Open;
                        stack.push((node, before(node).into_iter()));
                    }
                    Mark::Open => ignored.extend(stack.last().map(|(above, _)| (node, *above))),
                    Mark::Done => {}
                }
            }
            let Some((node, rest)) = stack.last_mut() else { break };
            next = rest.next();
            if next.is_none() {
                if let Some(mark) = marks.get_mut(*node) {
                    *mark = Mark::Done;
                }
                order.push(*node);
                stack.pop();
            }
        }
    }
    (order, ignored)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chain_longer_than_the_stack_of_a_thread_is_ordered() {
        let count = 200_000;
        let (order, ignored) = topological(count, |node| (node + 1 < count).then_some(node + 1));
        assert_eq!(order.first(), Some(&(count - 1)));
        assert!(ignored.is_empty());
    }

    #[test]
    fn a_cycle_loses_one_edge() {
        let (order, ignored) = topological(3, |node| [(node + 1) % 3]);
        assert_eq!(order, [2, 1, 0]);
        assert_eq!(ignored, [(0, 2)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_edge_is_kept_or_named(edges in prop::collection::btree_set((0_usize..8, 0_usize..8), 0..24)) {
            let before = |node: usize| edges.iter().filter(move |(_, to)| *to == node).map(|(from, _)| *from);
            let (order, ignored) = topological(8, before);
            let place = |node: usize| order.iter().position(|other| *other == node).unwrap();
            prop_assert_eq!(order.len(), 8);
            for edge in &edges {
                prop_assert_eq!(ignored.contains(edge), place(edge.0) >= place(edge.1), "{:?}", edge);
            }
        }
    }
}

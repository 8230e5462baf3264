//! Cycles in a graph of names.

use std::collections::{BTreeMap, BTreeSet};

/// Returns cycles so that breaking each of them breaks every cycle of the graph.
///
/// A cycle is the list of its nodes, each depending on the next and the last on the first, beginning with the
/// smallest; cycles share no node. A node that depends on itself is one. Edges to unknown nodes are ignored.
/// Takes time linear in nodes and edges for each cycle found.
pub(in super::super) fn cycles<N: Ord + Copy>(edges: &BTreeMap<N, BTreeSet<N>>) -> Vec<Vec<N>> {
    let mut rest = edges.clone();
    let mut found = Vec::new();
    loop {
        strip(&mut rest);
        let Some(start) = rest.keys().next().copied() else { return found };
        // Every node left depends on one that is left: walking on must come round.
        let mut walk = vec![start];
        let mut seen = BTreeMap::from([(start, 0)]);
        let cycle = loop {
            let next = walk.last().and_then(|last| rest.get(last)?.iter().next().copied());
            let Some(next) = next else { break Vec::new() };
            if let Some(at) = seen.get(&next) {
                break walk.split_off(*at);
            }
            seen.insert(next, walk.len());
            walk.push(next);
        };
        if cycle.is_empty() {
            return found;
        }
        for node in &cycle {
            rest.remove(node);
        }
        found.push(from_smallest(cycle));
    }
}

/// Removes the nodes that depend on nothing that is left, until every node does.
fn strip<N: Ord + Copy>(rest: &mut BTreeMap<N, BTreeSet<N>>) {
    let mut dependents: BTreeMap<N, Vec<N>> = BTreeMap::new();
    let nodes: BTreeSet<N> = rest.keys().copied().collect();
    for (node, on) in rest.iter_mut() {
        on.retain(|on| nodes.contains(on));
        for on in on.iter() {
            dependents.entry(*on).or_default().push(*node);
        }
    }
    let mut free: Vec<N> = rest.iter().filter(|(_, on)| on.is_empty()).map(|(node, _)| *node).collect();
    while let Some(node) = free.pop() {
        rest.remove(&node);
        for dependent in dependents.get(&node).into_iter().flatten() {
            if let Some(on) = rest.get_mut(dependent) {
                on.remove(&node);
                if on.is_empty() {
                    free.push(*dependent);
                }
            }
        }
    }
}

fn from_smallest<N: Ord + Copy>(mut cycle: Vec<N>) -> Vec<N> {
    let smallest = cycle.iter().enumerate().min_by_key(|(_, node)| **node).map_or(0, |(at, _)| at);
    cycle.rotate_left(smallest);
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(u32, &[u32])]) -> BTreeMap<u32, BTreeSet<u32>> {
        edges.iter().map(|(node, on)| (*node, on.iter().copied().collect())).collect()
    }

    #[test]
    fn finds_the_whole_cycle_and_not_what_leads_to_it() {
        let edges = graph(&[(1, &[3]), (2, &[3]), (3, &[4, 9]), (4, &[2]), (5, &[]), (9, &[5])]);
        assert_eq!(cycles(&edges), [[2, 3, 4]]);
        assert_eq!(cycles(&graph(&[(1, &[1]), (2, &[7])])), [[1]]);
        assert!(cycles(&graph(&[(1, &[2]), (2, &[3]), (3, &[])])).is_empty());
    }

    #[test]
    fn finds_each_of_several_cycles() {
        let edges = graph(&[(1, &[2]), (2, &[1, 3]), (3, &[4]), (4, &[3])]);
        assert_eq!(cycles(&edges), [[1, 2], [3, 4]]);
    }

    #[test]
    fn a_long_chain_is_no_burden() {
        let edges: BTreeMap<u32, BTreeSet<u32>> = (0..50_000).map(|n| (n, BTreeSet::from([n + 1]))).collect();
        assert!(cycles(&edges).is_empty());
    }
}

//! Cycles in a graph of names.

use std::collections::{BTreeMap, BTreeSet};

/// Returns cycles so that breaking each of them breaks every cycle of the graph.
///
/// A cycle is the list of its nodes, each depending on the next and the last on the first, beginning with the
/// smallest; cycles share no node. A node that depends on itself is one. Edges to unknown nodes are ignored.
/// Takes time linear in nodes and edges, but for the logarithm of a map.
pub(in super::super) fn cycles<N: Ord + Copy>(edges: &BTreeMap<N, BTreeSet<N>>) -> Vec<Vec<N>> {
    let mut rest = Rest::of(edges);
    let mut found = Vec::new();
    // The way from one node to what it depends on, and on; and where on it each node is.
    let mut walk: Vec<N> = Vec::new();
    let mut places = BTreeMap::new();
    loop {
        // What went with the last cycle is the end of the way: a node goes only after all that it depends on.
        while let Some(last) = walk.pop_if(|last| !rest.edges.contains_key(last)) {
            places.remove(&last);
        }
        // Every node that is left depends on one that is left: walking on must come round.
        let next = match walk.last() {
            Some(last) => rest.edges.get(last).and_then(|on| on.first()).copied(),
            None => rest.edges.keys().next().copied(),
        };
        let Some(next) = next else { return found };
        let Some(at) = places.get(&next).copied() else {
            places.insert(next, walk.len());
            walk.push(next);
            continue;
        };
        let cycle = walk.split_off(at);
        for node in &cycle {
            places.remove(node);
            rest.remove(*node);
        }
        found.push(from_smallest(cycle));
    }
}

/// What is left of a graph in which every node depends on another one.
struct Rest<N> {
    edges: BTreeMap<N, BTreeSet<N>>,
    /// Who depends on each node, or did.
    dependents: BTreeMap<N, Vec<N>>,
}

impl<N: Ord + Copy> Rest<N> {
    fn of(edges: &BTreeMap<N, BTreeSet<N>>) -> Self {
        let known = |on: &&N| edges.contains_key(on);
        let mut rest = Self { edges: BTreeMap::new(), dependents: BTreeMap::new() };
        for (node, on) in edges {
            let on: BTreeSet<N> = on.iter().filter(known).copied().collect();
            for on in &on {
                rest.dependents.entry(*on).or_default().push(*node);
            }
            rest.edges.insert(*node, on);
        }
        let free: Vec<N> = rest.edges.iter().filter(|(_, on)| on.is_empty()).map(|(node, _)| *node).collect();
        for node in free {
            rest.remove(node);
        }
        rest
    }

    /// Removes a node, and then those that depend on nothing that is left.
    fn remove(&mut self, node: N) {
        let mut gone = vec![node];
        while let Some(node) = gone.pop() {
            self.edges.remove(&node);
            for dependent in self.dependents.get(&node).into_iter().flatten() {
                if let Some(on) = self.edges.get_mut(dependent)
                    && on.remove(&node)
                    && on.is_empty()
                {
                    gone.push(*dependent);
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
    fn breaking_the_cycles_that_are_found_breaks_all() {
        let mut random = 0x5eed_u32;
        let mut below = |limit: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % limit
        };
        for nodes in 1..60 {
            let edges: BTreeMap<u32, BTreeSet<u32>> =
                (0..nodes).map(|node| (node, (0..below(4)).map(|_| below(nodes + 2)).collect())).collect();
            let found = cycles(&edges);
            for cycle in &found {
                for (node, on) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
                    assert!(edges[node].contains(on), "{edges:?}: {cycle:?}");
                }
                assert_eq!(cycle.first(), cycle.iter().min());
            }
            let nodes: Vec<u32> = found.concat();
            let without: BTreeMap<_, _> =
                edges.iter().filter(|(node, _)| !nodes.contains(node)).map(|(n, on)| (*n, on.clone())).collect();
            assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), nodes.len(), "they share none: {found:?}");
            assert!(cycles(&without).is_empty(), "{edges:?}: {found:?}");
        }
    }

    #[test]
    fn many_cycles_behind_a_long_way_are_no_burden() {
        // Each of 10,000 cycles is reached by the same 10,000 nodes.
        let way = (0..10_000).map(|n| (n, BTreeSet::from([n + 1])));
        let fan = [(10_000, (0..10_000).map(|n| 20_000 + 2 * n).collect())];
        let pairs = (0..20_000).map(|n| (20_000 + n, BTreeSet::from([20_000 + (n ^ 1)])));
        let edges: BTreeMap<u32, BTreeSet<u32>> = way.chain(fan).chain(pairs).collect();
        assert_eq!(cycles(&edges).len(), 10_000);
    }

    #[test]
    fn a_long_chain_is_no_burden() {
        let edges: BTreeMap<u32, BTreeSet<u32>> = (0..50_000).map(|n| (n, BTreeSet::from([n + 1]))).collect();
        assert!(cycles(&edges).is_empty());
    }
}

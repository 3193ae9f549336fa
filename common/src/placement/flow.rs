//! A flow of minimum cost through a network, by the primal-dual method: shortest paths from the source (Dijkstra over
//! reduced costs), then as much flow as goes along shortest edges (Dinic), until no more is wanted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// An edge and, at the index beside it, its reverse.
struct Edge {
    to: usize,
    room: i64,
    cost: i64,
}

/// A network of numbered vertices. Edges are tried in the order in which they are added.
pub(super) struct Network {
    edges: Vec<Edge>,
    out: Vec<Vec<usize>>,
}

/// Names an edge, to ask for its flow.
#[derive(Clone, Copy)]
pub(super) struct EdgeId(usize);

const UNREACHED: i64 = i64::MAX;

impl Network {
    pub(super) fn new(vertices: usize) -> Self {
        Self { edges: Vec::new(), out: vec![Vec::new(); vertices] }
    }

    /// Adds an edge. Costs are not negative.
    pub(super) fn add(&mut self, from: usize, to: usize, room: usize, cost: i64) -> EdgeId {
        assert!(cost >= 0, "Dijkstra's method needs costs that are not negative");
        let id = self.edges.len();
        self.edges.push(Edge { to, room: room as i64, cost });
        self.edges.push(Edge { to: from, room: 0, cost: -cost });
        self.out[from].push(id);
        self.out[to].push(id + 1);
        EdgeId(id)
    }

    /// What flows through an edge.
    pub(super) fn flow(&self, edge: EdgeId) -> usize {
        self.edges[edge.0 + 1].room as usize
    }

    /// Sends `wanted` from `source` to `sink` at the least cost, or as much as goes; returns how much that was.
    pub(super) fn send(&mut self, source: usize, sink: usize, wanted: usize) -> usize {
        let mut potential = vec![0; self.out.len()];
        let mut left = wanted as i64;
        while left > 0 && self.raise_potentials(source, sink, &mut potential) {
            while left > 0 {
                let Some(level) = self.levels(source, sink, &potential) else { break };
                let mut tried = vec![0; self.out.len()];
                while left > 0 {
                    let sent = self.augment(source, sink, left, &potential, &level, &mut tried);
                    if sent == 0 {
                        break;
                    }
                    left -= sent;
                }
            }
        }
        wanted - left as usize
    }

    /// Adds to each potential the distance from the source, so that the edges of shortest paths have the reduced cost
    /// 0. False if the sink is out of reach.
    fn raise_potentials(&self, source: usize, sink: usize, potential: &mut [i64]) -> bool {
        let mut distance = vec![UNREACHED; self.out.len()];
        let mut queue = BinaryHeap::from([Reverse((0, source))]);
        distance[source] = 0;
        while let Some(Reverse((so_far, from))) = queue.pop() {
            if so_far >= distance[sink] {
                break;
            }
            if so_far > distance[from] {
                continue;
            }
            for edge in self.out[from].iter().map(|&id| &self.edges[id]).filter(|edge| edge.room > 0) {
                let next = so_far + edge.cost + potential[from] - potential[edge.to];
                if next < distance[edge.to] {
                    distance[edge.to] = next;
                    queue.push(Reverse((next, edge.to)));
                }
            }
        }
        // Beyond the sink's distance nothing matters: capping keeps reduced costs from becoming negative.
        let reach = distance[sink];
        if reach == UNREACHED {
            return false;
        }
        potential.iter_mut().zip(&distance).for_each(|(potential, &distance)| *potential += distance.min(reach));
        true
    }

    /// How many edges each vertex is away from the source over edges of shortest paths that have room.
    fn levels(&self, source: usize, sink: usize, potential: &[i64]) -> Option<Vec<usize>> {
        let mut level = vec![usize::MAX; self.out.len()];
        let mut queue = VecDeque::from([source]);
        level[source] = 0;
        while let Some(from) = queue.pop_front() {
            for &id in &self.out[from] {
                let edge = &self.edges[id];
                if level[edge.to] == usize::MAX && self.is_shortest(from, edge, potential) {
                    level[edge.to] = level[from] + 1;
                    queue.push_back(edge.to);
                }
            }
        }
        (level[sink] != usize::MAX).then_some(level)
    }

    fn is_shortest(&self, from: usize, edge: &Edge, potential: &[i64]) -> bool {
        edge.room > 0 && edge.cost + potential[from] == potential[edge.to]
    }

    /// Sends something along one path to the sink, each edge of which leads one level on. `tried` counts the edges of
    /// each vertex that have led nowhere.
    fn augment(
        &mut self,
        source: usize,
        sink: usize,
        limit: i64,
        potential: &[i64],
        level: &[usize],
        tried: &mut [usize],
    ) -> i64 {
        let (mut path, mut at) = (Vec::new(), source);
        while at != sink {
            let open = self.out[at][tried[at]..].iter().position(|&id| {
                let edge = &self.edges[id];
                level[edge.to] == level[at] + 1 && self.is_shortest(at, edge, potential)
            });
            if let Some(skipped) = open {
                tried[at] += skipped;
                path.push(self.out[at][tried[at]]);
                at = self.edges[path[path.len() - 1]].to;
                continue;
            }
            tried[at] = self.out[at].len();
            let Some(dead_end) = path.pop() else { return 0 };
            at = self.edges[dead_end ^ 1].to;
            tried[at] += 1;
        }
        let sent = path.iter().map(|&id| self.edges[id].room).fold(limit, i64::min);
        for id in path {
            self.edges[id].room -= sent;
            self.edges[id ^ 1].room += sent;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn takes_the_cheap_way_first_and_undoes_what_was_wrong() {
        // 0 -> 3 by way of 1 or 2; the cheapest single path 0-1-2-3 blocks both others.
        let mut network = Network::new(4);
        let edges = [(0, 1, 1), (0, 2, 4), (1, 2, 1), (1, 3, 4), (2, 3, 1)]
            .map(|(from, to, cost)| network.add(from, to, 1, cost));
        assert_eq!(network.send(0, 3, 5), 2);
        assert_eq!(edges.map(|edge| network.flow(edge)), [1, 1, 0, 1, 1]);
    }

    #[test]
    fn sends_no_more_than_wanted() {
        let mut network = Network::new(2);
        let (dear, cheap) = (network.add(0, 1, 5, 7), network.add(0, 1, 5, 1));
        assert_eq!(network.send(0, 1, 6), 6);
        assert_eq!((network.flow(dear), network.flow(cheap)), (1, 5));
    }
}

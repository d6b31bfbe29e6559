//! What a row remembers of its steps: its last nodes, and the inner products of what the network said there.

use super::SLOTS;
use crate::field::edm_sigma;
use crate::quadrature::lagrange_slopes;

/// A node: where the network was asked, and the slot that holds its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) t: f64,
    pub(super) slot: usize,
}

/// Coefficients of a combination of slots.
pub(super) type Coefficients = [f64; SLOTS];

/// What a row remembers of its steps.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The latest nodes, oldest first; at most as many as leave one slot free.
    pub(super) nodes: Vec<Node>,
    /// Inner products of the slots.
    gram: [[f64; SLOTS]; SLOTS],
    /// Predictor minus corrector of the last accepted step, as coefficients of slots.
    pub(super) delta: Coefficients,
    /// The corrector of the last accepted step in y = z/alpha, as coefficients of slots.
    pub(super) corrector: Coefficients,
    /// What `bend` notes, at every node but the latest.
    pub(super) bends: Vec<f64>,
    /// Every node and q there, of the leg and of those that lead over to it by soft joints.
    pub(super) times: Vec<f64>,
    pub(super) traces: Vec<f64>,
    /// How many of them are those of earlier legs alone.
    pub(super) before: usize,
}

impl Memory {
    /// The slots that hold its nodes.
    pub(super) fn slots(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.slot).collect()
    }

    /// The first slot that holds no node.
    pub(super) fn free(&self) -> usize {
        let used = |slot: &usize| self.nodes.iter().any(|node| node.slot == *slot);
        (0..SLOTS).find(|slot| !used(slot)).unwrap_or(0)
    }

    /// Takes in the inner products of a new slot with all.
    pub(super) fn note(&mut self, new: usize, products: &[f64]) {
        for (other, &product) in products.iter().enumerate() {
            self.gram[new][other] = product;
            self.gram[other][new] = product;
        }
    }

    pub(super) fn product(&self, a: &Coefficients, b: &Coefficients) -> f64 {
        let mut sum = 0.0;
        for (i, a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
            for (j, b) in b.iter().enumerate().filter(|(_, b)| **b != 0.0) {
                sum += a * b * self.gram[i][j];
            }
        }
        sum
    }

    /// Notes delta . d(score)/dgamma at `nodes[at]`, from the latest four of them. In y the score is
    /// -eps_hat/sigma; of that only eps_hat is taken for a polynomial.
    pub(super) fn bend(&mut self, nodes: &[Node], at: usize) {
        let first = nodes.len().saturating_sub(4);
        let times: Vec<f64> = nodes[first..].iter().map(|node| node.t).collect();
        let sigma = edm_sigma(nodes[at].t);
        let mut slope = [0.0; SLOTS];
        slope[nodes[at].slot] = 0.5 / sigma;
        for (node, weight) in nodes[first..]
            .iter()
            .zip(lagrange_slopes(&times, at - first))
        {
            slope[node.slot] -= weight / sigma;
        }
        self.bends.push(self.product(&slope, &self.delta));
    }

    /// A node joins the others. One slot stays free for the next: delta of the next step and of this one
    /// need all others.
    pub(super) fn admit(&mut self, node: Node, q: f64) {
        self.nodes.push(node);
        self.times.push(node.t);
        self.traces.push(q);
        if self.nodes.len() == SLOTS {
            self.nodes.remove(0);
        }
    }
}

//! One row's walk along its leg: the last nodes, the Gram matrix of what the network said at them, and
//! the decision on an attempt.

use super::Plan;
use crate::control;
use crate::course::{Path, Rider};
use crate::field::{edm_sigma, log_alpha};
use crate::outcome::{Finished, Job, Status, Step};
use crate::quadrature::{MAX_NODES, lagrange_weights, spline_integral};

use super::SLOTS;

/// Step with which a problem begins, over the root of the tolerance: the first step is of order 1, so that its
/// delta grows as its square. On trained networks that is then a quarter to a half of what is allowed.
const FIRST_STEP: f64 = 1.8;
/// It is no longer than this, so that a leg to the least threshold has the four nodes that tell its probe noise.
const LONGEST_FIRST_STEP: f64 = 0.2;
/// The step over the root of the tolerance with which a leg begins where another one ended: the flow bends less
/// there than at the data.
const RESTART_STEP: f64 = 3.6;
/// A step that is not longer than this is accepted whatever its error.
const FORCED_STEP: f64 = 0.02;
/// A forced step whose error is that many times the tolerance marks its problem.
const MISSED: f64 = 10.0;
/// The end of a leg is taken in one step if it lies no further than that many steps away.
const STRETCH: f64 = 1.25;

/// A node: where the network was asked, and the slot that holds its answer.
#[derive(Clone, Copy, Debug)]
struct Node {
    t: f64,
    slot: usize,
}

/// Coefficients of a combination of slots.
type Coefficients = [f64; SLOTS];

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) job: Job,
    path: Path,
    /// The latest nodes, oldest first; at most as many as leave one slot free.
    nodes: Vec<Node>,
    /// Inner products of the slots.
    gram: [[f64; SLOTS]; SLOTS],
    /// Predictor minus corrector of the last accepted step, as coefficients of slots.
    delta: Coefficients,
    /// Every node of the leg and q there.
    times: Vec<f64>,
    traces: Vec<f64>,
    h: f64,
    halvings: u32,
    attempts: u32,
    evaluations: u64,
    ratio: f64,
}

/// One attempt: an evaluation at the start of the leg, or a step.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) t: f64,
    pub(super) slot: usize,
    /// Scale and weights of the predictor and of the corrector; the corrector's weights are zero at the
    /// start of a leg, where nothing is corrected.
    pub(super) scale: f64,
    pub(super) predictor: Coefficients,
    pub(super) corrector: Coefficients,
    /// Predictor minus corrector in y = z/alpha.
    delta: Coefficients,
    /// Nodes of the corrector.
    n_nodes: usize,
    /// Whether |z|^2 is wanted at its end.
    pub(super) square: bool,
}

impl Attempt {
    pub(super) fn is_step(&self) -> bool {
        self.n_nodes > 0
    }
}

impl Row {
    pub(super) fn new(job: Job, path: Path, tol: f64) -> Self {
        let h = if job.evaluations.is_empty() {
            (FIRST_STEP * tol.sqrt()).min(LONGEST_FIRST_STEP)
        } else {
            RESTART_STEP * tol.sqrt()
        };
        Self {
            h,
            job,
            path,
            nodes: Vec::with_capacity(SLOTS),
            gram: [[0.0; SLOTS]; SLOTS],
            delta: [0.0; SLOTS],
            times: Vec::new(),
            traces: Vec::new(),
            halvings: 0,
            attempts: 0,
            evaluations: 0,
            ratio: 0.0,
        }
    }

    /// Where the row is; the leg's start before its first node.
    fn t(&self) -> f64 {
        self.nodes.last().map_or(self.path.start, |node| node.t)
    }

    pub(super) fn attempt(&mut self, plan: &Plan) -> Attempt {
        self.attempts += 1;
        self.evaluations += 1;
        let used = |slot: &usize| self.nodes.iter().any(|node| node.slot == *slot);
        let slot = (0..SLOTS).find(|slot| !used(slot)).unwrap_or(0);
        let mut attempt = Attempt {
            t: self.path.start,
            slot,
            scale: 1.0,
            predictor: [0.0; SLOTS],
            corrector: [0.0; SLOTS],
            delta: [0.0; SLOTS],
            n_nodes: 0,
            square: false,
        };
        if self.nodes.is_empty() {
            return attempt;
        }
        let from = self.t();
        let to = self.target(plan, from);
        // z = alpha y, and y' = (s/2) eps_hat: the linear part is in alpha.
        let order = plan.order.min(self.nodes.len());
        let mut nodes = self.nodes[self.nodes.len() - order..].to_vec();
        let alpha = log_alpha(to).exp();
        attempt.t = to;
        attempt.scale = (log_alpha(to) - log_alpha(from)).exp();
        for (node, weight) in nodes.iter().zip(weights(&nodes, from, to)) {
            attempt.predictor[node.slot] = alpha * weight;
            attempt.delta[node.slot] = weight;
        }
        nodes.push(Node { t: to, slot });
        for (node, weight) in nodes.iter().zip(weights(&nodes, from, to)) {
            attempt.corrector[node.slot] = alpha * weight;
            attempt.delta[node.slot] -= weight;
        }
        attempt.n_nodes = nodes.len();
        attempt.square = to == self.path.end && self.wants_square();
        attempt
    }

    /// Where the next step ends.
    fn target(&self, plan: &Plan, from: f64) -> f64 {
        if let Some(steps) = plan.constant {
            let done = self.times.len() as f64; // the start is a node too
            return if self.times.len() == steps as usize {
                self.path.end
            } else {
                self.path.start + done / f64::from(steps) * (self.path.end - self.path.start)
            };
        }
        let h = self.h.min(plan.precision.h_max);
        let left = self.path.end - from;
        if left.abs() < STRETCH * h {
            self.path.end
        } else {
            from + h.copysign(left)
        }
    }

    /// The riders whose own next step would be another one, who ride no more: theirs would go to its end.
    pub(super) fn leaving(&mut self, plan: &Plan) -> Vec<Rider> {
        if self.job.riders.is_empty() || self.nodes.is_empty() {
            return Vec::new();
        }
        let reach = STRETCH * self.h.min(plan.precision.h_max);
        let (t, end) = (self.t(), self.path.end);
        let riders = std::mem::take(&mut self.job.riders);
        let (leaving, staying) = riders.into_iter().partition(|rider| {
            let is_near = (rider.path.end - t).abs() < reach;
            rider.path.end != end && (is_near || plan.constant.is_some())
        });
        self.job.riders = staying;
        leaving
    }

    /// The row that a rider leaves with.
    pub(super) fn branch(&self, rider: &Rider) -> Self {
        Self {
            job: self.job.named(rider.key),
            path: rider.path,
            ..self.clone()
        }
    }

    /// The slots that hold its nodes.
    pub(super) fn slots(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.slot).collect()
    }

    fn wants_square(&self) -> bool {
        self.path.square || self.job.riders.iter().any(|rider| rider.path.square)
    }

    /// Takes in what an attempt has measured: q, and the inner products of the new slot with all. Tells
    /// whether the trial becomes the state, and the status if the leg is over.
    pub(super) fn settle(
        &mut self,
        plan: &Plan,
        attempt: &Attempt,
        q: f64,
        products: &[f64],
    ) -> (bool, Option<Status>) {
        let finite = q.is_finite() && products[attempt.slot].is_finite();
        if finite {
            for (other, &product) in products.iter().enumerate() {
                self.gram[attempt.slot][other] = product;
                self.gram[other][attempt.slot] = product;
            }
        }
        if !attempt.is_step() {
            if finite {
                self.admit(attempt, q);
            }
            return (false, (!finite).then_some(Status::Nonfinite));
        }
        let size = (attempt.t - self.t()).abs();
        self.ratio = if finite {
            self.error(plan, attempt)
        } else {
            f64::INFINITY
        };
        let constant = plan.constant.is_some();
        let forced = self.ratio > 1.0 && size <= FORCED_STEP;
        let accepted = finite && (self.ratio <= 1.0 || forced || constant);
        // Delta of a step with n nodes in its corrector falls as h^n.
        let exponent = -1.0 / attempt.n_nodes as f64;
        if accepted {
            self.job.missed |= forced && self.ratio > MISSED;
            self.h = size * (0.85 * self.ratio.max(1e-6).powf(exponent)).min(2.0);
            self.correct_path(attempt);
            self.admit(attempt, q);
            self.job.accepted += 1;
            self.halvings = 0;
        } else {
            self.h = if finite {
                size * (0.8 * self.ratio.powf(exponent)).max(0.3)
            } else {
                self.halvings += 1;
                0.5 * size
            };
            self.job.rejected += 1;
        }
        (accepted, self.verdict(plan, attempt, accepted))
    }

    fn verdict(&mut self, plan: &Plan, attempt: &Attempt, accepted: bool) -> Option<Status> {
        if accepted && attempt.t == self.path.end {
            self.end_leg(plan);
            Some(Status::Ok)
        } else if self.halvings > control::MAX_HALVINGS || (plan.constant.is_some() && !accepted) {
            Some(Status::Nonfinite)
        } else if self.h < control::least_step(self.t(), 1.0) {
            Some(Status::DtMin)
        } else if self.attempts >= control::MAX_ATTEMPTS && plan.constant.is_none() {
            Some(Status::MaxSteps)
        } else {
            None
        }
    }

    /// Root mean square of predictor minus corrector, in units of the noise and of the tolerance.
    fn error(&self, plan: &Plan, attempt: &Attempt) -> f64 {
        let square = self.product(&attempt.delta, &attempt.delta).max(0.0) / plan.dim as f64;
        square.sqrt() / (edm_sigma(attempt.t).max(plan.noise_floor) * plan.precision.tol)
    }

    fn product(&self, a: &Coefficients, b: &Coefficients) -> f64 {
        let mut sum = 0.0;
        for (i, a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
            for (j, b) in b.iter().enumerate().filter(|(_, b)| **b != 0.0) {
                sum += a * b * self.gram[i][j];
            }
        }
        sum
    }

    /// The path of evaluations P differs from the solution by delta: for any path, d log p(P)/dgamma =
    /// -div + score . (P' - drift), and score = -eps_hat/sigma, so its error cancels to first order.
    fn correct_path(&mut self, attempt: &Attempt) {
        let Some(&last) = self.nodes.last() else {
            return;
        };
        let mut mean = [0.0; SLOTS];
        mean[last.slot] = 0.5 / edm_sigma(last.t);
        mean[attempt.slot] = 0.5 / edm_sigma(attempt.t);
        let mut change = attempt.delta;
        for (change, before) in change.iter_mut().zip(self.delta) {
            *change -= before;
        }
        self.job.path_correction += self.product(&mean, &change);
        self.delta = attempt.delta;
    }

    /// The node of an attempt joins the others. One slot stays free for the next: delta of the next step
    /// and of this one need all others.
    fn admit(&mut self, attempt: &Attempt, q: f64) {
        self.nodes.push(Node {
            t: attempt.t,
            slot: attempt.slot,
        });
        self.times.push(attempt.t);
        self.traces.push(q);
        self.job.nodes += 1;
        if self.nodes.len() == SLOTS {
            self.nodes.remove(0);
        }
    }

    fn end_leg(&mut self, plan: &Plan) {
        let Some(&last) = self.nodes.last() else {
            return;
        };
        let mut at_end = [0.0; SLOTS];
        at_end[last.slot] = 1.0 / edm_sigma(last.t);
        self.job.path_correction -= self.product(&at_end, &self.delta);
        let linear = plan.dim as f64 * (log_alpha(self.path.end) - log_alpha(self.path.start));
        self.job.log_density += linear + 0.5 * spline_integral(&self.times, &self.traces);
    }

    pub(super) fn step(&self) -> Step {
        Step {
            key: self.job.key,
            t: self.t(),
            ratio: self.ratio,
        }
    }

    pub(super) fn finish(mut self, row: usize, status: Status, square: f64) -> Finished {
        let t = self.t();
        self.job.evaluations.push(self.evaluations);
        Finished {
            row,
            status,
            t,
            square: if status == Status::Ok && square.is_finite() {
                square
            } else {
                0.0
            },
            ratio: self.ratio,
            stage: None,
            job: self.job,
        }
    }
}

/// Integrals of s/2 times the Lagrange polynomials of the nodes.
fn weights(nodes: &[Node], from: f64, to: f64) -> [f64; MAX_NODES] {
    let times: Vec<f64> = nodes.iter().map(|node| node.t).collect();
    lagrange_weights(&times, from, to, |t| 0.5 * edm_sigma(t))
}

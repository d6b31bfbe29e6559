//! One row's walk along its leg: what it attempts, and the decision on it.

use super::memory::{Coefficients, Memory, Node};
use super::{Plan, SLOTS};
use crate::control;
use crate::field::{edm_sigma, log_alpha};
use crate::outcome::{Job, Status};
use crate::quadrature::{MAX_NODES, lagrange_weights, spline_integral};
use crate::route::{Path, Rider};
use crate::rows::{Row, Verdict};

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
/// A soft joint that is nearer than so many steps is reached in two equal ones.
const HALVED: f64 = 2.0;

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

/// A row that begins its leg.
pub(super) fn begin(job: Job, path: Path, tol: f64) -> Row<Memory> {
    let h = if job.evaluations.is_empty() {
        (FIRST_STEP * tol.sqrt()).min(LONGEST_FIRST_STEP)
    } else {
        RESTART_STEP * tol.sqrt()
    };
    Row::new(job, path, h, Memory::default())
}

impl Row<Memory> {
    pub(super) fn attempt(&mut self, plan: &Plan) -> Attempt {
        self.attempts += 1;
        let slot = self.memory.free();
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
        let known = &self.memory.nodes;
        if known.is_empty() {
            return attempt;
        }
        let (from, to) = (self.t, self.target(plan));
        // z = alpha y, and y' = (s/2) eps_hat: the linear part is in alpha.
        let order = plan.order.min(known.len());
        let mut nodes = known[known.len() - order..].to_vec();
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
    fn target(&self, plan: &Plan) -> f64 {
        if let Some(steps) = plan.constant {
            let done = self.memory.times.len() - self.memory.before; // the start is a node too
            return if done == steps as usize {
                self.path.end
            } else {
                let share = done as f64 / f64::from(steps);
                self.path.start + share * (self.path.end - self.path.start)
            };
        }
        let h = self.h.min(plan.precision.h_max);
        let left = self.path.end - self.t;
        if left.abs() < STRETCH * h {
            self.path.end
        } else if self.path.soft && left.abs() < HALVED * h {
            // Two equal steps: a short one is a poor base for the steps behind a joint.
            self.t + 0.5 * left
        } else {
            self.t + h.copysign(left)
        }
    }

    /// Whether a rider's own next step would be another one: it would go to its end.
    pub(super) fn parts(&self, plan: &Plan, rider: &Rider) -> bool {
        if self.memory.nodes.is_empty() || rider.path.end == self.path.end {
            return false;
        }
        // What is left to a soft joint is halved before it is taken in one step.
        let steps = if rider.path.soft { HALVED } else { STRETCH };
        let reach = steps * self.h.min(plan.precision.h_max);
        (rider.path.end - self.t).abs() < reach || plan.constant.is_some()
    }

    /// Takes in what an attempt has measured: q, the inner products of the new slot with all, and |z|^2
    /// if that was asked for.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        attempt: &Attempt,
        q: f64,
        products: &[f64],
        square: f64,
    ) -> Verdict {
        let finite = q.is_finite() && products[attempt.slot].is_finite();
        if finite {
            self.memory.note(attempt.slot, products);
        }
        let accepted = attempt.is_step() && self.decide(plan, attempt, q, finite);
        let over = if attempt.is_step() {
            self.over(plan, attempt, accepted)
        } else {
            if finite {
                self.admit(attempt, q);
            }
            (!finite).then_some(Status::Nonfinite)
        };
        Verdict {
            accepted,
            over,
            square,
            stage: None,
        }
    }

    /// Accepts or rejects a step, and sets the next one's size.
    fn decide(&mut self, plan: &Plan, attempt: &Attempt, q: f64, finite: bool) -> bool {
        let size = (attempt.t - self.t).abs();
        let planned = self.h.min(plan.precision.h_max);
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
            self.h = self.uncut(attempt.t == self.path.end && !forced, size, planned);
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
        accepted
    }

    /// How the leg ended for this row, if it is over.
    fn over(&mut self, plan: &Plan, attempt: &Attempt, accepted: bool) -> Option<Status> {
        if accepted && attempt.t == self.path.end {
            if !self.path.soft {
                self.end_leg(plan);
            }
            Some(Status::Ok)
        } else if self.halvings > control::MAX_HALVINGS || (plan.constant.is_some() && !accepted) {
            Some(Status::Nonfinite)
        } else if self.h < control::least_step(self.t, 1.0) {
            Some(Status::DtMin)
        } else if self.attempts >= control::MAX_ATTEMPTS && plan.constant.is_none() {
            Some(Status::MaxSteps)
        } else {
            None
        }
    }

    /// Root mean square of predictor minus corrector, in units of the noise and of the tolerance.
    fn error(&self, plan: &Plan, attempt: &Attempt) -> f64 {
        let square = self.memory.product(&attempt.delta, &attempt.delta).max(0.0) / plan.dim as f64;
        square.sqrt() / (edm_sigma(attempt.t).max(plan.noise_floor) * plan.precision.tol)
    }

    /// The path of evaluations P differs from y by delta, and y from the solution by what the corrector's
    /// polynomial leaves. For any path d log p(P)/dgamma = -div + score . (P' - drift): integrated by parts,
    /// delta . d(score)/dgamma at the nodes, and the score times what is left of every step.
    fn correct_path(&mut self, attempt: &Attempt) {
        let mut nodes = self.memory.nodes.clone();
        let here = nodes.len();
        nodes.push(Node {
            t: attempt.t,
            slot: attempt.slot,
        });
        self.memory.bend(&nodes, here - 1);
        if here > 1 {
            self.correct_step(&nodes, here - 1);
        }
        let alpha = log_alpha(attempt.t).exp();
        self.memory.corrector = attempt.corrector.map(|weight| weight / alpha);
        self.memory.delta = attempt.delta;
        // No node comes behind the last one: there the oldest has to do.
        if attempt.t == self.path.end && !self.path.soft && nodes.len() > attempt.n_nodes {
            self.correct_step(&nodes, here);
        }
    }

    /// The step to `nodes[end]` by one node more than its corrector had.
    fn correct_step(&mut self, nodes: &[Node], end: usize) {
        let (from, to) = (nodes[end - 1], nodes[end]);
        let mut score = [0.0; SLOTS];
        score[from.slot] = -0.5 / edm_sigma(from.t);
        score[to.slot] = -0.5 / edm_sigma(to.t);
        let mut left = self.memory.corrector;
        for (node, weight) in nodes.iter().zip(weights(nodes, from.t, to.t)) {
            left[node.slot] -= weight;
        }
        self.job.path_correction -= self.memory.product(&score, &left);
    }

    /// The attempt becomes a node.
    fn admit(&mut self, attempt: &Attempt, q: f64) {
        self.t = attempt.t;
        self.job.nodes += 1;
        let Attempt { t, slot, .. } = *attempt;
        self.memory.admit(Node { t, slot }, q);
    }

    fn end_leg(&mut self, plan: &Plan) {
        let nodes = self.memory.nodes.clone();
        self.memory.bend(&nodes, nodes.len() - 1);
        let Memory {
            times,
            traces,
            bends,
            ..
        } = &self.memory;
        self.job.path_correction += spline_integral(times, bends);
        // Behind a soft joint this is the trace of all legs that were led over from.
        let linear = plan.dim as f64 * (log_alpha(self.path.end) - log_alpha(times[0]));
        self.job.log_density += linear + 0.5 * spline_integral(times, traces);
    }
}

/// Integrals of s/2 times the Lagrange polynomials of the nodes.
fn weights(nodes: &[Node], from: f64, to: f64) -> [f64; MAX_NODES] {
    let times: Vec<f64> = nodes.iter().map(|node| node.t).collect();
    lagrange_weights(&times, from, to, |t| 0.5 * edm_sigma(t))
}

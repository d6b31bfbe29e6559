//! One row's walk along its leg: where it is, what it attempts next, and when it is over.

use super::attempt::Attempt;
use super::{Plan, Probe};
use crate::control::{self, StepControl};
use crate::outcome::{Finished, Job, Status, Step};
use crate::tableau::STAGES;

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) job: Job,
    pub(super) t: f64,
    /// Physical slot of each stage; the first and the last swap on acceptance.
    pub(super) slots: [usize; STAGES],
    /// q of stage 0.
    pub(super) q0: f64,
    /// Size of the next attempt.
    pub(super) h: f64,
    pub(super) least: f64,
    /// Whether the attempt before this one was rejected.
    pub(super) retry: bool,
    pub(super) halvings: u32,
    pub(super) steps: u32,
    pub(super) attempts: u32,
    pub(super) evaluations: u64,
    pub(super) ratio: f64,
    /// Before its first evaluation, until its starting step is known.
    pub(super) starting: bool,
}

impl Row {
    pub(super) fn new(job: Job, t: f64) -> Self {
        Self {
            job,
            t,
            slots: std::array::from_fn(|stage| stage),
            q0: 0.0,
            h: 0.0,
            least: 0.0,
            retry: false,
            halvings: 0,
            steps: 0,
            attempts: 0,
            evaluations: 0,
            ratio: 0.0,
            starting: true,
        }
    }

    pub(super) fn step(&self) -> Step {
        Step {
            key: self.job.key,
            t: self.t,
            ratio: self.ratio,
        }
    }

    /// Takes the starting step; a status if there is none. `change` is the derivative's change along
    /// the Euler probe in units of the tolerance.
    pub(super) fn begin(
        &mut self,
        plan: &Plan,
        q0: f64,
        probe: Option<Probe>,
        change: f64,
    ) -> Option<Status> {
        self.starting = false;
        self.q0 = q0;
        if let StepControl::Constant { .. } = plan.control {
            return (!q0.is_finite()).then_some(Status::Nonfinite);
        }
        let Some(Probe { h0, d1 }) = probe else {
            return Some(Status::Nonfinite);
        };
        let h0 = h0.abs();
        let d2 = change / h0;
        // An Euler probe that left the network's domain says nothing but that h0 is long enough.
        self.h = if d2.is_finite() {
            control::starting_step(h0, d1, d2, (plan.end - plan.start).abs())
        } else {
            h0
        };
        None
    }

    /// Accepts or rejects the attempt, and sets the next one's size.
    pub(super) fn decide(&mut self, plan: &Plan, attempt: &Attempt) -> bool {
        let size = attempt.h.abs();
        let constant = matches!(plan.control, StepControl::Constant { .. });
        let accepted = self.ratio < 1.0 || (constant && self.ratio.is_finite());
        if accepted {
            self.h = size * control::factor(self.ratio, self.retry);
            self.t = attempt.t[STAGES - 1];
            self.steps += 1;
            self.job.accepted += 1;
            self.halvings = 0;
        } else if self.ratio.is_finite() {
            self.h = size * control::factor(self.ratio, true);
            self.job.rejected += 1;
        } else {
            self.h = size * 0.5;
            self.job.rejected += 1;
            self.halvings += 1;
        }
        self.retry = !accepted;
        accepted
    }

    /// Whether the leg is over for this row.
    pub(super) fn verdict(&self, plan: &Plan) -> Option<Status> {
        let constant = matches!(plan.control, StepControl::Constant { .. });
        if !self.retry && self.t == plan.end {
            Some(Status::Ok)
        } else if self.halvings > control::MAX_HALVINGS || (constant && self.retry) {
            Some(Status::Nonfinite)
        } else if self.retry && self.h < self.least {
            Some(Status::DtMin)
        } else if self.attempts >= control::MAX_ATTEMPTS && !constant {
            Some(Status::MaxSteps)
        } else {
            None
        }
    }

    pub(super) fn finish(
        mut self,
        row: usize,
        status: Status,
        square: f64,
        stage: Option<usize>,
    ) -> Finished {
        self.job.evaluations.push(self.evaluations);
        Finished {
            row,
            status,
            t: self.t,
            square: if status == Status::Ok && square.is_finite() {
                square
            } else {
                0.0
            },
            ratio: self.ratio,
            stage: stage.filter(|_| status == Status::Nonfinite),
            job: self.job,
        }
    }
}

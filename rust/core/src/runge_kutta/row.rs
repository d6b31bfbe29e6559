//! One row's walk along its leg: where it is, what it attempts next, and when it is over.

use super::attempt::Attempt;
use super::{Plan, Probe};
use crate::control::{self, StepControl};
use crate::course::{Path, Rider};
use crate::outcome::{Finished, Job, Status, Step};
use crate::tableau::STAGES;

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) job: Job,
    pub(super) path: Path,
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
    pub(super) fn new(job: Job, path: Path) -> Self {
        Self {
            job,
            path,
            t: path.start,
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
            control::starting_step(h0, d1, d2, self.path.span())
        } else {
            h0
        };
        None
    }

    /// Where the next attempt ends.
    pub(super) fn attempt(&mut self, plan: &Plan) -> Attempt {
        self.attempts += 1;
        if let StepControl::Constant { steps } = plan.control {
            let share = f64::from(self.steps + 1) / f64::from(steps);
            let t_new = if self.steps + 1 == steps {
                self.path.end
            } else {
                self.path.start + share * (self.path.end - self.path.start)
            };
            return Attempt::new(plan.field, self.t, t_new);
        }
        if !self.retry {
            self.least = control::least_step(self.t, self.path.direction());
            self.h = self.h.max(self.least);
        }
        let mut t_new = self.t + self.h * self.path.direction();
        // The last step lands on the end exactly: the next leg must start where this one ends.
        if self.path.direction() * (t_new - self.path.end) > 0.0 {
            t_new = self.path.end;
        }
        Attempt::new(plan.field, self.t, t_new)
    }

    /// Whether a rider's own next attempt would be another one: its starting step or a step to its end
    /// is cut where the bearer's is not.
    pub(super) fn parts(&self, plan: &Plan, rider: &Rider) -> bool {
        if rider.path.end == self.path.end {
            return false;
        }
        if let StepControl::Constant { .. } = plan.control {
            return true;
        }
        let direction = self.path.direction();
        let least = control::least_step(self.t, direction);
        let h = if self.retry {
            self.h
        } else {
            self.h.max(least)
        };
        // A starting step longer than the rider's leg passes its end, whatever is rounded.
        direction * (self.t + h * direction - rider.path.end) >= 0.0
    }

    /// The riders for whom it is time, who ride no more.
    pub(super) fn leaving(&mut self, is_time: impl Fn(&Self, &Rider) -> bool) -> Vec<Rider> {
        if self.job.riders.is_empty() {
            return Vec::new();
        }
        let riders = std::mem::take(&mut self.job.riders);
        let (leaving, staying) = riders.into_iter().partition(|rider| is_time(self, rider));
        self.job.riders = staying;
        leaving
    }

    /// Whether |y|^2 is wanted at the end of the path.
    pub(super) fn wants_square(&self) -> bool {
        self.path.square || self.job.riders.iter().any(|rider| rider.path.square)
    }

    /// The row that a rider leaves with.
    pub(super) fn branch(&self, rider: &Rider) -> Self {
        let mut branch = Self {
            job: self.job.named(rider.key),
            path: rider.path,
            ..self.clone()
        };
        if self.attempts == 0 {
            // Alone, its starting step would not have been longer than its leg.
            branch.h = branch.h.min(rider.path.span());
        }
        branch
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
        if !self.retry && self.t == self.path.end {
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

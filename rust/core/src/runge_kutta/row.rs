//! One row's walk along its leg: what it attempts next, and when it is over.

use super::Plan;
use super::attempt::{Attempt, Start, Step};
use crate::control::{self, StepControl};
use crate::outcome::Status;
use crate::route::Rider;
use crate::rows::{Row, Verdict};
use crate::tableau::STAGES;

/// What a row remembers of its steps.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Physical slot of each stage; the first and the last swap on acceptance.
    pub(super) slots: [usize; STAGES],
    /// q of stage 0.
    q0: f64,
    least: f64,
    /// Whether the attempt before this one was rejected.
    retry: bool,
    steps: u32,
    /// Before its first evaluation, until its starting step is known.
    starting: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|stage| stage),
            q0: 0.0,
            least: 0.0,
            retry: false,
            steps: 0,
            starting: true,
        }
    }
}

impl Memory {
    /// In another leg: the last stage's slope is the first of the next step.
    pub(super) fn onward(&mut self) {
        self.steps = 0;
    }
}

impl Row<Memory> {
    /// What it does in the next frame.
    pub(super) fn attempt(&mut self, plan: &Plan) -> Attempt {
        if self.memory.starting {
            return Attempt::Start(Start::new(plan.field, self.path.start));
        }
        self.attempts += 1;
        let t_new = self.target(plan.control);
        Attempt::Step(Step::new(
            plan.field,
            (self.t, t_new),
            self.memory.slots,
            self.memory.q0,
            t_new == self.path.end && self.wants_square(),
        ))
    }

    /// Where the next step ends.
    fn target(&mut self, control: StepControl) -> f64 {
        if let StepControl::Constant { steps } = control {
            let done = self.memory.steps + 1;
            if done == steps {
                return self.path.end;
            }
            let share = f64::from(done) / f64::from(steps);
            return self.path.start + share * (self.path.end - self.path.start);
        }
        if !self.memory.retry {
            self.memory.least = control::least_step(self.t, self.path.direction());
            self.h = self.h.max(self.memory.least);
        }
        let t_new = self.t + self.h * self.path.direction();
        // The last step lands on the end exactly: the next leg must start where this one ends.
        if self.path.direction() * (t_new - self.path.end) > 0.0 {
            return self.path.end;
        }
        t_new
    }

    /// Whether a rider's own next attempt would be another one: its starting step or a step to its end
    /// is cut where the bearer's is not.
    pub(super) fn parts(&self, plan: &Plan, rider: &Rider) -> bool {
        if self.memory.starting || rider.path.end == self.path.end {
            return false;
        }
        if let StepControl::Constant { .. } = plan.control {
            return true;
        }
        let direction = self.path.direction();
        let least = control::least_step(self.t, direction);
        let h = if self.memory.retry {
            self.h
        } else {
            self.h.max(least)
        };
        // A starting step longer than the rider's leg passes its end, whatever is rounded.
        direction * (self.t + h * direction - rider.path.end) >= 0.0
    }

    /// What becomes of an attempt: its error in units of the tolerance, and |y|^2 if that was asked for.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        attempt: &Attempt,
        error: f64,
        square: f64,
    ) -> Verdict {
        match attempt {
            Attempt::Step(step) => {
                let accepted = self.decide(plan, step, error);
                Verdict {
                    accepted,
                    over: self.over(plan),
                    square,
                    stage: step.q[1..]
                        .iter()
                        .position(|q| !q.is_finite())
                        .map(|q| q + 1),
                }
            }
            Attempt::Start(start) => Verdict {
                accepted: false,
                over: self.start(plan, start, error),
                square,
                stage: Some(0),
            },
        }
    }

    /// Takes the starting step; a status if there is none. `change` is the derivative's change along
    /// the Euler probe in units of the tolerance.
    fn start(&mut self, plan: &Plan, start: &Start, change: f64) -> Option<Status> {
        self.memory.starting = false;
        self.memory.q0 = start.q[1];
        if let StepControl::Constant { .. } = plan.control {
            return (!start.q[1].is_finite()).then_some(Status::Nonfinite);
        }
        let Some(probe) = &start.probe else {
            return Some(Status::Nonfinite);
        };
        let h0 = probe.h.abs();
        let d2 = change / h0;
        // An Euler probe that left the network's domain says nothing but that h0 is long enough.
        self.h = if d2.is_finite() {
            control::starting_step(h0, probe.d1, d2, self.path.span())
        } else {
            h0
        };
        None
    }

    /// Accepts or rejects a step, and sets the next one's size.
    fn decide(&mut self, plan: &Plan, step: &Step, error: f64) -> bool {
        self.ratio = error;
        let size = step.h.abs();
        let constant = matches!(plan.control, StepControl::Constant { .. });
        let accepted = self.ratio < 1.0 || (constant && self.ratio.is_finite());
        if accepted {
            let planned = self.h;
            self.h = size * control::factor(self.ratio, self.memory.retry);
            let landed = step.t[STAGES - 1] == self.path.end && self.ratio < 1.0;
            self.h = self.uncut(landed, size, planned);
            self.t = step.t[STAGES - 1];
            self.memory.steps += 1;
            self.memory.q0 = step.q[STAGES - 1];
            self.memory.slots.swap(0, STAGES - 1);
            self.job.log_density = step.entry;
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
        self.memory.retry = !accepted;
        accepted
    }

    /// How the leg ended for this row, if it is over.
    fn over(&self, plan: &Plan) -> Option<Status> {
        let constant = matches!(plan.control, StepControl::Constant { .. });
        let retry = self.memory.retry;
        if !retry && self.t == self.path.end {
            Some(Status::Ok)
        } else if self.halvings > control::MAX_HALVINGS || (constant && retry) {
            Some(Status::Nonfinite)
        } else if retry && self.h < self.memory.least {
            Some(Status::DtMin)
        } else if self.attempts >= control::MAX_ATTEMPTS && !constant {
            Some(Status::MaxSteps)
        } else {
            None
        }
    }
}

//! What the rows of every method have in common.

use crate::outcome::{Finished, Job, Status, Step};
use crate::route::{Path, Rider};

/// What becomes of an attempt.
pub(crate) struct Verdict {
    /// Whether the trial becomes the state.
    pub(crate) accepted: bool,
    /// How the leg ended, if it is over.
    pub(crate) over: Option<Status>,
    /// |y|^2 of the trial, where it was asked for.
    pub(crate) square: f64,
    /// The first stage whose network output was not finite.
    pub(crate) stage: Option<usize>,
}

/// One problem's walk along its leg.
#[derive(Clone, Debug)]
pub struct Row<M> {
    pub(crate) job: Job,
    pub(crate) path: Path,
    /// Where it is.
    pub(crate) t: f64,
    /// Size of the next attempt.
    pub(crate) h: f64,
    /// Attempts that met a value that is not finite, the latest in a row.
    pub(crate) halvings: u32,
    pub(crate) attempts: u32,
    pub(crate) evaluations: u64,
    /// The last error estimate, in units of the tolerance.
    pub(crate) ratio: f64,
    pub(crate) memory: M,
}

impl<M> Row<M> {
    pub(crate) fn new(job: Job, path: Path, h: f64, memory: M) -> Self {
        Self {
            job,
            path,
            t: path.start,
            h,
            halvings: 0,
            attempts: 0,
            evaluations: 0,
            ratio: 0.0,
            memory,
        }
    }

    /// Whether |y|^2 is wanted at the end of the path.
    pub(crate) fn wants_square(&self) -> bool {
        self.path.square || self.job.riders.iter().any(|rider| rider.path.square)
    }

    /// The riders for whom it is time, who ride no more.
    pub(crate) fn leaving(&mut self, is_time: impl Fn(&Self, &Rider) -> bool) -> Vec<Rider> {
        if self.job.riders.is_empty() {
            return Vec::new();
        }
        let riders = std::mem::take(&mut self.job.riders);
        let (leaving, staying) = riders.into_iter().partition(|rider| is_time(self, rider));
        self.job.riders = staying;
        leaving
    }

    /// The same in the next leg, behind a soft joint.
    pub(super) fn onward(self, job: Job, path: Path) -> Self {
        Self {
            job,
            path,
            halvings: 0,
            attempts: 0,
            evaluations: 0,
            ..self
        }
    }

    /// The next step's size, where this one of `size` was cut to land on a soft joint: as planned without it.
    pub(crate) fn uncut(&self, landed: bool, size: f64, planned: f64) -> f64 {
        if landed && self.path.soft && size < planned {
            self.h.max(planned)
        } else {
            self.h
        }
    }

    pub(super) fn step(&self) -> Step {
        Step {
            key: self.job.key,
            t: self.t,
            ratio: self.ratio,
        }
    }

    pub(super) fn finish(mut self, row: usize, status: Status, verdict: &Verdict) -> Finished {
        self.job.evaluations.push(self.evaluations);
        let is_ok = status == Status::Ok && verdict.square.is_finite();
        Finished {
            row,
            status,
            t: self.t,
            square: if is_ok { verdict.square } else { 0.0 },
            ratio: self.ratio,
            stage: verdict.stage.filter(|_| status == Status::Nonfinite),
            job: self.job,
        }
    }
}

impl<M: Clone> Row<M> {
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
}

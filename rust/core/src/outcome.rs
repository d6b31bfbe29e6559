//! Problems on their way through the legs, and how they end.

use crate::route::Rider;

/// How an integration of one row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It reached its end.
    Ok,
    /// The network returned values that are not finite, also at steps eight times shorter.
    Nonfinite,
    /// The step size fell below ten units in the last place of t.
    DtMin,
    /// 10,000 attempts did not reach the end of the leg.
    MaxSteps,
    /// It reached its end, but a shortest step was accepted at ten times the tolerance or more.
    ToleranceMissed,
}

impl Status {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Nonfinite => "nonfinite",
            Self::DtMin => "dt_min",
            Self::MaxSteps => "max_steps",
            Self::ToleranceMissed => "tolerance_missed",
        }
    }
}

/// One problem on its way through the legs, with what it has cost so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Names the problem in the workspace.
    pub key: u64,
    /// The log-density entry: the integral of the drift's trace so far.
    pub log_density: f64,
    /// What the deviation of the evaluated path from the solution adds to the log-density, to first order.
    pub path_correction: f64,
    /// Nodes so far, over all legs: where the network was asked and its answer kept.
    pub nodes: u64,
    /// Whether a shortest step was accepted far beyond the tolerance.
    pub missed: bool,
    /// Network evaluations, leg by leg.
    pub evaluations: Vec<u64>,
    /// Accepted steps over all legs.
    pub accepted: u64,
    /// Rejected attempts over all legs.
    pub rejected: u64,
    /// Problems that have taken the same steps so far.
    pub riders: Vec<Rider>,
    /// The problem in whose row its first accepted steps were taken, and how many those are.
    pub origin: Option<(u64, u64)>,
}

impl Job {
    /// A problem that has not begun.
    pub fn new(key: u64) -> Self {
        Self {
            key,
            log_density: 0.0,
            path_correction: 0.0,
            nodes: 0,
            missed: false,
            evaluations: Vec::new(),
            accepted: 0,
            rejected: 0,
            riders: Vec::new(),
            origin: None,
        }
    }

    /// The same, under the name of one of its riders.
    pub(crate) fn named(&self, key: u64) -> Self {
        Self {
            key,
            riders: Vec::new(),
            origin: Some((self.key, self.accepted)),
            ..self.clone()
        }
    }
}

/// What became of a row in this leg.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The row it left.
    pub row: usize,
    /// The problem, with its entry and tallies.
    pub job: Job,
    /// How it ended.
    pub status: Status,
    /// Where it ended.
    pub t: f64,
    /// |y|^2 at the end, where that is the last leg's for it or a rider, else 0.
    pub square: f64,
    /// The last error estimate, in units of the tolerance.
    pub ratio: f64,
    /// The first stage of the last attempt whose network output was not finite.
    pub stage: Option<usize>,
}

impl Finished {
    /// The riders that are still with the problem, which share its end, and then the problem itself.
    pub(crate) fn apart(mut self) -> Vec<Self> {
        let riders = std::mem::take(&mut self.job.riders);
        let mut all: Vec<Self> = riders
            .iter()
            .map(|rider| Self {
                job: self.job.named(rider.key),
                ..self.clone()
            })
            .collect();
        all.push(self);
        all
    }
}

/// A rider that has left its bearer.
#[derive(Clone, Debug, PartialEq)]
pub struct Fork {
    /// The bearer.
    pub from: u64,
    /// The rider's problem, as the bearer's was there.
    pub job: Job,
}

/// What one attempt of every row came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// The rows that are done with this leg.
    pub finished: Vec<Finished>,
    /// The riders that go on in this leg by themselves; where they stand is saved under their keys.
    pub forked: Vec<Fork>,
    /// Network calls, each of all rows.
    pub calls: u64,
    /// Evaluations: the rows of those calls that had a problem which needed them.
    pub evaluations: u64,
}

/// An accepted step, as an observer sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The problem.
    pub key: u64,
    /// Where the step ended.
    pub t: f64,
    /// Its error estimate in units of the tolerance.
    pub ratio: f64,
}

//! An exponential Adams method for the probability flow: predict, evaluate once, correct.
//!
//! In y = z/alpha the flow is dy/dgamma = (s/2) eps_hat(alpha y, gamma) with s = e^{gamma/2}: no linear
//! part is left, and s/2 is integrated exactly against the polynomial through the latest nodes (variable
//! steps, Hairer, Nørsett & Wanner 1993, III.5; exponential integrators, Hochbruck & Ostermann 2010).
//! A step asks the network once, at the predicted state; predictor minus corrector, delta, is its error.
//! The step control never looks at the trace, so every node may have a probe of its own.

mod memory;
mod row;

use memory::Memory;
use row::{Attempt, begin};

use crate::control::Tolerance;
use crate::error::Error;
use crate::outcome::{Frame, Job, Step};
use crate::route::{Path, Rider};
use crate::rows::{self, Driver, Row, Rows};
use crate::workspace::{Target, Workspace};

/// Highest order of the predictor.
pub const MAX_ORDER: usize = 3;

/// Slots of a row: delta of two steps in a row lives on so many nodes.
pub const SLOTS: usize = MAX_ORDER + 2;

/// How steps are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Precision {
    tol: f64,
    h_max: f64,
}

impl Precision {
    /// The finest tolerance: delta comes from inner products, where half of the digits cancel.
    pub const LEAST_TOL: f64 = 1e-7;

    /// Error of a step in units of the noise, and longest step in gamma.
    ///
    /// # Errors
    /// [`Error::Tolerance`] unless `tol` is at least [`Self::LEAST_TOL`] and `h_max` positive, both finite.
    pub fn new(tol: f64, h_max: f64) -> Result<Self, Error> {
        for (name, value, least) in [
            ("tol", tol, Self::LEAST_TOL),
            ("h_max", h_max, f64::MIN_POSITIVE),
        ] {
            if !(value >= least && value.is_finite()) {
                return Err(Error::Tolerance { name, value, least });
            }
        }
        Ok(Self { tol, h_max })
    }
}

/// How a lane integrates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Values per row.
    pub dim: usize,
    /// Error and length of steps.
    pub precision: Precision,
    /// Order of the predictor once there are enough nodes, 1 to [`MAX_ORDER`].
    pub order: usize,
    /// The least s whose share an error is measured in: 0 for likelihoods; samples do not show errors
    /// far below a grey level.
    pub noise_floor: f64,
    /// That many equal steps, none rejected, in place of the step control.
    pub constant: Option<u32>,
}

/// One leg of every row that a lane holds, by exponential Adams.
pub type Adams = Driver<Plan>;

impl rows::Plan for Plan {
    type Memory = Memory;

    const SLOTS: usize = SLOTS;

    fn begin(&self, job: Job, path: Path) -> Row<Memory> {
        let order = self.order;
        assert!((1..=MAX_ORDER).contains(&order), "order {order} of Adams");
        begin(job, path, self.precision.tol)
    }

    fn parts(&self, row: &Row<Memory>, rider: &Rider) -> bool {
        row.parts(self, rider)
    }

    fn onward(memory: &mut Memory) {
        memory.before = memory.times.len() - 1;
    }

    fn slots(row: &Row<Memory>) -> Vec<usize> {
        row.memory.slots()
    }

    /// A step, or the first evaluation of a row that starts. One network call and one wait.
    fn attempt<W: Workspace + ?Sized>(
        &self,
        rows: &mut Rows<Memory>,
        workspace: &mut W,
        observe: &mut dyn FnMut(Step),
        frame: &mut Frame,
    ) -> Result<(), W::Error> {
        let attempts = rows.map(|row| row.attempt(self));
        let question = rows.question(&attempts, |row, attempt| {
            (attempt.t, row.job.nodes, Some(attempt.slot))
        });
        let predictors = rows.span(&attempts, |attempt| {
            Some((attempt.scale, attempt.predictor))
        });
        workspace.combine(Target::Input, predictors)?;
        let q = question.put(workspace, frame)?;
        let correctors = rows.span(&attempts, |attempt| {
            Some((attempt.scale, attempt.corrector))
        });
        workspace.combine(Target::Trial, correctors)?;
        let products = workspace.gram(&question.slot)?;
        let any_ends = attempts.iter().flatten().any(|attempt| attempt.square);
        let end = |attempt: &Attempt| attempt.square.then_some((attempt.scale, attempt.corrector));
        let squares = any_ends
            .then(|| workspace.scaled_square(rows.span(&attempts, end), Tolerance::UNIT))
            .transpose()?;
        let columns = workspace.collect()?;
        let products: Vec<&[f64]> = columns[products].chunks_exact(SLOTS).collect();
        let judge = |index, row: &mut Row<Memory>, attempt: &Attempt| {
            let square = squares.map_or(f64::NAN, |squares| columns[squares][index]);
            row.judge(self, attempt, columns[q][index], products[index], square)
        };
        rows.settle(&attempts, workspace, observe, frame, judge)
    }
}

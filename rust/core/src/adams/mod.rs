//! An exponential Adams method for the probability flow: predict, evaluate once, correct.
//!
//! In y = z/alpha the flow is dy/dgamma = (s/2) eps_hat(alpha y, gamma) with s = e^{gamma/2}: no linear
//! part is left, and s/2 is integrated exactly against the polynomial through the latest nodes (variable
//! steps, Hairer, Nørsett & Wanner 1993, III.5; exponential integrators, Hochbruck & Ostermann 2010).
//! A step asks the network once, at the predicted state; predictor minus corrector, delta, is its error.
//! The step control never looks at the trace, so every node may have a probe of its own.

mod row;

use row::{Attempt, Row};

use std::collections::HashMap;

use crate::control::Tolerance;
use crate::course::Path;
use crate::error::Error;
use crate::outcome::{Fork, Frame, Job, Step};
use crate::workspace::{Spans, Target, Workspace};

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
    /// The gamma of rows that hold no problem.
    pub idle: f64,
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

/// One leg of every row that a lane holds.
pub struct Adams {
    plan: Plan,
    rows: Vec<Option<Row>>,
    /// Riders that left and wait for a row.
    branches: HashMap<u64, Row>,
    spans: Spans,
}

impl Adams {
    /// A driver of `rows` vacant rows.
    ///
    /// # Panics
    /// Unless the order lies in 1..=[`MAX_ORDER`].
    pub fn new(plan: Plan, rows: usize) -> Self {
        assert!(
            (1..=MAX_ORDER).contains(&plan.order),
            "order {} of Adams",
            plan.order
        );
        Self {
            plan,
            rows: (0..rows).map(|_| None).collect(),
            branches: HashMap::new(),
            spans: Spans::zeros(rows, SLOTS),
        }
    }

    /// Rows without a problem.
    pub fn vacant(&self) -> Vec<usize> {
        (0..self.rows.len())
            .filter(|&row| self.rows[row].is_none())
            .collect()
    }

    /// Rows with a problem.
    pub fn active(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Gives a vacant, loaded row to a problem; one that left another row goes on where it was.
    pub fn admit(&mut self, row: usize, job: Job, path: Path) {
        let branch = self.branches.remove(&job.key);
        self.rows[row] =
            Some(branch.unwrap_or_else(|| Row::new(job, path, self.plan.precision.tol)));
    }

    /// Lets go the riders whose next step would be another one; where they stand is saved.
    fn part<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        frame: &mut Frame,
    ) -> Result<(), W::Error> {
        for (index, row) in self.rows.iter_mut().enumerate() {
            let Some(row) = row else { continue };
            for rider in row.leaving(&self.plan) {
                let branch = row.branch(&rider);
                workspace.save(index, rider.key, &row.slots())?;
                frame.forked.push(Fork {
                    from: row.job.key,
                    job: branch.job.clone(),
                });
                self.branches.insert(rider.key, branch);
            }
        }
        Ok(())
    }

    /// One attempt of every row: a step, or the first evaluation of a row that starts. One network call
    /// and one wait.
    ///
    /// # Errors
    /// What the workspace raises.
    pub fn frame<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        observe: &mut dyn FnMut(Step),
    ) -> Result<Frame, W::Error> {
        let plan = self.plan;
        let mut frame = Frame::default();
        self.part(workspace, &mut frame)?;
        let attempts: Vec<Option<Attempt>> = self
            .rows
            .iter_mut()
            .map(|row| row.as_mut().map(|row| row.attempt(&plan)))
            .collect();
        let active = attempts.iter().flatten().count();
        frame.calls = 1;
        frame.evaluations = active as u64;
        let n_rows = self.rows.len();
        let mut t = vec![plan.idle; n_rows];
        let mut node = vec![0; n_rows];
        let mut slot = vec![None; n_rows];
        for (index, attempt) in attempts.iter().enumerate() {
            if let (Some(attempt), Some(row)) = (attempt, &self.rows[index]) {
                t[index] = attempt.t;
                node[index] = row.job.nodes;
                slot[index] = Some(attempt.slot);
            }
        }
        self.span(&attempts, |_| true, |attempt| &attempt.predictor);
        workspace.combine(Target::Input, &self.spans)?;
        workspace.evaluate(&t, &node, &slot)?;
        self.span(&attempts, |_| true, |attempt| &attempt.corrector);
        workspace.combine(Target::Trial, &self.spans)?;
        workspace.gram(&slot)?;
        let square = attempts.iter().flatten().any(|attempt| attempt.square);
        if square {
            self.span(
                &attempts,
                |attempt| attempt.square,
                |attempt| &attempt.corrector,
            );
            workspace.scaled_square(&self.spans, Tolerance::UNIT)?;
        }
        let columns = workspace.collect()?;
        let (q, rest) = columns.split_at(n_rows);
        let (products, squares) = rest.split_at(n_rows * SLOTS);
        let mut accepted = vec![false; n_rows];
        for (index, attempt) in attempts.iter().enumerate() {
            let (Some(attempt), Some(row)) = (attempt, self.rows[index].as_mut()) else {
                continue;
            };
            let products = &products[index * SLOTS..][..SLOTS];
            let (is_accepted, status) = row.settle(&plan, attempt, q[index], products);
            accepted[index] = is_accepted;
            if is_accepted {
                observe(row.step());
            }
            if let Some((status, row)) = status.and_then(|s| Some((s, self.rows[index].take()?))) {
                let square = if square { squares[index] } else { 0.0 };
                frame.finished.push(row.finish(index, status, square));
            }
        }
        workspace.accept(&accepted)?;
        Ok(frame)
    }

    fn span(
        &mut self,
        attempts: &[Option<Attempt>],
        wanted: impl Fn(&Attempt) -> bool,
        weights: impl Fn(&Attempt) -> &[f64; SLOTS],
    ) {
        self.spans.clear();
        for (index, attempt) in attempts.iter().enumerate() {
            let Some(attempt) = attempt.as_ref().filter(|attempt| wanted(attempt)) else {
                continue;
            };
            self.spans.set_scale(index, attempt.scale);
            for (slot, &weight) in weights(attempt).iter().enumerate() {
                self.spans.set_weight(index, slot, weight);
            }
        }
    }
}

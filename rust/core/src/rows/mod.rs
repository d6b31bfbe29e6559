//! The rows of a lane, whatever the method: which are vacant, who sits where, who rides along, and who
//! has left another's row and waits for one of its own.
//!
//! A [`Driver`] is a pool of rows and a [`Plan`], which is what a method adds: what a row remembers of its
//! steps, and what one attempt of every row asks of the workspace.

mod pool;
mod row;

pub use pool::Rows;
pub use row::Row;
pub(crate) use row::Verdict;

use crate::outcome::{Frame, Job, Step};
use crate::route::{Path, Rider};
use crate::workspace::Workspace;

/// A method and how it chooses its steps.
pub trait Plan {
    /// What a row remembers of its steps, beside what every method's rows do.
    type Memory: Clone;

    /// Slots that a row needs.
    const SLOTS: usize;

    /// A row that begins its leg.
    fn begin(&self, job: Job, path: Path) -> Row<Self::Memory>;

    /// Whether a rider's own next attempt would be another one than the bearer's.
    fn parts(&self, row: &Row<Self::Memory>, rider: &Rider) -> bool;

    /// Makes ready for another leg what a row remembers that goes on behind a soft joint.
    fn onward(memory: &mut Self::Memory);

    /// The slots that the next attempt reads: what a row must take along that leaves, beside the state.
    fn slots(row: &Row<Self::Memory>) -> Vec<usize>;

    /// One attempt of every row.
    ///
    /// # Errors
    /// What the workspace raises, unchanged.
    fn attempt<W: Workspace + ?Sized>(
        &self,
        rows: &mut Rows<Self::Memory>,
        workspace: &mut W,
        observe: &mut dyn FnMut(Step),
        frame: &mut Frame,
    ) -> Result<(), W::Error>;
}

/// One leg of every row that a lane holds.
pub struct Driver<P: Plan> {
    plan: P,
    rows: Rows<P::Memory>,
}

impl<P: Plan> Driver<P> {
    /// A driver of `rows` vacant rows, whose t is `idle`.
    pub fn new(plan: P, rows: usize, idle: f64) -> Self {
        Self {
            plan,
            rows: Rows::new(rows, P::SLOTS, idle),
        }
    }

    /// Rows without a problem.
    pub fn vacant(&self) -> Vec<usize> {
        self.rows.vacant()
    }

    /// Rows with a problem.
    pub fn active(&self) -> usize {
        self.rows.active()
    }

    /// Gives a vacant row, already loaded by the workspace, to a problem; one that left another row goes
    /// on where it was.
    pub fn admit(&mut self, row: usize, job: Job, path: Path) {
        self.rows.admit(row, &self.plan, job, path);
    }

    /// Takes out the row of a problem whose leg ended at a soft joint, if it did; and the slots to save.
    pub fn carried(&mut self, key: u64) -> Option<(Row<P::Memory>, Vec<usize>)> {
        let row = self.rows.carried(key)?;
        let slots = P::slots(&row);
        Some((row, slots))
    }

    /// Expects a problem that goes on here with all that the row knows in which its last leg ended.
    pub fn expect(&mut self, row: Row<P::Memory>, job: Job, path: Path) {
        let mut row = row.onward(job, path);
        P::onward(&mut row.memory);
        self.rows.expect(row);
    }

    /// One attempt of every row. Rows that are done with this leg are vacant from now on.
    ///
    /// # Errors
    /// What the workspace raises, unchanged.
    pub fn frame<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        observe: &mut dyn FnMut(Step),
    ) -> Result<Frame, W::Error> {
        let mut frame = Frame::default();
        self.rows.part(&self.plan, workspace, &mut frame)?;
        self.plan
            .attempt(&mut self.rows, workspace, observe, &mut frame)?;
        Ok(frame)
    }
}

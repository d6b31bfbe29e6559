//! The Dormand-Prince driver: one loop for both step controls, over any [`Workspace`].
//!
//! Every stage, the new state and the error are spans, scale * y_n + sum_j w_j slot_j, computed per
//! row in f64 from the tableau and the field's linear part; y_i = y_n + h sum_l a_il k_l and
//! k_i = L(t_i) y_i + g(t_i) slot_i are sums of spans. The solver never sees a tensor: a frame (one
//! attempt of every row) costs six evaluations and one wait. A new row starts inside the others'
//! attempt, its first evaluation with stage 1, its Euler probe with stage 2, and costs one wait more.

mod attempt;
mod norm;
mod row;

use attempt::{Attempt, Start};
use row::Memory;

use crate::control::{StepControl, Tolerance};
use crate::field::Field;
use crate::outcome::{Fork, Frame, Job, Step};
use crate::route::{Path, Rider};
use crate::rows::{self, Driver, Row, Rows};
use crate::tableau::STAGES;
use crate::workspace::{Column, Columns, Target, Workspace};

/// One leg of every row that a lane holds, by Dormand-Prince 5(4).
pub type DormandPrince = Driver<Plan>;

/// How a lane integrates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The right-hand side.
    pub field: Field,
    /// Who shares a step size.
    pub control: StepControl,
    /// Tolerances of state and log-density entry.
    pub tolerance: Tolerance,
    /// Values per row.
    pub dim: usize,
}

/// What every row attempts; vacant rows nothing.
type Attempts = [Option<Attempt>];

impl rows::Plan for Plan {
    type Memory = Memory;

    const SLOTS: usize = STAGES;

    fn begin(&self, job: Job, path: Path) -> Row<Memory> {
        Row::new(job, path, 0.0, Memory::default())
    }

    fn parts(&self, row: &Row<Memory>, rider: &Rider) -> bool {
        row.parts(self, rider)
    }

    fn onward(memory: &mut Memory) {
        memory.onward();
    }

    fn slots(row: &Row<Memory>) -> Vec<usize> {
        vec![row.memory.slots[0]]
    }

    fn attempt<W: Workspace + ?Sized>(
        &self,
        rows: &mut Rows<Memory>,
        workspace: &mut W,
        observe: &mut dyn FnMut(Step),
        frame: &mut Frame,
    ) -> Result<(), W::Error> {
        let mut attempts = rows.map(|row| row.attempt(self));
        let asked = self.evaluate_stages(rows, workspace, &mut attempts, frame)?;
        let errors = rows.span(&attempts, Attempt::error);
        let errors = workspace.scaled_square(errors, self.tolerance)?;
        let any_ends = attempts
            .iter()
            .flatten()
            .any(|attempt| attempt.end().is_some());
        let squares = any_ends
            .then(|| workspace.scaled_square(rows.span(&attempts, Attempt::end), Tolerance::UNIT))
            .transpose()?;
        let columns = workspace.collect()?;
        note(&mut attempts, &asked, &columns);
        let errors = self.errors(rows, &mut attempts, &columns[errors]);
        let judge = |index, row: &mut Row<Memory>, attempt: &Attempt| {
            let square = squares.map_or(f64::NAN, |squares| columns[squares][index]);
            row.judge(self, attempt, errors[index], square)
        };
        rows.settle(&attempts, workspace, observe, frame, judge)
    }
}

/// Notes q of the stages whose columns have come.
fn note(attempts: &mut Attempts, asked: &[(usize, Column)], columns: &Columns) {
    for &(stage, q) in asked {
        for (attempt, &q) in attempts.iter_mut().zip(&columns[q]) {
            if let Some(attempt) = attempt {
                attempt.note(stage, q);
            }
        }
    }
}

impl Plan {
    /// Evaluates every stage of every row; returns the stages whose q is still to be collected.
    fn evaluate_stages<W: Workspace + ?Sized>(
        &self,
        rows: &mut Rows<Memory>,
        workspace: &mut W,
        attempts: &mut Attempts,
        frame: &mut Frame,
    ) -> Result<Vec<(usize, Column)>, W::Error> {
        let is_start = |attempt: &Attempt| matches!(attempt, Attempt::Start(_));
        let any_starts = attempts.iter().flatten().any(is_start);
        let all_start = attempts.iter().flatten().all(is_start);
        let constant = matches!(self.control, StepControl::Constant { .. });
        let mut asked = Vec::new();
        for stage in 1..STAGES {
            // The probe stays fixed along a solve: an error norm that holds the trace needs a function.
            let question = rows.question(attempts, |_, attempt| {
                let (t, slot) = attempt.at(stage);
                (t, 0, slot)
            });
            if question.asking() == 0 {
                continue;
            }
            // A starting row measures itself against its own state: its trial must be its state.
            let both = stage == STAGES - 1 || (stage == 1 && any_starts);
            let target = if both { Target::Both } else { Target::Input };
            let spans = rows.span(attempts, |attempt| Some(attempt.input(stage)));
            workspace.combine(target, spans)?;
            asked.push((stage, question.put(workspace, frame)?));
            if stage == 1 && any_starts && !constant {
                self.probe_starts(rows, workspace, attempts, &asked)?;
                asked.clear();
                part_at_start(rows, attempts, frame);
            }
        }
        if any_starts && all_start {
            // No last stage has set the trial, and the probe's combination may have used it.
            let spans = rows.span(attempts, |attempt| Some(attempt.input(STAGES - 1)));
            workspace.combine(Target::Trial, spans)?;
        }
        Ok(asked)
    }

    /// Measures state and derivative of the rows that start, and chooses their Euler probes.
    fn probe_starts<W: Workspace + ?Sized>(
        &self,
        rows: &mut Rows<Memory>,
        workspace: &mut W,
        attempts: &mut Attempts,
        asked: &[(usize, Column)],
    ) -> Result<(), W::Error> {
        let states = rows.span(attempts, Attempt::state);
        let states = workspace.scaled_square(states, self.tolerance)?;
        let slopes = rows.span(attempts, Attempt::slope);
        let slopes = workspace.scaled_square(slopes, self.tolerance)?;
        let columns = workspace.collect()?;
        note(attempts, asked, &columns);
        self.look(rows, attempts, &columns[states], &columns[slopes]);
        Ok(())
    }
}

/// Sends back to the start the riders whose legs are shorter than the bearer's Euler probe.
fn part_at_start(rows: &mut Rows<Memory>, attempts: &mut Attempts, frame: &mut Frame) {
    rows.each(attempts, |_, row, attempt| {
        let Attempt::Start(Start {
            probe: Some(probe), ..
        }) = attempt
        else {
            return;
        };
        for rider in row.leaving(|_, rider| probe.h.abs() > rider.path.span()) {
            frame.forked.push(Fork {
                from: row.job.key,
                job: Job {
                    origin: None,
                    ..row.job.named(rider.key)
                },
            });
        }
    });
}

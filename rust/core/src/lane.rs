//! Lanes: one per leg, each a workspace, a driver and a queue; together they carry every problem from
//! the first leg's start to the last leg's end.
//!
//! Finished rows leave and waiting problems take their place, so that the network sees full batches.
//! The last lane whose queue fills its vacant rows runs the next frame; if none does, the first that
//! has work. So at most about twice as many states as rows wait between lanes, and results appear from
//! the start. A problem's result does not depend on the row, the neighbours or the moment it is given.

use std::collections::VecDeque;

use crate::control::{StepControl, Tolerance};
use crate::field::Field;
use crate::outcome::{Finished, Job, Status, Step};
use crate::runge_kutta::{DormandPrince, Plan};
use crate::workspace::Workspace;

/// How the problems of a solve are integrated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The right-hand side.
    pub field: Field,
    /// Who shares a step size.
    pub control: StepControl,
    /// Tolerances of state and log-density entry.
    pub tolerance: Tolerance,
    /// Rows of every workspace.
    pub rows: usize,
    /// Values per row.
    pub dim: usize,
    /// Whether the state at the last leg's end is saved under its key.
    pub keep: bool,
}

/// Who is told what during a solve.
pub trait Observer<E> {
    /// An accepted step.
    fn step(&mut self, step: Step);

    /// A problem that is over, in that leg.
    ///
    /// # Errors
    /// Ends the solve.
    fn finished(&mut self, leg: usize, finished: Finished) -> Result<(), E>;
}

/// What a solve has cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Network calls, leg by leg.
    pub calls: Vec<u64>,
    /// Rows of those calls that problems needed.
    pub evaluations: u64,
    /// Rows of the calls made while problems waited for their first row.
    pub rows_before_drain: u64,
    /// Those of them that problems needed.
    pub evaluations_before_drain: u64,
}

struct Lane {
    driver: DormandPrince,
    queue: VecDeque<Job>,
}

impl Lane {
    fn has_work(&self) -> bool {
        self.driver.active() > 0 || !self.queue.is_empty()
    }

    fn is_full(&self) -> bool {
        self.has_work() && self.queue.len() >= self.driver.vacant().len()
    }

    /// Gives vacant rows to waiting problems. Under shared control a group starts together.
    fn refill<E>(
        &mut self,
        workspace: &mut dyn Workspace<Error = E>,
        control: StepControl,
    ) -> Result<(), E> {
        if control == StepControl::Shared && self.driver.active() > 0 {
            return Ok(());
        }
        for row in self.driver.vacant() {
            let Some(job) = self.queue.pop_front() else {
                break;
            };
            workspace.load(row, job.key)?;
            self.driver.admit(row, job);
        }
        Ok(())
    }
}

/// Takes every problem through all legs, given as (start, end), one workspace each.
///
/// # Errors
/// What a workspace or the observer raises, unchanged.
pub fn solve<E>(
    legs: &[(f64, f64)],
    settings: &Settings,
    workspaces: &mut [Box<dyn Workspace<Error = E> + '_>],
    keys: &[u64],
    observer: &mut dyn Observer<E>,
) -> Result<Tally, E> {
    let mut lanes: Vec<Lane> = legs
        .iter()
        .enumerate()
        .map(|(index, &(start, end))| Lane {
            driver: DormandPrince::new(
                Plan {
                    start,
                    end,
                    field: settings.field,
                    control: settings.control,
                    tolerance: settings.tolerance,
                    dim: settings.dim,
                    square: index + 1 == legs.len(),
                },
                settings.rows,
            ),
            queue: VecDeque::new(),
        })
        .collect();
    let mut tally = Tally {
        calls: vec![0; legs.len()],
        ..Tally::default()
    };
    if let Some(first) = lanes.first_mut() {
        first.queue = keys.iter().copied().map(Job::new).collect();
    }
    while let Some(index) = lanes
        .iter()
        .rposition(Lane::is_full)
        .or_else(|| lanes.iter().position(Lane::has_work))
    {
        let workspace = workspaces[index].as_mut();
        lanes[index].refill(workspace, settings.control)?;
        let is_draining = lanes[0].queue.is_empty();
        let frame = lanes[index]
            .driver
            .frame(workspace, &mut |step| observer.step(step))?;
        tally.calls[index] += frame.calls;
        tally.evaluations += frame.evaluations;
        if !is_draining {
            tally.rows_before_drain += frame.calls * settings.rows as u64;
            tally.evaluations_before_drain += frame.evaluations;
        }
        for finished in frame.finished {
            let is_last = index + 1 == legs.len();
            let is_ok = finished.status == Status::Ok;
            if is_ok && (!is_last || settings.keep) {
                workspace.save(finished.row, finished.job.key, &[])?;
            }
            if is_ok && !is_last {
                lanes[index + 1].queue.push_back(finished.job);
            } else {
                observer.finished(index, finished)?;
            }
        }
    }
    Ok(tally)
}

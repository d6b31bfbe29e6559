//! Lanes: one per leg, each a workspace, a driver and a queue; together they carry every problem from
//! the first leg's start to the last leg's end.
//!
//! Finished rows leave and waiting problems take their place, so that the network sees full batches.
//! The last lane whose queue fills its vacant rows runs the next frame; if none does, the first that
//! has work. So at most about twice as many states as rows wait between lanes, and results appear from
//! the start. Where the end of a lane is a soft joint, a row goes on in the next one with its slots, its
//! history and its step size, as a rider does that leaves. Problems that have left a shared row go before those that have not begun: at most as many
//! of them wait as rows have riders. A problem's result does not depend on the row, the neighbours or the moment it is given.

use std::collections::VecDeque;

use crate::adams;
use crate::control::StepControl;
use crate::outcome::{Finished, Job, Status, Step};
use crate::route::{Path, Routes};
use crate::rows::{Driver, Plan};
use crate::runge_kutta;
use crate::tableau::STAGES;
use crate::workspace::Workspace;

/// How the problems of a solve are integrated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The driver of every leg.
    pub method: Method,
    /// Rows of every workspace.
    pub rows: usize,
    /// Whether the state at the last leg's end is saved under its key.
    pub keep: bool,
}

/// A driver and how it chooses its steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Dormand-Prince 5(4).
    DormandPrince(runge_kutta::Plan),
    /// Exponential Adams, for the probability flow alone.
    Adams(adams::Plan),
}

impl Method {
    /// Slots that a workspace of its needs.
    pub const fn slots(self) -> usize {
        match self {
            Self::DormandPrince(_) => STAGES,
            Self::Adams(_) => adams::SLOTS,
        }
    }

    /// Whether problems of a group share their steps, and so start together.
    fn is_shared(self) -> bool {
        matches!(self, Self::DormandPrince(plan) if plan.control == StepControl::Shared)
    }
}

/// Who is told what during a solve.
pub trait Observer<E> {
    /// An accepted step.
    fn step(&mut self, _step: Step) {}

    /// A problem goes on alone; its accepted steps so far were the first ones of problem `from`.
    fn forked(&mut self, _from: u64, _job: &Job) {}

    /// A problem that is over, in that leg.
    ///
    /// # Errors
    /// Ends the solve.
    fn finished(&mut self, leg: usize, finished: Finished) -> Result<(), E>;
}

/// Keeps how every problem ended.
impl<E> Observer<E> for Vec<Finished> {
    fn finished(&mut self, _leg: usize, finished: Finished) -> Result<(), E> {
        self.push(finished);
        Ok(())
    }
}

/// What a solve has cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts of all rows of a lane at once: of each active row a step, or its start.
    pub frames: u64,
    /// Network calls, leg by leg.
    pub calls: Vec<u64>,
    /// Rows of those calls that problems needed.
    pub evaluations: u64,
    /// Rows of the calls made while problems waited for their first row.
    pub rows_before_drain: u64,
    /// Those of them that problems needed.
    pub evaluations_before_drain: u64,
}

struct Lane<P: Plan> {
    driver: Driver<P>,
    queue: VecDeque<Job>,
}

impl<P: Plan> Lane<P> {
    fn has_work(&self) -> bool {
        self.driver.active() > 0 || !self.queue.is_empty()
    }

    fn is_full(&self) -> bool {
        self.has_work() && self.queue.len() >= self.driver.vacant().len()
    }

    /// Gives vacant rows to waiting problems; where groups start `together`, once all rows are vacant.
    fn refill<E>(
        &mut self,
        workspace: &mut dyn Workspace<Error = E>,
        together: bool,
        path: impl Fn(u64) -> Path,
    ) -> Result<(), E> {
        if together && self.driver.active() > 0 {
            return Ok(());
        }
        for row in self.driver.vacant() {
            let Some(job) = self.queue.pop_front() else {
                break;
            };
            workspace.load(row, job.key)?;
            let path = path(job.key);
            self.driver.admit(row, job, path);
        }
        Ok(())
    }
}

/// Takes every problem through all legs of its route, the i-th in the i-th workspace. Problems that
/// differ in their routes alone share a row as long as they take the same steps.
///
/// # Errors
/// What a workspace or the observer raises, unchanged.
///
/// # Panics
/// Where a key names no route, a route has more legs than there are workspaces, or problems of
/// several routes would share their step sizes.
pub fn solve<E>(
    routes: &Routes,
    settings: &Settings,
    workspaces: &mut [Box<dyn Workspace<Error = E> + '_>],
    keys: &[u64],
    observer: &mut dyn Observer<E>,
) -> Result<Tally, E> {
    assert!(
        routes.count() == 1 || !settings.method.is_shared(),
        "rows that share a step size end together"
    );
    match settings.method {
        Method::DormandPrince(plan) => run(plan, routes, settings, workspaces, keys, observer),
        Method::Adams(plan) => run(plan, routes, settings, workspaces, keys, observer),
    }
}

/// [`solve`] by the drivers of one method.
fn run<P: Plan + Copy, E>(
    plan: P,
    routes: &Routes,
    settings: &Settings,
    workspaces: &mut [Box<dyn Workspace<Error = E> + '_>],
    keys: &[u64],
    observer: &mut dyn Observer<E>,
) -> Result<Tally, E> {
    let together = settings.method.is_shared();
    let mut lanes: Vec<Lane<P>> = (0..workspaces.len())
        .map(|index| Lane {
            driver: Driver::new(plan, settings.rows, routes.idle(index)),
            queue: VecDeque::new(),
        })
        .collect();
    let mut tally = Tally {
        calls: vec![0; lanes.len()],
        ..Tally::default()
    };
    if let Some(first) = lanes.first_mut() {
        let parties = routes.parties(keys).into_iter();
        first.queue = parties
            .map(|(key, riders)| Job {
                riders,
                ..Job::new(key)
            })
            .collect();
    }
    while let Some(index) = lanes
        .iter()
        .rposition(Lane::is_full)
        .or_else(|| lanes.iter().position(Lane::has_work))
    {
        let workspace = workspaces[index].as_mut();
        lanes[index].refill(workspace, together, |key| routes.path(key, index))?;
        let is_draining = lanes[0].queue.is_empty();
        let frame = lanes[index]
            .driver
            .frame(workspace, &mut |step| observer.step(step))?;
        tally.frames += 1;
        tally.calls[index] += frame.calls;
        tally.evaluations += frame.evaluations;
        if !is_draining {
            tally.rows_before_drain += frame.calls * settings.rows as u64;
            tally.evaluations_before_drain += frame.evaluations;
        }
        // Before problems that have not begun: what they hold in the store is freed the sooner.
        for fork in frame.forked.into_iter().rev() {
            observer.forked(fork.from, &fork.job);
            lanes[index].queue.push_front(fork.job);
        }
        for finished in frame.finished {
            let bearer = finished.job.key;
            let carried = lanes[index].driver.carried(bearer);
            for mut finished in finished.apart() {
                let key = finished.job.key;
                if key != bearer {
                    observer.forked(bearer, &finished.job);
                }
                let is_last = index + 1 == routes.legs(key).len();
                let is_ok = finished.status == Status::Ok;
                if is_ok && is_last && finished.job.missed {
                    finished.status = Status::ToleranceMissed;
                }
                let carried = carried.clone().filter(|_| is_ok && !is_last);
                if is_ok && (!is_last || settings.keep) {
                    let slots = carried.as_ref().map_or(&[][..], |(_, slots)| slots);
                    workspace.save(finished.row, key, slots)?;
                }
                if is_ok && !is_last {
                    let next = &mut lanes[index + 1];
                    if let Some((row, _)) = carried {
                        let path = routes.path(key, index + 1);
                        next.driver.expect(row, finished.job.clone(), path);
                    }
                    next.queue.push_back(finished.job);
                } else {
                    observer.finished(index, finished)?;
                }
            }
        }
    }
    Ok(tally)
}

//! The pool of rows: vacant or at work, and those that left another one and wait.

use std::collections::HashMap;

use super::{Plan, Row, Verdict};
use crate::outcome::{Fork, Frame, Job, Status, Step};
use crate::route::Path;
use crate::workspace::{Column, Spans, Workspace};

/// Rows, vacant or at work, and those that wait for one.
pub struct Rows<M> {
    seats: Vec<Option<Row<M>>>,
    /// Riders that left, and problems from another lane, that wait for a row to go on in.
    branches: HashMap<u64, Row<M>>,
    /// Rows whose leg has ended at a soft joint.
    ended: HashMap<u64, Row<M>>,
    spans: Spans,
    idle: f64,
}

impl<M: Clone> Rows<M> {
    pub(super) fn new(rows: usize, slots: usize, idle: f64) -> Self {
        Self {
            seats: (0..rows).map(|_| None).collect(),
            branches: HashMap::new(),
            ended: HashMap::new(),
            spans: Spans::zeros(rows, slots),
            idle,
        }
    }

    pub(super) fn vacant(&self) -> Vec<usize> {
        (0..self.seats.len())
            .filter(|&row| self.seats[row].is_none())
            .collect()
    }

    pub(super) fn active(&self) -> usize {
        self.seats.iter().flatten().count()
    }

    pub(super) fn admit<P: Plan<Memory = M>>(
        &mut self,
        row: usize,
        plan: &P,
        job: Job,
        path: Path,
    ) {
        let branch = self.branches.remove(&job.key);
        self.seats[row] = Some(branch.unwrap_or_else(|| plan.begin(job, path)));
    }

    pub(super) fn carried(&mut self, key: u64) -> Option<Row<M>> {
        self.ended.remove(&key)
    }

    pub(super) fn expect(&mut self, row: Row<M>) {
        self.branches.insert(row.job.key, row);
    }

    /// Lets go the riders whose next attempt would be another one; where they stand is saved.
    pub(super) fn part<P: Plan<Memory = M>, W: Workspace + ?Sized>(
        &mut self,
        plan: &P,
        workspace: &mut W,
        frame: &mut Frame,
    ) -> Result<(), W::Error> {
        for (index, row) in self.seats.iter_mut().enumerate() {
            let Some(row) = row else { continue };
            for rider in row.leaving(|row, rider| plan.parts(row, rider)) {
                let branch = row.branch(&rider);
                workspace.save(index, rider.key, &P::slots(row))?;
                frame.forked.push(Fork {
                    from: row.job.key,
                    job: branch.job.clone(),
                });
                self.branches.insert(rider.key, branch);
            }
        }
        Ok(())
    }
}

impl<M: Clone> Rows<M> {
    /// Something of each row at work, in the place of its row.
    pub(crate) fn map<A>(&mut self, mut make: impl FnMut(&mut Row<M>) -> A) -> Vec<Option<A>> {
        let row = |row: &mut Option<Row<M>>| row.as_mut().map(&mut make);
        self.seats.iter_mut().map(row).collect()
    }

    /// Each row at work with its place and its attempt.
    pub(crate) fn each<A>(
        &mut self,
        attempts: &mut [Option<A>],
        mut work: impl FnMut(usize, &mut Row<M>, &mut A),
    ) {
        for (index, (row, attempt)) in self.seats.iter_mut().zip(attempts).enumerate() {
            if let (Some(row), Some(attempt)) = (row, attempt) {
                work(index, row, attempt);
            }
        }
    }

    /// A combination per row, scale and weights of its attempt's; nothing where there is none.
    pub(crate) fn span<A, const N: usize>(
        &mut self,
        attempts: &[Option<A>],
        combination: impl Fn(&A) -> Option<(f64, [f64; N])>,
    ) -> &Spans {
        self.spans.clear();
        for (index, attempt) in attempts.iter().enumerate() {
            if let Some((scale, weights)) = attempt.as_ref().and_then(&combination) {
                self.spans.set(index, scale, &weights);
            }
        }
        &self.spans
    }

    /// What the network is to be asked: t, node and slot of each row.
    pub(crate) fn question<A>(
        &mut self,
        attempts: &[Option<A>],
        ask: impl Fn(&Row<M>, &A) -> (f64, u64, Option<usize>),
    ) -> Question {
        let vacant = (self.idle, 0, None);
        let mut question = Question::default();
        for (row, attempt) in self.seats.iter_mut().zip(attempts) {
            let (t, node, slot) = match (row, attempt) {
                (Some(row), Some(attempt)) => {
                    let asked = ask(row, attempt);
                    row.evaluations += u64::from(asked.2.is_some());
                    asked
                }
                _ => vacant,
            };
            question.t.push(t);
            question.node.push(node);
            question.slot.push(slot);
        }
        question
    }

    /// Gives every row the verdict on its attempt: trials become states, and rows whose leg is over leave.
    pub(crate) fn settle<A, W: Workspace + ?Sized>(
        &mut self,
        attempts: &[Option<A>],
        workspace: &mut W,
        observe: &mut dyn FnMut(Step),
        frame: &mut Frame,
        mut judge: impl FnMut(usize, &mut Row<M>, &A) -> Verdict,
    ) -> Result<(), W::Error> {
        let mut accepted = vec![false; self.seats.len()];
        for (index, (seat, attempt)) in self.seats.iter_mut().zip(attempts).enumerate() {
            let (Some(row), Some(attempt)) = (seat.as_mut(), attempt) else {
                continue;
            };
            let verdict = judge(index, row, attempt);
            accepted[index] = verdict.accepted;
            if verdict.accepted {
                observe(row.step());
            }
            if let Some((status, row)) = verdict.over.and_then(|s| Some((s, seat.take()?))) {
                if status == Status::Ok && row.path.soft {
                    self.ended.insert(row.job.key, row.clone());
                }
                frame.finished.push(row.finish(index, status, &verdict));
            }
        }
        workspace.accept(&accepted)
    }
}

/// What a network call is asked: t, node and slot of each row.
#[derive(Default)]
pub(crate) struct Question {
    t: Vec<f64>,
    node: Vec<u64>,
    pub(crate) slot: Vec<Option<usize>>,
}

impl Question {
    /// Rows that have a question.
    pub(crate) fn asking(&self) -> usize {
        self.slot.iter().flatten().count()
    }

    /// One network call.
    pub(crate) fn put<W: Workspace + ?Sized>(
        &self,
        workspace: &mut W,
        frame: &mut Frame,
    ) -> Result<Column, W::Error> {
        frame.calls += 1;
        frame.evaluations += self.asking() as u64;
        workspace.evaluate(&self.t, &self.node, &self.slot)
    }
}

//! The Dormand-Prince driver: one loop for both step controls, over any [`Workspace`].
//!
//! Every stage, the new state and the error are spans, scale * y_n + sum_j w_j slot_j, computed per
//! row in f64 from the tableau and the field's linear part; y_i = y_n + h sum_l a_il k_l and
//! k_i = L(t_i) y_i + g(t_i) slot_i are sums of spans. The solver never sees a tensor: a frame (one
//! attempt of every row) costs six evaluations and one wait. A new row starts inside the others'
//! attempt, its first evaluation with stage 1, its Euler probe with stage 2, and costs one wait more.

mod attempt;
mod columns;
mod row;

use attempt::Attempt;
use columns::{Column, Columns};
use row::Row;

use std::collections::HashMap;

use crate::control::{self, StepControl, Tolerance};
use crate::course::Path;
use crate::field::Field;
use crate::outcome::{Fork, Frame, Job, Step};
use crate::tableau::{A, E, STAGES};
use crate::workspace::{Spans, Target, Workspace};

/// How a lane integrates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The t of rows that hold no problem.
    pub idle: f64,
    /// The right-hand side.
    pub field: Field,
    /// Who shares a step size.
    pub control: StepControl,
    /// Tolerances of state and log-density entry.
    pub tolerance: Tolerance,
    /// Values per row.
    pub dim: usize,
}

/// The Euler probe of a starting row: its signed step, and the norm of the derivative there.
#[derive(Clone, Copy, Debug)]
struct Probe {
    h0: f64,
    d1: f64,
}

/// One leg of every row that a lane holds.
pub struct DormandPrince {
    plan: Plan,
    rows: Vec<Option<Row>>,
    /// Riders that left and wait for a row.
    branches: HashMap<u64, Row>,
    spans: Spans,
}

impl DormandPrince {
    /// A driver of `rows` vacant rows.
    pub fn new(plan: Plan, rows: usize) -> Self {
        Self {
            plan,
            rows: vec![None; rows],
            branches: HashMap::new(),
            spans: Spans::zeros(rows, STAGES),
        }
    }

    /// Rows that wait for a problem.
    pub fn vacant(&self) -> Vec<usize> {
        (0..self.rows.len())
            .filter(|&row| self.rows[row].is_none())
            .collect()
    }

    /// Rows at work.
    pub fn active(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Puts a problem, already loaded by the workspace, into a vacant row; one that left another row
    /// goes on where it was.
    pub fn admit(&mut self, row: usize, job: Job, path: Path) {
        let branch = self.branches.remove(&job.key);
        self.rows[row] = Some(branch.unwrap_or_else(|| Row::new(job, path)));
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
        let mut columns = Columns::default();
        self.part(workspace, &mut frame)?;
        let plan = self.plan;
        let attempts: Vec<Option<Attempt>> = self
            .rows
            .iter_mut()
            .map(|row| {
                let row = row.as_mut().filter(|row| !row.starting)?;
                Some(row.attempt(&plan))
            })
            .collect();
        let probes = self.evaluate_stages(workspace, &attempts, &mut columns, &mut frame)?;
        self.measure_error(workspace, &attempts, &probes)?;
        columns.names.push(Column::Error);
        if self.measure_square(workspace, &attempts)? {
            columns.names.push(Column::Square);
        }
        columns.values.extend(workspace.collect()?);
        let accepted = self.settle(&columns, &attempts, &probes, &mut frame, observe);
        workspace.accept(&accepted)?;
        Ok(frame)
    }

    /// Lets go the riders whose next attempt would be another one; where they stand is saved.
    fn part<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        frame: &mut Frame,
    ) -> Result<(), W::Error> {
        for (index, row) in self.rows.iter_mut().enumerate() {
            let Some(row) = row.as_mut().filter(|row| !row.starting) else {
                continue;
            };
            for rider in row.leaving(|row, rider| row.parts(&self.plan, rider)) {
                let branch = row.branch(&rider);
                // All that a step begins with: the state and what the network said there.
                workspace.save(index, rider.key, &[row.slots[0]])?;
                frame.forked.push(Fork {
                    from: row.job.key,
                    job: branch.job.clone(),
                });
                self.branches.insert(rider.key, branch);
            }
        }
        Ok(())
    }

    /// Sends back to the start the riders whose legs are shorter than the bearer's Euler probe.
    fn part_at_start(&mut self, probes: &[Option<Probe>], frame: &mut Frame) {
        for (row, probe) in self.rows.iter_mut().zip(probes) {
            let (Some(row), Some(Probe { h0, .. })) = (row, probe) else {
                continue;
            };
            for rider in row.leaving(|_, rider| h0.abs() > rider.path.span()) {
                frame.forked.push(Fork {
                    from: row.job.key,
                    job: Job {
                        origin: None,
                        ..row.job.named(rider.key)
                    },
                });
            }
        }
    }

    /// Evaluates every stage of every row; returns the Euler probes of the rows that start.
    fn evaluate_stages<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        attempts: &[Option<Attempt>],
        columns: &mut Columns,
        frame: &mut Frame,
    ) -> Result<Vec<Option<Probe>>, W::Error> {
        let n_rows = self.rows.len();
        let mut probes: Vec<Option<Probe>> = vec![None; n_rows];
        let any_starting = self.rows.iter().flatten().any(|row| row.starting);
        let constant = matches!(self.plan.control, StepControl::Constant { .. });
        for stage in 1..STAGES {
            let (t, slot) = self.stage(stage, attempts, &probes);
            let useful = slot.iter().flatten().count();
            if useful == 0 {
                continue;
            }
            frame.calls += 1;
            frame.evaluations += useful as u64;
            self.combine_stage(workspace, stage, any_starting, attempts, &probes)?;
            // The probe stays fixed along a solve: an error norm that holds the trace needs a function.
            workspace.evaluate(&t, &vec![0; n_rows], &slot)?;
            columns.names.push(Column::Q(stage));
            if stage == 1 && any_starting && !constant {
                self.measure_start(workspace, columns)?;
                columns.values.extend(workspace.collect()?);
                probes = self.probe_steps(columns);
                self.part_at_start(&probes, frame);
            }
        }
        if any_starting && attempts.iter().all(Option::is_none) {
            // No last stage has set the trial, and the probe's combination may have used it.
            self.spans.clear();
            (0..n_rows).for_each(|row| self.spans.set_scale(row, 1.0));
            workspace.combine(Target::Trial, &self.spans)?;
        }
        Ok(probes)
    }

    /// Accepts or rejects every attempt; returns the mask of accepted rows.
    fn settle(
        &mut self,
        columns: &Columns,
        attempts: &[Option<Attempt>],
        probes: &[Option<Probe>],
        frame: &mut Frame,
        observe: &mut dyn FnMut(Step),
    ) -> Vec<bool> {
        let n_rows = self.rows.len();
        let (errors, log_densities) = self.errors(columns, attempts, probes);
        let mut accepted = vec![false; n_rows];
        for index in 0..n_rows {
            let Some(row) = self.rows[index].as_mut() else {
                continue;
            };
            let q = |stage| columns.get(Column::Q(stage), index, n_rows);
            let verdict = if let Some(attempt) = &attempts[index] {
                row.ratio = errors[index];
                if row.decide(&self.plan, attempt) {
                    accepted[index] = true;
                    row.job.log_density = log_densities[index];
                    row.q0 = q(STAGES - 1);
                    row.slots.swap(0, STAGES - 1);
                    observe(row.step());
                }
                row.verdict(&self.plan)
            } else {
                row.begin(&self.plan, q(1), probes[index], errors[index])
            };
            let over = verdict.and_then(|status| Some((status, self.rows[index].take()?)));
            if let Some((status, row)) = over {
                let stage = match attempts[index] {
                    Some(_) => (1..STAGES).find(|&stage| !q(stage).is_finite()),
                    None => Some(0),
                };
                let square = columns.get(Column::Square, index, n_rows);
                frame
                    .finished
                    .push(row.finish(index, status, square, stage));
            }
        }
        accepted
    }

    fn combine_stage<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        stage: usize,
        any_starting: bool,
        attempts: &[Option<Attempt>],
        probes: &[Option<Probe>],
    ) -> Result<(), W::Error> {
        self.spans.clear();
        for (index, row) in self.rows.iter().enumerate() {
            let Some(row) = row else { continue };
            if let Some(attempt) = &attempts[index] {
                self.spans.set_scale(index, attempt.scale[stage]);
                for (slot, &weight) in attempt.weights[stage][..stage].iter().enumerate() {
                    self.spans.set_weight(index, row.slots[slot], weight);
                }
            } else if let (2, Some(Probe { h0, .. })) = (stage, probes[index]) {
                let (linear, gain) = rates(self.plan.field, row.path.start);
                self.spans.set_scale(index, 1.0 + h0 * linear);
                self.spans.set_weight(index, row.slots[0], h0 * gain);
            } else {
                self.spans.set_scale(index, 1.0);
            }
        }
        // A starting row measures itself against its own state: its trial must be its state.
        let both = stage == STAGES - 1 || (stage == 1 && any_starting);
        let target = if both { Target::Both } else { Target::Input };
        workspace.combine(target, &self.spans)
    }

    /// When and into which slot each row evaluates at this stage.
    fn stage(
        &mut self,
        stage: usize,
        attempts: &[Option<Attempt>],
        probes: &[Option<Probe>],
    ) -> (Vec<f64>, Vec<Option<usize>>) {
        let mut t = vec![self.plan.idle; self.rows.len()];
        let mut slot = vec![None; self.rows.len()];
        for (index, row) in self.rows.iter_mut().enumerate() {
            let Some(row) = row else { continue };
            t[index] = row.path.start;
            if let Some(attempt) = &attempts[index] {
                t[index] = attempt.t[stage];
                slot[index] = Some(row.slots[stage]);
            } else if stage == 1 {
                slot[index] = Some(row.slots[0]);
            } else if let (2, Some(Probe { h0, .. })) = (stage, probes[index]) {
                t[index] += h0;
                slot[index] = Some(row.slots[1]);
            }
            row.evaluations += u64::from(slot[index].is_some());
        }
        (t, slot)
    }

    fn measure_start<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        columns: &mut Columns,
    ) -> Result<(), W::Error> {
        for column in [Column::Start0, Column::Start1] {
            self.spans.clear();
            for (index, row) in self.rows.iter().enumerate() {
                if let Some(row) = row.as_ref().filter(|row| row.starting) {
                    let (scale, weight) = match column {
                        Column::Start0 => (1.0, 0.0),
                        _ => rates(self.plan.field, row.path.start),
                    };
                    self.spans.set_scale(index, scale);
                    self.spans.set_weight(index, row.slots[0], weight);
                }
            }
            workspace.scaled_square(&self.spans, self.plan.tolerance)?;
            columns.names.push(column);
        }
        Ok(())
    }

    /// Euler probes of the starting rows; none where the start is not finite.
    fn probe_steps(&self, columns: &Columns) -> Vec<Option<Probe>> {
        let entry = |row: &Row| row.job.log_density;
        let d0 = self.norms(columns, Column::Start0, |row, _| {
            (entry(row), entry(row).abs())
        });
        let d1 = self.norms(columns, Column::Start1, |row, index| {
            let q = columns.get(Column::Q(1), index, self.rows.len());
            let rate = self.plan.field.trace(row.path.start, q);
            (rate, entry(row).abs())
        });
        self.rows
            .iter()
            .zip(d0.iter().zip(&d1))
            .map(|(row, (&d0, &d1))| {
                let path = row.as_ref().filter(|row| row.starting)?.path;
                let finite = d0.is_finite() && d1.is_finite();
                finite.then(|| Probe {
                    h0: path.direction() * control::trial_step(d0, d1, path.span()),
                    d1,
                })
            })
            .collect()
    }

    fn measure_error<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        attempts: &[Option<Attempt>],
        probes: &[Option<Probe>],
    ) -> Result<(), W::Error> {
        self.spans.clear();
        for (index, row) in self.rows.iter().enumerate() {
            let Some(row) = row else { continue };
            if let Some(attempt) = &attempts[index] {
                self.spans.set_scale(index, attempt.error_scale);
                for (slot, &weight) in attempt.error_weights.iter().enumerate() {
                    self.spans.set_weight(index, row.slots[slot], weight);
                }
            } else if let Some(Probe { h0, .. }) = probes[index] {
                let (linear, gain) = rates(self.plan.field, row.path.start);
                let t = row.path.start + h0;
                let after = self.plan.field.linear(t);
                self.spans
                    .set_scale(index, after * (1.0 + h0 * linear) - linear);
                self.spans
                    .set_weight(index, row.slots[0], after * h0 * gain - gain);
                self.spans
                    .set_weight(index, row.slots[1], self.plan.field.gain(t));
            }
        }
        workspace.scaled_square(&self.spans, self.plan.tolerance)
    }

    fn measure_square<W: Workspace + ?Sized>(
        &mut self,
        workspace: &mut W,
        attempts: &[Option<Attempt>],
    ) -> Result<bool, W::Error> {
        self.spans.clear();
        let mut any = false;
        for (index, row) in self.rows.iter().enumerate() {
            let (Some(row), Some(attempt)) = (row, &attempts[index]) else {
                continue;
            };
            if row.wants_square() && attempt.t[STAGES - 1] == row.path.end {
                any = true;
                self.spans.set_scale(index, attempt.scale[STAGES - 1]);
                for (slot, &weight) in attempt.weights[STAGES - 1].iter().enumerate() {
                    self.spans.set_weight(index, row.slots[slot], weight);
                }
            }
        }
        if any {
            workspace.scaled_square(&self.spans, Tolerance::UNIT)?;
        }
        Ok(any)
    }

    /// Per row: the error of its attempt (of its Euler probe, while it starts) in units of the
    /// tolerance, and its log-density entry after the attempt.
    fn errors(
        &self,
        columns: &Columns,
        attempts: &[Option<Attempt>],
        probes: &[Option<Probe>],
    ) -> (Vec<f64>, Vec<f64>) {
        let n_rows = self.rows.len();
        let field = self.plan.field;
        let mut entries = vec![0.0; n_rows];
        let mut entry_errors = vec![0.0; n_rows];
        for (index, row) in self.rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let q = |stage| columns.get(Column::Q(stage), index, n_rows);
            entries[index] = row.job.log_density;
            if let Some(attempt) = &attempts[index] {
                for stage in 0..STAGES {
                    let q = if stage == 0 { row.q0 } else { q(stage) };
                    let rate = field.trace(attempt.t[stage], q);
                    entries[index] += attempt.h * A[STAGES - 1][stage] * rate;
                    entry_errors[index] += attempt.h * E[stage] * rate;
                }
            } else if let Some(Probe { h0, .. }) = probes[index] {
                let start = row.path.start;
                entry_errors[index] = field.trace(start + h0, q(2)) - field.trace(start, q(1));
            }
        }
        let errors = self.norms(columns, Column::Error, |row, index| {
            let magnitude = row.job.log_density.abs().max(entries[index].abs());
            (entry_errors[index], magnitude)
        });
        (errors, entries)
    }

    /// Root mean square over the values and the log-density entry of a row, or of all rows under
    /// shared control; a column of sums of squares, and per row the entry's value and magnitude.
    fn norms(
        &self,
        columns: &Columns,
        column: Column,
        entry: impl Fn(&Row, usize) -> (f64, f64),
    ) -> Vec<f64> {
        let extra = self.plan.field.extra_entries();
        let sums: Vec<Option<f64>> = self
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| {
                let row = row.as_ref()?;
                let (value, magnitude) = entry(row, index);
                let ratio = self.plan.tolerance.ratio(value, magnitude);
                let sum = columns.get(column, index, self.rows.len());
                Some(sum + ratio * ratio)
            })
            .collect();
        let count = (self.plan.dim + extra) as f64;
        if self.plan.control == StepControl::Shared {
            let active = sums.iter().flatten().count() as f64;
            let total: f64 = sums.iter().flatten().sum();
            return vec![(total / (count * active)).sqrt(); sums.len()];
        }
        sums.iter()
            .map(|sum| sum.map_or(0.0, |sum| (sum / count).sqrt()))
            .collect()
    }
}

/// L and g at t.
fn rates(field: Field, t: f64) -> (f64, f64) {
    (field.linear(t), field.gain(t))
}

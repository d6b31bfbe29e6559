//! Norms over the values and the log-density entry of a row, or of all rows that share a step size, from the
//! sums of squares that a workspace measures.

use super::attempt::Attempt;
use super::{Attempts, Memory, Plan};
use crate::control::{self, StepControl};
use crate::rows::{Row, Rows};

impl Plan {
    /// Chooses the Euler probes of the rows that start, from the sums of squares of state and derivative;
    /// none where the start is not finite.
    pub(super) fn look(
        &self,
        rows: &mut Rows<Memory>,
        attempts: &mut Attempts,
        states: &[f64],
        slopes: &[f64],
    ) {
        let d0 = self.norms(rows, attempts, states, |row, _| {
            (row.job.log_density, row.job.log_density.abs())
        });
        let d1 = self.norms(rows, attempts, slopes, |row, attempt| {
            let rate = match attempt {
                Attempt::Start(start) => self.field.trace(start.t, start.q[1]),
                Attempt::Step(_) => 0.0,
            };
            (rate, row.job.log_density.abs())
        });
        rows.each(attempts, |index, row, attempt| {
            let Attempt::Start(start) = attempt else {
                return;
            };
            let (d0, d1) = (d0[index], d1[index]);
            if d0.is_finite() && d1.is_finite() {
                let h0 = control::trial_step(d0, d1, row.path.span());
                start.look(self.field, row.path.direction() * h0, d1);
            }
        });
    }

    /// The error of every attempt in units of the tolerance (of its Euler probe, where a row starts).
    pub(super) fn errors(
        &self,
        rows: &mut Rows<Memory>,
        attempts: &mut Attempts,
        sums: &[f64],
    ) -> Vec<f64> {
        self.norms(rows, attempts, sums, |row, attempt| {
            let (entry, error) = attempt.integrate(self.field, row.job.log_density);
            (error, row.job.log_density.abs().max(entry.abs()))
        })
    }

    /// Root mean square over the values and the log-density entry of a row, or of all rows under
    /// shared control; the values' sums of squares, and per row the entry's value and magnitude.
    fn norms(
        &self,
        rows: &mut Rows<Memory>,
        attempts: &mut Attempts,
        sums: &[f64],
        entry: impl Fn(&Row<Memory>, &mut Attempt) -> (f64, f64),
    ) -> Vec<f64> {
        let mut norms = vec![0.0; sums.len()];
        let (mut total, mut active) = (0.0, 0.0);
        let count = (self.dim + self.field.extra_entries()) as f64;
        rows.each(attempts, |index, row, attempt| {
            let (value, magnitude) = entry(row, attempt);
            let ratio = self.tolerance.ratio(value, magnitude);
            let sum = sums[index] + ratio * ratio;
            norms[index] = (sum / count).sqrt();
            total += sum;
            active += 1.0;
        });
        if self.control == StepControl::Shared {
            norms.fill((total / (count * active)).sqrt());
        }
        norms
    }
}

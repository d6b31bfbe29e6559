//! Rows on the host.

use crate::Error;
use crate::control::Tolerance;
use crate::workspace::{Spans, Target};

/// A slot's dtype.
pub trait Slot: Copy + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;
    /// As f64.
    fn wide(self) -> f64;
    /// From f64.
    fn narrow(value: f64) -> Self;
}
impl Slot for f32 {
    const ZERO: Self = 0.0;
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(value: f64) -> Self {
        value as f32
    }
}
impl Slot for f64 {
    const ZERO: Self = 0.0;
    fn wide(self) -> f64 {
        self
    }
    fn narrow(value: f64) -> Self {
        value
    }
}
/// Buffers.
pub struct Host<S> {
    rows: usize,
    dim: usize,
    slots: usize,
    state: Vec<f64>,
    trial: Vec<f64>,
    stored: Vec<S>,
}
impl<S: Slot> Host<S> {
    /// Zeros.
    pub fn new(rows: usize, dim: usize, slots: usize) -> Self {
        Self {
            rows,
            dim,
            slots,
            state: vec![0.0; rows * dim],
            trial: vec![0.0; rows * dim],
            stored: vec![S::ZERO; rows * dim * slots],
        }
    }
    /// Fill.
    ///
    /// # Errors
    /// Length.
    pub fn fill(&mut self, row: usize, start: &[f64]) -> Result<(), Error> {
        if start.len() != self.dim {
            return Err(Error::Length {
                name: "start",
                expected: self.dim,
                found: start.len(),
            });
        }
        self.state[row * self.dim..][..self.dim].copy_from_slice(start);
        Ok(())
    }
    /// State.
    pub fn state(&self, row: usize) -> &[f64] {
        &self.state[row * self.dim..][..self.dim]
    }
    fn at(&self, row: usize, i: usize, spans: &Spans) -> f64 {
        let mut sum = spans.scale()[row] * self.state[row * self.dim + i];
        for (slot, &w) in spans.row(row).iter().enumerate() {
            if w != 0.0 {
                sum += w * self.stored[(row * self.slots + slot) * self.dim + i].wide();
            }
        }
        sum
    }
    /// Combine.
    pub fn combine(&mut self, target: Target, spans: &Spans, input: &mut [S]) {
        for row in 0..self.rows {
            for i in 0..self.dim {
                let v = self.at(row, i, spans);
                let k = row * self.dim + i;
                if target != Target::Trial {
                    input[k] = S::narrow(v);
                }
                if target != Target::Input {
                    self.trial[k] = v;
                }
            }
        }
    }
    /// Store.
    pub fn store(&mut self, slot: &[Option<usize>], output: &[S]) -> Vec<bool> {
        (0..self.rows)
            .map(|row| {
                let Some(slot) = slot[row] else { return true };
                let from = &output[row * self.dim..][..self.dim];
                let finite = from.iter().all(|v| v.wide().is_finite());
                let to = &mut self.stored[(row * self.slots + slot) * self.dim..][..self.dim];
                if finite {
                    to.copy_from_slice(from);
                } else {
                    to.fill(S::ZERO);
                }
                finite
            })
            .collect()
    }
    /// Squares.
    pub fn scaled_square(&self, spans: &Spans, tolerance: Tolerance) -> Vec<f64> {
        (0..self.rows)
            .map(|row| {
                (0..self.dim)
                    .map(|i| {
                        let k = row * self.dim + i;
                        let m = self.state[k].abs().max(self.trial[k].abs());
                        tolerance.ratio(self.at(row, i, spans), m).powi(2)
                    })
                    .sum()
            })
            .collect()
    }
    /// Inner products of one slot a row with all slots of that row.
    pub fn gram(&self, new: &[Option<usize>]) -> Vec<f64> {
        let slot = |row: usize, slot: usize| {
            &self.stored[(row * self.slots + slot) * self.dim..][..self.dim]
        };
        (0..self.rows)
            .flat_map(|row| (0..self.slots).map(move |other| (row, other)))
            .map(|(row, other)| {
                new[row].map_or(f64::NAN, |new| {
                    let pairs = slot(row, new).iter().zip(slot(row, other));
                    pairs.map(|(a, b)| a.wide() * b.wide()).sum()
                })
            })
            .collect()
    }
    /// Accept.
    pub fn accept(&mut self, mask: &[bool]) {
        for row in 0..self.rows {
            if mask[row] {
                let r = row * self.dim..(row + 1) * self.dim;
                self.state[r.clone()].copy_from_slice(&self.trial[r]);
            }
        }
    }
}

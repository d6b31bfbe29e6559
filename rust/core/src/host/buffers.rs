//! The buffers of a workspace on the host, and the fused loops over them.
//!
//! A loop reads what it needs once and writes its target once, straight into place: one task per
//! row, no intermediate block. Sums keep eight partial sums in a fixed order. So a row's bits depend
//! neither on the number of threads nor on G nor on its neighbours.

use rayon::prelude::*;

use crate::Error;
use crate::control::Tolerance;
use crate::threads::{SERIAL, mapped};
use crate::workspace::{Spans, Target};

use super::Slot;
use super::arrival::Arrival;
use super::combination::{self, RowSpan, Write};
use super::pages::Pages;

/// G rows of d values: per row a float64 state and trial, and S slots of stored network outputs.
///
/// The buffers of a row lie together, `[G][2][d]` for state and trial and `[G][S][d]` for the slots.
pub(super) struct Buffers<S> {
    pub(super) dim: usize,
    pub(super) slots: usize,
    /// [G][2][d]: state and trial, in the order that `current` tells.
    pub(super) halves: Pages<f64>,
    /// Which half of each row is its state.
    pub(super) current: Vec<usize>,
    /// [G][S][d].
    pub(super) stored: Pages<S>,
}

impl<S: Slot> Buffers<S> {
    /// Zeros.
    ///
    /// # Errors
    /// [`Error::Memory`] where the system has no room for them.
    ///
    /// # Panics
    /// Unless `dim` and `slots` are at least one.
    pub(super) fn new(rows: usize, dim: usize, slots: usize) -> Result<Self, Error> {
        assert!(
            dim > 0 && slots > 0,
            "rows of {slots} slots of {dim} values"
        );
        Ok(Self {
            dim,
            slots,
            halves: Pages::zeros(rows * 2 * dim, 2 * dim)?,
            current: vec![0; rows],
            stored: Pages::zeros(rows * slots * dim, slots * dim)?,
        })
    }

    /// Sets state and trial of a row.
    ///
    /// # Errors
    /// [`Error::Length`] unless `start` has d values.
    pub(super) fn fill(&mut self, row: usize, start: &[f64]) -> Result<(), Error> {
        if start.len() != self.dim {
            return Err(Error::Length {
                name: "start",
                expected: self.dim,
                found: start.len(),
            });
        }
        let halves = &mut self.halves[row * 2 * self.dim..][..2 * self.dim];
        let (state, trial) = halves.split_at_mut(self.dim);
        state.copy_from_slice(start);
        trial.copy_from_slice(start);
        Ok(())
    }

    /// Sets a slot of a row.
    ///
    /// # Panics
    /// Unless `values` has d values and the slot lies below S.
    pub(super) fn fill_slot(&mut self, row: usize, slot: usize, values: &[S]) {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        self.stored[(row * self.slots + slot) * self.dim..][..self.dim].copy_from_slice(values);
    }

    /// State of a row, `[d]`.
    pub(super) fn state(&self, row: usize) -> &[f64] {
        &self.halves[(2 * row + self.current[row]) * self.dim..][..self.dim]
    }

    /// A slot of a row, `[d]`.
    pub(super) fn slot(&self, row: usize, slot: usize) -> &[S] {
        &self.stored[(row * self.slots + slot) * self.dim..][..self.dim]
    }

    /// Writes every row's combination into the trial, the network's input [G, d], or both.
    ///
    /// What weighs zero is not read, the state included; a row where nothing weighs gets zeros.
    /// [`Target::Input`] leaves the trial alone. What `arrival` brings is stored first; the result
    /// tells per row whether it was finite.
    ///
    /// # Panics
    /// Unless `spans` has G rows of S slots and `input` G d values; for `arrival` as [`Self::store`].
    pub(super) fn combine(
        &mut self,
        arrival: Option<Arrival<'_, S>>,
        target: Target,
        spans: &Spans,
        input: &mut [S],
    ) -> Vec<bool> {
        self.check(spans, arrival);
        assert_eq!(input.len(), self.current.len() * self.dim, "input [G, d]");
        let (dim, slots, least) = (self.dim, self.slots, self.least_rows());
        let rows = self
            .halves
            .par_chunks_mut(2 * dim)
            .zip(self.stored.par_chunks_mut(slots * dim))
            .zip(input.par_chunks_mut(dim))
            .zip(&self.current)
            .enumerate()
            .with_min_len(least);
        mapped(rows, |(row, (((halves, stored), input), &current))| {
            let finite = arrival.is_none_or(|arrival| arrival.store(row, stored, dim));
            let (state, trial) = split(halves, current, dim);
            RowSpan::of(spans, row, state, stored).read(match target {
                Target::Input => Write::Input(input),
                Target::Trial => Write::Trial(trial),
                Target::Both => Write::Both(trial, input),
            });
            finite
        })
    }

    /// [`Self::combine`] into the trial, then [`Self::gram`], row by row while its slots are at hand: they
    /// come out of memory once. The products [G, S], and whether what `arrival` brought was finite.
    ///
    /// # Panics
    /// As those two.
    pub(super) fn combine_and_gram(
        &mut self,
        arrival: Option<Arrival<'_, S>>,
        spans: &Spans,
        new: &[Option<usize>],
    ) -> (Vec<f64>, Vec<bool>) {
        self.check(spans, arrival);
        assert_eq!(new.len(), self.current.len(), "new [G]");
        let (dim, slots, least) = (self.dim, self.slots, self.least_rows());
        let mut products = vec![f64::NAN; new.len() * slots];
        let rows = self
            .halves
            .par_chunks_mut(2 * dim)
            .zip(self.stored.par_chunks_mut(slots * dim))
            .zip(products.par_chunks_mut(slots))
            .zip(&self.current)
            .enumerate()
            .with_min_len(least);
        let finite = mapped(rows, |(row, (((halves, stored), products), &current))| {
            let finite = arrival.is_none_or(|arrival| arrival.store(row, stored, dim));
            let (state, trial) = split(halves, current, dim);
            RowSpan::of(spans, row, state, stored).read(Write::<S>::Trial(trial));
            gram_row(stored, new[row], products);
            finite
        });
        (products, finite)
    }

    /// Copies each row of the network's output into the slot named for it.
    ///
    /// Tells per row whether its output was finite; one that was not is stored as zeros. A row
    /// without a slot stays as it is and counts as finite.
    ///
    /// # Panics
    /// Unless the arrival has G slots below S and G d values.
    pub(super) fn store(&mut self, arrival: Arrival<'_, S>) -> Vec<bool> {
        self.check_arrival(arrival);
        let (dim, least) = (self.dim, self.least_rows());
        let rows = self
            .stored
            .par_chunks_mut(self.slots * dim)
            .enumerate()
            .with_min_len(least);
        mapped(rows, |(row, stored)| arrival.store(row, stored, dim))
    }

    /// Per row, the sum over d of (combination / (atol + rtol max(|state|, |trial|)))^2, and whether
    /// what `arrival` brought was finite; it is stored first.
    ///
    /// A row where nothing weighs gets zero, whatever it holds. A trial that is no number makes the
    /// sum no number.
    ///
    /// # Panics
    /// Unless `spans` has G rows of S slots; for `arrival` as [`Self::store`].
    pub(super) fn scaled_square(
        &mut self,
        arrival: Option<Arrival<'_, S>>,
        spans: &Spans,
        tolerance: Tolerance,
    ) -> (Vec<f64>, Vec<bool>) {
        self.check(spans, arrival);
        let (dim, slots, least) = (self.dim, self.slots, self.least_rows());
        let rows = self
            .halves
            .par_chunks(2 * dim)
            .zip(self.stored.par_chunks_mut(slots * dim))
            .zip(&self.current)
            .enumerate()
            .with_min_len(least);
        let sums = mapped(rows, |(row, ((halves, stored), &current))| {
            let finite = arrival.is_none_or(|arrival| arrival.store(row, stored, dim));
            let state = &halves[current * dim..][..dim];
            let span = RowSpan::of(spans, row, state, stored);
            let sum = span.read(combination::ScaledSquare {
                state: span.state,
                trial: &halves[(1 - current) * dim..][..dim],
                tolerance,
            });
            (sum, finite)
        });
        sums.into_iter().unzip()
    }

    /// Inner products [G, S], in float64, of one slot a row with all slots of that row; NaN in a row
    /// that names none.
    ///
    /// # Panics
    /// Unless `new` has G entries below S.
    pub(super) fn gram(&self, new: &[Option<usize>]) -> Vec<f64> {
        assert_eq!(new.len(), self.current.len(), "new [G]");
        let mut products = vec![f64::NAN; new.len() * self.slots];
        let rows = products
            .par_chunks_mut(self.slots)
            .zip(self.stored.par_chunks(self.slots * self.dim))
            .zip(new)
            .with_min_len(self.least_rows());
        mapped(rows, |((products, stored), &new)| {
            gram_row(stored, new, products);
        });
        products
    }

    /// state <- trial where the mask says so: the halves of the row swap roles, nothing is copied.
    ///
    /// # Panics
    /// Unless `mask` has G entries.
    pub(super) fn accept(&mut self, mask: &[bool]) {
        assert_eq!(mask.len(), self.current.len(), "mask [G]");
        for (current, &accepted) in self.current.iter_mut().zip(mask) {
            *current ^= usize::from(accepted);
        }
    }

    /// Rows of the smallest task.
    fn least_rows(&self) -> usize {
        let rows = self.current.len();
        if rows * self.dim < SERIAL {
            rows.max(1)
        } else {
            1
        }
    }

    fn check(&self, spans: &Spans, arrival: Option<Arrival<'_, S>>) {
        assert_eq!(spans.scale().len(), self.current.len(), "rows of the spans");
        assert_eq!(spans.slots(), self.slots, "slots of the spans");
        if let Some(arrival) = arrival {
            self.check_arrival(arrival);
        }
    }

    fn check_arrival(&self, arrival: Arrival<'_, S>) {
        let rows = self.current.len();
        assert_eq!(arrival.slot.len(), rows, "slot [G]");
        assert_eq!(arrival.output.len(), rows * self.dim, "output [G, d]");
    }
}

/// State and trial of a row, [d] each.
fn split(halves: &mut [f64], current: usize, dim: usize) -> (&[f64], &mut [f64]) {
    let (first, second) = halves.split_at_mut(dim);
    if current == 0 {
        (first, second)
    } else {
        (second, first)
    }
}

/// Inner products of a row's new slot with all of `stored` [S][d]; nothing is written without a new slot.
fn gram_row<S: Slot>(stored: &[S], new: Option<usize>, products: &mut [f64]) {
    let Some(new) = new else { return };
    let dim = stored.len() / products.len();
    let new = &stored[new * dim..][..dim];
    for (product, slot) in products.iter_mut().zip(stored.chunks_exact(dim)) {
        *product = combination::inner(new, slot);
    }
}

//! The buffers of a bare step, as the host lays them out.

use merged_diffusion_core::host::Slot;
use rayon::prelude::*;

use crate::turns::{Shape, output};

/// Partial sums of a bare reduction; d is a multiple of it.
pub const LANES: usize = 8;

/// State and trial, slots, and the network's input and output.
pub struct Buffers<S> {
    /// D.
    pub dim: usize,
    /// Of a row.
    pub slots: usize,
    /// Which half of every row is its state.
    pub current: usize,
    /// `[G][2][d]`.
    pub halves: Vec<f64>,
    /// `[G][slots][d]`.
    pub stored: Vec<S>,
    /// `[G][d]`.
    pub input: Vec<S>,
    /// `[G][d]`.
    pub output: Vec<S>,
}

impl<S: Slot> Buffers<S> {
    /// Rows alike.
    ///
    /// # Panics
    /// Unless d is a multiple of [`LANES`].
    pub fn new(shape: Shape, slots: usize) -> Self {
        assert_eq!(
            shape.dim % LANES,
            0,
            "bare sums take whole blocks of {LANES}"
        );
        Self {
            dim: shape.dim,
            slots,
            current: 0,
            halves: vec![1.0; 2 * shape.values()],
            stored: vec![S::narrow(0.5); slots * shape.values()],
            input: output(shape),
            output: output(shape),
        }
    }

    /// The copy of the network's output.
    pub fn store(&mut self, slot: usize) {
        let dim = self.dim;
        self.stored
            .par_chunks_mut(self.slots * dim)
            .zip(self.output.par_chunks(dim))
            .for_each(|(stored, output)| stored[slot * dim..][..dim].copy_from_slice(output));
    }

    /// State <- trial in every row.
    pub fn accept(&mut self) {
        self.current = 1 - self.current;
    }
}

/// State and trial of a row.
pub fn split(halves: &mut [f64], current: usize) -> (&[f64], &mut [f64]) {
    let (first, second) = halves.split_at_mut(halves.len() / 2);
    if current == 0 {
        (first, second)
    } else {
        (second, first)
    }
}

//! The least a step can be: straight loops over the host's layout, the inner products of a row formed right
//! after its corrector has read the slots, weights that are constants, and no check of anything.

use merged_diffusion_benches::buffers::{Buffers, LANES, split};
use merged_diffusion_benches::turns::Shape;
use merged_diffusion_core::adams::SLOTS;
use merged_diffusion_core::host::Slot;
use rayon::prelude::*;

use crate::{CORRECTOR, PREDICTOR, SCALE};

/// The buffers of a step.
pub(crate) struct Bare<S>(Buffers<S>);

impl<S: Slot> Bare<S> {
    pub(crate) fn new(shape: Shape) -> Self {
        Self(Buffers::new(shape, SLOTS))
    }

    /// The predictor, into the network's input.
    fn predict(&mut self) {
        let (dim, current) = (self.0.dim, self.0.current);
        self.0
            .input
            .par_chunks_mut(dim)
            .zip(self.0.halves.par_chunks(2 * dim))
            .zip(self.0.stored.par_chunks(SLOTS * dim))
            .for_each(|((input, halves), stored)| {
                let state = &halves[current * dim..][..dim];
                predict_row(input, state, &slots(stored, dim));
            });
    }

    /// The corrector, into the trial, and the inner products of the newest slot with all, which the cache
    /// still holds.
    fn correct(&mut self) -> Vec<[f64; SLOTS]> {
        let (dim, current) = (self.0.dim, self.0.current);
        self.0
            .halves
            .par_chunks_mut(2 * dim)
            .zip(self.0.stored.par_chunks(SLOTS * dim))
            .map(|(halves, stored)| {
                let (state, trial) = split(halves, current);
                let slots = slots(stored, dim);
                correct_row(trial, state, &slots);
                slots.map(|slot| inner(slot, slots[SLOTS - 1]))
            })
            .collect()
    }

    /// One step; a sum of inner products, so that none is left out.
    pub(crate) fn step(&mut self) -> f64 {
        self.predict();
        self.0.store(SLOTS - 1);
        let products = self.correct();
        self.0.accept();
        products.iter().flatten().sum()
    }
}

/// Of one row, `[d]` each.
fn slots<S>(stored: &[S], dim: usize) -> [&[S]; SLOTS] {
    std::array::from_fn(|slot| &stored[slot * dim..][..dim])
}

// Functions of their own, as arguments are known not to overlap; and lengths that the compiler sees, so that no
// check of an index is left in the loops.

#[inline(never)]
fn predict_row<S: Slot>(input: &mut [S], state: &[f64], slots: &[&[S]; SLOTS]) {
    let dim = input.len();
    let (state, [_, k1, k2, k3, _]) = (&state[..dim], slots.map(|slot| &slot[..dim]));
    for i in 0..dim {
        let sum = SCALE * state[i]
            + PREDICTOR[1] * k1[i].wide()
            + PREDICTOR[2] * k2[i].wide()
            + PREDICTOR[3] * k3[i].wide();
        input[i] = S::narrow(sum);
    }
}

#[inline(never)]
fn correct_row<S: Slot>(trial: &mut [f64], state: &[f64], slots: &[&[S]; SLOTS]) {
    let dim = trial.len();
    let (state, [_, k1, k2, k3, k4]) = (&state[..dim], slots.map(|slot| &slot[..dim]));
    for i in 0..dim {
        trial[i] = SCALE * state[i]
            + CORRECTOR[1] * k1[i].wide()
            + CORRECTOR[2] * k2[i].wide()
            + CORRECTOR[3] * k3[i].wide()
            + CORRECTOR[4] * k4[i].wide();
    }
}

#[inline(never)]
fn inner<S: Slot>(a: &[S], b: &[S]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for i in 0..LANES {
            lanes[i] += a[i].wide() * b[i].wide();
        }
    }
    lanes.iter().sum()
}

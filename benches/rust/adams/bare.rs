//! The least a step can be: straight loops over the host's layout, the inner products formed while the
//! corrector reads the slots, weights that are constants, and no check of anything.

use merged_diffusion_benches::turns::{Shape, output};
use merged_diffusion_core::adams::SLOTS;
use merged_diffusion_core::host::Slot;
use rayon::prelude::*;

use crate::{CORRECTOR, PREDICTOR, SCALE};

/// Partial sums of an inner product.
const LANES: usize = 8;

/// The buffers of a step.
pub(crate) struct Bare<S> {
    dim: usize,
    /// Which half of every row is its state.
    current: usize,
    /// [G][2][dim].
    halves: Vec<f64>,
    /// [G][5][dim].
    stored: Vec<S>,
    input: Vec<S>,
    output: Vec<S>,
}

impl<S: Slot> Bare<S> {
    pub(crate) fn new(shape: Shape) -> Self {
        assert_eq!(
            shape.dim % LANES,
            0,
            "the bare products take whole blocks of {LANES}"
        );
        Self {
            dim: shape.dim,
            current: 0,
            halves: vec![1.0; 2 * shape.values()],
            stored: vec![S::narrow(0.5); SLOTS * shape.values()],
            input: output(shape),
            output: output(shape),
        }
    }

    /// The predictor, into the network's input.
    fn predict(&mut self) {
        let (dim, current) = (self.dim, self.current);
        self.input
            .par_chunks_mut(dim)
            .zip(self.halves.par_chunks(2 * dim))
            .zip(self.stored.par_chunks(SLOTS * dim))
            .for_each(|((input, halves), stored)| {
                let state = &halves[current * dim..][..dim];
                let [_, k1, k2, k3, _]: [_; SLOTS] =
                    std::array::from_fn(|slot| &stored[slot * dim..][..dim]);
                for i in 0..dim {
                    input[i] = S::narrow(
                        SCALE * state[i]
                            + PREDICTOR[1] * k1[i].wide()
                            + PREDICTOR[2] * k2[i].wide()
                            + PREDICTOR[3] * k3[i].wide(),
                    );
                }
            });
    }

    /// The copy of the network's output.
    fn store(&mut self) {
        let dim = self.dim;
        self.stored
            .par_chunks_mut(SLOTS * dim)
            .zip(self.output.par_chunks(dim))
            .for_each(|(stored, output)| stored[(SLOTS - 1) * dim..].copy_from_slice(output));
    }

    /// The corrector, into the trial, and the inner products of the newest slot with all.
    fn correct(&mut self) -> Vec<[f64; SLOTS]> {
        let (dim, current) = (self.dim, self.current);
        self.halves
            .par_chunks_mut(2 * dim)
            .zip(self.stored.par_chunks(SLOTS * dim))
            .map(|(halves, stored)| {
                let (first, second) = halves.split_at_mut(dim);
                let (state, trial) = if current == 0 {
                    (first, second)
                } else {
                    (second, first)
                };
                let slots: [_; SLOTS] = std::array::from_fn(|slot| &stored[slot * dim..][..dim]);
                let mut lanes = [[0.0; LANES]; SLOTS];
                for start in (0..dim).step_by(LANES) {
                    let here = start..start + LANES;
                    let (state, trial) = (&state[here.clone()], &mut trial[here.clone()]);
                    let [k0, k1, k2, k3, k4] = slots.map(|slot| &slot[here.clone()]);
                    for i in 0..LANES {
                        let new = k4[i].wide();
                        let others = [k0[i], k1[i], k2[i], k3[i]].map(Slot::wide);
                        trial[i] = SCALE * state[i]
                            + CORRECTOR[1] * others[1]
                            + CORRECTOR[2] * others[2]
                            + CORRECTOR[3] * others[3]
                            + CORRECTOR[4] * new;
                        for (lanes, other) in lanes.iter_mut().zip(others) {
                            lanes[i] += new * other;
                        }
                        lanes[SLOTS - 1][i] += new * new;
                    }
                }
                lanes.map(|lanes| lanes.iter().sum())
            })
            .collect()
    }

    /// One step; a sum of inner products, so that none is left out.
    pub(crate) fn step(&mut self) -> f64 {
        self.predict();
        self.store();
        let products = self.correct();
        self.current = 1 - self.current;
        products.iter().flatten().sum()
    }
}

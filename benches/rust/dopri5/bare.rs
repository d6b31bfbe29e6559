//! The least a step can be: a straight loop per verb over the host's layout, the tableau's pattern of
//! slots written out, weights that are constants, and no check of anything.

use merged_diffusion_benches::buffers::{Buffers, LANES, split};
use merged_diffusion_benches::turns::Shape;
use merged_diffusion_core::host::Slot;
use merged_diffusion_core::tableau::STAGES;
use rayon::prelude::*;

use crate::{SCALES, TOLERANCE, WEIGHTS};

/// The buffers of a step.
pub(crate) struct Bare<S>(Buffers<S>);

/// scale * state + sum of weights * slots at i, the slots written out.
macro_rules! fused {
    ($stage:literal, $state:ident, $($k:ident)*, $i:ident) => {{
        let mut slot = 0;
        let mut sum = SCALES[$stage] * $state[$i];
        $(sum += WEIGHTS[$stage][slot] * $k[$i].wide(); slot += 1;)*
        let _ = slot;
        sum
    }};
}

/// One combination of all rows into the network's input.
macro_rules! combine {
    ($bare:ident, $stage:literal, $($k:ident)*) => {{
        let (dim, current) = ($bare.0.dim, $bare.0.current);
        $bare
            .0
            .input
            .par_chunks_mut(dim)
            .zip($bare.0.halves.par_chunks(2 * dim))
            .zip($bare.0.stored.par_chunks(STAGES * dim))
            .for_each(|((input, halves), stored)| {
                // Lengths that the compiler sees: no check of an index is left in the loop.
                let (input, state) = (&mut input[..dim], &halves[current * dim..][..dim]);
                let mut slots = stored.chunks_exact(dim);
                $(let $k = &slots.next().expect("seven slots")[..dim];)*
                for i in 0..dim {
                    input[i] = S::narrow(fused!($stage, state, $($k)*, i));
                }
            });
    }};
}

impl<S: Slot> Bare<S> {
    pub(crate) fn new(shape: Shape) -> Self {
        Self(Buffers::new(shape, STAGES))
    }

    /// The sixth combination, into trial and input.
    fn last(&mut self) {
        let (dim, current) = (self.0.dim, self.0.current);
        self.0
            .halves
            .par_chunks_mut(2 * dim)
            .zip(self.0.input.par_chunks_mut(dim))
            .zip(self.0.stored.par_chunks(STAGES * dim))
            .for_each(|((halves, input), stored)| {
                let (state, trial) = split(halves, current);
                let (state, trial) = (&state[..dim], &mut trial[..dim]);
                let input = &mut input[..dim];
                let [k0, k1, k2, k3, k4, k5] =
                    std::array::from_fn(|slot| &stored[slot * dim..][..dim]);
                for i in 0..dim {
                    trial[i] = fused!(5, state, k0 k1 k2 k3 k4 k5, i);
                    input[i] = S::narrow(trial[i]);
                }
            });
    }

    /// Per row, the sum of squares of the error in units of the tolerance.
    fn error(&self) -> Vec<f64> {
        let (rtol, atol) = TOLERANCE;
        let (dim, current) = (self.0.dim, self.0.current);
        self.0
            .halves
            .par_chunks(2 * dim)
            .zip(self.0.stored.par_chunks(STAGES * dim))
            .map(|(halves, stored)| {
                let halves = [current, 1 - current].map(|half| &halves[half * dim..][..dim]);
                let slots: [_; STAGES] = std::array::from_fn(|slot| &stored[slot * dim..][..dim]);
                let mut lanes = [0.0; LANES];
                for start in (0..dim).step_by(LANES) {
                    let here = start..start + LANES;
                    let [state, trial] = halves.map(|half| &half[here.clone()]);
                    let [k0, k1, k2, k3, k4, k5, k6] = slots.map(|slot| &slot[here.clone()]);
                    for i in 0..LANES {
                        let value = fused!(6, state, k0 k1 k2 k3 k4 k5 k6, i);
                        let (a, b) = (state[i].abs(), trial[i].abs());
                        let ratio = value / (atol + rtol * if a > b { a } else { b });
                        lanes[i] += ratio * ratio;
                    }
                }
                lanes.iter().sum()
            })
            .collect()
    }

    /// One step; an error norm, so that none is left out.
    pub(crate) fn step(&mut self) -> f64 {
        combine!(self, 0, k0);
        self.0.store(1);
        combine!(self, 1, k0 k1);
        self.0.store(2);
        combine!(self, 2, k0 k1 k2);
        self.0.store(3);
        combine!(self, 3, k0 k1 k2 k3);
        self.0.store(4);
        combine!(self, 4, k0 k1 k2 k3 k4);
        self.0.store(5);
        self.last();
        self.0.store(6);
        let errors = self.error();
        self.0.accept();
        errors[0]
    }
}

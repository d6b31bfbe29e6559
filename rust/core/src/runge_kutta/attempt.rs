//! The coefficients of one attempt: every stage, the new state and the error as spans of slots.

use crate::field::Field;
use crate::tableau::{A, C, E, STAGES};

/// A row's attempt at a step: stage times and the spans of all stages, in stage order.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) t: [f64; STAGES],
    pub(super) h: f64,
    pub(super) scale: [f64; STAGES],
    pub(super) weights: [[f64; STAGES]; STAGES],
    pub(super) error_scale: f64,
    pub(super) error_weights: [f64; STAGES],
}

impl Attempt {
    pub(super) fn new(field: Field, t: f64, t_new: f64) -> Self {
        let h = t_new - t;
        let mut attempt = Self {
            // t + h may round one unit past the end, where another expert is in charge.
            t: C.map(|c| {
                let node = t + c * h;
                if h > 0.0 {
                    node.min(t_new)
                } else {
                    node.max(t_new)
                }
            }),
            h,
            scale: [1.0; STAGES],
            weights: [[0.0; STAGES]; STAGES],
            error_scale: 0.0,
            error_weights: [0.0; STAGES],
        };
        // The step ends where it was told to, as SciPy's: t + (t_new - t) may round to a unit before it,
        // and to reach an end from there would take another step.
        attempt.t[STAGES - 1] = t_new;
        // k_l = slope_scale[l] y_n + sum_j slopes[l][j] slot_j.
        let mut slope_scale = [0.0; STAGES];
        let mut slopes = [[0.0; STAGES]; STAGES];
        for stage in 0..STAGES {
            for before in 0..stage {
                let weight = A[stage][before] * h;
                attempt.scale[stage] += weight * slope_scale[before];
                for (sum, slope) in attempt.weights[stage].iter_mut().zip(slopes[before]) {
                    *sum += weight * slope;
                }
            }
            let linear = field.linear(attempt.t[stage]);
            slope_scale[stage] = linear * attempt.scale[stage];
            slopes[stage] = attempt.weights[stage].map(|weight| linear * weight);
            slopes[stage][stage] = field.gain(attempt.t[stage]);
            attempt.error_scale += h * E[stage] * slope_scale[stage];
            for (sum, slope) in attempt.error_weights.iter_mut().zip(slopes[stage]) {
                *sum += h * E[stage] * slope;
            }
        }
        attempt
    }
}

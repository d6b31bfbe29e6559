//! From log densities to bits per dimension: the sum that is reported, term by term.
//!
//! Each draw z of an image's dequantisation bounds its log P by
//! s = log p(z_max) + (trace integral) + (-log q(z | x)), the terms [`end_density`], trace and
//! [`Dequantisation`]. K draws give log P = log mean_k exp(s_k), in expectation no smaller than
//! the mean (Burda et al. 2016); repeats are independent estimates of it, averaged.
//! Everything is in nats until [`bits_per_dim`]. NaN passes through.

use std::f64::consts::{LN_2, PI};

use crate::Error;
use crate::gamma::{log_sigma, sigma_squared};

mod decoder;
mod dequantisation;
mod estimate;

pub use decoder::{Decoding, decoder_log_likelihood};
pub use dequantisation::Dequantisation;
pub use estimate::{
    Difference, Mean, clustered_error, compensated_sum, error_of_mean, mean_and_error,
    paired_difference,
};

/// log N(z; 0, sigma^2 I) at `gamma_max` of every |z|^2 given, in nats.
///
/// # Errors
/// [`Error::Count`] for no values or no dimensions.
pub fn end_density(square: &[f64], gamma_max: f64, dim: usize) -> Result<Vec<f64>, Error> {
    at_least_one("length of square", square.len())?;
    at_least_one("dim", dim)?;
    let constant = -0.5 * dim as f64 * log_two_pi_variance(gamma_max);
    let half_precision = 0.5 / sigma_squared(gamma_max);
    Ok(square
        .iter()
        .map(|square| constant - half_precision * square)
        .collect())
}

/// The terms of one image's log P, in nats; they add up to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageTerms {
    /// log p(z_max), mean of all draws.
    pub end_density: f64,
    /// Integral of the drift's trace, mean of all draws.
    pub trace: f64,
    /// What the evaluated path's distance from the solution adds to the log-density, mean of all draws.
    pub path_correction: f64,
    /// -log q(z | x), mean of all draws.
    pub dequantisation: f64,
    /// What K draws gain over the mean of their bounds; 0 for K = 1.
    pub importance: f64,
}

impl ImageTerms {
    /// Terms of R repeats of K = `importance` draws; draw k of repeat r is entry r K + k.
    ///
    /// # Errors
    /// [`Error::Count`] for K = 0 or no draws, [`Error::Length`] unless the four slices are
    /// equally long, in whole repeats.
    pub fn new(
        end_density: &[f64],
        trace: &[f64],
        path_correction: &[f64],
        dequantisation: &[f64],
        importance: usize,
    ) -> Result<Self, Error> {
        let draws = end_density.len();
        at_least_one("importance", importance)?;
        at_least_one("length of end_density", draws)?;
        same_length("end_density", draws.next_multiple_of(importance), draws)?;
        same_length("trace", draws, trace.len())?;
        same_length("path_correction", draws, path_correction.len())?;
        same_length("dequantisation", draws, dequantisation.len())?;
        let bounds: Vec<f64> = (0..draws)
            .map(|draw| {
                compensated_sum([
                    end_density[draw],
                    trace[draw],
                    path_correction[draw],
                    dequantisation[draw],
                ])
            })
            .collect();
        let gains: Vec<f64> = bounds.chunks_exact(importance).map(gain).collect();
        Ok(Self {
            end_density: mean(end_density),
            trace: mean(trace),
            path_correction: mean(path_correction),
            dequantisation: mean(dequantisation),
            importance: mean(&gains),
        })
    }

    /// The image's log P, in nats.
    pub fn log_probability(&self) -> f64 {
        compensated_sum([
            self.end_density,
            self.trace,
            self.path_correction,
            self.dequantisation,
            self.importance,
        ])
    }
}

/// By how much an image's log P moves with the bound of each draw, in the order of
/// [`ImageTerms::new`]: 1/R times the draw's share in its repeat's mean of exponentials. They add up
/// to 1.
///
/// # Errors
/// [`Error::Count`] for K = 0 or no draws, [`Error::Length`] for a part of a repeat.
pub fn draw_weights(bounds: &[f64], importance: usize) -> Result<Vec<f64>, Error> {
    at_least_one("importance", importance)?;
    at_least_one("length of bounds", bounds.len())?;
    same_length(
        "bounds",
        bounds.len().next_multiple_of(importance),
        bounds.len(),
    )?;
    let repeats = (bounds.len() / importance) as f64;
    let shares = |bounds: &[f64]| {
        let greatest = bounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let ratios: Vec<f64> = bounds
            .iter()
            .map(|bound| (bound - greatest).exp())
            .collect();
        let whole = repeats * compensated_sum(ratios.iter().copied());
        ratios.into_iter().map(move |ratio| ratio / whole)
    };
    Ok(bounds.chunks_exact(importance).flat_map(shares).collect())
}

/// log mean exp of the bounds less their mean: at least 0 but for rounding, 0 for equal bounds.
fn gain(bounds: &[f64]) -> f64 {
    let greatest = bounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Both relative to the greatest: their difference would lose the digits of a large common part.
    let below: Vec<f64> = bounds.iter().map(|bound| bound - greatest).collect();
    let ratios: Vec<f64> = below.iter().map(|below| below.exp()).collect();
    mean(&ratios).ln() - mean(&below)
}

/// -nats / (d log 2).
pub fn bits_per_dim(nats: f64, dim: usize) -> f64 {
    -nats / (dim as f64 * LN_2)
}

/// log(2 pi sigma^2).
fn log_two_pi_variance(gamma: f64) -> f64 {
    (2.0 * PI).ln() + 2.0 * log_sigma(gamma)
}

fn mean(values: &[f64]) -> f64 {
    compensated_sum(values.iter().copied()) / values.len() as f64
}

fn at_least_one(name: &'static str, count: usize) -> Result<(), Error> {
    if count == 0 {
        return Err(Error::Count { name });
    }
    Ok(())
}

fn same_length(name: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected != found {
        return Err(Error::Length {
            name,
            expected,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn end_density_is_a_product_of_normal_densities() {
        let gamma: f64 = 1.5;
        let variance = 1.0 / (1.0 + (-gamma).exp());
        let z = [0.3, -1.2, 0.7];
        let product: f64 = z
            .iter()
            .map(|z: &f64| (-0.5 * z * z / variance).exp() / (2.0 * PI * variance).sqrt())
            .product();
        let square = z.iter().map(|z| z * z).sum();
        let found = end_density(&[square], gamma, 3).unwrap();
        assert!((found[0] - product.ln()).abs() < 1e-14);
    }

    #[test]
    fn lengths_and_counts_are_checked() {
        let terms = |a: usize, b: usize, c: usize, importance| {
            let one = [1.0; 4];
            ImageTerms::new(&one[..a], &one[..b], &one[..a], &one[..c], importance)
        };
        assert!(terms(4, 4, 4, 2).is_ok());
        assert_eq!(terms(4, 4, 4, 0), Err(Error::Count { name: "importance" }));
        assert!(matches!(terms(0, 0, 0, 1), Err(Error::Count { .. })));
        for (a, b, c, importance) in [(4, 3, 4, 1), (4, 4, 3, 1), (3, 3, 3, 2)] {
            assert!(matches!(
                terms(a, b, c, importance),
                Err(Error::Length { .. })
            ));
        }
        assert!(matches!(end_density(&[], 5.0, 3), Err(Error::Count { .. })));
        assert!(matches!(
            end_density(&[1.0], 5.0, 0),
            Err(Error::Count { name: "dim" })
        ));
    }

    fn draws(n: usize) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-1e4..1e4, n)
    }

    proptest! {
        #[test]
        fn terms_add_up_to_log_mean_exp_averaged_over_repeats(
            (importance, [end, trace, path, dequantisation]) in (1_usize..6, 1_usize..5)
                .prop_flat_map(|(k, r)| (Just(k), [draws(k * r), draws(k * r), draws(k * r), draws(k * r)]))
        ) {
            let terms = ImageTerms::new(&end, &trace, &path, &dequantisation, importance).unwrap();
            let bounds: Vec<f64> = (0..end.len())
                .map(|i| end[i] + trace[i] + path[i] + dequantisation[i])
                .collect();
            let repeats: Vec<f64> = bounds
                .chunks(importance)
                .map(|chunk| {
                    let top = chunk.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = chunk.iter().map(|bound| (bound - top).exp()).sum();
                    top + (sum / importance as f64).ln()
                })
                .collect();
            let expected = repeats.iter().sum::<f64>() / repeats.len() as f64;
            prop_assert!((terms.log_probability() - expected).abs() < 1e-10);
            prop_assert!(terms.importance >= -1e-12);
            prop_assert!(importance > 1 || terms.importance == 0.0);
        }

        #[test]
        fn equal_draws_gain_nothing(bound in -1e300..1e300, importance in 1_usize..50) {
            let equal = vec![bound; importance];
            let zero = vec![0.0; importance];
            let terms = ImageTerms::new(&equal, &zero, &zero, &zero, importance).unwrap();
            prop_assert_eq!(terms.importance, 0.0);
        }

        #[test]
        fn weights_are_the_derivatives_of_log_p(
            bounds in prop::collection::vec(-3.0..3.0_f64, 6), importance in 1_usize..4
        ) {
            let zeros = [0.0; 6];
            let log_p = |bounds: &[f64]| ImageTerms::new(bounds, &zeros, &zeros, &zeros, importance)
                .unwrap()
                .log_probability();
            let weights = draw_weights(&bounds, importance).unwrap();
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-14);
            for (draw, weight) in weights.iter().enumerate() {
                let moved = |by: f64| {
                    let mut bounds = bounds.clone();
                    bounds[draw] += by;
                    log_p(&bounds)
                };
                prop_assert!(((moved(1e-5) - moved(-1e-5)) / 2e-5 - weight).abs() < 1e-9);
            }
        }

        #[test]
        fn bits_undo_nats(bits in -20.0..20.0_f64, dim in 1_usize..10_000) {
            let nats = -bits * dim as f64 * LN_2;
            prop_assert!((bits_per_dim(nats, dim) - bits).abs() < 1e-13);
        }
    }
}

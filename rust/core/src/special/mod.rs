//! Error function, normal distribution and its quantile.
//!
//! erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt and Phi(x) = erfc(-x/sqrt 2)/2.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

mod quantile;
mod ratios;

pub use quantile::normal_quantile;
pub(crate) use quantile::{BLOCK, deviate, deviates, deviates_for_f32};

/// erf(x), within one unit in the last place.
pub fn erf(x: f64) -> f64 {
    libm::erf(x)
}

/// erfc(x) = 1 - erf(x), with all its digits where erf rounds to 1.
pub fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}

/// Phi(x), the standard normal distribution function, with all its digits in the lower tail.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// log of the standard normal density at x.
pub fn normal_log_density(x: f64) -> f64 {
    -0.5 * (x * x + (2.0 * PI).ln())
}

//! The normal quantile: the x with Phi(x) = p.
//!
//! A ratio of polynomials of degree 7 on each of three ranges of p (Wichura 1988, algorithm AS 241,
//! PPND16), relative error below 1e-15; for values that will be rounded to f32, lower degrees.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2};

use super::ratios::{DOUBLE, FAR_TAIL, Ratios, SINGLE, polynomial};

/// Where sqrt(-log p) passes from the tail to the far tail (AS 241).
const FAR: f64 = 5.0;
/// Just short of -Phi^-1(exp(-FAR^2)) = 6.6579, where the near tail ends.
const NEAR_TAIL_ENDS: f64 = 6.65;
/// Shift of sqrt(-log p) in the tail (AS 241).
const TAIL_SHIFT: f64 = 1.6;

/// Values of the tails that are done together.
const SOME: usize = 64;

/// Values that one pass of [`deviates`] takes.
pub(crate) const BLOCK: usize = 256;

/// The x with Phi(x) = p; infinite at 0 and 1, NaN outside [0, 1].
pub fn normal_quantile(p: f64) -> f64 {
    deviate(p, 1.0, 0.0)
}

/// The x with Phi(x) = below + p mass, where mass = 1 - 2 below.
///
/// Both tails keep their digits: the upper one is reached through 1 - p.
pub(crate) fn deviate(p: f64, mass: f64, below: f64) -> f64 {
    let (first, last) = centre_ends(DOUBLE.split, mass);
    if (first..=last).contains(&p) {
        DOUBLE.centre((p - 0.5) * mass)
    } else {
        tail(below + p.min(1.0 - p) * mass).copysign(p - 0.5)
    }
}

/// First and last p of the central range, |p - 1/2| mass <= split to 1e-16; both are exact.
fn centre_ends(split: f64, mass: f64) -> (f64, f64) {
    let last = 0.5 + (split / mass).min(0.5);
    (1.0 - last, last)
}

/// [`deviate`] of many p, which must be odd multiples of 2^-53; at most [`BLOCK`] at a time.
pub(crate) fn deviates(p: &[f64], out: &mut [f64], mass: f64, below: f64) {
    DOUBLE.deviates(p, out, mass, below);
}

/// [`deviates`] with a relative error of 5e-10, for values that will be rounded to f32.
pub(crate) fn deviates_for_f32(p: &[f64], out: &mut [f64], mass: f64, below: f64) {
    SINGLE.deviates(p, out, mass, below);
}

/// -Phi^-1(q) for q < 0.075.
fn tail(q: f64) -> f64 {
    // Below the normal numbers our logarithm does not read the exponent.
    let log = if q.is_normal() {
        log(q, &DOUBLE.artanh)
    } else {
        libm::log(q)
    };
    let r = (-log).sqrt();
    if r <= FAR {
        DOUBLE.tail.at(r - TAIL_SHIFT)
    } else if r < f64::INFINITY {
        FAR_TAIL.at(r - FAR)
    } else {
        r
    }
}

impl<const C: usize, const T: usize, const L: usize> Ratios<C, T, L> {
    /// Phi^-1(1/2 + c) for |c| <= split.
    #[inline]
    fn centre(&self, c: f64) -> f64 {
        c * self.centre.at(self.split * self.split - c * c)
    }

    /// Every value goes through the central ratio, and those of the tails, gathered, through
    /// theirs: both passes are free of branches.
    #[inline]
    fn deviates(&self, p: &[f64], out: &mut [f64], mass: f64, below: f64) {
        for (p, out) in p.iter().zip(out.iter_mut()) {
            *out = self.centre((p - 0.5) * mass);
        }
        let (first, last) = centre_ends(self.split, mass);
        let (first, span) = (first.to_bits(), last.to_bits() - first.to_bits());
        let mut places = [0_u16; BLOCK];
        let mut n = 0;
        for (i, p) in p.iter().enumerate() {
            places[n] = i as u16;
            // Positive numbers are ordered as their bits: one comparison of integers.
            n += usize::from(p.to_bits().wrapping_sub(first) > span);
        }
        for places in places[..n].chunks(SOME) {
            let mut tails = [0.0; SOME];
            for (q, place) in tails.iter_mut().zip(places) {
                *q = below + (0.5 - (p[usize::from(*place)] - 0.5).abs()) * mass;
            }
            for q in &mut tails[..places.len()] {
                *q = self.tail.at((-log(*q, &self.artanh)).sqrt() - TAIL_SHIFT);
            }
            for (x, place) in tails.iter().zip(places) {
                let place = usize::from(*place);
                out[place] = if *x < NEAR_TAIL_ENDS {
                    x.copysign(p[place] - 0.5)
                } else {
                    deviate(p[place], mass, below)
                };
            }
        }
    }
}

/// log x for normal positive x below 1/2; with the series of [`DOUBLE`], relative error below 4e-16.
///
/// Not the platform's: it is free of branches and calls, and streams are the same everywhere.
/// With x = 2^k m, m in [sqrt(1/2), sqrt 2), and s = (m - 1)/(m + 1): k log 2 + 2 artanh s.
#[inline]
fn log<const L: usize>(x: f64, artanh: &[f64; L]) -> f64 {
    const ONE: u64 = 1.0_f64.to_bits();
    const INTEGERS: f64 = 4_503_599_627_370_496.0; // 2^52: its last bit is worth 1
    let biased = (x.to_bits() + (ONE - FRAC_1_SQRT_2.to_bits())) >> 52;
    let k = f64::from_bits(biased | INTEGERS.to_bits()) - (INTEGERS + 1023.0);
    let m = f64::from_bits(x.to_bits().wrapping_add(ONE).wrapping_sub(biased << 52));
    let s = (m - 1.0) / (m + 1.0);
    k * LN_2 + 2.0 * s * polynomial(artanh, s * s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::{normal_cdf, normal_log_density};

    #[test]
    fn quantile_inverts_the_distribution_function() {
        for i in 1..4000 {
            // p over 290 decades, both sides of every split.
            let x = -f64::from(i) / 110.0;
            let p = normal_cdf(x);
            // dx/x = dp/p / (x h), h the hazard, and erfc holds to some ulp.
            let slack = 4e-16 * p / (x.abs() * normal_log_density(x).exp());
            let back = normal_quantile(p);
            assert!((back / x - 1.0).abs() < 2e-15 + slack, "{x}: {back}");
        }
    }

    #[test]
    fn logarithm_agrees_with_the_platforms() {
        for i in 1..10_000 {
            let x = (-f64::from(i) / 15.0).exp() / 2.0;
            assert!((log(x, &DOUBLE.artanh) / x.ln() - 1.0).abs() < 4e-16, "{x}");
        }
    }

    #[test]
    fn quantile_is_odd_about_one_half() {
        for i in 1..1000 {
            let p = f64::from(i) / 2048.0;
            assert_eq!(normal_quantile(p), -normal_quantile(1.0 - p));
        }
        assert_eq!(normal_quantile(0.5), 0.0);
    }

    #[test]
    fn ends_are_infinite_and_beyond_them_there_is_nothing() {
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(normal_quantile(p).is_nan());
        }
    }

    #[test]
    fn blocks_equal_single_values() {
        // Down to 2^-53, through the near and the far tail.
        let p: Vec<f64> = (0..BLOCK)
            .map(|i| (i as f64 + 0.5) / (15.0 * (i % 4) as f64 + 8.0).exp2())
            .collect();
        let mut out = vec![0.0; BLOCK];
        for (mass, below) in [(1.0, 0.0), (0.9, 0.05), (0.1, 0.45)] {
            deviates(&p, &mut out, mass, below);
            for (p, x) in p.iter().zip(&out) {
                assert_eq!(*x, deviate(*p, mass, below));
            }
            deviates_for_f32(&p, &mut out, mass, below);
            for (p, x) in p.iter().zip(&out) {
                let exact = deviate(*p, mass, below);
                assert!((x - exact).abs() <= 5e-10 * exact.abs());
            }
        }
    }
}

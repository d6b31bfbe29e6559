//! Error function and normal quantile.
//!
//! erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt; the quantile is the x with Phi(x) = p, where
//! Phi(x) = erfc(-x/sqrt 2)/2. The quantile is a ratio of polynomials of degree 7 on each of three
//! ranges of p (Wichura 1988, algorithm AS 241, PPND16); relative error below 1e-15.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Central range: |p - 1/2| up to this (AS 241).
const SPLIT: f64 = 0.425;
/// SPLIT^2.
const SPLIT_SQUARED: f64 = 0.180_625;
/// Where sqrt(-log p) passes from the tail to the far tail (AS 241).
const FAR: f64 = 5.0;
/// Shift of sqrt(-log p) in the tail (AS 241).
const TAIL_SHIFT: f64 = 1.6;

// Coefficients of AS 241 by rising power, numerator and denominator, rounded to f64.
const CENTRE_ABOVE: [f64; 8] = [
    3.387_132_872_796_366_5,
    133.141_667_891_784_38,
    1_971.590_950_306_551_3,
    13_731.693_765_509_46,
    45_921.953_931_549_87,
    67_265.770_927_008_7,
    33_430.575_583_588_13,
    2_509.080_928_730_122_7,
];
const CENTRE_BELOW: [f64; 8] = [
    1.0,
    42.313_330_701_600_91,
    687.187_007_492_057_9,
    5_394.196_021_424_751,
    21_213.794_301_586_597,
    39_307.895_800_092_71,
    28_729.085_735_721_943,
    5_226.495_278_852_854,
];
const TAIL_ABOVE: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    0.241_780_725_177_450_6,
    0.022_723_844_989_269_184,
    0.000_774_545_014_278_341_4,
];
const TAIL_BELOW: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    0.689_767_334_985_1,
    0.148_103_976_427_480_08,
    0.015_198_666_563_616_457,
    0.000_547_593_808_499_534_5,
    1.050_750_071_644_416_9e-9,
];
const FAR_ABOVE: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    0.296_560_571_828_504_87,
    0.026_532_189_526_576_124,
    0.001_242_660_947_388_078_4,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const FAR_BELOW: [f64; 8] = [
    1.0,
    0.599_832_206_555_888,
    0.136_929_880_922_735_8,
    0.014_875_361_290_850_615,
    0.000_786_869_131_145_613_3,
    1.846_318_317_510_054_8e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_7e-15,
];

/// Values that one pass of [`deviates`] takes.
pub(crate) const BLOCK: usize = 256;

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

/// The x with Phi(x) = p; infinite at 0 and 1, NaN outside [0, 1].
pub fn normal_quantile(p: f64) -> f64 {
    deviate(p, 1.0, 0.0)
}

/// The x with Phi(x) = below + p mass, where mass = 1 - 2 below.
///
/// Both tails keep their digits: the upper one is reached through 1 - p.
pub(crate) fn deviate(p: f64, mass: f64, below: f64) -> f64 {
    let centred = (p - 0.5) * mass;
    if centred.abs() <= SPLIT {
        centre(centred)
    } else {
        tail(below + p.min(1.0 - p) * mass).copysign(centred)
    }
}

/// [`deviate`] of many p, which must be multiples of 2^-53 or lie above 1/4 (so that p - 1/2 and
/// 1 - p are exact); at most [`BLOCK`] at a time.
///
/// Every value goes through the central ratio, free of branches, and the few of the tails are
/// then done over.
pub(crate) fn deviates(p: &[f64], out: &mut [f64], mass: f64, below: f64) {
    let mut beyond = [0_u16; BLOCK];
    let mut n = 0;
    for (i, (p, out)) in p.iter().zip(out.iter_mut()).enumerate() {
        let centred = (p - 0.5) * mass;
        *out = centre(centred);
        beyond[n] = i as u16;
        n += usize::from(centred.abs() > SPLIT);
    }
    for i in &beyond[..n] {
        let i = usize::from(*i);
        out[i] = deviate(p[i], mass, below);
    }
}

#[inline]
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Phi^-1(1/2 + c) for |c| <= 0.425.
#[inline]
fn centre(c: f64) -> f64 {
    let r = SPLIT_SQUARED - c * c;
    c * polynomial(&CENTRE_ABOVE, r) / polynomial(&CENTRE_BELOW, r)
}

/// -Phi^-1(q) for q < 0.075.
fn tail(q: f64) -> f64 {
    // libm's logarithm, not the platform's: streams are the same everywhere.
    let r = (-libm::log(q)).sqrt();
    if r <= FAR {
        let r = r - TAIL_SHIFT;
        polynomial(&TAIL_ABOVE, r) / polynomial(&TAIL_BELOW, r)
    } else if r < f64::INFINITY {
        let r = r - FAR;
        polynomial(&FAR_ABOVE, r) / polynomial(&FAR_BELOW, r)
    } else {
        r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let p: Vec<f64> = (0..BLOCK).map(|i| (i as f64 + 0.5) / 256.0).collect();
        let mut out = vec![0.0; BLOCK];
        for (mass, below) in [(1.0, 0.0), (0.9, 0.05), (0.1, 0.45)] {
            deviates(&p, &mut out, mass, below);
            for (p, x) in p.iter().zip(&out) {
                assert_eq!(*x, deviate(*p, mass, below));
            }
        }
    }
}

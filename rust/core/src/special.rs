//! Error function and normal quantile.
//!
//! erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt; the quantile is the x with Phi(x) = p, where
//! Phi(x) = erfc(-x/sqrt 2)/2. The quantile is a ratio of polynomials of degree 7 on each of three
//! ranges of p (Wichura 1988, algorithm AS 241, PPND16); relative error below 1e-15.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI};

/// Where sqrt(-log p) passes from the tail to the far tail (AS 241).
const FAR: f64 = 5.0;
/// Just short of -Phi^-1(exp(-FAR^2)) = 6.6579, where the near tail ends.
const NEAR_TAIL_ENDS: f64 = 6.65;
/// Shift of sqrt(-log p) in the tail (AS 241).
const TAIL_SHIFT: f64 = 1.6;

/// A ratio of polynomials, coefficients by rising power.
struct Ratio<const N: usize> {
    above: [f64; N],
    below: [f64; N],
}

impl<const N: usize> Ratio<N> {
    #[inline]
    fn at(&self, x: f64) -> f64 {
        polynomial(&self.above, x) / polynomial(&self.below, x)
    }
}

/// The quantile to some accuracy: two ratios, and the series of the logarithm that the tail needs.
struct Ratios<const C: usize, const T: usize, const L: usize> {
    /// The central range is |p - 1/2| up to this.
    split: f64,
    /// Phi^-1(1/2 + c)/c by split^2 - c^2.
    centre: Ratio<C>,
    /// -Phi^-1(q) by sqrt(-log q) - 1.6.
    tail: Ratio<T>,
    /// Terms of artanh(s)/s = sum s^(2 j)/(2 j + 1), s^2 <= 0.0295.
    artanh: [f64; L],
}

/// AS 241, coefficients rounded to f64: relative error below 1e-15.
const DOUBLE: Ratios<8, 8, 11> = Ratios {
    split: 0.425,
    centre: Ratio {
        above: [
            3.387_132_872_796_366_5,
            133.141_667_891_784_38,
            1_971.590_950_306_551_3,
            13_731.693_765_509_46,
            45_921.953_931_549_87,
            67_265.770_927_008_7,
            33_430.575_583_588_13,
            2_509.080_928_730_122_7,
        ],
        below: [
            1.0,
            42.313_330_701_600_91,
            687.187_007_492_057_9,
            5_394.196_021_424_751,
            21_213.794_301_586_597,
            39_307.895_800_092_71,
            28_729.085_735_721_943,
            5_226.495_278_852_854,
        ],
    },
    tail: Ratio {
        above: [
            1.423_437_110_749_683_5,
            4.630_337_846_156_546,
            5.769_497_221_460_691,
            3.647_848_324_763_204_5,
            1.270_458_252_452_368_4,
            0.241_780_725_177_450_6,
            0.022_723_844_989_269_184,
            0.000_774_545_014_278_341_4,
        ],
        below: [
            1.0,
            2.053_191_626_637_759,
            1.676_384_830_183_803_8,
            0.689_767_334_985_1,
            0.148_103_976_427_480_08,
            0.015_198_666_563_616_457,
            0.000_547_593_808_499_534_5,
            1.050_750_071_644_416_9e-9,
        ],
    },
    artanh: artanh_series(),
};

/// Values that will be rounded to f32: minimax fits to the same functions (Lawson's weighted least
/// squares, 50 digits), relative error below 5e-10. The wider centre leaves 6% to the tails, not 15%.
const SINGLE: Ratios<6, 5, 5> = Ratios {
    split: 0.47,
    centre: Ratio {
        above: [
            4.001_688_526_265_097,
            222.869_465_569_644_43,
            3_828.499_756_826_581_7,
            22_540.083_088_304_986,
            37_022.334_637_860_24,
            7_687.651_447_438_629,
        ],
        below: [
            1.0,
            61.743_319_420_418_88,
            1_228.549_909_144_077,
            9_045.055_940_342_354,
            21_701.891_813_723_054,
            10_866.363_154_495_357,
        ],
    },
    tail: Ratio {
        above: [
            1.423_437_110_833_961_2,
            3.283_620_078_929_410_5,
            2.290_373_058_796_035_4,
            0.595_688_638_351_611_3,
            0.048_584_223_240_982_07,
        ],
        below: [
            1.0,
            1.107_088_878_937_951_6,
            0.367_286_941_675_742_5,
            0.034_323_884_699_333_077,
            6.968_767_372_730_66e-7,
        ],
    },
    artanh: artanh_series(),
};

/// -Phi^-1(q) by sqrt(-log q) - 5 in the far tail (AS 241).
const FAR_TAIL: Ratio<8> = Ratio {
    above: [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        0.001_242_660_947_388_078_4,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    below: [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        0.000_786_869_131_145_613_3,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_7e-15,
    ],
};

const fn artanh_series<const L: usize>() -> [f64; L] {
    let mut series = [1.0; L];
    let mut j = 1;
    while j < L {
        series[j] = 1.0 / (2 * j + 1) as f64;
        j += 1;
    }
    series
}

/// Values of the tails that are done together.
const SOME: usize = 64;

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

#[inline]
fn polynomial<const N: usize>(coefficients: &[f64; N], x: f64) -> f64 {
    let (last, others) = (coefficients[N - 1], &coefficients[..N - 1]);
    others.iter().rev().fold(last, |sum, c| sum * x + c)
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

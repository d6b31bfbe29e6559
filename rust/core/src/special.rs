//! Special functions of the normal law: erf, erfc and the quantile.
//!
//! erf and erfc are those of the `libm` crate (FreeBSD's, error below 1 ulp). The quantile is Wichura
//! (1988), algorithm AS 241, PPND16: three rational functions of degree 7/7, relative error about
//! 1e-16 before rounding. It is written for the half normal law, P(|X| <= x) = c and
//! P(|X| > x) = w = 1 - c, because whoever knows both c and w loses digits at neither end.

// Coefficients of rising powers, Wichura (1988), table of PPND16.
const CENTRAL_NUMERATOR: [f64; 8] = [
    3.387_132_872_796_366_5,
    133.141_667_891_784_38,
    1_971.590_950_306_551_3,
    13_731.693_765_509_46,
    45_921.953_931_549_87,
    67_265.770_927_008_7,
    33_430.575_583_588_13,
    2_509.080_928_730_122_7,
];
const CENTRAL_DENOMINATOR: [f64; 8] = [
    1.0,
    42.313_330_701_600_91,
    687.187_007_492_057_9,
    5_394.196_021_424_751,
    21_213.794_301_586_597,
    39_307.895_800_092_71,
    28_729.085_735_721_943,
    5_226.495_278_852_854,
];
const NEAR_NUMERATOR: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    0.241_780_725_177_450_6,
    0.022_723_844_989_269_184,
    0.000_774_545_014_278_341_4,
];
const NEAR_DENOMINATOR: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    0.689_767_334_985_1,
    0.148_103_976_427_480_08,
    0.015_198_666_563_616_457,
    0.000_547_593_808_499_534_5,
    1.050_750_071_644_416_9e-09,
];
const FAR_NUMERATOR: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    0.296_560_571_828_504_87,
    0.026_532_189_526_576_124,
    0.001_242_660_947_388_078_4,
    2.711_555_568_743_487_6e-05,
    2.010_334_399_292_288_1e-07,
];
const FAR_DENOMINATOR: [f64; 8] = [
    1.0,
    0.599_832_206_555_888,
    0.136_929_880_922_735_8,
    0.014_875_361_290_850_615,
    0.000_786_869_131_145_613_3,
    1.846_318_317_510_054_8e-05,
    1.421_511_758_316_446e-07,
    2.044_263_103_389_939_7e-15,
];

/// Where AS 241 leaves its first rational function: |p - 1/2| <= 0.425, and its square.
const CENTRAL: f64 = 0.85;
const CENTRAL_SQUARE: f64 = 0.180_625;

/// The sum of `coefficients[k] x^k` (Horner).
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
pub fn erf(x: f64) -> f64 {
    libm::erf(x)
}

/// 1 - erf(x), with all its digits where erf rounds to 1.
pub fn erfc(x: f64) -> f64 {
    libm::erfc(x)
}

/// The x >= 0 with P(|X| <= x) = `inside` and P(|X| > x) = `outside` for a standard normal X.
///
/// The two add up to 1; each must be given with its own digits, not as 1 minus the other.
pub fn half_normal_quantile(inside: f64, outside: f64) -> f64 {
    if inside <= CENTRAL {
        let q = 0.5 * inside;
        let r = CENTRAL_SQUARE - q * q;
        return q * polynomial(&CENTRAL_NUMERATOR, r) / polynomial(&CENTRAL_DENOMINATOR, r);
    }
    if outside <= 0.0 {
        return f64::INFINITY;
    }
    let r = (-(0.5 * outside).ln()).sqrt();
    if r <= 5.0 {
        polynomial(&NEAR_NUMERATOR, r - 1.6) / polynomial(&NEAR_DENOMINATOR, r - 1.6)
    } else {
        polynomial(&FAR_NUMERATOR, r - 5.0) / polynomial(&FAR_DENOMINATOR, r - 5.0)
    }
}

/// The x with P(X <= x) = p for a standard normal X; infinite at 0 and 1, NaN outside [0, 1].
///
/// Relative error below 1e-15 for every p that is not subnormal.
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    // 1 - 2 p and 1 - p are exact where they lose the digits of p.
    if p <= 0.5 {
        -half_normal_quantile(1.0 - 2.0 * p, 2.0 * p)
    } else {
        half_normal_quantile(2.0 * p - 1.0, 2.0 * (1.0 - p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_close(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a:e} against {b:e}");
    }

    #[test]
    fn quantile_agrees_with_forty_digit_arithmetic() {
        // mpmath 1.3, mp.dps = 40: root of log(erfc(-x/sqrt 2)/2) = log p.
        for (p, x) in [
            (1e-300, -37.047_096_299_361_2),
            (1e-100, -21.273_453_560_965_326),
            (1e-20, -9.262_340_089_798_407),
            (2.2e-16, -8.127_012_505_595_243),
            (1e-10, -6.361_340_902_404_057),
            (1e-5, -4.264_890_793_922_825),
            (0.001, -3.090_232_306_167_813_6),
            (0.02, -2.053_748_910_631_823),
            (0.074, -1.446_632_067_158_978_5),
            (0.076, -1.432_502_720_825_811_6),
            (0.1, -1.281_551_565_544_600_4),
            (0.2, -0.841_621_233_572_914_2),
            (0.3, -0.524_400_512_708_040_8),
            (0.4, -0.253_347_103_135_799_7),
            (0.45, -0.125_661_346_855_074_02),
            (0.49, -0.025_068_908_258_711_057),
            (0.499, -0.002_506_630_899_571_766),
            (0.499_999_9, -2.506_628_274_703_106_3e-7),
            (0.6, 0.253_347_103_135_799_7),
            (0.9, 1.281_551_565_544_600_6),
            (0.99, 2.326_347_874_040_840_8),
        ] {
            assert_close(normal_quantile(p), x, 1e-15);
        }
    }

    #[test]
    fn quantile_is_infinite_at_the_ends_and_nan_outside() {
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        assert_eq!(normal_quantile(0.5), 0.0);
        for p in [-1e-300, 1.000_1, f64::NAN, f64::INFINITY] {
            assert!(normal_quantile(p).is_nan());
        }
    }

    proptest! {
        #[test]
        fn erf_and_erfc_are_odd_and_sum_to_one(x in -30.0..30.0_f64) {
            prop_assert_eq!(erf(-x), -erf(x));
            prop_assert!((erf(x) + erfc(x) - 1.0).abs() <= 2.5e-16);
        }

        #[test]
        fn quantile_inverts_the_tail(log_p in -600.0..-0.7_f64) {
            // d log P / dx is about -|x| - 1/|x|: an ulp of x is x^2 ulps of P.
            let p = f64::exp(log_p);
            let x = normal_quantile(p);
            let back = 0.5 * erfc(-x / std::f64::consts::SQRT_2);
            prop_assert!((back / p - 1.0).abs() <= 1e-15 * (2.0 + x * x));
        }

        #[test]
        fn quantile_is_odd(k in 1_u32..1 << 30) {
            // Multiples of 2^-30: 1 - p is exact.
            let p = f64::from(k) / f64::from(1 << 30);
            prop_assert_eq!(normal_quantile(1.0 - p), -normal_quantile(p));
        }
    }
}

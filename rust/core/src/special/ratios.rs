//! The coefficients of the normal quantile (Wichura 1988, algorithm AS 241, PPND16), and of fits to it
//! for values that will be rounded to f32.

/// A ratio of polynomials, coefficients by rising power.
pub(super) struct Ratio<const N: usize> {
    above: [f64; N],
    below: [f64; N],
}

impl<const N: usize> Ratio<N> {
    #[inline]
    pub(super) fn at(&self, x: f64) -> f64 {
        polynomial(&self.above, x) / polynomial(&self.below, x)
    }
}

/// The quantile to some accuracy: two ratios, and the series of the logarithm that the tail needs.
pub(super) struct Ratios<const C: usize, const T: usize, const L: usize> {
    /// The central range is |p - 1/2| up to this.
    pub(super) split: f64,
    /// Phi^-1(1/2 + c)/c by split^2 - c^2.
    pub(super) centre: Ratio<C>,
    /// -Phi^-1(q) by sqrt(-log q) - 1.6.
    pub(super) tail: Ratio<T>,
    /// Terms of artanh(s)/s = sum s^(2 j)/(2 j + 1), s^2 <= 0.0295.
    pub(super) artanh: [f64; L],
}

/// AS 241, coefficients rounded to f64: relative error below 1e-15.
pub(super) const DOUBLE: Ratios<8, 8, 11> = Ratios {
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
pub(super) const SINGLE: Ratios<6, 5, 5> = Ratios {
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
pub(super) const FAR_TAIL: Ratio<8> = Ratio {
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

#[inline]
pub(super) fn polynomial<const N: usize>(coefficients: &[f64; N], x: f64) -> f64 {
    let (last, others) = (coefficients[N - 1], &coefficients[..N - 1]);
    others.iter().rev().fold(last, |sum, c| sum * x + c)
}

//! The quantile of the half normal law as piecewise polynomials: fast enough for sampling.
//!
//! Two functions of one argument on [2^-66, 1): x of the probability c inside [-x, x], for c < w, and of
//! the probability w = 1 - c outside. Every octave is cut into 16 segments, each with a polynomial of degree 7 in t from -1 to 1, the Chebyshev series of
//! [`half_normal_quantile`] there. The nearest singularity, at 0 or 1, lies 33 half widths from
//! a segment's middle, so the series errs by about 66^-8 = 3e-15 of the last coefficients, which
//! are below 0.1 of x: 2e-16, as the rounding.

use std::array;
use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::special::half_normal_quantile;

/// Octaves below 1: the least probability outside is 2^-64.
const OCTAVES: usize = 66;
/// Leading bits of the significand that choose a segment.
const SPLIT: u32 = 4;
const SEGMENTS: usize = OCTAVES << SPLIT;
/// Bits of the significand that place a number in its segment.
const REST: u32 = 52 - SPLIT;
/// Exponent and leading bits of 2^-66.
const FIRST: u64 = (1023 - OCTAVES as u64) << SPLIT;
/// Bits of the significand, and bits of 1.0.
const SIGNIFICAND: u64 = (1 << 52) - 1;
const ONE: u64 = 1023 << 52;

/// Chebyshev points of a segment: twice what the degree needs, which averages the oracle's roundings.
const POINTS: usize = 16;

/// Coefficients of rising powers of t.
type Segment = [f64; 8];

static TABLE: LazyLock<Table> = LazyLock::new(Table::new);

/// The polynomials: those of the probability inside, then those of the probability outside.
pub(super) struct Table {
    segments: Vec<Segment>,
}

impl Table {
    /// The one table, made at the first call (a millisecond).
    pub(super) fn get() -> &'static Self {
        &TABLE
    }

    fn new() -> Self {
        let chebyshev = Chebyshev::new();
        let mut segments = vec![[0.0; 8]; 2 * SEGMENTS];
        let (inside, outside) = segments.split_at_mut(SEGMENTS);
        for (index, (inside, outside)) in inside.iter_mut().zip(outside).enumerate() {
            let [start, end] = [0, 1].map(|i| f64::from_bits((FIRST + index as u64 + i) << REST));
            let at = |t: f64| 0.5 * (start + end) + 0.5 * (end - start) * t;
            *inside = chebyshev.series(|t| half_normal_quantile(at(t), 1.0 - at(t)));
            *outside = chebyshev.series(|t| half_normal_quantile(1.0 - at(t), at(t)));
        }
        Self { segments }
    }

    /// [`half_normal_quantile`] for two probabilities of at least 2^-66, to 1e-15 of x.
    #[inline]
    pub(super) fn half_normal_quantile(&self, inside: f64, outside: f64) -> f64 {
        // No branch: half of all draws are central, at random, and would be guessed wrongly.
        let bits = if inside < outside { inside } else { outside }.to_bits();
        let function = usize::from(inside >= outside) * SEGMENTS;
        let index = function + ((bits >> REST) - FIRST) as usize;
        let t = 2.0 * f64::from_bits((bits << SPLIT) & SIGNIFICAND | ONE) - 3.0;
        evaluate(&self.segments[index], t)
    }
}

/// The polynomial's value; in this order most of the arithmetic is independent.
#[inline]
fn evaluate(segment: &Segment, t: f64) -> f64 {
    let [c0, c1, c2, c3, c4, c5, c6, c7] = segment;
    let square = t * t;
    let low = (c0 + c1 * t) + (c2 + c3 * t) * square;
    let high = (c4 + c5 * t) + (c6 + c7 * t) * square;
    low + high * (square * square)
}

/// What turns values at the Chebyshev points into a series of degree 7 in powers of t.
struct Chebyshev {
    /// cos(angle) of the points.
    points: [f64; POINTS],
    /// `weights[k][j]`: share of the value at point j in the coefficient of t^k.
    weights: [[f64; POINTS]; 8],
}

impl Chebyshev {
    fn new() -> Self {
        let angles: [f64; POINTS] = array::from_fn(|j| PI * (j as f64 + 0.5) / POINTS as f64);
        let mut weights = [[0.0; POINTS]; 8];
        let (mut before, mut current) = ([0.0; 8], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        for k in 0..8 {
            let factor = if k == 0 { 1.0 } else { 2.0 };
            for (power, coefficient) in weights.iter_mut().zip(current) {
                for (weight, angle) in power.iter_mut().zip(angles) {
                    *weight += factor * coefficient * (k as f64 * angle).cos() / POINTS as f64;
                }
            }
            // T_1 = t, T_(k+1) = 2 t T_k - T_(k-1).
            let next = array::from_fn(|i| {
                let shifted = if i == 0 { 0.0 } else { current[i - 1] };
                factor * shifted - before[i]
            });
            (before, current) = (current, next);
        }
        Self {
            points: angles.map(f64::cos),
            weights,
        }
    }

    /// The series of `f` on [-1, 1].
    fn series(&self, f: impl Fn(f64) -> f64) -> Segment {
        // Less the middle: the sums' roundings then count in units of the variation, a thirtieth.
        let middle = f(0.0);
        let values = self.points.map(|t| f(t) - middle);
        let mut series = self
            .weights
            .map(|power| power.iter().zip(values).map(|(w, v)| w * v).sum());
        series[0] += middle;
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each is within 7e-16 of forty-digit arithmetic (mpmath 1.3, 4000 points).
    fn agrees(inside: f64, outside: f64) -> bool {
        let exact = half_normal_quantile(inside, outside);
        let found = Table::get().half_normal_quantile(inside, outside);
        (found - exact).abs() <= 1.5e-15 * exact
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn table_agrees_with_its_oracle_in_the_middle(c in 0.0..1.0_f64) {
            prop_assert!(agrees(c, 1.0 - c));
        }

        #[test]
        fn table_agrees_with_its_oracle_in_the_tail(octaves in -66.0..0.0_f64) {
            let w = octaves.exp2();
            prop_assert!(agrees(1.0 - w, w));
        }

        #[test]
        fn table_agrees_with_its_oracle_near_zero(octaves in -66.0..0.0_f64) {
            let c = octaves.exp2();
            prop_assert!(agrees(c, 1.0 - c));
        }
    }

    #[test]
    fn segments_meet() {
        for index in 1..SEGMENTS as u64 {
            let end = f64::from_bits((FIRST + index) << REST);
            for value in [end.next_down(), end] {
                assert!(agrees(value, 1.0 - value));
                assert!(agrees(1.0 - value, value));
            }
        }
    }
}

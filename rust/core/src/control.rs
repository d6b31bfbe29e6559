//! Step-size decisions, each a function of a few ratios; who measures them is not known here.
//!
//! The rules are those of SciPy's `RK45` (Hairer, Nørsett & Wanner, II.4), so that `shared` step
//! control counts its evaluations exactly.

use crate::error::Error;
use crate::tableau::ERROR_ORDER;

/// Hairer, Nørsett & Wanner, II.4, eq. 4.13.
const SAFETY: f64 = 0.9;
const MIN_FACTOR: f64 = 0.2;
const MAX_FACTOR: f64 = 10.0;
const EXPONENT: f64 = -1.0 / (ERROR_ORDER as f64 + 1.0);

/// Attempts of one leg before a problem is given up.
pub const MAX_ATTEMPTS: u32 = 10_000;

/// How often in a row a step is halved because the network returned a value that is not finite.
pub const MAX_HALVINGS: u32 = 3;

/// Tolerances of one entry: an error of `atol + rtol |y|` has ratio one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    rtol: f64,
    atol: f64,
}

impl Tolerance {
    /// The finest relative tolerance: 100 units in the last place (as SciPy).
    pub const LEAST_RTOL: f64 = 100.0 * f64::EPSILON;

    /// Tolerances that a float64 state can meet.
    ///
    /// # Errors
    /// [`Error::Tolerance`] unless both are finite, `rtol >= 100 ulp` and `atol > 0`.
    pub fn new(rtol: f64, atol: f64) -> Result<Self, Error> {
        if !(rtol >= Self::LEAST_RTOL && rtol.is_finite()) {
            return Err(Error::Tolerance {
                name: "rtol",
                value: rtol,
                least: Self::LEAST_RTOL,
            });
        }
        if !(atol >= f64::MIN_POSITIVE && atol.is_finite()) {
            return Err(Error::Tolerance {
                name: "atol",
                value: atol,
                least: f64::MIN_POSITIVE,
            });
        }
        Ok(Self { rtol, atol })
    }

    /// Every magnitude counts as one: [`Self::ratio`] is then the value itself.
    pub const UNIT: Self = Self {
        rtol: 0.0,
        atol: 1.0,
    };

    /// Relative tolerance.
    pub const fn rtol(self) -> f64 {
        self.rtol
    }

    /// Absolute tolerance.
    pub const fn atol(self) -> f64 {
        self.atol
    }

    /// `value` in units of the tolerance at an entry of that magnitude.
    pub fn ratio(self, value: f64, magnitude: f64) -> f64 {
        value / (self.atol + self.rtol * magnitude)
    }
}

/// Who shares a step size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepControl {
    /// Every problem has its own step size and error norm.
    PerProblem,
    /// One step size for all rows, from the norm over all their entries (SciPy on the flattened batch).
    Shared,
    /// That many equal steps per leg, none rejected.
    Constant {
        /// Steps of a leg, at least one.
        steps: u32,
    },
}

/// First guess of the starting step (Hairer, Nørsett & Wanner, II.4, "starting step size", a and b).
/// `d0` and `d1` are the norms of y and of f in units of the tolerance.
pub fn trial_step(d0: f64, d1: f64, span: f64) -> f64 {
    let h0 = if d0 < 1e-5 || d1 < 1e-5 {
        1e-6
    } else {
        0.01 * d0 / d1
    };
    h0.min(span)
}

/// The starting step, from the change of f over `h0` (same source, d to f); `d2` is its norm over `h0`.
pub fn starting_step(h0: f64, d1: f64, d2: f64, span: f64) -> f64 {
    let h1 = if d1 <= 1e-15 && d2 <= 1e-15 {
        (h0 * 1e-3).max(1e-6)
    } else {
        (0.01 / d1.max(d2)).powf(-EXPONENT)
    };
    (100.0 * h0).min(h1).min(span)
}

/// Next step over this one. `ratio` is the error in units of the tolerance; directly after a
/// rejection the step may shrink or stay, never grow.
pub fn factor(ratio: f64, retry: bool) -> f64 {
    if ratio < 1.0 {
        let most = if retry { 1.0 } else { MAX_FACTOR };
        if ratio == 0.0 {
            most
        } else {
            (SAFETY * ratio.powf(EXPONENT)).min(most)
        }
    } else {
        (SAFETY * ratio.powf(EXPONENT)).max(MIN_FACTOR)
    }
}

/// The smallest step from `t`: ten units in the last place, in the direction of travel.
pub fn least_step(t: f64, direction: f64) -> f64 {
    let next = if direction > 0.0 {
        t.next_up()
    } else {
        t.next_down()
    };
    10.0 * (next - t).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rejected_step_never_grows(ratio in 0.0..1e6_f64) {
            prop_assert!(factor(ratio, true) <= 1.0);
        }

        #[test]
        fn a_larger_error_never_gives_a_larger_step(a in 0.0..1e6_f64, b in 0.0..1e6_f64, retry: bool) {
            let (small, large) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(factor(large, retry) <= factor(small, retry));
        }

        #[test]
        fn factors_stay_within_their_bounds(ratio in 0.0..1e300_f64, retry: bool) {
            prop_assert!((MIN_FACTOR..=MAX_FACTOR).contains(&factor(ratio, retry)));
        }

        #[test]
        fn starting_step_stays_within_the_span(
            d0 in 0.0..1e9_f64, d1 in 0.0..1e9_f64, d2 in 0.0..1e9_f64, span in 1e-6..40.0_f64
        ) {
            let h0 = trial_step(d0, d1, span);
            prop_assert!(h0 <= span && starting_step(h0, d1, d2, span) <= span);
        }
    }

    #[test]
    fn tolerances_refuse_what_no_state_can_meet() {
        for rtol in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-15] {
            assert!(Tolerance::new(rtol, 1e-5).is_err(), "{rtol}");
        }
        for atol in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Tolerance::new(1e-5, atol).is_err(), "{atol}");
        }
        assert!(Tolerance::new(1e-13, 1e-13).is_ok());
    }

    #[test]
    fn least_step_looks_ahead() {
        assert_eq!(least_step(1.0, 1.0), 10.0 * f64::EPSILON);
        assert_eq!(least_step(1.0, -1.0), 5.0 * f64::EPSILON);
    }
}

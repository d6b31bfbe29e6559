//! The clock gamma = -log SNR, and what other authors use in its place.
//!
//! z = alpha x + sigma eps, with alpha^2 = sigmoid(-gamma) and sigma^2 = sigmoid(gamma) (Kingma et
//! al. 2021, eq. 1-3). Elsewhere: EDM's sigma = sigma/alpha = exp(gamma/2) (Karras et al. 2022,
//! table 1), log SNR = -gamma, and the time of a linear schedule, `t` or eta, with
//! gamma = `gamma_min` + eta (`gamma_max` - `gamma_min`). The functions of gamma hold to a relative
//! 1e-15 over [-60, 60]; none subtracts nearly equal numbers. NaN passes through them.

use crate::Error;

mod threshold;

pub use threshold::{Given, SNAP, Threshold, snap};

/// Evaluations may miss an end of a range by the rounding of a sum of steps, no more.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// Scale of the data in z = alpha x + sigma eps.
pub fn alpha(gamma: f64) -> f64 {
    1.0 / (1.0 + gamma.exp()).sqrt()
}

/// Scale of the noise in z = alpha x + sigma eps.
pub fn sigma(gamma: f64) -> f64 {
    alpha(-gamma)
}

/// Variance of the noise, sigmoid(gamma).
pub fn sigma_squared(gamma: f64) -> f64 {
    1.0 / (1.0 + (-gamma).exp())
}

/// log alpha = -softplus(gamma)/2.
pub fn log_alpha(gamma: f64) -> f64 {
    // max(gamma, 0) + log1p(exp(-|gamma|)), not log(1 + exp(gamma)): the sum has no cancellation,
    // and the second form rounds to 0 below gamma = -37.
    let linear = if gamma < 0.0 { 0.0 } else { gamma };
    -0.5 * (linear + (-gamma.abs()).exp().ln_1p())
}

/// log sigma = -softplus(-gamma)/2.
pub fn log_sigma(gamma: f64) -> f64 {
    log_alpha(-gamma)
}

/// EDM's noise level sigma/alpha = exp(gamma/2).
pub fn edm_sigma(gamma: f64) -> f64 {
    (0.5 * gamma).exp()
}

/// The gamma of EDM's noise level, 2 log sigma.
///
/// # Errors
/// [`Error::Threshold`] unless the level is positive and finite.
pub fn gamma_of_edm_sigma(edm_sigma: f64) -> Result<f64, Error> {
    if !(edm_sigma > 0.0 && edm_sigma.is_finite()) {
        return Err(Error::Threshold {
            kind: "edm_sigma",
            value: edm_sigma,
        });
    }
    Ok(2.0 * edm_sigma.ln())
}

/// log SNR = -gamma; its own inverse.
pub fn log_snr(gamma: f64) -> f64 {
    -gamma
}

/// A closed, finite, increasing range of gamma.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GammaRange {
    min: f64,
    max: f64,
}

impl GammaRange {
    /// The paper's likelihood expert: VDM on CIFAR-10 (Kingma et al. 2021).
    pub const VDM: Self = Self {
        min: -13.3,
        max: 5.0,
    };
    /// The paper's quality expert: EDM, 2 log 0.002 and 2 log 80 as the paper rounds them.
    pub const EDM: Self = Self {
        min: -12.43,
        max: 8.764,
    };
    /// The paper's merged model, on which its eta lives.
    pub const MERGED: Self = Self {
        min: -13.3,
        max: 8.764,
    };

    /// The range `[min, max]`.
    ///
    /// # Errors
    /// [`Error::GammaRange`] unless `min < max`, both finite.
    pub fn new(min: f64, max: f64) -> Result<Self, Error> {
        if !(min < max && min.is_finite() && max.is_finite()) {
            return Err(Error::GammaRange { min, max });
        }
        Ok(Self { min, max })
    }

    /// Lower end: least noise.
    pub fn min(self) -> f64 {
        self.min
    }

    /// Upper end: most noise.
    pub fn max(self) -> f64 {
        self.max
    }

    /// Whether gamma lies in the closed range.
    pub fn contains(self, gamma: f64) -> bool {
        (self.min..=self.max).contains(&gamma)
    }

    /// Gamma on the linear schedule at time eta; the ends are met exactly.
    pub fn gamma(self, eta: f64) -> f64 {
        // Not min + eta (max - min), which can miss max by a rounding at eta = 1.
        (1.0 - eta) * self.min + eta * self.max
    }

    /// Time on the linear schedule: the inverse of [`Self::gamma`].
    pub fn eta(self, gamma: f64) -> f64 {
        (gamma - self.min) / (self.max - self.min)
    }

    /// Gamma moved onto an end that it passed by no more than 4 units in the last place; `None`
    /// if it lies further out.
    pub fn clamp(self, gamma: f64) -> Option<f64> {
        let near = gamma.clamp(self.min, self.max);
        ((gamma - near).abs() <= ROUNDING * near.abs()).then_some(near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> impl Iterator<Item = f64> {
        (-600..=600).map(|i| f64::from(i) / 10.0)
    }

    fn assert_close(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a:e} against {b:e}");
    }

    #[test]
    fn squares_sum_to_one_and_their_ratio_is_the_noise_level() {
        for gamma in clock() {
            let (a, s) = (alpha(gamma), sigma(gamma));
            assert_close(a * a + s * s, 1.0, 1e-15);
            assert_close(s / a, edm_sigma(gamma), 1e-15);
            assert_close(s * s, sigma_squared(gamma), 1e-15);
        }
    }

    #[test]
    fn logarithms_keep_their_digits_where_the_scale_rounds_to_one() {
        // exp loses |log| ulp to the rounding of its argument: 31 * 2.2e-16.
        for gamma in clock() {
            assert_close(log_alpha(gamma).exp(), alpha(gamma), 8e-15);
            assert_close(log_sigma(gamma) - log_alpha(gamma), 0.5 * gamma, 1e-15);
        }
        // -log1p(exp(-60))/2 and -log1p(exp(-13.3))/2, 40 digits of decimal arithmetic.
        assert_close(log_alpha(-60.0), -4.378_255_381_348_26e-27, 1e-15);
        assert_close(log_sigma(60.0), -4.378_255_381_348_26e-27, 1e-15);
        assert_close(log_alpha(-13.3), -8.372_459_037_360_385e-7, 1e-15);
    }

    #[test]
    fn nan_passes_through() {
        for f in [
            alpha,
            sigma,
            sigma_squared,
            log_alpha,
            log_sigma,
            edm_sigma,
            log_snr,
        ] {
            assert!(f(f64::NAN).is_nan());
        }
    }

    #[test]
    fn noise_level_round_trip() {
        for gamma in clock() {
            let back = gamma_of_edm_sigma(edm_sigma(gamma)).unwrap();
            assert!((back - gamma).abs() <= 1e-15 * gamma.abs() + 1e-15);
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(gamma_of_edm_sigma(bad).is_err());
        }
    }

    #[test]
    fn eta_round_trip_meets_the_ends_exactly() {
        for range in [GammaRange::VDM, GammaRange::EDM, GammaRange::MERGED] {
            assert_eq!(
                (range.gamma(0.0), range.gamma(1.0)),
                (range.min(), range.max())
            );
            assert_eq!((range.eta(range.min()), range.eta(range.max())), (0.0, 1.0));
            for i in 0..=1000 {
                let eta = f64::from(i) / 1000.0;
                assert!((range.eta(range.gamma(eta)) - eta).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn the_papers_ends_are_those_it_prints() {
        let merged = GammaRange::MERGED;
        assert!((merged.eta(GammaRange::EDM.min()) - 0.039_430_7).abs() < 5e-8);
        assert!((merged.eta(GammaRange::VDM.max()) - 0.829_405).abs() < 5e-7);
        assert_close(merged.max() - merged.min(), 22.064, 1e-15);
        // 2 log 0.002 and 2 log 80, to the digits that the paper keeps.
        assert!((gamma_of_edm_sigma(0.002).unwrap() - GammaRange::EDM.min()).abs() < 1e-3);
        assert!((gamma_of_edm_sigma(80.0).unwrap() - GammaRange::EDM.max()).abs() < 1e-4);
    }

    #[test]
    fn ranges_that_are_reversed_empty_or_not_finite_are_refused() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for (min, max) in [
            (5.0, -13.3),
            (1.0, 1.0),
            (nan, 1.0),
            (0.0, nan),
            (-inf, 0.0),
            (0.0, inf),
        ] {
            assert!(matches!(
                GammaRange::new(min, max),
                Err(Error::GammaRange { .. })
            ));
        }
    }

    #[test]
    fn rounding_past_an_end_is_clamped_and_more_is_not() {
        let range = GammaRange::VDM;
        assert_eq!(range.clamp(5.0_f64.next_up()), Some(5.0));
        assert_eq!(range.clamp((-13.3_f64).next_down()), Some(-13.3));
        assert_eq!(range.clamp(1.25), Some(1.25));
        assert_eq!(range.clamp(5.000_000_1), None);
        assert_eq!(range.clamp(f64::NAN), None);
    }
}

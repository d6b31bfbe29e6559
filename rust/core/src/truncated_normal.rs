//! The standard normal law cut to [-tau, tau], the noise of dequantisation (Zheng et al. 2023).
//!
//! Density phi(x)/Z on [-tau, tau], Z = erf(tau/sqrt 2), entropy
//! 1/2 log(2 pi e) + log Z - tau phi(tau)/Z. Sampling inverts the distribution function, so that one
//! uniform number makes one value, in either precision.

use std::f64::consts::{E, FRAC_1_SQRT_2, PI, SQRT_2};

use crate::Error;
use crate::special::{
    deviate, deviates, deviates_for_f32, erf, erfc, normal_cdf, normal_log_density,
};
use crate::stream::Law;

/// Standard normal conditioned on `[-tau, tau]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruncatedNormal {
    tau: f64,
    /// Z = erf(tau/sqrt 2).
    mass: f64,
    /// Phi(-tau).
    below: f64,
}

impl TruncatedNormal {
    /// Standard normal conditioned on `[-tau, tau]`.
    ///
    /// # Errors
    /// [`Error::HalfWidth`] unless `0 < tau < inf` and the mass is a normal number (tau > 3e-308).
    pub fn new(tau: f64) -> Result<Self, Error> {
        if !(tau > 0.0 && tau.is_finite()) {
            return Err(Error::HalfWidth { tau });
        }
        let mass = erf(tau * FRAC_1_SQRT_2);
        if !mass.is_normal() {
            return Err(Error::HalfWidth { tau });
        }
        Ok(Self {
            tau,
            mass,
            below: normal_cdf(-tau),
        })
    }

    /// Half-width.
    pub fn tau(&self) -> f64 {
        self.tau
    }

    /// log Z, in nats.
    pub fn log_mass(&self) -> f64 {
        if self.tau > 1.0 {
            // Not log Z: erfc keeps the digits of 1 - Z. Divided, because erfc multiplies the rounding
            // of its argument by tau^2, and 1/sqrt 2 has one of its own.
            (-erfc(self.tau / SQRT_2)).ln_1p()
        } else {
            self.mass.ln()
        }
    }

    /// Entropy, in nats.
    pub fn entropy(&self) -> f64 {
        let at_end = self.tau * normal_log_density(self.tau).exp() / self.mass;
        0.5 * (2.0 * PI * E).ln() + self.log_mass() - at_end
    }

    /// log density at x, in nats; minus infinity outside [-tau, tau].
    pub fn log_density(&self, x: f64) -> f64 {
        if x.abs() > self.tau {
            f64::NEG_INFINITY
        } else {
            normal_log_density(x) - self.log_mass()
        }
    }

    /// Probability of a value up to x, within 1e-15 and never outside [0, 1].
    pub fn cdf(&self, x: f64) -> f64 {
        let x = x.clamp(-self.tau, self.tau);
        if x.abs() < 1.0 {
            0.5 + 0.5 * erf(x * FRAC_1_SQRT_2) / self.mass
        } else {
            // Through the nearer tail, where Phi has digits that 1 - Phi has not.
            let beyond = (normal_cdf(-x.abs()) - self.below) / self.mass;
            if x < 0.0 { beyond } else { 1.0 - beyond }
        }
    }

    /// The x with `cdf(x)` = p; NaN for p outside [0, 1].
    pub fn quantile(&self, p: f64) -> f64 {
        deviate(p, self.mass, self.below).clamp(-self.tau, self.tau)
    }
}

impl Law for TruncatedNormal {
    fn values(&self, uniforms: &[f64], out: &mut [f64]) {
        deviates(uniforms, out, self.mass, self.below);
    }

    fn values_for_f32(&self, uniforms: &[f64], out: &mut [f64]) {
        deviates_for_f32(uniforms, out, self.mass, self.below);
    }

    fn ends(&self) -> (f64, f64) {
        (-self.tau, self.tau)
    }

    fn ends_f32(&self) -> (f32, f32) {
        let near = self.tau as f32;
        // Rounding to nearest may pass tau, beyond which the density is zero.
        let most = if f64::from(near) > self.tau {
            near.next_down()
        } else {
            near
        };
        (-most, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Key, Purpose, fill_rows};

    /// 2 bits per pixel, MuLAN, the paper's gamma = -13.3 at 256 levels, beyond double precision.
    const WIDTHS: [f64; 6] = [1e-3, 0.5, 1.95, 3.0187, 8.0, 40.0];

    #[test]
    fn entropy_is_that_of_mathematics_section_4() {
        // Zheng et al. 2023: at tau = 3.0187 log Z - tau phi(tau)/Z = -0.01522.
        let law = TruncatedNormal::new(3.0187).unwrap();
        let less = law.entropy() - 0.5 * (2.0 * PI * E).ln();
        assert!((less + 0.015_22).abs() < 5e-6, "{less}");
        // The narrow law is uniform, the wide one normal.
        let narrow = TruncatedNormal::new(1e-3).unwrap();
        assert!((narrow.entropy() - 2e-3_f64.ln()).abs() < 1e-6);
        let wide = TruncatedNormal::new(40.0).unwrap();
        assert_eq!(wide.entropy(), 0.5 * (2.0 * PI * E).ln());
        assert_eq!(wide.log_mass(), 0.0);
    }

    #[test]
    fn log_mass_keeps_its_digits_on_both_sides() {
        for (tau, expected) in [
            (1e-300, (1e-300_f64).ln() + 0.5 * (2.0 / PI).ln()),
            (1.0, (0.682_689_492_137_085_9_f64).ln()),
            (3.0, (-0.002_699_796_063_260_189_f64).ln_1p()),
            (9.0, -2.257_176_811_907_681e-19),
        ] {
            let found = TruncatedNormal::new(tau).unwrap().log_mass();
            assert!(
                (found - expected).abs() <= 4e-15 * f64::abs(expected),
                "{tau}: {found:e} against {expected:e}"
            );
        }
    }

    #[test]
    fn quantile_and_cdf_invert_each_other() {
        for tau in WIDTHS {
            let law = TruncatedNormal::new(tau).unwrap();
            assert_eq!((law.cdf(-tau), law.cdf(tau)), (0.0, 1.0));
            // Not beyond tau, and within the quantile's error of it where Phi(-tau) > 0.
            let ends = [-law.quantile(0.0), law.quantile(1.0)];
            assert!(
                ends.iter()
                    .all(|x| *x <= tau && *x >= tau.min(37.0) * (1.0 - 1e-15))
            );
            for i in 0..=1000 {
                let p = f64::from(i) / 1000.0;
                assert!((law.cdf(law.quantile(p)) - p).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn both_precisions_agree_and_stay_inside() {
        let key = Key {
            seed: 3,
            purpose: Purpose::Dequantisation,
            image: 0,
            draw: 0,
            node: 0,
        };
        for tau in WIDTHS {
            let law = TruncatedNormal::new(tau).unwrap();
            let mut wide = [0.0_f64; 2000];
            let mut narrow = [0.0_f32; 2000];
            fill_rows(&mut wide, &[key], &law).unwrap();
            fill_rows(&mut narrow, &[key], &law).unwrap();
            for (x, y) in wide.into_iter().zip(narrow) {
                assert!(x.abs() <= tau && f64::from(y).abs() <= tau);
                assert!((x as f32 - y).abs() <= y.abs() * f32::EPSILON);
            }
        }
    }

    #[test]
    fn widths_without_mass_are_refused() {
        for tau in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-310] {
            assert!(matches!(
                TruncatedNormal::new(tau),
                Err(Error::HalfWidth { .. })
            ));
        }
    }
}

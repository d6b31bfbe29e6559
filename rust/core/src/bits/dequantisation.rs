//! Laws q(z | x) of a continuous z_min round a pixel, and what they add to the bound.
//!
//! z = alpha x + sigma eps at gamma_min, x the centre of one of L bins of width 2/L on [-1, 1].
//! Truncated normal: eps ~ N(0, 1) cut to [-tau, tau], tau = alpha/(L sigma), so that z stays in
//! the pixel's bin (Zheng et al. 2023, eq. 16). Uniform: z = alpha (x + u), u over the bin.
//! Decoder: eps ~ N(0, 1), with p(x | z) as a further term ([`super::Decoding`]).

use std::f64::consts::LN_2;

use super::{at_least_one, log_two_pi_variance};
use crate::Error;
use crate::gamma::log_alpha;
use crate::truncated_normal::TruncatedNormal;

/// How a pixel value becomes a continuous one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dequantisation {
    /// Normal noise cut to the pixel's bin.
    TruncatedNormal,
    /// Uniform over the pixel's bin.
    Uniform,
    /// Normal noise without limits, judged by a decoder.
    Decoder,
    /// The data are continuous: log P is a log density.
    None,
}

impl Dequantisation {
    /// The law of that name.
    ///
    /// # Errors
    /// [`Error::Choice`] for a word that names none.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "truncated-normal" => Ok(Self::TruncatedNormal),
            "uniform" => Ok(Self::Uniform),
            "decoder" => Ok(Self::Decoder),
            "none" => Ok(Self::None),
            _ => Err(Error::Choice {
                name: "dequantise",
                value: name.to_owned(),
                allowed: "truncated-normal, uniform, decoder or none",
            }),
        }
    }

    /// Entropy of q over all dimensions, E[-log q], in nats (Zheng et al. 2023, eq. 17).
    ///
    /// # Errors
    /// [`Error::Count`] for no levels or dimensions, [`Error::HalfWidth`] for a tau that is not
    /// positive and finite.
    pub fn constant(self, gamma_min: f64, levels: u32, dim: usize) -> Result<f64, Error> {
        check(levels, dim)?;
        let d = dim as f64;
        let normal = 0.5 * (1.0 + log_two_pi_variance(gamma_min));
        Ok(match self {
            Self::TruncatedNormal => {
                let law = law_of_noise(gamma_min, levels)?;
                let tau = law.tau();
                d * (normal + law.log_mass() - tau * law.log_density(tau).exp())
            }
            Self::Uniform => d * log_bin(gamma_min, levels),
            Self::Decoder => d * normal,
            Self::None => 0.0,
        })
    }

    /// -log q(z | x) of every draw, given its |eps|^2, in nats.
    ///
    /// # Errors
    /// Those of [`Self::constant`]; [`Error::Count`] for no draws.
    pub fn per_draw(
        self,
        gamma_min: f64,
        levels: u32,
        dim: usize,
        square: &[f64],
    ) -> Result<Vec<f64>, Error> {
        check(levels, dim)?;
        at_least_one("length of square", square.len())?;
        let d = dim as f64;
        let normal = 0.5 * log_two_pi_variance(gamma_min);
        let (constant, weight) = match self {
            Self::TruncatedNormal => {
                let law = law_of_noise(gamma_min, levels)?;
                (d * (normal + law.log_mass()), 0.5)
            }
            Self::Uniform => (d * log_bin(gamma_min, levels), 0.0),
            Self::Decoder => (d * normal, 0.5),
            Self::None => (0.0, 0.0),
        };
        Ok(square
            .iter()
            .map(|square| constant + weight * square)
            .collect())
    }
}

/// Levels and dimensions that there are.
pub(super) fn check(levels: u32, dim: usize) -> Result<(), Error> {
    at_least_one("levels", levels as usize)?;
    at_least_one("dim", dim)
}

/// The law of eps, cut at tau = alpha/(L sigma).
fn law_of_noise(gamma_min: f64, levels: u32) -> Result<TruncatedNormal, Error> {
    TruncatedNormal::new((-0.5 * gamma_min).exp() / f64::from(levels))
}

/// log(2 alpha/L), of the width of a bin in z.
fn log_bin(gamma_min: f64, levels: u32) -> f64 {
    LN_2 + log_alpha(gamma_min) - f64::from(levels).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dequantisation as D;

    const ALL: [D; 4] = [D::TruncatedNormal, D::Uniform, D::Decoder, D::None];

    #[test]
    fn the_papers_entropy() {
        let found = D::TruncatedNormal.constant(-13.3, 256, 1).unwrap();
        assert!((found + 5.246_283_157_798_195).abs() < 1e-14);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        let names = ["truncated-normal", "uniform", "decoder", "none"];
        for (name, kind) in names.iter().zip(ALL) {
            assert_eq!(D::named(name), Ok(kind));
        }
        assert!(matches!(D::named("variational"), Err(Error::Choice { .. })));
    }

    #[test]
    fn wide_bins_cut_nothing_and_narrow_bins_leave_a_uniform() {
        let wide = D::TruncatedNormal.constant(-60.0, 4, 7).unwrap();
        assert_eq!(wide, D::Decoder.constant(-60.0, 4, 7).unwrap());
        // Entropy of the cut normal less the uniform's is -tau^4/90 + ..., here below 1e-13.
        let narrow = D::TruncatedNormal.constant(5.0, 256, 1).unwrap();
        let uniform = D::Uniform.constant(5.0, 256, 1).unwrap();
        assert!((narrow - uniform).abs() < 1e-13, "{narrow} {uniform}");
    }

    #[test]
    fn arguments_are_checked() {
        for kind in ALL {
            assert!(matches!(
                kind.constant(-13.3, 0, 1),
                Err(Error::Count { .. })
            ));
            assert!(matches!(
                kind.constant(-13.3, 4, 0),
                Err(Error::Count { .. })
            ));
            assert!(matches!(
                kind.per_draw(-13.3, 4, 1, &[]),
                Err(Error::Count { .. })
            ));
        }
        for gamma in [f64::NAN, 1e4, -1e4] {
            assert!(matches!(
                D::TruncatedNormal.constant(gamma, 256, 1),
                Err(Error::HalfWidth { .. })
            ));
        }
    }
}

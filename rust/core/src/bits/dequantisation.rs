//! Laws q(z | x) of a continuous z_min round a pixel, and what they add to the bound.
//!
//! z = alpha x + sigma eps at gamma_min, x the centre of one of L bins of width 2/L on [-1, 1].
//! Truncated normal: eps ~ N(0, 1) cut to [-tau, tau], tau = alpha/(L sigma), so that z stays in
//! the pixel's bin (Zheng et al. 2023, eq. 16). Uniform: z = alpha (x + u), u over the bin.
//! Decoder: eps ~ N(0, 1), with p(x | z) as a further term (Kingma et al. 2021, section 3.2).

use std::f64::consts::{LN_2, PI, SQRT_2};

use rayon::prelude::*;

use super::{at_least_one, compensated_sum, log_two_pi_variance, same_length};
use crate::Error;
use crate::gamma::{log_alpha, log_sigma};

/// Levels whose probability is smaller, relative to the likeliest, are left out: 65536 of them
/// stay below 1e-15.
const NEGLIGIBLE: f64 = 1e-20;

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
                let tau = half_width(gamma_min, levels)?;
                let density = (-0.5 * tau * tau - log_mass(tau)).exp() / (2.0 * PI).sqrt();
                d * (normal + log_mass(tau) - tau * density)
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
                let tau = half_width(gamma_min, levels)?;
                (d * (normal + log_mass(tau)), 0.5)
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

fn check(levels: u32, dim: usize) -> Result<(), Error> {
    at_least_one("levels", levels as usize)?;
    at_least_one("dim", dim)
}

/// tau = alpha/(L sigma).
fn half_width(gamma_min: f64, levels: u32) -> Result<f64, Error> {
    let tau = (-0.5 * gamma_min).exp() / f64::from(levels);
    if !(tau > 0.0 && tau.is_finite()) {
        return Err(Error::HalfWidth { tau });
    }
    Ok(tau)
}

/// log Z, the normal mass of [-tau, tau].
fn log_mass(tau: f64) -> f64 {
    let x = tau / SQRT_2;
    if x < 1.0 {
        libm::erf(x).ln()
    } else {
        // erf rounds to 1 above 5.9.
        (-libm::erfc(x)).ln_1p()
    }
}

/// log(2 alpha/L), of the width of a bin in z.
fn log_bin(gamma_min: f64, levels: u32) -> f64 {
    LN_2 + log_alpha(gamma_min) - f64::from(levels).ln()
}

/// log p(x | z) of every row, in nats: over the L levels x_k = 2 (k + 1/2)/L - 1 of a pixel, the
/// softmax of -exp(-gamma_min) (z/alpha - x_k)^2 / 2 (Kingma et al. 2021, section 3.2).
///
/// `z` and `pixels` hold rows of `dim`.
///
/// # Errors
/// [`Error::Count`] for no rows, dimensions or levels, [`Error::Length`] unless `z` and `pixels`
/// hold the same whole rows, [`Error::Level`] for a pixel that is none of the levels.
pub fn decoder_log_likelihood<P: Copy + Into<u32> + Sync>(
    z: &[f64],
    pixels: &[P],
    dim: usize,
    gamma_min: f64,
    levels: u32,
) -> Result<Vec<f64>, Error> {
    check(levels, dim)?;
    at_least_one("length of z", z.len())?;
    same_length("z", z.len().next_multiple_of(dim), z.len())?;
    same_length("pixels", z.len(), pixels.len())?;
    if let Some(value) = pixels
        .iter()
        .map(|pixel| (*pixel).into())
        .find(|pixel| *pixel >= levels)
    {
        return Err(Error::Level { value, levels });
    }
    let decoder = Decoder::new(gamma_min, levels);
    Ok(z.par_chunks_exact(dim)
        .zip(pixels.par_chunks_exact(dim))
        .map(|(z, pixels)| {
            compensated_sum(
                z.iter()
                    .zip(pixels)
                    .map(|(z, pixel)| decoder.log_probability(*z, (*pixel).into())),
            )
        })
        .collect())
}

/// The decoder in units of levels: level k lies at k, z at `scale` z + `offset`.
struct Decoder {
    scale: f64,
    offset: f64,
    /// Half the squared distance of two levels over the variance of z/alpha.
    precision: f64,
    last: i64,
}

impl Decoder {
    fn new(gamma_min: f64, levels: u32) -> Self {
        let half = 0.5 * f64::from(levels);
        Self {
            scale: half * (-log_alpha(gamma_min)).exp(),
            offset: half - 0.5,
            precision: 0.5 * (2.0 * (log_alpha(gamma_min) - log_sigma(gamma_min))).exp()
                / (half * half),
            last: i64::from(levels) - 1,
        }
    }

    fn log_probability(&self, z: f64, pixel: u32) -> f64 {
        let position = self.scale * z + self.offset;
        let nearest = (position.round() as i64).clamp(0, self.last);
        let off = position - nearest as f64;
        // Level nearest + m against the nearest: (m - off)^2 - off^2 without cancellation.
        let logit = |m: i64| -self.precision * m as f64 * (m as f64 - 2.0 * off);
        let sum = 1.0
            + tail((1..=self.last - nearest).map(logit))
            + tail((1..=nearest).map(|m| logit(-m)));
        logit(i64::from(pixel) - nearest) - sum.ln()
    }
}

/// Sum of the exponentials of falling logits, as far as they count.
fn tail(logits: impl Iterator<Item = f64>) -> f64 {
    let mut sum = 0.0;
    for logit in logits {
        let term = logit.exp();
        if term < NEGLIGIBLE {
            break;
        }
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn log_mass_keeps_its_digits_on_both_sides() {
        for (tau, expected) in [
            (1e-300, (1e-300_f64).ln() + 0.5 * (2.0 / PI).ln()),
            (1.0, (0.682_689_492_137_085_9_f64).ln()),
            (3.0, (-0.002_699_796_063_260_189_f64).ln_1p()),
            (9.0, -2.257_176_811_907_681e-19),
        ] {
            let found = log_mass(tau);
            assert!(
                (found - expected).abs() <= 4e-15 * f64::abs(expected),
                "{tau}: {found:e} against {expected:e}"
            );
        }
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
        let decode = |z: &[f64], pixels: &[u8], dim| decoder_log_likelihood(z, pixels, dim, 0.0, 4);
        assert!(decode(&[0.0; 4], &[3; 4], 2).is_ok());
        assert!(matches!(decode(&[], &[], 2), Err(Error::Count { .. })));
        assert!(matches!(
            decode(&[0.0; 4], &[0; 3], 2),
            Err(Error::Length { .. })
        ));
        assert!(matches!(
            decode(&[0.0; 3], &[0; 3], 2),
            Err(Error::Length { .. })
        ));
        assert_eq!(
            decode(&[0.0; 2], &[1, 4], 2),
            Err(Error::Level {
                value: 4,
                levels: 4
            })
        );
    }

    /// All levels, no window, the formula as printed.
    fn naive(z: f64, pixel: u32, gamma: f64, levels: u32) -> f64 {
        let centre = |k: u32| 2.0 * (f64::from(k) + 0.5) / f64::from(levels) - 1.0;
        let logit =
            |k| -0.5 * (-gamma).exp() * (z / crate::gamma::alpha(gamma) - centre(k)).powi(2);
        let top = (0..levels).map(logit).fold(f64::MIN, f64::max);
        let sum: f64 = (0..levels).map(|k| (logit(k) - top).exp()).sum();
        logit(pixel) - top - sum.ln()
    }

    proptest! {
        #[test]
        fn decoder_agrees_with_the_formula(
            z in -1.5..1.5, gamma in -15.0..3.0, (levels, pixel) in (1_u32..600)
                .prop_flat_map(|levels| (Just(levels), 0..levels))
        ) {
            let pixel = [u16::try_from(pixel).unwrap()];
            let found = decoder_log_likelihood(&[z], &pixel, 1, gamma, levels).unwrap()[0];
            let expected = naive(z, pixel[0].into(), gamma, levels);
            // Logits reach exp(15) 3^2/2 = 1.5e7: the formula's own rounding.
            prop_assert!((found - expected).abs() < 1e-12 + 1e-14 * expected.abs().max(1e5));
        }

        #[test]
        fn probabilities_of_all_levels_sum_to_one(
            z in -1.5..1.5, gamma in -15.0..3.0, levels in 1_u32..600
        ) {
            let decoder = Decoder::new(gamma, levels);
            let sum: f64 = (0..levels).map(|k| decoder.log_probability(z, k).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-12);
        }

        #[test]
        fn rows_are_sums_and_do_not_meet(z in prop::collection::vec(-1.0..1.0, 12)) {
            let pixels: Vec<u8> = (0..12).collect();
            let rows = decoder_log_likelihood(&z, &pixels, 3, -5.0, 12).unwrap();
            let single = decoder_log_likelihood(&z, &pixels, 1, -5.0, 12).unwrap();
            for (row, chunk) in rows.iter().zip(single.chunks(3)) {
                prop_assert!((row - chunk.iter().sum::<f64>()).abs() < 1e-12);
            }
        }
    }
}

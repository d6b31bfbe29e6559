//! From the ends of an integration to named terms in nats and to bits per dimension.
//!
//! log P(x) >= log N(z_max; 0, sigma^2 I) + trace + dequantisation (appendix A.1 of the paper; eq. 17 for
//! the truncated normal). Dimensions d, levels L; bits/dim = -log P/(d log 2). Sums are compensated
//! (Neumaier 1974). Deviations from public code: the importance weight keeps its -log K, and
//! uniform dequantisation its log alpha.

use std::f64::consts::LN_2;

use rayon::prelude::*;

use crate::Error;
use crate::gamma::{edm_sigma, log_alpha, log_sigma};
use crate::truncated_normal::{TruncatedNormal, log_two_pi};

/// The sum of the values, as if rounded once (Neumaier 1974).
pub fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0);
    for value in values {
        let next = sum + value;
        let (large, small) = if sum.abs() < value.abs() {
            (value, sum)
        } else {
            (sum, value)
        };
        lost += (large - next) + small;
        sum = next;
    }
    // An infinite sum has lost NaN.
    if sum.is_finite() { sum + lost } else { sum }
}

fn mean(values: &[f64]) -> f64 {
    sum(values.iter().copied()) / values.len() as f64
}

/// log N(z; 0, sigma^2 I) in nats of a z with |z|^2 = `square`, at the noise end.
pub fn end_density(square: f64, gamma_max: f64, dim: usize) -> f64 {
    let log_sigma = log_sigma(gamma_max);
    let scaled = square * (-2.0 * log_sigma).exp();
    -0.5 * scaled - dim as f64 * (0.5 * log_two_pi() + log_sigma)
}

/// Bits per dimension of log P in nats: -log P/(d log 2).
pub fn bits_per_dim(nats: f64, dim: usize) -> f64 {
    -nats / (dim as f64 * LN_2)
}

/// How integer pixels become values of a continuous law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dequantisation {
    /// Normal noise at `gamma_min`, cut to the pixel's bin (eq. 16, 17).
    TruncatedNormal,
    /// Uniform noise over the pixel's bin.
    Uniform,
    /// Normal noise at `gamma_min`, with the decoder p(x | z) beside it.
    Decoder,
    /// None: a density.
    None,
}

impl Dequantisation {
    /// The dequantisation of that name.
    ///
    /// # Errors
    /// [`Error::Choice`] for any other word.
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

    /// -E[log q(z)] in nats: what dequantisation adds to log p(z_min) on average.
    ///
    /// # Errors
    /// [`Error::Count`] for no levels, [`Error::HalfWidth`] for a `gamma_min` that gives no bin.
    pub fn constant(self, gamma_min: f64, levels: u32, dim: usize) -> Result<f64, Error> {
        let one = match self {
            // eq. 17, as log sigma plus the entropy of eps.
            Self::TruncatedNormal => {
                truncated_normal(gamma_min, levels)?.entropy() + log_sigma(gamma_min)
            }
            Self::Decoder => 0.5 * (1.0 + log_two_pi()) + log_sigma(gamma_min),
            Self::Uniform | Self::None => self.log_volume(gamma_min, levels)?,
        };
        Ok(dim as f64 * one)
    }

    /// -log q(z) in nats of one draw with |eps|^2 = `square`.
    ///
    /// # Errors
    /// As [`Self::constant`].
    pub fn per_draw(
        self,
        gamma_min: f64,
        levels: u32,
        dim: usize,
        square: f64,
    ) -> Result<f64, Error> {
        let volume = dim as f64 * self.log_volume(gamma_min, levels)?;
        Ok(match self {
            Self::TruncatedNormal | Self::Decoder => volume + 0.5 * square,
            Self::Uniform | Self::None => volume,
        })
    }

    /// Minus the log density of q at its mode, per dimension.
    fn log_volume(self, gamma_min: f64, levels: u32) -> Result<f64, Error> {
        let normal = 0.5 * log_two_pi() + log_sigma(gamma_min);
        Ok(match self {
            Self::TruncatedNormal => normal + truncated_normal(gamma_min, levels)?.log_mass(),
            Self::Decoder => normal,
            Self::Uniform => LN_2 - f64::from(at_least_one(levels)?).ln() + log_alpha(gamma_min),
            Self::None => 0.0,
        })
    }
}

fn at_least_one(levels: u32) -> Result<u32, Error> {
    if levels == 0 {
        return Err(Error::Count { name: "levels" });
    }
    Ok(levels)
}

/// The law of eps: half a bin, 1/L in x, is tau = alpha/(L sigma) in eps.
fn truncated_normal(gamma_min: f64, levels: u32) -> Result<TruncatedNormal, Error> {
    TruncatedNormal::new(edm_sigma(-gamma_min) / f64::from(at_least_one(levels)?))
}

/// log p(pixels | z) in nats of each row of z [rows, dim]: a softmax over the levels, each with the
/// logit -exp(-`gamma_min`) (z/alpha - x_k)^2/2, x_k = 2 (k + 1/2)/L - 1.
///
/// # Errors
/// [`Error::Count`] for no dimension or levels, [`Error::Length`] if the arrays do not match,
/// [`Error::Pixel`] for a pixel that is no level.
pub fn decoder_log_likelihood<P: Copy + Into<u64> + Sync>(
    z: &[f64],
    pixels: &[P],
    dim: usize,
    gamma_min: f64,
    levels: u32,
) -> Result<Vec<f64>, Error> {
    if dim == 0 {
        return Err(Error::Count { name: "dim" });
    }
    if z.len() != pixels.len() {
        return Err(Error::Length {
            name: "pixels",
            expected: z.len(),
            found: pixels.len(),
        });
    }
    let decoder = Decoder::new(gamma_min, levels)?;
    z.par_chunks(dim)
        .zip(pixels.par_chunks(dim))
        .map(|(z, pixels)| {
            let mut terms = Vec::with_capacity(dim);
            for (z, pixel) in z.iter().zip(pixels) {
                terms.push(decoder.log_probability(*z, (*pixel).into())?);
            }
            Ok(sum(terms))
        })
        .collect()
}

/// p(x | z) of one pixel (Kingma et al. 2021, appendix B).
struct Decoder {
    /// 1/alpha.
    stretch: f64,
    /// exp(-gamma_min)/2.
    sharpness: f64,
    levels: u32,
}

impl Decoder {
    fn new(gamma_min: f64, levels: u32) -> Result<Self, Error> {
        Ok(Self {
            stretch: (-log_alpha(gamma_min)).exp(),
            sharpness: 0.5 * (-gamma_min).exp(),
            levels: at_least_one(levels)?,
        })
    }

    fn centre(&self, level: u32) -> f64 {
        2.0 * (f64::from(level) + 0.5) / f64::from(self.levels) - 1.0
    }

    fn log_probability(&self, z: f64, pixel: u64) -> Result<f64, Error> {
        let levels = self.levels;
        let pixel = u32::try_from(pixel)
            .ok()
            .filter(|pixel| *pixel < levels)
            .ok_or(Error::Pixel {
                value: pixel,
                levels,
            })?;
        let x = z * self.stretch;
        let last = levels - 1;
        // A cast saturates, so that this is a level for any x.
        let nearest = ((0.5 * f64::from(levels) * (x + 1.0)).floor() as u32).min(last);
        // Difference of two squares, which keeps its digits where both are large.
        let logit = |level: u32| {
            let gap = self.centre(level) - self.centre(nearest);
            self.sharpness * gap * (2.0 * x - self.centre(level) - self.centre(nearest))
        };
        // Terms fall on both sides of the nearest: the rest is less than the first that does not count.
        let others = |levels: &mut dyn Iterator<Item = u32>| {
            let mut total = 0.0;
            for level in levels {
                let term = logit(level).exp();
                total += term;
                if term < 1e-20 {
                    break;
                }
            }
            total
        };
        let rest = others(&mut (0..nearest).rev()) + others(&mut (nearest + 1..levels));
        Ok(logit(pixel) - rest.ln_1p())
    }
}

/// The terms of one image's log P, in nats; they add up to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// log N(z_max; 0, sigma^2 I).
    pub end_density: f64,
    /// Integral of the drift's trace, its linear part included.
    pub trace: f64,
    /// Correction for the error of the path; 0 for Runge-Kutta.
    pub path_correction: f64,
    /// -log q(z_min), and log p(x | z_min) of the decoder.
    pub dequantisation: f64,
    /// Log-mean-exp less mean over the importance draws.
    pub importance: f64,
}

impl Terms {
    /// Terms of R repeats of K = `importance` draws; draw r K + k is the k-th of repeat r.
    ///
    /// Each repeat is log(1/K sum over k of exp(l_k)), a bound of its own; repeats are averaged.
    ///
    /// # Errors
    /// [`Error::Count`] for no draws or K = 0, [`Error::Length`] unless all three hold R K values.
    pub fn new(
        end_density: &[f64],
        trace: &[f64],
        dequantisation: &[f64],
        importance: usize,
    ) -> Result<Self, Error> {
        if importance == 0 || end_density.is_empty() {
            let name = if importance == 0 {
                "importance"
            } else {
                "draws"
            };
            return Err(Error::Count { name });
        }
        let draws = end_density.len();
        let whole = draws.next_multiple_of(importance);
        for (name, expected, found) in [
            ("end_density", whole, draws),
            ("trace", draws, trace.len()),
            ("dequantisation", draws, dequantisation.len()),
        ] {
            if expected != found {
                return Err(Error::Length {
                    name,
                    expected,
                    found,
                });
            }
        }
        let values: Vec<f64> = (0..draws)
            .map(|i| sum([end_density[i], trace[i], dequantisation[i]]))
            .collect();
        let gains: Vec<f64> = values.chunks(importance).map(log_mean_exp_excess).collect();
        Ok(Self {
            end_density: mean(end_density),
            trace: mean(trace),
            path_correction: 0.0,
            dequantisation: mean(dequantisation),
            importance: mean(&gains),
        })
    }

    /// log P in nats.
    pub fn total(&self) -> f64 {
        sum([
            self.end_density,
            self.trace,
            self.path_correction,
            self.dequantisation,
            self.importance,
        ])
    }
}

/// log(mean(exp(values))) - mean(values); 0 for one value.
fn log_mean_exp_excess(values: &[f64]) -> f64 {
    if values.len() == 1 {
        return 0.0;
    }
    let centre = mean(values);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let scaled = sum(values.iter().map(|value| (value - most).exp())) / values.len() as f64;
    (most - centre) + scaled.ln()
}

/// Mean and its standard error, which one value does not have.
///
/// # Errors
/// [`Error::Count`] for no values.
pub fn mean_and_error(values: &[f64]) -> Result<(f64, Option<f64>), Error> {
    if values.is_empty() {
        return Err(Error::Count { name: "values" });
    }
    let mean = mean(values);
    let n = values.len() as f64;
    let squares = sum(values.iter().map(|value| (value - mean).powi(2)));
    let error = (values.len() > 1).then(|| (squares / (n * (n - 1.0))).sqrt());
    Ok((mean, error))
}

/// Standard error of the mean where values of one cluster depend on each other; `None` for one cluster.
///
/// se^2 = G/(G - 1) sum over the G clusters of (sum of its (x_i - mean))^2 / N^2.
///
/// # Errors
/// [`Error::Count`] for no values, [`Error::Length`] unless each value has a cluster.
pub fn clustered_error(values: &[f64], clusters: &[i64]) -> Result<Option<f64>, Error> {
    if values.is_empty() {
        return Err(Error::Count { name: "values" });
    }
    if values.len() != clusters.len() {
        return Err(Error::Length {
            name: "clusters",
            expected: values.len(),
            found: clusters.len(),
        });
    }
    let mean = mean(values);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|i| clusters[*i]);
    let sums: Vec<f64> = order
        .chunk_by(|i, j| clusters[*i] == clusters[*j])
        .map(|cluster| sum(cluster.iter().map(|i| values[*i] - mean)))
        .collect();
    let groups = sums.len() as f64;
    let squares = sum(sums.iter().map(|sum| sum * sum));
    let error = (squares * groups / (groups - 1.0)).sqrt() / values.len() as f64;
    Ok((sums.len() > 1).then_some(error))
}

/// One set of values less another of the same images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Mean of a - b.
    pub difference: f64,
    /// Its standard error: clustered where clusters are given.
    pub error: Option<f64>,
    /// Its standard error if images were independent.
    pub error_images: Option<f64>,
    /// Number of images.
    pub n: usize,
}

/// a - b, paired; clusters as [`clustered_error`].
///
/// # Errors
/// [`Error::Count`] for no values, [`Error::Length`] unless all arrays have one length.
pub fn paired_difference(a: &[f64], b: &[f64], clusters: Option<&[i64]>) -> Result<Paired, Error> {
    if a.len() != b.len() {
        return Err(Error::Length {
            name: "b",
            expected: a.len(),
            found: b.len(),
        });
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let (difference, error_images) = mean_and_error(&differences)?;
    let error = match clusters {
        Some(clusters) => clustered_error(&differences, clusters)?,
        None => error_images,
    };
    Ok(Paired {
        difference,
        error,
        error_images,
        n: a.len(),
    })
}

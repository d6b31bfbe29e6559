//! The standard normal law cut to [-tau, tau] (appendix A.1.2 of the paper; eps of dequantisation).
//!
//! Density exp(-x^2/2)/(sqrt(2 pi) Z) with the mass Z = erf(tau/sqrt 2). A draw is one word of a
//! stream: its first bit is the sign, the other 63 are the probability c that lies inside [-x, x].
//! Since they give 1 - c as exactly, neither the middle nor the tails lose a digit.

use std::f64::consts::{LN_2, PI, SQRT_2};

use crate::Error;
use crate::special::{erf, erfc, half_normal_quantile};
use crate::stream::{Float, Rows};

mod table;
use table::Table;

/// 2^-63: a draw's words tell that many probabilities.
const UNIT: f64 = 1.0 / (1_u64 << 63) as f64;

/// Standard normal conditioned on `[-tau, tau]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruncatedNormal {
    tau: f64,
    inside: f64,
    outside: f64,
}

impl TruncatedNormal {
    /// The law cut at `tau`.
    ///
    /// # Errors
    /// [`Error::HalfWidth`] unless `0 < tau < inf`.
    pub fn new(tau: f64) -> Result<Self, Error> {
        if !(tau > 0.0 && tau.is_finite()) {
            return Err(Error::HalfWidth { tau });
        }
        let x = tau / SQRT_2;
        Ok(Self {
            tau,
            inside: erf(x),
            outside: erfc(x),
        })
    }

    /// The half-width.
    pub fn tau(self) -> f64 {
        self.tau
    }

    /// log Z, the log probability of the interval under the uncut law.
    pub fn log_mass(self) -> f64 {
        if self.inside < 0.5 {
            self.inside.ln()
        } else {
            (-self.outside).ln_1p()
        }
    }

    /// Entropy in nats: log(2 pi e)/2 + log Z - tau exp(-tau^2/2)/(sqrt(2 pi) Z).
    pub fn entropy(self) -> f64 {
        let density = (-0.5 * self.tau * self.tau).exp() / (2.0 * PI).sqrt();
        0.5 * (1.0 + log_two_pi()) + self.log_mass() - self.tau * density / self.inside
    }

    /// Log density in nats; -inf outside the interval.
    pub fn log_density(self, x: f64) -> f64 {
        if x.abs() > self.tau {
            return f64::NEG_INFINITY;
        }
        -0.5 * (x * x + log_two_pi()) - self.log_mass()
    }

    /// Probability of [-tau, x].
    pub fn cdf(self, x: f64) -> f64 {
        let at = x.clamp(-self.tau, self.tau) / SQRT_2;
        if at.abs() < 0.5 {
            return 0.5 + 0.5 * erf(at) / self.inside;
        }
        // erf would lose the digits of a small probability.
        let tail = 0.5 * (erfc(at.abs()) - self.outside) / self.inside;
        if at < 0.0 { tail } else { 1.0 - tail }
    }

    /// The x with `cdf(x) = p`; NaN unless `p` lies in [0, 1].
    pub fn quantile(self, p: f64) -> f64 {
        if !(0.0..=1.0).contains(&p) {
            return f64::NAN;
        }
        // 1 - p and 1 - 2 p are exact where they lose the digits of p.
        let tail = if p <= 0.5 { p } else { 1.0 - p };
        let inside = self.inside * (1.0 - 2.0 * tail);
        let outside = self.outside + self.inside * (2.0 * tail);
        let x = half_normal_quantile(inside, outside).min(self.tau);
        if p <= 0.5 { -x } else { x }
    }

    /// Fills a part of the rows with independent draws; arguments and error as [`Rows::fill`].
    ///
    /// All values lie inside (-tau, tau), also after rounding; those of f32 are those of f64, rounded.
    ///
    /// # Errors
    /// [`Error::Length`] as [`Rows::fill`].
    pub fn fill<T: Float>(
        self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error> {
        let law = Inversion {
            scale: self.inside * UNIT,
            outside: self.outside,
            most: T::below(self.tau),
        };
        law.fill(rows, dim, start, out)
    }
}

/// Fills a part of the rows with standard normal draws; arguments and error as [`Rows::fill`].
///
/// # Errors
/// [`Error::Length`] as [`Rows::fill`].
pub fn fill_normal<T: Float>(
    rows: &Rows<'_>,
    dim: usize,
    start: usize,
    out: &mut [T],
) -> Result<(), Error> {
    let law = Inversion {
        scale: UNIT,
        outside: 0.0,
        most: f64::INFINITY,
    };
    law.fill(rows, dim, start, out)
}

/// log(2 pi).
pub(crate) fn log_two_pi() -> f64 {
    LN_2 + PI.ln()
}

/// The map from words to draws.
struct Inversion {
    /// Probability, under the uncut law, of one unit of a word.
    scale: f64,
    /// Probability of what is cut off.
    outside: f64,
    /// The largest draw.
    most: f64,
}

impl Inversion {
    fn fill<T: Float>(
        &self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error> {
        if self.scale < 0.25 * UNIT {
            // The smallest probabilities lie below the table's; tau < 0.32 is no case for speed.
            return rows.fill(dim, start, out, |word| {
                self.value(word, half_normal_quantile)
            });
        }
        let table = Table::get();
        rows.fill(dim, start, out, |word| {
            self.value(word, |inside, outside| {
                table.half_normal_quantile(inside, outside)
            })
        })
    }

    /// The draw of a word: P(X <= x) = (word + 1/2)/2^64 of the unsigned word.
    #[inline]
    fn value(&self, word: i64, quantile: impl Fn(f64, f64) -> f64) -> f64 {
        // The lower half of the unsigned words, those that are positive here, mirrors the upper.
        let sign = word >> 63;
        let rank = (word ^ !sign) & i64::MAX;
        let inside = self.scale * (rank as f64 + 0.5);
        let outside = self.outside + self.scale * ((i64::MAX - rank) as f64 + 0.5);
        let x = quantile(inside, outside);
        let x = if x < self.most { x } else { self.most };
        x.copysign(-0.5 - sign as f64)
    }
}

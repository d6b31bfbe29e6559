//! The decoder p(x | z) of a pixel's level, the further term of the decoder's dequantisation.
//!
//! Over the L levels x_k = 2 (k + 1/2)/L - 1 of a pixel, the softmax of
//! -exp(-gamma_min) (z/alpha - x_k)^2 / 2 (Kingma et al. 2021, section 3.2).

use rayon::prelude::*;

use super::dequantisation::check;
use super::{at_least_one, compensated_sum, same_length};
use crate::Error;
use crate::gamma::{log_alpha, log_sigma};
use crate::threads::mapped;

/// Levels whose probability is smaller, relative to the likeliest, are left out: 65536 of them
/// stay below 1e-15.
const NEGLIGIBLE: f64 = 1e-20;

/// Exponentials of one part of the work at the most: some 30 ms on one thread.
const TERMS: u32 = 1 << 22;

/// log p(x | z) of every row, in nats; `z` and `pixels` hold rows of `dim`.
///
/// # Errors
/// Those of [`Decoding::new`].
pub fn decoder_log_likelihood<P: Copy + Into<u32> + Sync>(
    z: &[f64],
    pixels: &[P],
    dim: usize,
    gamma_min: f64,
    levels: u32,
) -> Result<Vec<f64>, Error> {
    let mut decoding = Decoding::new(z, pixels, dim, gamma_min, levels)?;
    while decoding.advance() {}
    Ok(decoding.rows())
}

/// [`decoder_log_likelihood`] in parts, between which a caller may look for signals: where the noise
/// is strong every value takes as many exponentials as there are levels, and one value more than a part.
pub struct Decoding<'a, P> {
    decoder: Decoder,
    z: &'a [f64],
    pixels: &'a [P],
    dim: usize,
    /// Values of a part.
    part: usize,
    /// log p of the values that are done.
    found: Vec<f64>,
    /// The next value, where its levels are more than a part.
    begun: Option<Sums>,
}

impl<'a, P: Copy + Into<u32> + Sync> Decoding<'a, P> {
    /// Rows of `dim` values and their pixels, none of them done.
    ///
    /// # Errors
    /// [`Error::Count`] for no rows, dimensions or levels, [`Error::Length`] unless `z` and `pixels`
    /// hold the same whole rows, [`Error::Level`] for a pixel that is none of the levels.
    pub fn new(
        z: &'a [f64],
        pixels: &'a [P],
        dim: usize,
        gamma_min: f64,
        levels: u32,
    ) -> Result<Self, Error> {
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
        Ok(Self {
            decoder: Decoder::new(gamma_min, levels),
            z,
            pixels,
            dim,
            part: (TERMS / levels).max(1) as usize,
            found: Vec::with_capacity(z.len()),
            begun: None,
        })
    }

    /// Does one part; false once nothing is left to do.
    pub fn advance(&mut self) -> bool {
        if self.decoder.last >= i64::from(TERMS) {
            return self.advance_within();
        }
        let done = self.found.len();
        let end = self.z.len().min(done + self.part);
        let (decoder, z, pixels) = (&self.decoder, &self.z[done..end], &self.pixels[done..end]);
        let part = mapped(z.par_iter().zip(pixels), |(z, pixel)| {
            decoder.log_probability(*z, (*pixel).into())
        });
        self.found.extend(part);
        end < self.z.len()
    }

    /// One part of values that may each take more than a part.
    fn advance_within(&mut self) -> bool {
        let mut left = i64::from(TERMS);
        while left > 0 && self.found.len() < self.z.len() {
            let done = self.found.len();
            let begun = self.begun.take();
            let mut sums = begun.unwrap_or_else(|| self.decoder.begin(self.z[done]));
            left -= 1 + self.decoder.add(&mut sums, left);
            if sums.is_whole() {
                let pixel = self.pixels[done].into();
                self.found.push(self.decoder.log_share(&sums, pixel));
            } else {
                self.begun = Some(sums);
            }
        }
        self.found.len() < self.z.len()
    }

    /// Sums over the rows that are done.
    pub fn rows(&self) -> Vec<f64> {
        let rows = self.found.par_chunks_exact(self.dim);
        mapped(rows, |row| compensated_sum(row.iter().copied()))
    }
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
        let mut sums = self.begin(z);
        self.add(&mut sums, i64::MAX);
        self.log_share(&sums, pixel)
    }

    fn begin(&self, z: f64) -> Sums {
        let position = self.scale * z + self.offset;
        let nearest = (position.round() as i64).clamp(0, self.last);
        Sums {
            nearest,
            off: position - nearest as f64,
            above: Tail::new(self.last - nearest),
            below: Tail::new(nearest),
        }
    }

    /// Level nearest + m against the nearest: (m - off)^2 - off^2 without cancellation.
    fn logit(&self, m: i64, off: f64) -> f64 {
        -self.precision * m as f64 * (m as f64 - 2.0 * off)
    }

    /// Adds at most `terms` further levels; how many were looked at.
    fn add(&self, sums: &mut Sums, terms: i64) -> i64 {
        let off = sums.off;
        let above = sums.above.add(|m| self.logit(m, off), terms);
        above + sums.below.add(|m| self.logit(-m, off), terms - above)
    }

    /// log of the pixel's share in all levels.
    fn log_share(&self, sums: &Sums, pixel: u32) -> f64 {
        let sum = 1.0 + sums.above.sum + sums.below.sum;
        self.logit(i64::from(pixel) - sums.nearest, sums.off) - sum.ln()
    }
}

/// The levels on both sides of the one nearest to a value, as far as they are added.
struct Sums {
    nearest: i64,
    off: f64,
    above: Tail,
    below: Tail,
}

impl Sums {
    fn is_whole(&self) -> bool {
        self.above.next > self.above.last && self.below.next > self.below.last
    }
}

/// Sum of the exponentials of falling logits, as far as they count.
struct Tail {
    sum: f64,
    next: i64,
    last: i64,
}

impl Tail {
    fn new(last: i64) -> Self {
        Self {
            sum: 0.0,
            next: 1,
            last,
        }
    }

    /// Adds at most `terms`; how many were looked at.
    fn add(&mut self, logit: impl Fn(i64) -> f64, terms: i64) -> i64 {
        let begin = self.next;
        let end = self.last.min(begin.saturating_add(terms) - 1);
        for m in begin..=end {
            let term = logit(m).exp();
            if term < NEGLIGIBLE {
                self.next = self.last + 1;
                return m - begin + 1;
            }
            self.sum += term;
        }
        self.next = begin.max(end + 1);
        self.next - begin
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arguments_are_checked() {
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

    #[test]
    fn parts_are_the_whole() {
        // Three parts and a piece of a fourth.
        let dim = 2 * TERMS as usize / 65_536 - 1;
        let z: Vec<f64> = (0..2 * dim).map(|i| (i as f64).sin()).collect();
        let pixels: Vec<u16> = (0..2 * dim).map(|i| 250 * i as u16).collect();
        let mut decoding = Decoding::new(&z, &pixels, dim, -9.0, 65_536).unwrap();
        let mut parts = 1;
        while decoding.advance() {
            parts += 1;
        }
        assert_eq!(parts, 4);
        let decoder = Decoder::new(-9.0, 65_536);
        let values = z.iter().zip(&pixels);
        let alone: Vec<f64> = values
            .map(|(z, pixel)| decoder.log_probability(*z, u32::from(*pixel)))
            .collect();
        let sums: Vec<f64> = alone
            .chunks(dim)
            .map(|row| compensated_sum(row.iter().copied()))
            .collect();
        assert_eq!(decoding.rows(), sums);
    }

    #[test]
    fn a_value_of_many_levels_is_done_in_parts() {
        let levels = 3 * TERMS;
        let (z, pixels) = ([0.1, -0.4], [7_u32, levels - 1]);
        let mut decoding = Decoding::new(&z, &pixels, 1, 12.0, levels).unwrap();
        let mut parts = 1;
        while decoding.advance() {
            parts += 1;
        }
        assert!((6..=8).contains(&parts), "{parts}");
        let decoder = Decoder::new(12.0, levels);
        let whole = [0, 1].map(|i| decoder.log_probability(z[i], pixels[i]));
        assert_eq!(decoding.rows(), whole);
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

//! Random numbers named by (seed, purpose, image, draw, node).
//!
//! A name is a ChaCha8 keystream (Bernstein 2008, 64-bit counter and nonce): the key is the words
//! seed, purpose, image and draw, each 64 bits, least byte first, and the nonce is the node. Streams
//! of different names are therefore different streams of the cipher, and a number never depends on
//! batch, order or thread. Number j of a stream is made of its bytes 8 j to 8 j + 7.

use std::str::FromStr;

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::Error;
use crate::special::BLOCK;
use crate::threads::mapped;

mod law;

pub use law::{Entry, Law, Normal, Uniform};

/// Values in the smallest piece of work that a thread takes.
const GRAIN: usize = 1 << 14;

/// What a stream is for. The numbers are part of every published result: add, never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Noise added to discrete pixels.
    Dequantisation = 1,
    /// Rademacher vectors of trace estimates.
    Probe = 2,
    /// Starting states.
    Start = 3,
    /// Everything that training draws.
    Training = 4,
    /// Noise added in steps of a sampler.
    Sampling = 5,
    /// Grey levels drawn at the end of one.
    Decoding = 6,
}

impl FromStr for Purpose {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "dequantisation" => Ok(Self::Dequantisation),
            "probe" => Ok(Self::Probe),
            "start" => Ok(Self::Start),
            "training" => Ok(Self::Training),
            "sampling" => Ok(Self::Sampling),
            "decoding" => Ok(Self::Decoding),
            _ => Err(Error::Choice {
                name: "purpose",
                value: name.to_owned(),
                allowed: "dequantisation, probe, start, training, sampling or decoding",
            }),
        }
    }
}

/// The name of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Seed of the run.
    pub seed: u64,
    /// What the numbers are for.
    pub purpose: Purpose,
    /// Stable number of the image.
    pub image: u64,
    /// Which of the image's draws.
    pub draw: u64,
    /// Accepted node of a solve, for probes redrawn there; else 0.
    pub node: u64,
}

/// A stream at some position.
#[derive(Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of that name, at its beginning.
    pub fn new(key: Key) -> Self {
        let mut bytes = [0; 32];
        let words = [key.seed, key.purpose as u64, key.image, key.draw];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut cipher = ChaCha8Rng::from_seed(bytes);
        cipher.set_stream(key.node);
        Self(cipher)
    }

    /// Bits of the stream as they come: 1 is the sign +1.
    pub fn signs(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// Uniform numbers (k + 1/2) 2^-52, k the upper 52 bits of a word: in the open interval (0, 1),
    /// symmetric about 1/2, and such that u - 1/2 and 1 - u are exact.
    fn uniforms(&mut self, bytes: &mut [u8; 8 * BLOCK], out: &mut [f64]) {
        let bytes = &mut bytes[..8 * out.len()];
        self.0.fill_bytes(bytes);
        for (word, out) in bytes.chunks_exact(8).zip(out) {
            let mut whole = [0; 8];
            whole.copy_from_slice(word);
            // In [1, 2) by its bits, and 1 - 2^-53 has a place of its own: exact.
            let one_up = f64::from_bits(u64::from_le_bytes(whole) >> 12 | 1.0_f64.to_bits());
            *out = one_up - (1.0 - 0.5 * f64::EPSILON);
        }
    }

    /// Fills `out` with `law` of uniform numbers, block by block.
    fn fill<T>(
        &mut self,
        out: &mut [T],
        law: impl Fn(&[f64], &mut [f64]),
        cast: impl Fn(f64) -> T,
    ) {
        let mut bytes = [0; 8 * BLOCK];
        let (mut uniforms, mut values) = ([0.0; BLOCK], [0.0; BLOCK]);
        for out in out.chunks_mut(BLOCK) {
            let n = out.len();
            self.uniforms(&mut bytes, &mut uniforms[..n]);
            law(&uniforms[..n], &mut values[..n]);
            for (out, value) in out.iter_mut().zip(&values) {
                *out = cast(*value);
            }
        }
    }
}

/// Fills row i of `out` [keys.len(), width] with numbers of stream i, rows in parallel.
///
/// # Errors
/// [`Error::Length`] unless `out` holds one row per key.
pub fn fill_rows<T: Entry>(out: &mut [T], keys: &[Key], law: &impl Law) -> Result<(), Error> {
    rows(out, keys, |stream, row| T::fill(law, stream, row))
}

/// Fills row i of `out` [keys.len(), width] with bits of stream i, rows in parallel.
///
/// # Errors
/// [`Error::Length`] unless `out` holds one row per key.
pub fn sign_rows(out: &mut [u8], keys: &[Key]) -> Result<(), Error> {
    rows(out, keys, Stream::signs)
}

fn rows<T: Send>(
    out: &mut [T],
    keys: &[Key],
    fill: impl Fn(&mut Stream, &mut [T]) + Sync,
) -> Result<(), Error> {
    let width = out.len() / keys.len().max(1);
    if width * keys.len() != out.len() {
        return Err(Error::Length {
            name: "out",
            expected: width * keys.len(),
            found: out.len(),
        });
    }
    if width > 0 {
        let rows = out
            .par_chunks_exact_mut(width)
            .zip(keys)
            // Some 0.1 ms: a thread that wakes late, or loses its core, holds up no more than that.
            .with_max_len((GRAIN / width).max(1));
        mapped(rows, |(row, key)| fill(&mut Stream::new(*key), row));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        seed: 0,
        purpose: Purpose::Start,
        image: 7,
        draw: 1,
        node: 0,
    };

    #[test]
    fn every_word_of_the_name_counts() {
        let names = [
            KEY,
            Key { seed: 1, ..KEY },
            Key {
                purpose: Purpose::Probe,
                ..KEY
            },
            Key { image: 1, ..KEY },
            Key { draw: 7, ..KEY },
            Key { node: 1, ..KEY },
        ];
        let mut first = vec![[0; 32]; names.len()];
        for (bytes, key) in first.iter_mut().zip(names) {
            Stream::new(key).signs(bytes);
        }
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), names.len());
    }

    #[test]
    fn uniforms_are_the_odd_multiples_of_2_to_the_minus_53() {
        let mut bytes = [0; 8 * BLOCK];
        Stream::new(KEY).signs(&mut bytes);
        let mut uniforms = [0.0; BLOCK];
        Stream::new(KEY).uniforms(&mut [0; 8 * BLOCK], &mut uniforms);
        for (word, u) in bytes.chunks_exact(8).zip(uniforms) {
            let k = u64::from_le_bytes(word.try_into().unwrap()) >> 12;
            assert_eq!(u, (k as f64 + 0.5) / 2.0_f64.powi(52));
            assert!(0.0 < u && u < 1.0);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it_nor_on_its_length() {
        let keys: Vec<Key> = (0..9).map(|image| Key { image, ..KEY }).collect();
        let mut all = vec![0.0_f64; 9 * 1000];
        fill_rows(&mut all, &keys, &Normal).unwrap();
        for (row, key) in all.chunks(1000).zip(keys) {
            for width in [1, 255, 257, 1000] {
                let mut alone = vec![0.0_f64; width];
                fill_rows(&mut alone, &[key], &Normal).unwrap();
                assert_eq!(alone, row[..width]);
            }
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_and_none_are_filled() {
        let mut out = [0.0_f64; 5];
        assert!(matches!(
            fill_rows(&mut out, &[KEY, KEY], &Normal),
            Err(Error::Length { .. })
        ));
        assert!(fill_rows(&mut out, &[], &Normal).is_err());
        assert!(fill_rows::<f64>(&mut [], &[KEY], &Normal).is_ok());
        assert!(fill_rows::<f64>(&mut [], &[], &Normal).is_ok());
    }
}

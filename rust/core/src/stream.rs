//! Random numbers as a function of (seed, purpose, image, draw), never of batch, order or device.
//!
//! The four words are the key of a ChaCha8 cipher (Bernstein 2008), so that two streams with
//! different names are two keys: independent by construction. A fifth word, the node of an
//! integration, is the cipher's nonce. Entry `i` of a row of floats comes from the 64-bit word `i` of
//! its stream, entry `i` of a row of signs from bit `i`; a row may thus be filled in pieces, in any order.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::Error;

/// Values that one task fills: some 30 microseconds of work.
const PIECE: usize = 4096;

/// Values whose words are made at a time; a multiple of the cipher's buffer of 256 bytes.
const WORDS: usize = 256;

/// What random numbers are for: one of the four words of a stream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Noise within a pixel's bin.
    Dequantisation,
    /// Probe vectors of a trace estimate.
    Probe,
    /// Where an integration or a sampler starts.
    Start,
    /// Noise and times of training.
    Training,
}

impl Purpose {
    /// The purpose of that name.
    ///
    /// # Errors
    /// [`Error::Choice`] for any other word.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "dequantisation" => Ok(Self::Dequantisation),
            "probe" => Ok(Self::Probe),
            "start" => Ok(Self::Start),
            "training" => Ok(Self::Training),
            _ => Err(Error::Choice {
                name: "purpose",
                value: name.to_owned(),
                allowed: "dequantisation, probe, start or training",
            }),
        }
    }

    /// The word in the key. Changing one changes every number of that purpose.
    fn word(self) -> u64 {
        match self {
            Self::Dequantisation => 1,
            Self::Probe => 2,
            Self::Start => 3,
            Self::Training => 4,
        }
    }
}

/// A float type that is filled; all arithmetic is f64.
pub trait Float: Copy + Send + Sync + 'static {
    /// The nearest value of this type.
    fn nearest(value: f64) -> Self;
    /// The largest value of this type that is less than `value`.
    fn below(value: f64) -> f64;
}

impl Float for f32 {
    fn nearest(value: f64) -> Self {
        value as Self
    }

    fn below(value: f64) -> f64 {
        let near = value as Self;
        let is_below = f64::from(near) < value;
        f64::from(if is_below { near } else { near.next_down() })
    }
}

impl Float for f64 {
    fn nearest(value: f64) -> Self {
        value
    }

    fn below(value: f64) -> f64 {
        value.next_down()
    }
}

/// The streams of a batch: row `i` has the name (seed, purpose, `images[i]`, `draws[i]`).
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    seed: u64,
    purpose: Purpose,
    images: &'a [u64],
    draws: &'a [u64],
    nodes: Option<&'a [u64]>,
}

impl<'a> Rows<'a> {
    /// Streams of node 0.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many draws as images.
    pub fn new(
        seed: u64,
        purpose: Purpose,
        images: &'a [u64],
        draws: &'a [u64],
    ) -> Result<Self, Error> {
        check_length("draws", images.len(), draws.len())?;
        Ok(Self {
            seed,
            purpose,
            images,
            draws,
            nodes: None,
        })
    }

    /// The same streams at the given nodes.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many nodes as rows.
    pub fn at_nodes(self, nodes: &'a [u64]) -> Result<Self, Error> {
        check_length("nodes", self.images.len(), nodes.len())?;
        Ok(Self {
            nodes: Some(nodes),
            ..self
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    fn stream(&self, row: usize) -> ChaCha8Rng {
        let name = [
            self.seed,
            self.purpose.word(),
            self.images[row],
            self.draws[row],
        ];
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip(name) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut stream = ChaCha8Rng::from_seed(key);
        if let Some(nodes) = self.nodes {
            stream.set_stream(nodes[row]);
        }
        stream
    }

    /// Fills entries `start..start + out.len()` of the flattened [len, dim] array, entry = `law(word)`.
    ///
    /// `law` sees the word as a signed integer; the unsigned word orders the numbers of an inversion.
    ///
    /// # Errors
    /// [`Error::Length`] if the part reaches past the last row.
    pub fn fill<T: Float>(
        &self,
        dim: usize,
        start: usize,
        out: &mut [T],
        law: impl Fn(i64) -> f64 + Sync,
    ) -> Result<(), Error> {
        check_length(
            "out",
            (self.len() * dim).max(start + out.len()),
            self.len() * dim,
        )?;
        out.par_chunks_mut(PIECE)
            .enumerate()
            .for_each(|(piece, mut part)| {
                let mut at = start + piece * PIECE;
                while !part.is_empty() {
                    let (row, column) = (at / dim, at % dim);
                    let (head, rest) = part.split_at_mut((dim - column).min(part.len()));
                    let mut stream = self.stream(row);
                    stream.set_word_pos(2 * column as u128);
                    fill_row(&mut stream, head, &law);
                    at += head.len();
                    part = rest;
                }
            });
        Ok(())
    }

    /// Fills rows `first..` of signs, `row_bytes` bytes each: bit `i` of byte `b` is entry `8 b + i`.
    ///
    /// # Errors
    /// [`Error::Length`] unless `out` holds whole rows and no more than there are.
    pub fn fill_signs(&self, row_bytes: usize, first: usize, out: &mut [u8]) -> Result<(), Error> {
        if row_bytes == 0 {
            return check_length("out", 0, out.len());
        }
        let rows = (out.len() / row_bytes).min(self.len().saturating_sub(first));
        check_length("out", rows * row_bytes, out.len())?;
        out.par_chunks_mut(row_bytes)
            .enumerate()
            .for_each(|(row, signs)| self.stream(first + row).fill_bytes(signs));
        Ok(())
    }
}

fn check_length(name: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::Length {
            name,
            expected,
            found,
        })
    }
}

fn fill_row<T: Float>(stream: &mut ChaCha8Rng, row: &mut [T], law: impl Fn(i64) -> f64) {
    let mut bytes = [0; 8 * WORDS];
    for block in row.chunks_mut(WORDS) {
        let bytes = &mut bytes[..8 * block.len()];
        stream.fill_bytes(bytes);
        for (value, word) in block.iter_mut().zip(bytes.chunks_exact(8)) {
            let word = word.try_into().expect("chunks of 8 bytes");
            *value = T::nearest(law(i64::from_le_bytes(word)));
        }
    }
}

/// The uniform law on the open interval (low, high).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    low: f64,
    high: f64,
}

impl Uniform {
    /// The law on (low, high).
    ///
    /// # Errors
    /// [`Error::Interval`] unless the ends and their distance are finite, and `low < high`.
    pub fn new(low: f64, high: f64) -> Result<Self, Error> {
        if !(low < high && (high - low).is_finite()) {
            return Err(Error::Interval { low, high });
        }
        Ok(Self { low, high })
    }

    /// Fills a part of the rows; arguments and error as [`Rows::fill`].
    ///
    /// # Errors
    /// [`Error::Length`] as [`Rows::fill`]; [`Error::Interval`] if no value of the type lies inside.
    pub fn fill<T: Float>(
        self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error> {
        // Rounding may meet an end, which the open interval does not hold.
        let (least, most) = (-T::below(-self.low), T::below(self.high));
        if least > most {
            return Err(Error::Interval {
                low: self.low,
                high: self.high,
            });
        }
        // (word + 1/2)/2^64 of the unsigned word, written for the signed one.
        let scale = (self.high - self.low) * 0.5_f64.powi(64);
        let law = |word: i64| {
            let unsigned = u64::from_ne_bytes(word.to_ne_bytes());
            (self.low + scale * (unsigned as f64 + 0.5)).clamp(least, most)
        };
        rows.fill(dim, start, out, law)
    }
}

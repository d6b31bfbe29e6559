//! Laws of random numbers: each value a function of one uniform number.

use super::Stream;
use crate::Error;
use crate::special;

/// A law with values strictly or weakly between two ends, as a function of one uniform number each.
pub trait Law: Sync {
    /// Values at the uniform numbers, which are those of [`Stream`]; no more than a block of them.
    fn values(&self, uniforms: &[f64], out: &mut [f64]);

    /// The same where they will be rounded to `f32`: relative errors far below 2^-24 are allowed.
    fn values_for_f32(&self, uniforms: &[f64], out: &mut [f64]) {
        self.values(uniforms, out);
    }

    /// Least and greatest value allowed in `f64`.
    fn ends(&self) -> (f64, f64);

    /// Least and greatest value allowed in `f32`.
    fn ends_f32(&self) -> (f32, f32);
}

/// One value of a row, of either precision.
pub trait Entry: Copy + Send {
    /// Fills a row with the law's values in this precision, none of them beyond its ends.
    fn fill(law: &impl Law, stream: &mut Stream, out: &mut [Self]);
}

impl Entry for f64 {
    fn fill(law: &impl Law, stream: &mut Stream, out: &mut [Self]) {
        let (least, most) = law.ends();
        stream.fill(out, |u, x| law.values(u, x), |x| x.clamp(least, most));
    }
}

impl Entry for f32 {
    fn fill(law: &impl Law, stream: &mut Stream, out: &mut [Self]) {
        let (least, most) = law.ends_f32();
        stream.fill(
            out,
            |u, x| law.values_for_f32(u, x),
            |x| (x as Self).clamp(least, most),
        );
    }
}

/// The standard normal law.
#[derive(Clone, Copy, Debug)]
pub struct Normal;

impl Law for Normal {
    fn values(&self, uniforms: &[f64], out: &mut [f64]) {
        special::deviates(uniforms, out, 1.0, 0.0);
    }

    fn values_for_f32(&self, uniforms: &[f64], out: &mut [f64]) {
        special::deviates_for_f32(uniforms, out, 1.0, 0.0);
    }

    fn ends(&self) -> (f64, f64) {
        (f64::NEG_INFINITY, f64::INFINITY)
    }

    fn ends_f32(&self) -> (f32, f32) {
        (f32::NEG_INFINITY, f32::INFINITY)
    }
}

/// The uniform law on an open interval.
#[derive(Clone, Copy, Debug)]
pub struct Uniform {
    low: f64,
    high: f64,
    ends_f32: (f32, f32),
}

impl Uniform {
    /// The open interval (low, high).
    ///
    /// # Errors
    /// [`Error::Interval`] unless low < high, both and their distance finite, with room between
    /// them for a number of single precision.
    pub fn new(low: f64, high: f64) -> Result<Self, Error> {
        let ends_f32 = (f32_above(low), -f32_above(-high));
        if !(low < high && (high - low).is_finite() && ends_f32.0 <= ends_f32.1) {
            return Err(Error::Interval { low, high });
        }
        Ok(Self {
            low,
            high,
            ends_f32,
        })
    }
}

impl Law for Uniform {
    fn values(&self, uniforms: &[f64], out: &mut [f64]) {
        for (u, out) in uniforms.iter().zip(out) {
            *out = self.low + u * (self.high - self.low);
        }
    }

    fn ends(&self) -> (f64, f64) {
        (self.low.next_up(), self.high.next_down())
    }

    fn ends_f32(&self) -> (f32, f32) {
        self.ends_f32
    }
}

/// The least number of single precision strictly above x.
fn f32_above(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) > x {
        near
    } else {
        near.next_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Key, Purpose, fill_rows};

    const KEY: Key = Key {
        seed: 0,
        purpose: Purpose::Start,
        image: 7,
        draw: 1,
        node: 0,
    };

    #[test]
    fn uniform_laws_stay_off_their_ends() {
        for (low, high) in [(0.0, 1.0), (16_777_216.0, 16_777_220.0), (-1e30, 1e-30)] {
            let law = Uniform::new(low, high).unwrap();
            let mut wide = [0.0_f64; 2000];
            let mut narrow = [0.0_f32; 2000];
            fill_rows(&mut wide, &[KEY], &law).unwrap();
            fill_rows(&mut narrow, &[KEY], &law).unwrap();
            for x in wide.into_iter().chain(narrow.map(f64::from)) {
                assert!(low < x && x < high, "{x}");
            }
        }
    }

    #[test]
    fn intervals_without_room_are_refused() {
        let nan = f64::NAN;
        for (low, high) in [
            (1.0, 1.0),
            (1.0, 0.0),
            (nan, 1.0),
            (0.0, nan),
            (0.0, f64::INFINITY),
            (-1e308, 1e308),
            (1.0, 1.0_f64.next_up()),
        ] {
            assert!(matches!(
                Uniform::new(low, high),
                Err(Error::Interval { .. })
            ));
        }
    }
}

//! Legs: which expert, from gamma, to gamma.
//!
//! Algorithm 1 of the paper for any number of experts in the order of rising noise: each threshold
//! is a boundary between two solves, so no step crosses it.

use crate::Error;
use crate::gamma::GammaRange;

mod pair;

pub use pair::{Alone, Pair, Switch};

/// Direction of an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// Rising gamma: likelihoods.
    Noise,
    /// Falling gamma: samples.
    Data,
}

/// One integration by one expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leg {
    /// Position of the expert, in the order of rising noise.
    pub expert: usize,
    /// Gamma at which the integration begins.
    pub start: f64,
    /// Gamma at which it ends.
    pub end: f64,
    /// Whether it leaves the range that the expert was trained on.
    pub extrapolated: bool,
}

/// Who is in charge where: legs that follow each other without gap, and the expert of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    legs: Vec<Leg>,
    gamma_range: GammaRange,
}

impl Merged {
    /// Expert `i` of `ranges` between thresholds `i - 1` and `i`; from the lower end of the first
    /// expert's range to the upper end of the last one's. An expert whose two thresholds coincide
    /// has no leg.
    ///
    /// # Errors
    /// [`Error::Count`] without experts, [`Error::Length`] unless there is one threshold fewer,
    /// [`Error::GammaRange`] for thresholds out of order or outside, [`Error::OutsideLeg`] where an
    /// expert would leave its range and may not `extrapolate`.
    pub fn new(
        ranges: &[GammaRange],
        thresholds: &[f64],
        extrapolate: bool,
    ) -> Result<Self, Error> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            return Err(Error::Count { name: "experts" });
        };
        if thresholds.len() + 1 != ranges.len() {
            return Err(Error::Length {
                name: "thresholds",
                expected: ranges.len() - 1,
                found: thresholds.len(),
            });
        }
        let gamma_range = GammaRange::new(first.min(), last.max())?;
        let starts = std::iter::once(first.min()).chain(thresholds.iter().copied());
        let ends = thresholds
            .iter()
            .copied()
            .chain(std::iter::once(last.max()));
        let mut legs = Vec::with_capacity(ranges.len());
        for (expert, ((start, end), range)) in starts.zip(ends).zip(ranges).enumerate() {
            if start == end {
                continue;
            }
            GammaRange::new(start, end)?;
            let outside = [start, end]
                .into_iter()
                .find(|gamma| !range.contains(*gamma));
            if let (Some(gamma), false) = (outside, extrapolate) {
                let (min, max) = (range.min(), range.max());
                return Err(Error::OutsideLeg {
                    gamma,
                    expert,
                    min,
                    max,
                });
            }
            legs.push(Leg {
                expert,
                start,
                end,
                extrapolated: outside.is_some(),
            });
        }
        Ok(Self { legs, gamma_range })
    }

    /// The legs in the order of an integration.
    pub fn legs(&self, toward: Toward) -> Vec<Leg> {
        match toward {
            Toward::Noise => self.legs.clone(),
            Toward::Data => {
                let back = |leg: &Leg| Leg {
                    start: leg.end,
                    end: leg.start,
                    ..*leg
                };
                self.legs.iter().rev().map(back).collect()
            }
        }
    }

    /// The way of an integration, without its experts.
    pub fn route(&self, toward: Toward) -> Vec<(f64, f64)> {
        let ends = |leg: Leg| (leg.start, leg.end);
        self.legs(toward).into_iter().map(ends).collect()
    }

    /// Gamma from the data end to the noise end.
    pub fn gamma_range(&self) -> GammaRange {
        self.gamma_range
    }

    /// Whether any leg leaves the range that its expert was trained on.
    pub fn extrapolated(&self) -> bool {
        self.legs.iter().any(|leg| leg.extrapolated)
    }
}

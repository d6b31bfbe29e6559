//! A pair of experts and one threshold, to which the word eta belongs: 0 and 1 are the experts alone,
//! on their own ranges.

use super::{Leg, Merged};
use crate::Error;
use crate::gamma::{
    GammaRange, Given, SNAP, Threshold, edm_sigma, gamma_of_edm_sigma, log_snr, snap,
};

/// The range of an expert alone, eta = 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// The expert's own range, as in the paper's tables.
    Native,
    /// The range of the merged model.
    Merged,
}

/// Where the experts of a pair change over, in all four languages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Switch {
    /// On the eta range; 0 and 1 are the experts alone.
    pub eta: f64,
    /// Gamma of the switch; none for an expert alone.
    pub gamma: Option<f64>,
    /// The gamma that was given, if it snapped to an end of an expert's range.
    pub snapped_from: Option<f64>,
}

impl Switch {
    /// EDM's noise level of the switch.
    pub fn edm_sigma(&self) -> Option<f64> {
        self.gamma.map(edm_sigma)
    }

    /// Log SNR of the switch.
    pub fn log_snr(&self) -> Option<f64> {
        self.gamma.map(log_snr)
    }
}

/// A likelihood expert for low noise and a quality expert for high noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    likelihood: GammaRange,
    quality: GammaRange,
    merged: GammaRange,
    eta_range: GammaRange,
}

impl Pair {
    /// The pair; its eta lives on `eta_range`, or from the likelihood expert's lower end to the
    /// quality expert's upper end.
    ///
    /// # Errors
    /// [`Error::GammaRange`] if the quality expert ends below the likelihood expert's beginning.
    pub fn new(
        likelihood: GammaRange,
        quality: GammaRange,
        eta_range: Option<GammaRange>,
    ) -> Result<Self, Error> {
        let merged = GammaRange::new(likelihood.min(), quality.max())?;
        Ok(Self {
            likelihood,
            quality,
            merged,
            eta_range: eta_range.unwrap_or(merged),
        })
    }

    /// Gamma from data to noise under both experts.
    pub fn merged_range(&self) -> GammaRange {
        self.merged
    }

    /// Least and greatest gamma at which both experts were trained.
    ///
    /// # Errors
    /// [`Error::NoOverlap`] if there is none.
    pub fn limits(&self) -> Result<(f64, f64), Error> {
        let lower = self.quality.min().max(self.likelihood.min());
        let upper = self.likelihood.max().min(self.quality.max());
        if lower > upper {
            return Err(Error::NoOverlap {
                likelihood: self.likelihood.max(),
                quality: self.quality.min(),
            });
        }
        Ok((lower, upper))
    }

    /// The thresholds of a table: both limits and every multiple of 0.1 between them. Photos and
    /// CIFAR-10 have the paper's ten.
    ///
    /// # Errors
    /// [`Error::NoOverlap`] if no threshold suits both experts.
    pub fn eta_grid(&self) -> Result<Vec<f64>, Error> {
        let (lower, upper) = self.limits()?;
        let inside = (1..10).map(|tenth| f64::from(tenth) / 10.0).filter(|eta| {
            let gamma = self.eta_range.gamma(*eta);
            gamma > lower + SNAP && gamma < upper - SNAP
        });
        let mut grid = vec![self.eta_range.eta(lower)];
        grid.extend(inside);
        if upper > lower {
            grid.push(self.eta_range.eta(upper));
        }
        Ok(grid)
    }

    /// The legs of a threshold, and the threshold as it was understood.
    ///
    /// # Errors
    /// [`Error::OutsideThreshold`] or [`Error::OutsideExpert`] where an expert would be asked
    /// outside its range and may not `extrapolate`; [`Error::OutsideMerged`] for a threshold
    /// outside the merged range; [`Error::NoOverlap`] for the limits of experts without any.
    pub fn merge(
        &self,
        threshold: Threshold,
        alone: Alone,
        extrapolate: bool,
    ) -> Result<(Merged, Switch), Error> {
        let given = match threshold.given() {
            Given::Eta(0.0) => return self.one(1, 0.0, alone, extrapolate),
            Given::Eta(1.0) => return self.one(0, 1.0, alone, extrapolate),
            Given::Eta(eta) => self.eta_range.gamma(eta),
            Given::EtaMin => self.limits()?.0,
            Given::EtaMax => self.limits()?.1,
            Given::Gamma(gamma) => gamma,
            Given::EdmSigma(level) => gamma_of_edm_sigma(level)?,
            Given::LogSnr(log_snr) => -log_snr,
        };
        let ranges = [self.likelihood, self.quality];
        let snapped = snap(given, &ranges);
        let gamma = snapped.unwrap_or(given);
        if !extrapolate {
            self.check(threshold, gamma)?;
        }
        if !self.merged.contains(gamma) {
            let (min, max) = (self.merged.min(), self.merged.max());
            return Err(Error::OutsideMerged { gamma, min, max });
        }
        let eta = match threshold.given() {
            Given::Eta(eta) if snapped.is_none() => eta,
            _ => self.eta_range.eta(gamma),
        };
        let switch = Switch {
            eta,
            gamma: Some(gamma),
            snapped_from: snapped.map(|_| given),
        };
        Ok((Merged::new(&ranges, &[gamma], extrapolate)?, switch))
    }

    /// One expert alone: eta = 0 or 1.
    fn one(
        &self,
        expert: usize,
        eta: f64,
        alone: Alone,
        extrapolate: bool,
    ) -> Result<(Merged, Switch), Error> {
        let (trained, role) = if expert == 0 {
            (self.likelihood, "likelihood")
        } else {
            (self.quality, "quality")
        };
        let over = match alone {
            Alone::Native => trained,
            Alone::Merged => self.merged,
        };
        let (start, end) = (over.min(), over.max());
        let outside = [start, end]
            .into_iter()
            .find(|gamma| !trained.contains(*gamma));
        if let (Some(gamma), false) = (outside, extrapolate) {
            let (min, max) = (trained.min(), trained.max());
            return Err(Error::OutsideExpert {
                gamma,
                expert: role,
                min,
                max,
            });
        }
        let leg = Leg {
            expert,
            start,
            end,
            extrapolated: outside.is_some(),
        };
        let switch = Switch {
            eta,
            gamma: None,
            snapped_from: None,
        };
        Ok((
            Merged {
                legs: vec![leg],
                gamma_range: over,
            },
            switch,
        ))
    }

    /// Refuses a threshold that an expert was not trained for, in the user's own words.
    fn check(&self, threshold: Threshold, gamma: f64) -> Result<(), Error> {
        let (expert, end) = if gamma < self.quality.min() {
            ("quality", self.quality.min())
        } else if gamma > self.likelihood.max() {
            ("likelihood", self.likelihood.max())
        } else {
            return Ok(());
        };
        let (kind, value, limit) = match threshold.given() {
            Given::Eta(eta) => ("eta", eta, self.eta_range.eta(end)),
            Given::EtaMin | Given::EtaMax | Given::Gamma(_) => ("gamma", gamma, end),
            Given::EdmSigma(level) => ("edm_sigma", level, edm_sigma(end)),
            Given::LogSnr(value) => ("logsnr", value, log_snr(end)),
        };
        Err(Error::OutsideThreshold {
            kind,
            value,
            limit,
            expert,
            end,
        })
    }
}

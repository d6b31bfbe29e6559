//! A switching threshold: in one of four languages, checked, and moved onto the end that it means.

use super::{GammaRange, gamma_of_edm_sigma};
use crate::Error;

/// A threshold this near in gamma to an end of an expert's range means that end: the paper prints
/// eta = 0.0394307 for gamma = -12.43, which is gamma = -12.4300010.
pub const SNAP: f64 = 1e-4;

/// A switching threshold in the words of the user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given {
    /// A point of the eta range; 0 and 1 are the two experts alone.
    Eta(f64),
    /// Where the quality expert's range begins.
    EtaMin,
    /// Where the likelihood expert's range ends.
    EtaMax,
    /// A gamma.
    Gamma(f64),
    /// A noise level of EDM's.
    EdmSigma(f64),
    /// A log SNR.
    LogSnr(f64),
}

/// A switching threshold whose number lies in the domain of its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    given: Given,
}

impl Threshold {
    /// Checks the number against its kind alone; the experts' ranges come later.
    ///
    /// # Errors
    /// [`Error::Eta`] for an eta outside [0, 1], [`Error::Threshold`] for another number that is
    /// not finite, or a noise level that is not positive.
    pub fn new(given: Given) -> Result<Self, Error> {
        match given {
            Given::Eta(eta) if !(0.0..=1.0).contains(&eta) => Err(Error::Eta { eta }),
            Given::Gamma(value) if !value.is_finite() => Err(Error::Threshold {
                kind: "gamma",
                value,
            }),
            Given::LogSnr(value) if !value.is_finite() => Err(Error::Threshold {
                kind: "logsnr",
                value,
            }),
            Given::EdmSigma(value) => gamma_of_edm_sigma(value).map(|_| Self { given }),
            _ => Ok(Self { given }),
        }
    }

    /// What the user gave.
    pub fn given(self) -> Given {
        self.given
    }
}

/// The end of a range that gamma means: the nearest within [`SNAP`], if gamma is not it already.
pub fn snap(gamma: f64, ranges: &[GammaRange]) -> Option<f64> {
    ranges
        .iter()
        .flat_map(|range| [range.min, range.max])
        .filter(|end| (end - gamma).abs() <= SNAP)
        .min_by(|a, b| (a - gamma).abs().total_cmp(&(b - gamma).abs()))
        .filter(|end| *end != gamma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_outside_their_domain_are_refused() {
        for eta in [-0.1, 1.5, f64::NAN] {
            assert!(matches!(
                Threshold::new(Given::Eta(eta)),
                Err(Error::Eta { .. })
            ));
        }
        for given in [
            Given::Gamma(f64::NAN),
            Given::LogSnr(f64::INFINITY),
            Given::EdmSigma(0.0),
            Given::EdmSigma(f64::NAN),
        ] {
            assert!(matches!(
                Threshold::new(given),
                Err(Error::Threshold { .. })
            ));
        }
        assert_eq!(
            Threshold::new(Given::Eta(1.0)).unwrap().given(),
            Given::Eta(1.0)
        );
    }

    #[test]
    fn the_papers_printed_eta_snaps_to_its_expert() {
        let ranges = [GammaRange::VDM, GammaRange::EDM];
        let printed = GammaRange::MERGED.gamma(0.039_430_7);
        assert!(printed != -12.43);
        assert_eq!(snap(printed, &ranges), Some(-12.43));
        assert_eq!(snap(-12.43, &ranges), None);
        assert_eq!(snap(-12.4302, &ranges), None);
    }
}

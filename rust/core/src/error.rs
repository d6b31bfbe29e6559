//! What can be wrong with an argument of the core. Each variant carries the numbers.

use std::fmt;

/// An argument that the core refuses.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A truncation half-width outside `(0, inf)`.
    HalfWidth {
        /// The half-width given.
        tau: f64,
    },
    /// A gamma range whose ends are not finite and increasing.
    GammaRange {
        /// Lower end given.
        min: f64,
        /// Upper end given.
        max: f64,
    },
    /// A tolerance that is not positive, or finer than the arithmetic.
    Tolerance {
        /// Name of the tolerance.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The smallest value allowed.
        least: f64,
    },
    /// A threshold that is no number.
    Threshold {
        /// Name of the threshold's kind.
        kind: &'static str,
        /// The value given.
        value: f64,
    },
    /// An eta outside `[0, 1]`.
    Eta {
        /// The eta given.
        eta: f64,
    },
    /// A gamma that the expert in charge was not trained for.
    OutsideExpert {
        /// The gamma asked for.
        gamma: f64,
        /// Role of the expert.
        expert: &'static str,
        /// Lower end of the expert's range.
        min: f64,
        /// Upper end of the expert's range.
        max: f64,
    },
    /// A count that must be at least one.
    Count {
        /// What is counted.
        name: &'static str,
    },
    /// Two arrays whose lengths must agree.
    Length {
        /// What the array holds.
        name: &'static str,
        /// The length needed.
        expected: usize,
        /// The length given.
        found: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfWidth { tau } => {
                write!(f, "truncation half-width tau = {tau} is not positive and finite")
            }
            Self::GammaRange { min, max } => write!(
                f,
                "gamma range [{min}, {max}] must be finite, lower end first"
            ),
            Self::Tolerance { name, value, least } => {
                write!(f, "{name} = {value} must be finite and at least {least}")
            }
            Self::Threshold { kind, value } => {
                write!(f, "threshold {kind} = {value} is not a finite number in its domain")
            }
            Self::Eta { eta } => write!(f, "eta = {eta} lies outside [0, 1]"),
            Self::OutsideExpert { gamma, expert, min, max } => write!(
                f,
                "gamma = {gamma:.4} lies outside [{min:.4}, {max:.4}], where the {expert} expert was trained"
            ),
            Self::Count { name } => write!(f, "{name} must be at least 1"),
            Self::Length { name, expected, found } => {
                write!(f, "{name} holds {found} values where {expected} are needed")
            }
        }
    }
}

impl std::error::Error for Error {}

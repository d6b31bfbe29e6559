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
    /// A threshold where one of the two experts was not trained, in the words it was given in.
    OutsideThreshold {
        /// Name of the threshold's kind.
        kind: &'static str,
        /// The value given.
        value: f64,
        /// The nearest value of that kind where the expert was trained.
        limit: f64,
        /// Role of the expert.
        expert: &'static str,
        /// Gamma of the limit.
        end: f64,
    },
    /// A threshold outside the range of the merged model.
    OutsideMerged {
        /// Gamma of the threshold.
        gamma: f64,
        /// Lower end of the merged range.
        min: f64,
        /// Upper end of the merged range.
        max: f64,
    },
    /// A leg that leaves the range of its expert.
    OutsideLeg {
        /// The gamma asked for.
        gamma: f64,
        /// Position of the expert, in the order of rising noise.
        expert: usize,
        /// Lower end of the expert's range.
        min: f64,
        /// Upper end of the expert's range.
        max: f64,
    },
    /// Two experts that share no gamma.
    NoOverlap {
        /// Upper end of the likelihood expert's range.
        likelihood: f64,
        /// Lower end of the quality expert's range.
        quality: f64,
    },
    /// A word in place of eta that names nothing.
    EtaName {
        /// The word given.
        name: String,
    },
    /// A word that is none of those allowed.
    Choice {
        /// Name of the argument.
        name: &'static str,
        /// The word given.
        value: String,
        /// The words allowed.
        allowed: &'static str,
    },
    /// An open interval with no number of single precision inside.
    Interval {
        /// Lower end given.
        low: f64,
        /// Upper end given.
        high: f64,
    },
    /// A pixel value that is none of the levels.
    Level {
        /// The pixel value.
        value: u32,
        /// Number of levels.
        levels: u32,
    },
    /// A route that does not begin as the others do.
    Route {
        /// Where its first leg begins.
        from: f64,
        /// Where its first leg ends.
        to: f64,
        /// Where the first route begins.
        start: f64,
    },
    /// Buffers that the system has no room for.
    Memory {
        /// Their size.
        bytes: usize,
    },
}

impl Error {
    /// What to do instead, where the core knows.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OutsideThreshold {
                expert: "quality", ..
            } => Some("use eta = 0 for the quality expert alone"),
            Self::OutsideThreshold { .. } => Some("use eta = 1 for the likelihood expert alone"),
            Self::OutsideExpert { .. } | Self::OutsideLeg { .. } => {
                Some("extrapolate allows it and marks every result")
            }
            Self::Memory { .. } => Some("use a smaller batch size"),
            _ => None,
        }
    }
}

/// `limit` with four decimals or as many more as tell it from `value`, trailing zeros dropped.
fn apart(limit: f64, value: f64) -> String {
    let shown = |decimals: usize| {
        let text = format!("{limit:.decimals$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    (4..12)
        .map(shown)
        .find(|text| text.parse() != Ok(value))
        .unwrap_or_else(|| limit.to_string())
}

fn outside_threshold(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    value: f64,
    limit: f64,
    expert: &str,
    end: f64,
) -> fmt::Result {
    let side = if value < limit { "below" } else { "above" };
    let limit = apart(limit, value);
    write!(
        f,
        "{kind} = {value} lies {side} {limit}, where the {expert} expert was not trained"
    )?;
    if kind == "gamma" {
        return Ok(());
    }
    let sign = if expert == "quality" { '<' } else { '>' };
    write!(f, " (gamma {sign} {})", apart(end, f64::NAN))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HalfWidth { tau } => {
                write!(
                    f,
                    "truncation half-width tau = {tau} is not positive and finite"
                )
            }
            Self::GammaRange { min, max } => write!(
                f,
                "gamma range [{min}, {max}] must be finite, lower end first"
            ),
            Self::Tolerance { name, value, least } => {
                write!(f, "{name} = {value} must be finite and at least {least}")
            }
            Self::Threshold { kind, value } => {
                write!(
                    f,
                    "threshold {kind} = {value} is not a finite number in its domain"
                )
            }
            Self::Eta { eta } => write!(f, "eta = {eta} lies outside [0, 1]"),
            Self::OutsideExpert {
                gamma,
                expert,
                min,
                max,
            } => write!(
                f,
                "gamma = {gamma:.4} lies outside [{min:.4}, {max:.4}], where the {expert} expert was trained"
            ),
            Self::Count { name } => write!(f, "{name} must be at least 1"),
            Self::Length {
                name,
                expected,
                found,
            } => {
                write!(f, "{name} holds {found} values where {expected} are needed")
            }
            Self::OutsideThreshold {
                kind,
                value,
                limit,
                expert,
                end,
            } => outside_threshold(f, kind, *value, *limit, expert, *end),
            Self::OutsideMerged { gamma, min, max } => write!(
                f,
                "gamma = {gamma:.4} lies outside [{min:.4}, {max:.4}], the range of the merged model"
            ),
            Self::OutsideLeg {
                gamma,
                expert,
                min,
                max,
            } => write!(
                f,
                "gamma = {gamma:.4} lies outside [{min:.4}, {max:.4}], where expert {expert} was trained"
            ),
            Self::NoOverlap {
                likelihood,
                quality,
            } => write!(
                f,
                "the likelihood expert was trained up to gamma = {likelihood}, the quality expert \
                 from gamma = {quality}: no threshold suits both"
            ),
            Self::EtaName { name } => {
                write!(
                    f,
                    "eta = \"{name}\" is neither a number in [0, 1] nor \"min\" or \"max\""
                )
            }
            Self::Choice {
                name,
                value,
                allowed,
            } => {
                write!(f, "{name} = \"{value}\" is not {allowed}")
            }
            Self::Interval { low, high } => write!(
                f,
                "interval ({low}, {high}) must be finite, lower end first, with room for a float32"
            ),
            Self::Level { value, levels } => {
                write!(f, "pixel value {value} is not below levels = {levels}")
            }
            Self::Route { from, to, start } => write!(
                f,
                "a route from t = {from} to {to} does not begin as the others, which leave {start} in one \
                 direction"
            ),
            Self::Memory { bytes } => {
                write!(f, "no memory for the solver's buffers of {bytes} bytes")
            }
        }
    }
}

impl std::error::Error for Error {}

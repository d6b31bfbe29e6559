//! The right-hand sides the solver knows: y' = L(t) y + g(t) k, with k what the workspace evaluates.

use crate::gamma::sigma_squared;
/// In y = z/alpha the probability flow has no linear part: dy/dgamma = (s/2) eps_hat, s = e^{gamma/2}.
pub use crate::gamma::{edm_sigma, log_alpha};

/// A semi-linear right-hand side. The linear part never leaves the coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// dz/dgamma = -sigma^2 z / 2 + sigma eps_hat / 2 with t = gamma (Kingma et al. 2021; our
    /// equation 11), and beside it the log-density entry, the integral of (q - sigma^2 d) / 2
    /// with q = sigma v^T (d eps_hat / dz) v.
    ProbabilityFlow {
        /// Values per row, d.
        dim: usize,
    },
    /// The same flow without its log-density entry: q tells what was not finite and nothing else.
    Flow,
    /// y' = f(t, y): slots hold f, and there is no log-density entry.
    Plain,
}

impl Field {
    /// L(t).
    pub fn linear(self, t: f64) -> f64 {
        match self {
            Self::ProbabilityFlow { .. } | Self::Flow => -0.5 * sigma_squared(t),
            Self::Plain => 0.0,
        }
    }

    /// g(t).
    pub fn gain(self, t: f64) -> f64 {
        match self {
            Self::ProbabilityFlow { .. } | Self::Flow => 0.5 * sigma_squared(t).sqrt(),
            Self::Plain => 1.0,
        }
    }

    /// Rate of the log-density entry for the q that came back: the trace of the drift's Jacobian.
    pub fn trace(self, t: f64, q: f64) -> f64 {
        match self {
            Self::ProbabilityFlow { dim } => 0.5 * (q - sigma_squared(t) * dim as f64),
            // A value that is not finite is told by q, and must reach the error norm.
            Self::Flow | Self::Plain => 0.0 * q,
        }
    }

    /// Entries of one row's error norm beside its d values.
    pub fn extra_entries(self) -> usize {
        match self {
            Self::ProbabilityFlow { .. } => 1,
            Self::Flow | Self::Plain => 0,
        }
    }
}

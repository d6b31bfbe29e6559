//! The numerics of merged-diffusion: every decision of an evaluation, none of its tensors.
//!
//! Two vocabularies meet here. Diffusion speaks gamma = -log SNR, z and eps; the solver speaks
//! t, y, h and k. Modules of the first kind: [`gamma`], [`merge`], [`truncated_normal`],
//! [`bits`]. Of the second: [`tableau`], [`control`], [`workspace`], [`timed`], [`runge_kutta`],
//! [`route`], [`lane`].
#![forbid(unsafe_code)]

pub mod adams;
pub mod bits;
pub mod control;
pub mod error;
pub mod field;
pub mod gamma;
pub mod host;
pub mod lane;
pub mod merge;
pub mod outcome;
pub mod probe_noise;
pub mod quadrature;
pub mod route;
pub mod rows;
pub mod runge_kutta;
pub mod special;
pub mod stream;
pub mod tableau;
pub mod timed;
pub mod truncated_normal;
pub mod workspace;

pub use error::Error;

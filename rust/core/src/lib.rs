//! The numerics of merged-diffusion: every decision of an evaluation, none of its tensors.
//!
//! # The idea
//!
//! Many problems y' = f(t, y) are solved at once, each with its own step size, and a network is asked for
//! all of them together. Whoever holds the tensors is a [`workspace`]: G rows of state, trial, network
//! input and stored outputs, and eight verbs over them. A method ([`runge_kutta`], [`adams`]) decides times,
//! weights and acceptance from the few numbers per row that the verbs bring back. So the same decisions
//! drive an array in memory ([`host`]) and a tensor on a device.
//!
//! ```
//! use std::sync::Arc;
//!
//! use merged_diffusion_core::Error;
//! use merged_diffusion_core::control::{StepControl, Tolerance};
//! use merged_diffusion_core::field::Field;
//! use merged_diffusion_core::host::{Asked, Closures, HostWorkspace, Store};
//! use merged_diffusion_core::lane::{Method, Settings, solve};
//! use merged_diffusion_core::route::Routes;
//! use merged_diffusion_core::runge_kutta::Plan;
//! use merged_diffusion_core::workspace::Workspace;
//!
//! // y' = y cos t in four rows; problem `key` begins at y(0) = key + 1.
//! let start = |key: u64| Ok::<_, Error>(vec![key as f64 + 1.0]);
//! let f = |asked: Asked<'_, f64>| {
//!     let rows = asked.t.iter().zip(asked.input);
//!     let slope: Vec<f64> = rows.map(|(t, y)| y * t.cos()).collect();
//!     Ok::<_, Error>((slope, vec![0.0; 4]))
//! };
//! let method = Method::DormandPrince(Plan {
//!     field: Field::Plain,
//!     control: StepControl::PerProblem,
//!     tolerance: Tolerance::new(1e-9, 1e-9)?,
//!     dim: 1,
//! });
//! let settings = Settings { method, rows: 4, keep: true };
//! let store = Arc::new(Store::default());
//! let host = HostWorkspace::new(
//!     (4, 1, method.slots()),
//!     Arc::clone(&store),
//!     0,
//!     Closures::new((4, 1), start, f),
//! )?;
//! let mut lanes: [Box<dyn Workspace<Error = Error>>; 1] = [Box::new(host)];
//! let keys: Vec<u64> = (0..10).collect();
//! let mut ends = Vec::new();
//! solve(&Routes::one(&[(0.0, 2.0)]), &settings, &mut lanes, &keys, &mut ends)?;
//!
//! assert_eq!(ends.len(), 10);
//! for key in keys {
//!     let exact = (key as f64 + 1.0) * 2.0_f64.sin().exp();
//!     let found = store.take(key).ok_or(Error::Count { name: "states" })?[0];
//!     assert!((found - exact).abs() < 1e-7 * exact);
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! # Diffusion
//!
//! Here f is the probability flow of a diffusion model, t is [`gamma`] = -log SNR, and the network predicts
//! eps. A merged model ([`merge`]) has an expert for low noise and one for high noise: a [`route`] of two
//! legs, one workspace each, which end and begin in the same gamma to the last bit. Beside the state goes
//! the log-density entry, whose rate a network tells by q = sigma v^T (d eps_hat / dz) v.
//!
//! Of Gaussian data everything is known: both experts predict eps_hat = sigma z / Var z.
//!
//! ```
//! use std::f64::consts::PI;
//! use std::sync::Arc;
//!
//! use merged_diffusion_core::Error;
//! use merged_diffusion_core::adams::{Plan, Precision};
//! use merged_diffusion_core::gamma::{GammaRange, Given, Threshold, alpha, sigma};
//! use merged_diffusion_core::host::{Asked, Closures, HostWorkspace};
//! use merged_diffusion_core::lane::{Method, Settings, solve};
//! use merged_diffusion_core::merge::{Alone, Pair, Toward};
//! use merged_diffusion_core::route::Routes;
//! use merged_diffusion_core::workspace::Workspace;
//!
//! const DIM: usize = 3;
//! const Z: [f64; DIM] = [0.3, -0.2, 0.6];
//! let variance = |gamma: f64| (0.5 * alpha(gamma)).powi(2) + sigma(gamma).powi(2);
//! let expert = move |asked: Asked<'_, f64>| {
//!     let gamma = asked.t[0];
//!     let slope = sigma(gamma) / variance(gamma);
//!     let eps_hat: Vec<f64> = asked.input.iter().map(|z| slope * z).collect();
//!     Ok::<_, Error>((eps_hat, vec![sigma(gamma) * slope * DIM as f64]))
//! };
//!
//! let pair = Pair::new(GammaRange::VDM, GammaRange::EDM, None)?;
//! let (merged, _) = pair.merge(Threshold::new(Given::Eta(0.4))?, Alone::Native, false)?;
//! let route = merged.route(Toward::Noise);
//! let method = Method::Adams(Plan {
//!     dim: DIM,
//!     precision: Precision::new(1e-4, 0.5)?,
//!     order: 3,
//!     noise_floor: 0.0,
//!     constant: None,
//! });
//! let store = Arc::default();
//! let lane = |_: &(f64, f64)| {
//!     let closures = Closures::new((1, DIM), |_| Ok(Z.to_vec()), expert);
//!     let host = HostWorkspace::new((1, DIM, method.slots()), Arc::clone(&store), 0, closures)?;
//!     Ok::<Box<dyn Workspace<Error = Error>>, Error>(Box::new(host))
//! };
//! let mut lanes = route.iter().map(lane).collect::<Result<Vec<_>, _>>()?;
//! let settings = Settings { method, rows: 1, keep: false };
//! let mut ends = Vec::new();
//! solve(&Routes::one(&route), &settings, &mut lanes, &[0], &mut ends)?;
//!
//! let log_normal = |square: f64, variance: f64| {
//!     -0.5 * (square / variance + DIM as f64 * (2.0 * PI * variance).ln())
//! };
//! let ((first, _), (_, last)) = (route[0], route[1]);
//! let end = &ends[0];
//! let found = log_normal(end.square, variance(last)) + end.job.log_density;
//! let exact = log_normal(Z.iter().map(|z| z * z).sum(), variance(first));
//! assert!((found - exact).abs() < 0.01, "{found} {exact}");
//! # Ok::<(), Error>(())
//! ```
//!
//! # Chapters
//!
//! | the solver: t, y, h, k | |
//! |---|---|
//! | [`workspace`], [`host`], [`timed`] | who holds the rows |
//! | [`route`], [`lane`], [`outcome`] | the ways of problems, and what becomes of them |
//! | [`rows`], [`runge_kutta`] with [`tableau`] and [`control`], [`adams`] with [`quadrature`] | the methods |
//!
//! | diffusion: gamma, z, eps | |
//! |---|---|
//! | [`gamma`], [`merge`] | the clock, and who is in charge when |
//! | [`bits`], [`probe_noise`], [`quadrature_error`] | from densities to bits per dimension, and their errors |
//! | [`stream`], [`truncated_normal`], [`special`] | random numbers by name, and their laws |
//!
//! The two vocabularies meet in [`field`]; [`threads`], on which loops run, serve both.
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
pub mod quadrature_error;
pub mod route;
pub mod rows;
pub mod runge_kutta;
pub mod special;
pub mod stream;
pub mod tableau;
pub mod threads;
pub mod timed;
pub mod truncated_normal;
pub mod workspace;

pub use error::Error;

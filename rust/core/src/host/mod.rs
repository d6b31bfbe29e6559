//! Rows on the host: a [`Workspace`](crate::workspace::Workspace) whose tensors live in memory, round a
//! network that is called back.
//!
//! Fused loops run over the rows; [`HostWorkspace`] says when; [`Network`] is who answers, two
//! [`Closures`] for example:
//!
//! ```
//! use std::sync::Arc;
//!
//! use merged_diffusion_core::Error;
//! use merged_diffusion_core::host::{Asked, Closures, HostWorkspace, Store};
//!
//! // One row of two values that knows no time: y' = -y, from y = (1, key).
//! let start = |key: u64| Ok::<_, Error>(vec![1.0, key as f64]);
//! let network = |asked: Asked<'_, f64>| {
//!     let slope: Vec<f64> = asked.input.iter().map(|y| -y).collect();
//!     Ok::<_, Error>((slope, vec![0.0; asked.t.len()]))
//! };
//! let closures = Closures::new((1, 2), start, network);
//! let workspace = HostWorkspace::new((1, 2, 7), Arc::new(Store::default()), 0, closures)?;
//! # let _ = workspace;
//! # Ok::<(), Error>(())
//! ```

mod arrival;
mod buffers;
mod combination;
mod network;
mod pages;
mod slot;
mod store;
#[cfg(test)]
mod tests;
mod workspace;

pub use network::{Asked, Closures, Network};
pub use slot::Slot;
pub use store::Store;
pub use workspace::HostWorkspace;

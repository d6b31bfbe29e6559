//! Criterion benchmarks of merged-diffusion-core; each question stands in its bench file. Here is what the
//! benches of solvers have in common.

pub mod buffers;
pub mod turns;
pub mod workshop;

//! `merged_diffusion._core`: names, calls and maps errors; no arithmetic.

use pyo3::prelude::*;

mod arrays;
mod bits;
mod error;
mod gamma;
mod host;
mod lane;
mod merge;
mod outcome;
mod random;
mod threads;
mod workspace;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    gamma::register(module)?;
    merge::register(module)?;
    outcome::register(module)?;
    host::register(module)?;
    lane::register(module)?;
    random::register(module)?;
    bits::register(module)?;
    threads::register(module)?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}

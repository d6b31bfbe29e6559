//! `merged_diffusion._core`: names, calls and maps errors; no arithmetic.

use pyo3::prelude::*;

mod bits;
mod error;
mod gamma;
mod merge;
mod ode;
mod random;
mod threads;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    gamma::register(module)?;
    merge::register(module)?;
    ode::register(module)?;
    random::register(module)?;
    bits::register(module)?;
    threads::register(module)?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}

//! The thread pool that the core's loops run in.

use std::sync::{Arc, RwLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

static POOL: RwLock<Option<Arc<ThreadPool>>> = RwLock::new(None);

/// Runs `work` detached from the interpreter, in the pool that `set_threads` chose.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let pool = POOL.read().map(|pool| pool.clone()).unwrap_or_default();
        match pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    })
}

#[pyfunction]
#[pyo3(signature = (threads, /))]
fn set_threads(threads: usize) -> PyResult<()> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    if let Ok(mut current) = POOL.write() {
        *current = Some(Arc::new(pool));
    }
    Ok(())
}

#[pyfunction]
fn threads() -> usize {
    POOL.read()
        .ok()
        .and_then(|pool| pool.as_ref().map(|pool| pool.current_num_threads()))
        .unwrap_or_else(rayon::current_num_threads)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(threads, module)?)
}

//! The thread pool that the core's loops run in.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

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

/// Values that are worked through in a millisecond or two.
const FEW: usize = 1 << 16;
/// Time between two looks for signals.
const LOOK: Duration = Duration::from_millis(50);

/// The result of `work` over `n` values that it owns: where they are many, on a thread of its own, which a
/// signal leaves to itself.
pub(crate) fn apart<T: Send + 'static>(
    py: Python<'_>,
    n: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    if n <= FEW {
        return Ok(work());
    }
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    // Nobody listens any more after a signal.
    thread::spawn(move || sender.send(work()).unwrap_or_default());
    let wait = || match receiver.lock() {
        Ok(receiver) => receiver.recv_timeout(LOOK),
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    loop {
        match py.detach(wait) {
            Ok(found) => return Ok(found),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("a thread of the core ended early"));
            }
        }
    }
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

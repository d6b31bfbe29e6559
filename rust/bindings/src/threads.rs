//! The thread pool that the core's loops run in.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{mem, process, thread};

use merged_diffusion_core::threads::SERIAL;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The threads that the core's loops run on, and the process that they belong to.
struct Pool {
    process: u32,
    threads: Arc<ThreadPool>,
}

/// Whoever looks here is attached to the interpreter, and stays so until the threads have begun. A fork by
/// Python needs the interpreter, too: so in no forked process is the lock held, or a pool half made.
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// Puts a pool of that many threads in the place of another; 0 is rayon's own choice.
fn renew(
    current: &mut Option<Pool>,
    threads: usize,
) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
    let threads = ThreadPoolBuilder::new().num_threads(threads).build()?;
    // Each thread has taken a task: it holds nothing any more that a fork would leave held for ever.
    threads.broadcast(|_| ());
    let threads = Arc::new(threads);
    let process = process::id();
    let before = current.replace(Pool {
        process,
        threads: Arc::clone(&threads),
    });
    if before.as_ref().is_some_and(|pool| pool.process != process) {
        // Nobody is left there to be told that work is over, and a lock of theirs may be held.
        mem::forget(before);
    }
    Ok(threads)
}

/// The pool of this process: a forked one has none of its parent's threads, and makes as many.
fn pool(_attached: Python<'_>) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
    let mut current = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let threads = match current.as_ref() {
        Some(pool) if pool.process == process::id() => return Ok(Arc::clone(&pool.threads)),
        Some(pool) => pool.threads.current_num_threads(),
        None => 0,
    };
    renew(&mut current, threads)
}

/// Runs `work` over that many values detached from the interpreter: in the pool where they are many and there
/// is one, else on this thread. No bit depends on it.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    values: usize,
    work: impl FnOnce() -> T + Send,
) -> T {
    let pool = (values >= SERIAL).then(|| pool(py).ok()).flatten();
    py.detach(|| match pool {
        Some(pool) => pool.install(work),
        None => work(),
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
fn set_threads(_py: Python<'_>, threads: usize) -> PyResult<()> {
    let mut current = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    renew(&mut current, threads).map_err(|error| refused(&error))?;
    Ok(())
}

#[pyfunction]
fn threads(py: Python<'_>) -> PyResult<usize> {
    Ok(pool(py)
        .map_err(|error| refused(&error))?
        .current_num_threads())
}

/// What the system said where it gives no threads.
fn refused(error: &ThreadPoolBuildError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(threads, module)?)
}

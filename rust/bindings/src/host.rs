//! `host` of the core, for Python: a network whose input is shared with Python, and two callbacks.

use std::sync::Arc;

use merged_diffusion_core::host::{self, Network, Slot};
use merged_diffusion_core::workspace::Workspace;
use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods, ToPyArray,
};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::error::Failure;
use crate::threads::detached;

/// States that wait between legs, by key.
#[pyclass(frozen, module = "merged_diffusion._core")]
pub(crate) struct HostStore {
    store: Arc<host::Store>,
}

#[pymethods]
impl HostStore {
    #[new]
    fn new() -> Self {
        Self {
            store: Arc::default(),
        }
    }

    fn take<'py>(&self, py: Python<'py>, key: u64) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.store
            .take(key)
            .map(|state| PyArray1::from_vec(py, state))
            .ok_or_else(|| PyKeyError::new_err(key))
    }

    fn __len__(&self) -> usize {
        self.store.len()
    }
}

/// What a lane on the host is made of; the buffers exist only during a solve.
#[pyclass(frozen, module = "merged_diffusion._core")]
pub(crate) struct HostWorkspace {
    input: Py<PyAny>,
    store: Py<HostStore>,
    start: Py<PyAny>,
    evaluate: Py<PyAny>,
}

#[pymethods]
impl HostWorkspace {
    #[new]
    fn new(input: Py<PyAny>, store: Py<HostStore>, start: Py<PyAny>, evaluate: Py<PyAny>) -> Self {
        Self {
            input,
            store,
            start,
            evaluate,
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.input)?;
        visit.call(&self.store)?;
        visit.call(&self.start)?;
        visit.call(&self.evaluate)
    }
}

/// A workspace of one solve.
pub(crate) type Opened<'py> = Box<dyn Workspace<Error = Failure> + 'py>;

impl HostWorkspace {
    /// The workspace of rows, values and slots for one solve; `idle` is the key of rows that hold no problem yet.
    pub(crate) fn open<'py>(
        &self,
        py: Python<'py>,
        shape: (usize, usize, usize),
        idle: u64,
    ) -> Result<Opened<'py>, Failure> {
        let input = self.input.bind(py);
        if let Ok(input) = input.cast::<PyArray2<f32>>() {
            return self.of(input, shape, idle);
        }
        if let Ok(input) = input.cast::<PyArray2<f64>>() {
            return self.of(input, shape, idle);
        }
        let error = PyTypeError::new_err(format!(
            "input is {}, where a float32 or float64 array [rows, d] is needed",
            input.get_type()
        ));
        Err(error.into())
    }

    fn of<'py, S: Slot + Element>(
        &self,
        input: &Bound<'py, PyArray2<S>>,
        shape: (usize, usize, usize),
        idle: u64,
    ) -> Result<Opened<'py>, Failure> {
        let py = input.py();
        check_rows("input", input, [shape.0, shape.1])?;
        let callbacks = Callbacks {
            input: input.clone(),
            start: self.start.bind(py).clone(),
            evaluate: self.evaluate.bind(py).clone(),
        };
        let store = Arc::clone(&self.store.get().store);
        Ok(Box::new(host::HostWorkspace::new(
            shape, store, idle, callbacks,
        )?))
    }
}

/// Refuses an array that is not [rows, dim] in C order; a slice of a Fortran array is its transpose.
fn check_rows<S: Element>(
    name: &str,
    array: &Bound<'_, PyArray2<S>>,
    shape: [usize; 2],
) -> PyResult<()> {
    if array.shape() == shape && array.is_c_contiguous() {
        return Ok(());
    }
    let [rows, dim] = shape;
    Err(PyValueError::new_err(format!(
        "{name} has shape {:?}{}, where [{rows}, {dim}] in C order is needed",
        array.shape(),
        if array.is_c_contiguous() {
            ""
        } else {
            " and another order"
        }
    )))
}

/// An array that nobody writes to, in C order.
struct Lent<'py, S: Element>(PyReadonlyArray2<'py, S>);

impl<S: Element> AsRef<[S]> for Lent<'_, S> {
    fn as_ref(&self) -> &[S] {
        self.0.as_slice().expect("the order was checked")
    }
}

struct Callbacks<'py, S: Element> {
    input: Bound<'py, PyArray2<S>>,
    start: Bound<'py, PyAny>,
    evaluate: Bound<'py, PyAny>,
}

impl<'py, S: Slot + Element> Callbacks<'py, S> {
    fn answer(&self, t: &[f64], node: &[u64], key: &[u64]) -> PyResult<(Lent<'py, S>, Vec<f64>)> {
        let py = self.input.py();
        py.check_signals()?;
        let arguments = (t.to_pyarray(py), node.to_pyarray(py), key.to_pyarray(py));
        let (output, q): (Bound<'_, PyArray2<S>>, PyReadonlyArray1<'_, f64>) =
            self.evaluate.call1(arguments)?.extract()?;
        let shape = [self.input.shape()[0], self.input.shape()[1]];
        check_rows("the network's output", &output, shape)?;
        Ok((Lent(output.try_readonly()?), q.as_array().to_vec()))
    }

    fn state(&self, key: u64) -> PyResult<Vec<f64>> {
        let state: PyReadonlyArray1<'_, f64> = self.start.call1((key,))?.extract()?;
        Ok(state.as_slice()?.to_vec())
    }
}

impl<'py, S: Slot + Element> Network for Callbacks<'py, S> {
    type Slot = S;
    type Output = Lent<'py, S>;
    type Error = Failure;

    fn start(&mut self, key: u64) -> Result<Vec<f64>, Failure> {
        Ok(self.state(key)?)
    }

    fn lend<T: Send>(&mut self, work: impl FnOnce(&mut [S]) -> T + Send) -> Result<T, Failure> {
        let py = self.input.py();
        let mut input = self.input.try_readwrite().map_err(PyErr::from)?;
        let input = input.as_slice_mut().map_err(PyErr::from)?;
        Ok(detached(py, input.len(), || work(input)))
    }

    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        key: &[u64],
    ) -> Result<(Lent<'py, S>, Vec<f64>), Failure> {
        Ok(self.answer(t, node, key)?)
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        detached(self.input.py(), self.input.len(), work)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HostStore>()?;
    module.add_class::<HostWorkspace>()
}

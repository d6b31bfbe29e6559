//! The host workspace: buffers of the core, a network input shared with Python, two callbacks.

use std::collections::HashMap;
use std::sync::Mutex;

use merged_diffusion_core::control::Tolerance;
use merged_diffusion_core::host::{Arrival, Host, Slot};
use merged_diffusion_core::workspace::{Column, Columns, Spans, Target, Workspace};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods, ToPyArray,
};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::error::to_py;
use crate::threads::detached;

/// States that wait between legs, by key.
#[pyclass(frozen, module = "merged_diffusion._core")]
pub(crate) struct HostStore {
    states: Mutex<HashMap<u64, Vec<f64>>>,
}

impl HostStore {
    fn remove(&self, key: u64) -> Option<Vec<f64>> {
        self.states.lock().ok()?.remove(&key)
    }

    fn insert(&self, key: u64, state: Vec<f64>) {
        if let Ok(mut states) = self.states.lock() {
            states.insert(key, state);
        }
    }
}

#[pymethods]
impl HostStore {
    #[new]
    fn new() -> Self {
        Self {
            states: Mutex::default(),
        }
    }

    fn take<'py>(&self, py: Python<'py>, key: u64) -> PyResult<Bound<'py, PyArray1<f64>>> {
        self.remove(key)
            .map(|state| PyArray1::from_vec(py, state))
            .ok_or_else(|| PyKeyError::new_err(key))
    }

    fn __len__(&self) -> usize {
        self.states.lock().map_or(0, |states| states.len())
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

impl HostWorkspace {
    /// The workspace of rows, values and slots for one solve; `idle` is the key of rows that hold no problem yet.
    pub(crate) fn open<'py>(
        &self,
        py: Python<'py>,
        (rows, dim, slots): (usize, usize, usize),
        idle: u64,
    ) -> PyResult<Box<dyn Workspace<Error = PyErr> + 'py>> {
        let input = self.input.bind(py);
        if let Ok(input) = input.cast::<PyArray2<f32>>() {
            return Ok(Box::new(Opened::new(
                self,
                input,
                (rows, dim, slots),
                idle,
            )?));
        }
        if let Ok(input) = input.cast::<PyArray2<f64>>() {
            return Ok(Box::new(Opened::new(
                self,
                input,
                (rows, dim, slots),
                idle,
            )?));
        }
        Err(PyTypeError::new_err(format!(
            "input is {}, where a float32 or float64 array [rows, d] is needed",
            input.get_type()
        )))
    }
}

struct Opened<'py, S: Element> {
    host: Host<S>,
    input: Bound<'py, PyArray2<S>>,
    store: Bound<'py, HostStore>,
    start: Bound<'py, PyAny>,
    evaluate: Bound<'py, PyAny>,
    keys: Vec<u64>,
    /// Slots that were saved with a row, by key: a branch goes on in this very workspace.
    branches: HashMap<u64, Vec<(usize, Vec<S>)>>,
    columns: Columns,
    pending: Option<Pending<'py, S>>,
    /// A combination into the trial, not yet formed: inner products may be asked for next, of the same slots.
    queued: Option<Spans>,
}

/// An output of the network that the next verb stores, and the column of its q.
struct Pending<'py, S: Element> {
    slot: Vec<Option<usize>>,
    output: PyReadonlyArray2<'py, S>,
    q: Column,
}

impl<S: Slot + Element> Pending<'_, S> {
    fn arrival(&self) -> PyResult<Arrival<'_, S>> {
        Ok(Arrival {
            slot: &self.slot,
            output: self.output.as_slice()?,
        })
    }

    /// Writes NaN for q of the rows that were not finite.
    fn note(&self, columns: &mut Columns, finite: &[bool]) {
        for (q, finite) in columns[self.q].iter_mut().zip(finite) {
            if !finite {
                *q = f64::NAN;
            }
        }
    }
}

impl<'py, S: Slot + Element> Opened<'py, S> {
    fn new(
        parts: &HostWorkspace,
        input: &Bound<'py, PyArray2<S>>,
        (rows, dim, slots): (usize, usize, usize),
        idle: u64,
    ) -> PyResult<Self> {
        let py = input.py();
        check_rows("input", input, rows, dim)?;
        Ok(Self {
            host: detached(py, || Host::new(rows, dim, slots))
                .map_err(|error| to_py(py, &error))?,
            input: input.clone(),
            store: parts.store.bind(py).clone(),
            start: parts.start.bind(py).clone(),
            evaluate: parts.evaluate.bind(py).clone(),
            keys: vec![idle; rows],
            branches: HashMap::new(),
            columns: Columns::default(),
            pending: None,
            queued: None,
        })
    }

    /// Does all that waits.
    fn settle(&mut self) -> PyResult<()> {
        self.form_queued()?;
        if self.pending.is_some() {
            self.pass(|host, arrival| ((), arrival.map_or_else(Vec::new, |a| host.store(a))))?;
        }
        Ok(())
    }

    fn form_queued(&mut self) -> PyResult<()> {
        match self.queued.take() {
            Some(spans) => self.form(Target::Trial, &spans),
            None => Ok(()),
        }
    }

    /// Forms a combination now.
    fn form(&mut self, target: Target, spans: &Spans) -> PyResult<()> {
        let input = self.input.clone();
        let mut input = input.try_readwrite()?;
        let input = input.as_slice_mut()?;
        self.pass(|host, arrival| ((), host.combine(arrival, target, spans, input)))
    }

    /// One pass over the rows, which stores what is pending on its way and tells whether that was finite.
    fn pass<T: Send>(
        &mut self,
        work: impl FnOnce(&mut Host<S>, Option<Arrival<'_, S>>) -> (T, Vec<bool>) + Send,
    ) -> PyResult<T> {
        let pending = self.pending.take();
        let arrival = pending.as_ref().map(Pending::arrival).transpose()?;
        let host = &mut self.host;
        let (found, finite) = detached(self.input.py(), || work(host, arrival));
        if let Some(pending) = pending {
            pending.note(&mut self.columns, &finite);
        }
        Ok(found)
    }
}

/// Refuses an array that is not [rows, dim] in C order; a slice of a Fortran array is its transpose.
fn check_rows<S: Element>(
    name: &str,
    array: &Bound<'_, PyArray2<S>>,
    rows: usize,
    dim: usize,
) -> PyResult<()> {
    if array.shape() == [rows, dim] && array.is_c_contiguous() {
        return Ok(());
    }
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

fn overlap<S>(a: &[S], b: &[S]) -> bool {
    let (a, b) = (a.as_ptr_range(), b.as_ptr_range());
    a.start < b.end && b.start < a.end
}

impl<S: Slot + Element> Workspace for Opened<'_, S> {
    type Error = PyErr;

    fn load(&mut self, row: usize, key: u64) -> PyResult<()> {
        let py = self.input.py();
        self.form_queued()?;
        self.keys[row] = key;
        for (slot, values) in self.branches.remove(&key).into_iter().flatten() {
            self.host.fill_slot(row, slot, &values);
        }
        let filled = if let Some(state) = self.store.get().remove(key) {
            self.host.fill(row, &state)
        } else {
            let state: PyReadonlyArray1<'_, f64> = self.start.call1((key,))?.extract()?;
            self.host.fill(row, state.as_slice()?)
        };
        filled.map_err(|error| to_py(py, &error))
    }

    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> PyResult<()> {
        self.form_queued()?;
        if !slots.is_empty() {
            let kept = |&slot: &usize| (slot, self.host.slot(row, slot).to_vec());
            self.branches.insert(key, slots.iter().map(kept).collect());
        }
        self.store.get().insert(key, self.host.state(row).to_vec());
        Ok(())
    }

    fn combine(&mut self, target: Target, spans: &Spans) -> PyResult<()> {
        self.form_queued()?;
        if target == Target::Trial {
            self.queued = Some(spans.clone());
            return Ok(());
        }
        self.form(target, spans)
    }

    fn evaluate(&mut self, t: &[f64], node: &[u64], slot: &[Option<usize>]) -> PyResult<Column> {
        let py = self.input.py();
        py.check_signals()?;
        // The network may write its next output where the last one is.
        self.settle()?;
        let rows = self.keys.len();
        let arguments = (
            t.to_pyarray(py),
            node.to_pyarray(py),
            self.keys.to_pyarray(py),
        );
        let (output, q): (Bound<'_, PyArray2<S>>, PyReadonlyArray1<'_, f64>) =
            self.evaluate.call1(arguments)?.extract()?;
        let dim = self.input.shape()[1];
        check_rows("the network's output", &output, rows, dim)?;
        // A short q would shift every later column.
        if q.len() != rows {
            return Err(PyValueError::new_err(format!(
                "q has {} values, where {rows} are needed",
                q.len()
            )));
        }
        let q = self.columns.queue(q.as_array().iter().copied());
        let pending = Pending {
            slot: slot.to_vec(),
            output: output.try_readonly()?,
            q,
        };
        let is_input = overlap(
            pending.output.as_slice()?,
            self.input.try_readonly()?.as_slice()?,
        );
        self.pending = Some(pending);
        // The next verb overwrites the input.
        if is_input {
            self.settle()?;
        }
        Ok(q)
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> PyResult<Column> {
        self.form_queued()?;
        let sums = self.pass(|host, arrival| host.scaled_square(arrival, spans, tolerance))?;
        Ok(self.columns.queue(sums))
    }

    fn gram(&mut self, new: &[Option<usize>]) -> PyResult<Column> {
        let products = if let Some(spans) = self.queued.take() {
            self.pass(|host, arrival| host.combine_and_gram(arrival, &spans, new))?
        } else {
            self.settle()?;
            let host = &self.host;
            detached(self.input.py(), || host.gram(new))
        };
        Ok(self.columns.queue(products))
    }

    fn collect(&mut self) -> PyResult<Columns> {
        self.settle()?;
        Ok(std::mem::take(&mut self.columns))
    }

    fn accept(&mut self, mask: &[bool]) -> PyResult<()> {
        self.form_queued()?;
        self.host.accept(mask);
        Ok(())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HostStore>()?;
    module.add_class::<HostWorkspace>()
}

//! A workspace that Python holds: its verbs forwarded by name.

use merged_diffusion_core::control::Tolerance;
use merged_diffusion_core::workspace::{Column, Columns, Spans, Target, Workspace};
use numpy::ndarray::ArrayView2;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, ToPyArray};
use pyo3::intern;
use pyo3::prelude::*;

use crate::error::Failure;

/// Scales [G] and weights [G, S].
type Arrays<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray2<f64>>);

/// The verbs of an object, and the very exceptions that they raise.
pub(crate) struct Forwarded<'py> {
    object: Bound<'py, PyAny>,
    /// Slots of a row.
    slots: usize,
    columns: Columns,
}

impl<'py> Forwarded<'py> {
    pub(crate) fn new(object: Bound<'py, PyAny>, slots: usize) -> Self {
        Self {
            object,
            slots,
            columns: Columns::default(),
        }
    }

    fn spans(&self, spans: &Spans) -> PyResult<Arrays<'py>> {
        let py = self.object.py();
        let shape = (spans.scale().len(), spans.slots());
        let weights = ArrayView2::from_shape(shape, spans.weights())
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        Ok((spans.scale().to_pyarray(py), weights.to_pyarray(py)))
    }

    /// Slot numbers, -1 for a row without.
    fn slots(&self, slot: &[Option<usize>]) -> Bound<'py, PyArray1<i64>> {
        let numbers: Vec<i64> = slot
            .iter()
            .map(|slot| slot.map_or(-1, |slot| i64::from(slot as u32)))
            .collect();
        numbers.to_pyarray(self.object.py())
    }
}

impl Workspace for Forwarded<'_> {
    type Error = Failure;

    fn load(&mut self, row: usize, key: u64) -> Result<(), Failure> {
        let py = self.object.py();
        self.object.call_method1(intern!(py, "load"), (row, key))?;
        Ok(())
    }

    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> Result<(), Failure> {
        let py = self.object.py();
        self.object
            .call_method1(intern!(py, "save"), (row, key, slots.to_vec()))?;
        Ok(())
    }

    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), Failure> {
        let name = match target {
            Target::Input => "input",
            Target::Trial => "trial",
            Target::Both => "both",
        };
        let (scale, weights) = self.spans(spans)?;
        let py = self.object.py();
        self.object
            .call_method1(intern!(py, "combine"), (name, scale, weights))?;
        Ok(())
    }

    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<Column, Failure> {
        let py = self.object.py();
        let arguments = (t.to_pyarray(py), node.to_pyarray(py), self.slots(slot));
        self.object
            .call_method1(intern!(py, "evaluate"), arguments)?;
        Ok(self.columns.reserve(t.len()))
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> Result<Column, Failure> {
        let (scale, weights) = self.spans(spans)?;
        let py = self.object.py();
        let arguments = (scale, weights, tolerance.atol(), tolerance.rtol());
        self.object
            .call_method1(intern!(py, "scaled_square"), arguments)?;
        Ok(self.columns.reserve(spans.scale().len()))
    }

    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, Failure> {
        let py = self.object.py();
        self.object
            .call_method1(intern!(py, "gram"), (self.slots(new),))?;
        Ok(self.columns.reserve(new.len() * self.slots))
    }

    fn collect(&mut self) -> Result<Columns, Failure> {
        let py = self.object.py();
        let columns = self.object.call_method0(intern!(py, "collect"))?;
        let columns: PyReadonlyArray1<'_, f64> = columns.extract()?;
        Ok(self.columns.fill(columns.as_array().to_vec())?)
    }

    fn accept(&mut self, mask: &[bool]) -> Result<(), Failure> {
        let py = self.object.py();
        self.object
            .call_method1(intern!(py, "accept"), (mask.to_pyarray(py),))?;
        Ok(())
    }
}

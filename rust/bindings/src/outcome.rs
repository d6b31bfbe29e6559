//! How a problem ended, for Python.

use merged_diffusion_core::outcome::Finished;
use numpy::{PyArray1, ToPyArray};
use pyo3::prelude::*;

/// How one problem of a solve ended.
#[pyclass(frozen, get_all, module = "merged_diffusion._core")]
pub(crate) struct Outcome {
    key: u64,
    status: &'static str,
    leg: usize,
    gamma: f64,
    log_density: f64,
    path_correction: f64,
    square: f64,
    evaluations: Vec<u64>,
    accepted: u64,
    rejected: u64,
    ratio: f64,
    stage: Option<usize>,
    steps: Option<Py<PyArray1<f64>>>,
    origin: Option<(u64, u64)>,
}

impl Outcome {
    pub(crate) fn new(
        py: Python<'_>,
        finished: Finished,
        leg: usize,
        n_legs: usize,
        steps: Option<&[f64]>,
    ) -> Self {
        let mut evaluations = finished.job.evaluations;
        evaluations.resize(n_legs, 0);
        Self {
            key: finished.job.key,
            status: finished.status.name(),
            leg,
            gamma: finished.t,
            log_density: finished.job.log_density,
            path_correction: finished.job.path_correction,
            square: finished.square,
            evaluations,
            accepted: finished.job.accepted,
            rejected: finished.job.rejected,
            ratio: finished.ratio,
            stage: finished.stage,
            origin: finished.job.origin,
            steps: steps.map(|steps| steps.to_pyarray(py).unbind()),
        }
    }
}

#[pymethods]
impl Outcome {
    fn __repr__(&self) -> String {
        format!(
            "Outcome(key={}, status=\"{}\", gamma={:.4}, log_density={:.4})",
            self.key, self.status, self.gamma, self.log_density
        )
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Outcome>()
}

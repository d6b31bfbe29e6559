//! `merge` of the core, for Python.

use merged_diffusion_core::Error;
use merged_diffusion_core::merge::{self, Alone, Leg, Pair, Switch, Toward};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;
use crate::gamma::{Threshold, ends, range};

/// A merged model's legs, which follow each other without gap.
#[pyclass(frozen, module = "merged_diffusion._core")]
struct Route {
    merged: merge::Merged,
    switch: Option<Switch>,
}

#[pymethods]
impl Route {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // A sequence of Python's becomes a Vec.
    #[pyo3(signature = (ranges, thresholds, *, extrapolate = false))]
    fn new(
        py: Python<'_>,
        ranges: Vec<(f64, f64)>,
        thresholds: Vec<f64>,
        extrapolate: bool,
    ) -> PyResult<Self> {
        let ranges = ranges
            .into_iter()
            .map(|ends| range(py, ends))
            .collect::<PyResult<Vec<_>>>()?;
        let merged = merge::Merged::new(&ranges, &thresholds, extrapolate)
            .map_err(|error| to_py(py, &error))?;
        Ok(Self {
            merged,
            switch: None,
        })
    }

    #[staticmethod]
    #[pyo3(signature = (likelihood, quality, threshold, *, eta_range = None, range = "native", extrapolate = false))]
    fn of_pair(
        py: Python<'_>,
        likelihood: (f64, f64),
        quality: (f64, f64),
        threshold: &Threshold,
        eta_range: Option<(f64, f64)>,
        range: &str,
        extrapolate: bool,
    ) -> PyResult<Self> {
        let alone = match range {
            "native" => Alone::Native,
            "merged" => Alone::Merged,
            other => {
                let error = Error::Choice {
                    name: "range",
                    value: other.to_owned(),
                    allowed: "\"native\" or \"merged\"",
                };
                return Err(to_py(py, &error));
            }
        };
        let (merged, switch) = pair(py, likelihood, quality, eta_range)?
            .merge(threshold.0, alone, extrapolate)
            .map_err(|error| to_py(py, &error))?;
        Ok(Self {
            merged,
            switch: Some(switch),
        })
    }

    #[pyo3(signature = (toward = "noise"))]
    fn legs(&self, py: Python<'_>, toward: &str) -> PyResult<Vec<(usize, f64, f64, bool)>> {
        let toward = match toward {
            "noise" => Toward::Noise,
            "data" => Toward::Data,
            other => {
                let error = Error::Choice {
                    name: "toward",
                    value: other.to_owned(),
                    allowed: "\"noise\" or \"data\"",
                };
                return Err(to_py(py, &error));
            }
        };
        let parts = |leg: Leg| (leg.expert, leg.start, leg.end, leg.extrapolated);
        Ok(self.merged.legs(toward).into_iter().map(parts).collect())
    }

    #[getter]
    fn gamma_range(&self) -> (f64, f64) {
        ends(self.merged.gamma_range())
    }

    #[getter]
    fn extrapolated(&self) -> bool {
        self.merged.extrapolated()
    }

    #[getter]
    fn threshold<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(switch) = self.switch else {
            return Ok(None);
        };
        let echo = PyDict::new(py);
        echo.set_item("eta", switch.eta)?;
        echo.set_item("gamma", switch.gamma)?;
        echo.set_item("edm_sigma", switch.edm_sigma())?;
        echo.set_item("logsnr", switch.log_snr())?;
        Ok(Some(echo))
    }

    #[getter]
    fn snapped_from(&self) -> Option<f64> {
        self.switch.and_then(|switch| switch.snapped_from)
    }
}

fn pair(
    py: Python<'_>,
    likelihood: (f64, f64),
    quality: (f64, f64),
    eta_range: Option<(f64, f64)>,
) -> PyResult<Pair> {
    let eta_range = eta_range.map(|ends| range(py, ends)).transpose()?;
    Pair::new(range(py, likelihood)?, range(py, quality)?, eta_range)
        .map_err(|error| to_py(py, &error))
}

#[pyfunction]
#[pyo3(signature = (likelihood, quality, *, eta_range = None))]
fn eta_grid(
    py: Python<'_>,
    likelihood: (f64, f64),
    quality: (f64, f64),
    eta_range: Option<(f64, f64)>,
) -> PyResult<Vec<f64>> {
    pair(py, likelihood, quality, eta_range)?
        .eta_grid()
        .map_err(|error| to_py(py, &error))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Route>()?;
    module.add_function(wrap_pyfunction!(eta_grid, module)?)
}

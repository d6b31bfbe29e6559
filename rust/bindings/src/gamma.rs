//! `gamma` of the core, for Python.

use merged_diffusion_core::Error;
use merged_diffusion_core::gamma::{self, GammaRange, Given};
use numpy::{IntoPyArray, PyArrayDyn, PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::error::to_py;

/// A look for signals after so many values, some 50 ms of the slowest function; all its bits are set.
const LOOK: usize = (1 << 20) - 1;

/// A range of gamma as Python gives it, validated.
pub(crate) fn range(py: Python<'_>, (min, max): (f64, f64)) -> PyResult<GammaRange> {
    GammaRange::new(min, max).map_err(|error| to_py(py, &error))
}

/// `f` of a float, or of every entry of a float64 array of any shape.
pub(crate) fn map<'py>(
    values: &Bound<'py, PyAny>,
    f: impl Fn(f64) -> Result<f64, Error>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = values.py();
    let checked = |value| f(value).map_err(|error| to_py(py, &error));
    if let Ok(array) = values.cast::<PyArrayDyn<f64>>() {
        let read = array.readonly();
        let read = read.as_array();
        let mut out = read.to_owned();
        for (i, value) in out.iter_mut().enumerate() {
            if i & LOOK == LOOK {
                py.check_signals()?;
            }
            *value = checked(*value)?;
        }
        return Ok(out.into_pyarray(py).into_any());
    }
    if values.cast::<PyUntypedArray>().is_ok() {
        return Err(PyTypeError::new_err("an array of float64 is needed"));
    }
    Ok(checked(values.extract()?)?.into_pyobject(py)?.into_any())
}

macro_rules! elementwise {
    ($($name:ident),* $(,)?) => {$(
        #[pyfunction]
        #[pyo3(signature = (gamma, /))]
        fn $name<'py>(gamma: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
            map(gamma, |gamma| Ok(gamma::$name(gamma)))
        }
    )*};
}

elementwise!(
    alpha,
    sigma,
    sigma_squared,
    log_alpha,
    log_sigma,
    edm_sigma,
    log_snr
);

#[pyfunction]
#[pyo3(signature = (edm_sigma, /))]
fn gamma_of_edm_sigma<'py>(edm_sigma: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    map(edm_sigma, gamma::gamma_of_edm_sigma)
}

#[pyfunction]
fn gamma_of_eta<'py>(
    eta: &Bound<'py, PyAny>,
    gamma_range: (f64, f64),
) -> PyResult<Bound<'py, PyAny>> {
    let gamma_range = range(eta.py(), gamma_range)?;
    map(eta, |eta| Ok(gamma_range.gamma(eta)))
}

#[pyfunction]
fn eta_of_gamma<'py>(
    gamma: &Bound<'py, PyAny>,
    gamma_range: (f64, f64),
) -> PyResult<Bound<'py, PyAny>> {
    let gamma_range = range(gamma.py(), gamma_range)?;
    map(gamma, |gamma| Ok(gamma_range.eta(gamma)))
}

#[pyfunction]
#[pyo3(signature = (minimum, maximum, /))]
fn gamma_range(py: Python<'_>, minimum: f64, maximum: f64) -> PyResult<(f64, f64)> {
    let checked = range(py, (minimum, maximum))?;
    Ok((checked.min(), checked.max()))
}

/// A switching threshold in the words of the user.
#[pyclass(frozen, eq, hash, module = "merged_diffusion._core")]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Threshold(pub(crate) gamma::Threshold);

impl Threshold {
    fn checked(py: Python<'_>, given: Given) -> PyResult<Self> {
        let threshold = gamma::Threshold::new(given).map_err(|error| to_py(py, &error))?;
        Ok(Self(threshold))
    }

    fn parts(&self) -> (&'static str, Result<f64, &'static str>) {
        match self.0.given() {
            Given::Eta(value) => ("eta", Ok(value)),
            Given::EtaMin => ("eta", Err("min")),
            Given::EtaMax => ("eta", Err("max")),
            Given::Gamma(value) => ("gamma", Ok(value)),
            Given::EdmSigma(value) => ("edm_sigma", Ok(value)),
            Given::LogSnr(value) => ("logsnr", Ok(value)),
        }
    }
}

impl std::hash::Hash for Threshold {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let (kind, value) = self.parts();
        kind.hash(state);
        // + 0.0: the two zeros are equal.
        value.map(|value| (value + 0.0).to_bits()).hash(state);
    }
}

#[derive(FromPyObject)]
enum Eta {
    Value(f64),
    Name(String),
}

#[pymethods]
impl Threshold {
    #[staticmethod]
    #[pyo3(signature = (value, /))]
    fn eta(py: Python<'_>, value: Eta) -> PyResult<Self> {
        let given = match value {
            Eta::Value(value) => Given::Eta(value),
            Eta::Name(name) if name == "min" => Given::EtaMin,
            Eta::Name(name) if name == "max" => Given::EtaMax,
            Eta::Name(name) => return Err(to_py(py, &Error::EtaName { name })),
        };
        Self::checked(py, given)
    }

    #[staticmethod]
    #[pyo3(signature = (value, /))]
    fn gamma(py: Python<'_>, value: f64) -> PyResult<Self> {
        Self::checked(py, Given::Gamma(value))
    }

    #[staticmethod]
    #[pyo3(signature = (value, /))]
    fn edm_sigma(py: Python<'_>, value: f64) -> PyResult<Self> {
        Self::checked(py, Given::EdmSigma(value))
    }

    #[staticmethod]
    #[pyo3(signature = (value, /))]
    fn logsnr(py: Python<'_>, value: f64) -> PyResult<Self> {
        Self::checked(py, Given::LogSnr(value))
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.parts().0
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.parts().1 {
            Ok(value) => value.into_pyobject(py)?.into_any(),
            Err(name) => name.into_pyobject(py)?.into_any(),
        })
    }

    fn __repr__(&self) -> String {
        match self.parts() {
            (kind, Ok(value)) => format!("Threshold.{kind}({value})"),
            (kind, Err(name)) => format!("Threshold.{kind}('{name}')"),
        }
    }
}

/// A range of gamma for Python.
pub(crate) fn ends(range: GammaRange) -> (f64, f64) {
    (range.min(), range.max())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SNAP", gamma::SNAP)?;
    module.add("VDM_RANGE", ends(GammaRange::VDM))?;
    module.add("EDM_RANGE", ends(GammaRange::EDM))?;
    module.add("MERGED_RANGE", ends(GammaRange::MERGED))?;
    module.add_class::<Threshold>()?;
    module.add_function(wrap_pyfunction!(alpha, module)?)?;
    module.add_function(wrap_pyfunction!(sigma, module)?)?;
    module.add_function(wrap_pyfunction!(sigma_squared, module)?)?;
    module.add_function(wrap_pyfunction!(log_alpha, module)?)?;
    module.add_function(wrap_pyfunction!(log_sigma, module)?)?;
    module.add_function(wrap_pyfunction!(edm_sigma, module)?)?;
    module.add_function(wrap_pyfunction!(log_snr, module)?)?;
    module.add_function(wrap_pyfunction!(gamma_of_edm_sigma, module)?)?;
    module.add_function(wrap_pyfunction!(gamma_of_eta, module)?)?;
    module.add_function(wrap_pyfunction!(eta_of_gamma, module)?)?;
    module.add_function(wrap_pyfunction!(gamma_range, module)?)
}

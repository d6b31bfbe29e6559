//! `stream`, `special` and `truncated_normal` of the core, for Python.

use merged_diffusion_core::Error;
use merged_diffusion_core::stream::{Float, Purpose, Rows, Uniform};
use merged_diffusion_core::{special, truncated_normal};
use numpy::{Element, Ix1, Ix2, PyArray2, PyArrayMethods, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{array, check_length, refused};
use crate::error::to_py;
use crate::gamma::map;
use crate::threads::detached;

/// Values filled between two looks for signals: some 20 ms on one core.
const UNINTERRUPTED: usize = 1 << 20;

/// What makes a part of the flattened rows: rows, their length, the part's start, the part.
trait Law: Sync {
    fn fill<T: Float>(
        &self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error>;
}

struct Normal;

impl Law for Normal {
    fn fill<T: Float>(
        &self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error> {
        truncated_normal::fill_normal(rows, dim, start, out)
    }
}

impl Law for truncated_normal::TruncatedNormal {
    fn fill<T: Float>(
        &self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error> {
        (*self).fill(rows, dim, start, out)
    }
}

impl Law for Uniform {
    fn fill<T: Float>(
        &self,
        rows: &Rows<'_>,
        dim: usize,
        start: usize,
        out: &mut [T],
    ) -> Result<(), Error> {
        (*self).fill(rows, dim, start, out)
    }
}

/// The images and draws of rows as Python gives them.
struct Names<'py> {
    seed: u64,
    purpose: Purpose,
    images: PyReadonlyArray1<'py, u64>,
    draws: PyReadonlyArray1<'py, u64>,
}

impl<'py> Names<'py> {
    fn new(
        seed: u64,
        purpose: &str,
        images: &Bound<'py, PyAny>,
        draws: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let purpose = Purpose::named(purpose).map_err(|error| to_py(images.py(), &error))?;
        Ok(Self {
            seed,
            purpose,
            images: array::<u64, Ix1>("images", images)?.try_readonly()?,
            draws: array::<u64, Ix1>("draws", draws)?.try_readonly()?,
        })
    }

    /// The streams of as many rows as `out` has.
    fn rows(&self, py: Python<'_>, rows: usize) -> PyResult<Rows<'_>> {
        check_length(py, "images", rows, self.images.len())?;
        Rows::new(
            self.seed,
            self.purpose,
            self.images.as_slice()?,
            self.draws.as_slice()?,
        )
        .map_err(|error| to_py(py, &error))
    }
}

fn fill(out: &Bound<'_, PyAny>, names: &Names<'_>, law: &impl Law) -> PyResult<()> {
    if let Ok(out) = array::<f32, Ix2>("out", out) {
        return fill_array(out, names, law);
    }
    if let Ok(out) = array::<f64, Ix2>("out", out) {
        return fill_array(out, names, law);
    }
    Err(refused("out", out, "float32 or float64", Some(2)))
}

fn fill_array<T: Float + Element>(
    out: &Bound<'_, PyArray2<T>>,
    names: &Names<'_>,
    law: &impl Law,
) -> PyResult<()> {
    let py = out.py();
    let (n_rows, dim) = (out.dims()[0], out.dims()[1]);
    let rows = names.rows(py, n_rows)?;
    let mut out = out.try_readwrite()?;
    for (part, values) in out.as_slice_mut()?.chunks_mut(UNINTERRUPTED).enumerate() {
        detached(py, || law.fill(&rows, dim, part * UNINTERRUPTED, values))
            .map_err(|error| to_py(py, &error))?;
        py.check_signals()?;
    }
    Ok(())
}

#[pyfunction]
fn fill_truncated_normal(
    out: &Bound<'_, PyAny>,
    tau: f64,
    seed: u64,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let law = TruncatedNormal::new(out.py(), tau)?;
    fill(
        out,
        &Names::new(seed, "dequantisation", images, draws)?,
        &law.0,
    )
}

#[pyfunction]
fn fill_normal(
    out: &Bound<'_, PyAny>,
    seed: u64,
    purpose: &str,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<()> {
    fill(out, &Names::new(seed, purpose, images, draws)?, &Normal)
}

#[pyfunction]
fn fill_uniform(
    out: &Bound<'_, PyAny>,
    low: f64,
    high: f64,
    seed: u64,
    purpose: &str,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let law = Uniform::new(low, high).map_err(|error| to_py(out.py(), &error))?;
    fill(out, &Names::new(seed, purpose, images, draws)?, &law)
}

#[pyfunction]
fn fill_signs(
    out: &Bound<'_, PyAny>,
    seed: u64,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
    nodes: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = out.py();
    let out = array::<u8, Ix2>("out", out)?;
    let names = Names::new(seed, "probe", images, draws)?;
    let nodes = array::<u64, Ix1>("nodes", nodes)?.try_readonly()?;
    let (n_rows, row_bytes) = (out.dims()[0], out.dims()[1]);
    let rows = names
        .rows(py, n_rows)?
        .at_nodes(nodes.as_slice()?)
        .map_err(|error| to_py(py, &error))?;
    let at_once = (UNINTERRUPTED / row_bytes.max(1)).max(1);
    let mut out = out.try_readwrite()?;
    let parts = out.as_slice_mut()?.chunks_mut((at_once * row_bytes).max(1));
    for (part, signs) in parts.enumerate() {
        detached(py, || rows.fill_signs(row_bytes, part * at_once, signs))
            .map_err(|error| to_py(py, &error))?;
        py.check_signals()?;
    }
    Ok(())
}

#[pyfunction]
#[pyo3(signature = (x, /))]
fn erf<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    map(x, |x| Ok(special::erf(x)))
}

#[pyfunction]
#[pyo3(signature = (p, /))]
fn normal_quantile<'py>(p: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    map(p, |p| Ok(special::normal_quantile(p)))
}

/// The standard normal law cut to [-tau, tau].
#[pyclass(frozen, module = "merged_diffusion._core")]
struct TruncatedNormal(truncated_normal::TruncatedNormal);

#[pymethods]
impl TruncatedNormal {
    #[new]
    fn new(py: Python<'_>, tau: f64) -> PyResult<Self> {
        let law = truncated_normal::TruncatedNormal::new(tau).map_err(|error| to_py(py, &error))?;
        Ok(Self(law))
    }

    #[getter]
    fn tau(&self) -> f64 {
        self.0.tau()
    }

    #[getter]
    fn log_mass(&self) -> f64 {
        self.0.log_mass()
    }

    #[getter]
    fn entropy(&self) -> f64 {
        self.0.entropy()
    }

    #[pyo3(signature = (x, /))]
    fn log_density<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        map(x, |x| Ok(self.0.log_density(x)))
    }

    #[pyo3(signature = (x, /))]
    fn cdf<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        map(x, |x| Ok(self.0.cdf(x)))
    }

    #[pyo3(signature = (p, /))]
    fn quantile<'py>(&self, p: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        map(p, |p| Ok(self.0.quantile(p)))
    }

    fn __repr__(&self) -> String {
        format!("TruncatedNormal(tau={})", self.0.tau())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fill_truncated_normal, module)?)?;
    module.add_function(wrap_pyfunction!(fill_normal, module)?)?;
    module.add_function(wrap_pyfunction!(fill_uniform, module)?)?;
    module.add_function(wrap_pyfunction!(fill_signs, module)?)?;
    module.add_function(wrap_pyfunction!(erf, module)?)?;
    module.add_function(wrap_pyfunction!(normal_quantile, module)?)?;
    module.add_class::<TruncatedNormal>()
}

//! `special`, `stream` and `truncated_normal` of the core, for Python.

use merged_diffusion_core::Error;
use merged_diffusion_core::stream::{self, Entry, Key, Law, Normal, Purpose, Stream, Uniform};
use merged_diffusion_core::{special, truncated_normal};
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::error::to_py;
use crate::gamma::map;
use crate::threads::detached;

/// Values filled between two looks for signals: some 30 ms on one thread.
const VALUES: usize = 1 << 22;

/// The entries of a uint64 array [N], which must be as many as there are rows.
fn words(name: &'static str, values: &Bound<'_, PyAny>, rows: usize) -> PyResult<Vec<u64>> {
    let array = values
        .cast::<PyArray1<u64>>()
        .map_err(|_| PyTypeError::new_err(format!("{name} must be an array of uint64 [N]")))?;
    let words = array.readonly().as_array().to_vec();
    if words.len() != rows {
        let error = Error::Length {
            name,
            expected: rows,
            found: words.len(),
        };
        return Err(to_py(values.py(), &error));
    }
    Ok(words)
}

/// Names of the rows' streams at node 0.
fn keys(
    seed: u64,
    purpose: Purpose,
    rows: usize,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<Vec<Key>> {
    let (images, draws) = (words("images", images, rows)?, words("draws", draws, rows)?);
    let named = images.into_iter().zip(draws).map(|(image, draw)| Key {
        seed,
        purpose,
        image,
        draw,
        node: 0,
    });
    Ok(named.collect())
}

/// Runs `fill` over the rows of a C-contiguous array, some rows at a time, or `go_on` over pieces of a row
/// that is longer, detached.
fn in_parts<T: Element + Send>(
    out: &Bound<'_, PyArray2<T>>,
    keys: &[Key],
    fill: impl Fn(&mut [T], &[Key]) -> Result<(), Error> + Sync,
    go_on: impl Fn(&mut Stream, &mut [T]) + Sync,
) -> PyResult<()> {
    let py = out.py();
    let width = out.shape()[1];
    let mut out = out.try_readwrite()?;
    if !out.is_c_contiguous() {
        return Err(PyTypeError::new_err("out must be C-contiguous"));
    }
    if width == 0 {
        return Ok(());
    }
    let rows = VALUES / width;
    if rows == 0 {
        for (row, key) in out.as_slice_mut()?.chunks_mut(width).zip(keys) {
            let mut stream = Stream::new(*key);
            for part in row.chunks_mut(VALUES) {
                detached(py, part.len(), || go_on(&mut stream, part));
                py.check_signals()?;
            }
        }
        return Ok(());
    }
    let parts = out.as_slice_mut()?.chunks_mut(rows * width);
    for (part, keys) in parts.zip(keys.chunks(rows)) {
        detached(py, part.len(), || fill(part, keys)).map_err(|error| to_py(py, &error))?;
        py.check_signals()?;
    }
    Ok(())
}

/// Fills an array of either precision with a law's values.
fn fill(
    out: &Bound<'_, PyAny>,
    law: &impl Law,
    seed: u64,
    purpose: Purpose,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<()> {
    fn typed<T: Entry + Element>(
        out: &Bound<'_, PyArray2<T>>,
        law: &impl Law,
        keys: &[Key],
    ) -> PyResult<()> {
        in_parts(
            out,
            keys,
            |part, keys| stream::fill_rows(part, keys, law),
            |stream, part| T::fill(law, stream, part),
        )
    }
    let named = |rows| keys(seed, purpose, rows, images, draws);
    if let Ok(out) = out.cast::<PyArray2<f32>>() {
        typed(out, law, &named(out.shape()[0])?)
    } else if let Ok(out) = out.cast::<PyArray2<f64>>() {
        typed(out, law, &named(out.shape()[0])?)
    } else {
        Err(PyTypeError::new_err(
            "out must be an array of float32 or float64 [N, d]",
        ))
    }
}

fn purpose(py: Python<'_>, name: &str) -> PyResult<Purpose> {
    name.parse().map_err(|error| to_py(py, &error))
}

#[pyfunction]
fn fill_truncated_normal(
    out: &Bound<'_, PyAny>,
    tau: f64,
    seed: u64,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let law = TruncatedNormal::new(out.py(), tau)?.0;
    fill(out, &law, seed, Purpose::Dequantisation, images, draws)
}

#[pyfunction]
fn fill_normal(
    out: &Bound<'_, PyAny>,
    seed: u64,
    purpose: &str,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let purpose = self::purpose(out.py(), purpose)?;
    fill(out, &Normal, seed, purpose, images, draws)
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
    let purpose = self::purpose(out.py(), purpose)?;
    let law = Uniform::new(low, high).map_err(|error| to_py(out.py(), &error))?;
    fill(out, &law, seed, purpose, images, draws)
}

#[pyfunction]
fn fill_signs(
    out: &Bound<'_, PyAny>,
    seed: u64,
    images: &Bound<'_, PyAny>,
    draws: &Bound<'_, PyAny>,
    nodes: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let out = out
        .cast::<PyArray2<u8>>()
        .map_err(|_| PyTypeError::new_err("out must be an array of uint8 [N, ceil(d/8)]"))?;
    let rows = out.shape()[0];
    let mut keys = keys(seed, Purpose::Probe, rows, images, draws)?;
    for (key, node) in keys.iter_mut().zip(words("nodes", nodes, rows)?) {
        key.node = node;
    }
    in_parts(out, &keys, stream::sign_rows, Stream::signs)
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

/// Standard normal conditioned on `[-tau, tau]`.
#[pyclass(frozen, module = "merged_diffusion._core")]
struct TruncatedNormal(truncated_normal::TruncatedNormal);

#[pymethods]
impl TruncatedNormal {
    #[new]
    fn new(py: Python<'_>, tau: f64) -> PyResult<Self> {
        truncated_normal::TruncatedNormal::new(tau)
            .map(Self)
            .map_err(|error| to_py(py, &error))
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
        format!("TruncatedNormal({})", self.tau())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TruncatedNormal>()?;
    module.add_function(wrap_pyfunction!(fill_truncated_normal, module)?)?;
    module.add_function(wrap_pyfunction!(fill_normal, module)?)?;
    module.add_function(wrap_pyfunction!(fill_uniform, module)?)?;
    module.add_function(wrap_pyfunction!(fill_signs, module)?)?;
    module.add_function(wrap_pyfunction!(erf, module)?)?;
    module.add_function(wrap_pyfunction!(normal_quantile, module)?)
}

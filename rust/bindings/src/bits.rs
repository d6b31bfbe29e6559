//! `bits` of the core, for Python.

use merged_diffusion_core::Error;
use merged_diffusion_core::bits::{self, Dequantisation, Terms};
use numpy::{Element, IntoPyArray, Ix1, Ix2, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{array, check_length, refused};
use crate::error::to_py;
use crate::gamma::map;
use crate::threads::detached;

/// Pixels between two looks for signals: 60 ms if each needs the exponentials of 256 levels.
const UNINTERRUPTED: usize = 1 << 15;

/// A float64 or int64 array [N].
fn vector<'py, T: Element>(
    name: &str,
    values: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray1<'py, T>> {
    Ok(array::<T, Ix1>(name, values)?.try_readonly()?)
}

/// `f` of every entry of a float64 array [N].
fn each<'py>(
    name: &str,
    values: &Bound<'py, PyAny>,
    f: impl Fn(f64) -> Result<f64, Error>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let py = values.py();
    let values = vector(name, values)?;
    let out: Result<Vec<f64>, Error> = values.as_slice()?.iter().map(|value| f(*value)).collect();
    Ok(out.map_err(|error| to_py(py, &error))?.into_pyarray(py))
}

fn named(py: Python<'_>, kind: &str) -> PyResult<Dequantisation> {
    Dequantisation::named(kind).map_err(|error| to_py(py, &error))
}

#[pyfunction]
fn end_density<'py>(
    square: &Bound<'py, PyAny>,
    gamma_max: f64,
    dim: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    each("square", square, |square| {
        Ok(bits::end_density(square, gamma_max, dim))
    })
}

#[pyfunction]
fn dequantisation_constant(
    py: Python<'_>,
    kind: &str,
    gamma_min: f64,
    levels: u32,
    dim: usize,
) -> PyResult<f64> {
    named(py, kind)?
        .constant(gamma_min, levels, dim)
        .map_err(|error| to_py(py, &error))
}

#[pyfunction]
fn dequantisation_per_draw<'py>(
    kind: &str,
    gamma_min: f64,
    levels: u32,
    dim: usize,
    square: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let kind = named(square.py(), kind)?;
    each("square", square, |square| {
        kind.per_draw(gamma_min, levels, dim, square)
    })
}

#[pyfunction]
fn decoder_log_likelihood<'py>(
    z: &Bound<'py, PyAny>,
    pixels: &Bound<'py, PyAny>,
    gamma_min: f64,
    levels: u32,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let z = array::<f64, Ix2>("z", z)?;
    if let Ok(pixels) = array::<u8, Ix2>("pixels", pixels) {
        return decoder(z, pixels, gamma_min, levels);
    }
    if let Ok(pixels) = array::<u16, Ix2>("pixels", pixels) {
        return decoder(z, pixels, gamma_min, levels);
    }
    Err(refused("pixels", pixels, "uint8 or uint16", Some(2)))
}

fn decoder<'py, P: Element + Copy + Into<u64> + Sync>(
    z: &Bound<'py, PyArray2<f64>>,
    pixels: &Bound<'py, PyArray2<P>>,
    gamma_min: f64,
    levels: u32,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (py, rows, dim) = (z.py(), z.dims()[0], z.dims()[1]);
    check_length(py, "pixels", rows, pixels.dims()[0])?;
    check_length(py, "a row of pixels", dim, pixels.dims()[1])?;
    let (z, pixels) = (z.try_readonly()?, pixels.try_readonly()?);
    let at_once = (UNINTERRUPTED / dim.max(1)).max(1) * dim.max(1);
    let parts = z
        .as_slice()?
        .chunks(at_once)
        .zip(pixels.as_slice()?.chunks(at_once));
    let mut out = Vec::with_capacity(rows);
    for (z, pixels) in parts {
        let part = detached(py, || {
            bits::decoder_log_likelihood(z, pixels, dim, gamma_min, levels)
        });
        out.extend(part.map_err(|error| to_py(py, &error))?);
        py.check_signals()?;
    }
    Ok(out.into_pyarray(py))
}

#[pyfunction]
fn image_terms<'py>(
    end_density: &Bound<'py, PyAny>,
    trace: &Bound<'py, PyAny>,
    dequantisation: &Bound<'py, PyAny>,
    importance: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let py = end_density.py();
    let terms = Terms::new(
        vector("end_density", end_density)?.as_slice()?,
        vector("trace", trace)?.as_slice()?,
        vector("dequantisation", dequantisation)?.as_slice()?,
        importance,
    )
    .map_err(|error| to_py(py, &error))?;
    let named = PyDict::new(py);
    named.set_item("end_density", terms.end_density)?;
    named.set_item("trace", terms.trace)?;
    named.set_item("path_correction", terms.path_correction)?;
    named.set_item("dequantisation", terms.dequantisation)?;
    named.set_item("importance", terms.importance)?;
    Ok(named)
}

#[pyfunction]
fn bits_per_dim<'py>(nats: &Bound<'py, PyAny>, dim: usize) -> PyResult<Bound<'py, PyAny>> {
    map(nats, |nats| Ok(bits::bits_per_dim(nats, dim)))
}

#[pyfunction]
fn mean_and_error(values: &Bound<'_, PyAny>) -> PyResult<(f64, Option<f64>)> {
    bits::mean_and_error(vector("values", values)?.as_slice()?)
        .map_err(|error| to_py(values.py(), &error))
}

#[pyfunction]
fn clustered_error(
    values: &Bound<'_, PyAny>,
    clusters: &Bound<'_, PyAny>,
) -> PyResult<Option<f64>> {
    bits::clustered_error(
        vector("values", values)?.as_slice()?,
        vector("clusters", clusters)?.as_slice()?,
    )
    .map_err(|error| to_py(values.py(), &error))
}

#[pyfunction]
#[pyo3(signature = (a, b, clusters = None))]
fn paired_difference<'py>(
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    clusters: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = a.py();
    let clusters = clusters
        .map(|clusters| vector::<i64>("clusters", clusters))
        .transpose()?;
    let clusters = clusters
        .as_ref()
        .map(|clusters| clusters.as_slice())
        .transpose()?;
    let paired = bits::paired_difference(
        vector("a", a)?.as_slice()?,
        vector("b", b)?.as_slice()?,
        clusters,
    )
    .map_err(|error| to_py(py, &error))?;
    let named = PyDict::new(py);
    named.set_item("difference", paired.difference)?;
    named.set_item("se", paired.error)?;
    named.set_item("se_images", paired.error_images)?;
    named.set_item("n", paired.n)?;
    Ok(named)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(end_density, module)?)?;
    module.add_function(wrap_pyfunction!(dequantisation_constant, module)?)?;
    module.add_function(wrap_pyfunction!(dequantisation_per_draw, module)?)?;
    module.add_function(wrap_pyfunction!(decoder_log_likelihood, module)?)?;
    module.add_function(wrap_pyfunction!(image_terms, module)?)?;
    module.add_function(wrap_pyfunction!(bits_per_dim, module)?)?;
    module.add_function(wrap_pyfunction!(mean_and_error, module)?)?;
    module.add_function(wrap_pyfunction!(clustered_error, module)?)?;
    module.add_function(wrap_pyfunction!(paired_difference, module)?)
}

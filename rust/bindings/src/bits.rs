//! `bits` of the core, for Python.

use merged_diffusion_core::Error;
use merged_diffusion_core::bits::{self, Decoding, Dequantisation, ImageTerms};
use merged_diffusion_core::probe_noise;
use merged_diffusion_core::quadrature_error::Misfit;
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;
use crate::threads::{apart, detached};

fn checked<T>(py: Python<'_>, result: Result<T, Error>) -> PyResult<T> {
    result.map_err(|error| to_py(py, &error))
}

fn owned<T: Element + Copy>(values: &Bound<'_, PyArray1<T>>) -> Vec<T> {
    values.readonly().as_array().to_vec()
}

#[pyfunction]
fn end_density<'py>(
    py: Python<'py>,
    square: &Bound<'py, PyArray1<f64>>,
    gamma_max: f64,
    dim: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let square = owned(square);
    let n = square.len();
    let found = apart(py, n, move || bits::end_density(&square, gamma_max, dim))?;
    Ok(checked(py, found)?.into_pyarray(py))
}

#[pyfunction]
fn dequantisation_constant(
    py: Python<'_>,
    kind: &str,
    gamma_min: f64,
    levels: u32,
    dim: usize,
) -> PyResult<f64> {
    let kind = checked(py, Dequantisation::named(kind))?;
    checked(py, kind.constant(gamma_min, levels, dim))
}

#[pyfunction]
fn dequantisation_per_draw<'py>(
    py: Python<'py>,
    kind: &str,
    gamma_min: f64,
    levels: u32,
    dim: usize,
    square: &Bound<'py, PyArray1<f64>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let kind = checked(py, Dequantisation::named(kind))?;
    let square = owned(square);
    let n = square.len();
    let found = apart(py, n, move || {
        kind.per_draw(gamma_min, levels, dim, &square)
    })?;
    Ok(checked(py, found)?.into_pyarray(py))
}

#[derive(FromPyObject)]
enum Pixels<'py> {
    Bytes(Bound<'py, PyArray2<u8>>),
    Words(Bound<'py, PyArray2<u16>>),
}

#[pyfunction]
fn decoder_log_likelihood<'py>(
    py: Python<'py>,
    z: &Bound<'py, PyArray2<f64>>,
    pixels: Pixels<'py>,
    gamma_min: f64,
    levels: u32,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let found = match pixels {
        Pixels::Bytes(pixels) => decode(z, &pixels, gamma_min, levels),
        Pixels::Words(pixels) => decode(z, &pixels, gamma_min, levels),
    };
    Ok(found?.into_pyarray(py))
}

fn decode<P: Element + Copy + Into<u32> + Sync>(
    z: &Bound<'_, PyArray2<f64>>,
    pixels: &Bound<'_, PyArray2<P>>,
    gamma_min: f64,
    levels: u32,
) -> PyResult<Vec<f64>> {
    let py = z.py();
    let (dim, found) = (z.shape()[1], pixels.shape()[1]);
    if dim != found {
        return checked(
            py,
            Err(Error::Length {
                name: "a row of pixels",
                expected: dim,
                found,
            }),
        );
    }
    let (z, pixels) = (z.readonly(), pixels.readonly());
    let (z, pixels) = (z.as_slice()?, pixels.as_slice()?);
    let mut decoding = checked(py, Decoding::new(z, pixels, dim, gamma_min, levels))?;
    // A value takes many exponentials: as many as there are levels where the noise is strong.
    while detached(py, usize::MAX, || decoding.advance()) {
        py.check_signals()?;
    }
    Ok(detached(py, z.len(), || decoding.rows()))
}

#[pyfunction]
fn image_terms<'py>(
    py: Python<'py>,
    end_density: &Bound<'py, PyArray1<f64>>,
    trace: &Bound<'py, PyArray1<f64>>,
    path_correction: &Bound<'py, PyArray1<f64>>,
    dequantisation: &Bound<'py, PyArray1<f64>>,
    importance: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let (ends, traces) = (owned(end_density), owned(trace));
    let (corrections, draws) = (owned(path_correction), owned(dequantisation));
    let terms = apart(py, ends.len(), move || {
        ImageTerms::new(&ends, &traces, &corrections, &draws, importance)
    })?;
    let terms = checked(py, terms)?;
    let out = PyDict::new(py);
    out.set_item("end_density", terms.end_density)?;
    out.set_item("trace", terms.trace)?;
    out.set_item("path_correction", terms.path_correction)?;
    out.set_item("dequantisation", terms.dequantisation)?;
    out.set_item("importance", terms.importance)?;
    Ok(out)
}

#[pyfunction]
fn draw_weights<'py>(
    py: Python<'py>,
    bounds: &Bound<'py, PyArray1<f64>>,
    importance: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let bounds = owned(bounds);
    let n = bounds.len();
    let found = apart(py, n, move || bits::draw_weights(&bounds, importance))?;
    Ok(checked(py, found)?.into_pyarray(py))
}

#[pyfunction]
fn bits_per_dim<'py>(nats: &Bound<'py, PyAny>, dim: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = nats.py();
    if let Ok(array) = nats.cast::<PyArrayDyn<f64>>() {
        let nats = array.readonly().as_array().to_owned();
        let found = apart(py, nats.len(), move || {
            nats.mapv_into(|nats| bits::bits_per_dim(nats, dim))
        })?;
        return Ok(found.into_pyarray(py).into_any());
    }
    if nats.cast::<PyUntypedArray>().is_ok() {
        return Err(PyTypeError::new_err("an array of float64 is needed"));
    }
    let found = bits::bits_per_dim(nats.extract()?, dim);
    Ok(found.into_pyobject(py)?.into_any())
}

#[pyfunction]
fn mean_and_error(
    py: Python<'_>,
    values: &Bound<'_, PyArray1<f64>>,
) -> PyResult<(f64, Option<f64>)> {
    let values = owned(values);
    let found = apart(py, values.len(), move || bits::mean_and_error(&values))?;
    let found = checked(py, found)?;
    Ok((found.mean, found.error))
}

#[pyfunction]
fn clustered_error(
    py: Python<'_>,
    values: &Bound<'_, PyArray1<f64>>,
    clusters: &Bound<'_, PyArray1<i64>>,
) -> PyResult<Option<f64>> {
    let (values, clusters) = (owned(values), owned(clusters));
    let found = apart(py, values.len(), move || {
        bits::clustered_error(&values, &clusters)
    })?;
    checked(py, found)
}

#[pyfunction]
fn error_of_mean(py: Python<'_>, errors: &Bound<'_, PyArray1<f64>>) -> PyResult<f64> {
    let errors = owned(errors);
    let found = apart(py, errors.len(), move || bits::error_of_mean(&errors))?;
    checked(py, found)
}

#[pyfunction]
fn probe_variances<'py>(
    py: Python<'py>,
    times: &Bound<'py, PyArray1<f64>>,
    probes: Vec<PyReadonlyArray1<'py, f64>>,
) -> PyResult<Option<(Bound<'py, PyArray1<f64>>, f64)>> {
    let times = owned(times);
    let probes: Vec<Vec<f64>> = probes.into_iter().map(|q| q.as_array().to_vec()).collect();
    if probes.is_empty() || probes.iter().any(|q| q.len() != times.len()) {
        return Err(PyValueError::new_err(
            "a value of every probe is needed at every time",
        ));
    }
    let found = apart(py, times.len(), move || {
        probe_noise::variances(&times, &probes)
    })?;
    Ok(found.map(|noise| (noise.parts.into_pyarray(py), noise.doubt)))
}

#[pyfunction]
fn quadrature_variance<'py>(
    py: Python<'py>,
    times: &Bound<'py, PyArray1<f64>>,
    values: &Bound<'py, PyArray1<f64>>,
) -> PyResult<Option<f64>> {
    let (times, values) = (owned(times), owned(values));
    if times.len() != values.len() {
        return Err(PyValueError::new_err("a value is needed at every time"));
    }
    let found = apart(py, times.len(), move || Misfit::new(&times, &values))?;
    Ok(found.map(|misfit| misfit.square()))
}

#[pyfunction]
#[pyo3(signature = (a, b, clusters = None))]
fn paired_difference<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyArray1<f64>>,
    b: &Bound<'py, PyArray1<f64>>,
    clusters: Option<&Bound<'py, PyArray1<i64>>>,
) -> PyResult<Bound<'py, PyDict>> {
    let clusters = clusters.map(owned);
    let (a, b) = (owned(a), owned(b));
    let found = apart(py, a.len(), move || {
        bits::paired_difference(&a, &b, clusters.as_deref())
    })?;
    let found = checked(py, found)?;
    let out = PyDict::new(py);
    out.set_item("difference", found.difference)?;
    out.set_item("se", found.error)?;
    out.set_item("se_images", found.error_of_images)?;
    out.set_item("n", found.n)?;
    Ok(out)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(end_density, module)?)?;
    module.add_function(wrap_pyfunction!(dequantisation_constant, module)?)?;
    module.add_function(wrap_pyfunction!(dequantisation_per_draw, module)?)?;
    module.add_function(wrap_pyfunction!(decoder_log_likelihood, module)?)?;
    module.add_function(wrap_pyfunction!(image_terms, module)?)?;
    module.add_function(wrap_pyfunction!(draw_weights, module)?)?;
    module.add_function(wrap_pyfunction!(bits_per_dim, module)?)?;
    module.add_function(wrap_pyfunction!(mean_and_error, module)?)?;
    module.add_function(wrap_pyfunction!(clustered_error, module)?)?;
    module.add_function(wrap_pyfunction!(error_of_mean, module)?)?;
    module.add_function(wrap_pyfunction!(probe_variances, module)?)?;
    module.add_function(wrap_pyfunction!(quadrature_variance, module)?)?;
    module.add_function(wrap_pyfunction!(paired_difference, module)?)
}

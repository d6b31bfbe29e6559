//! Arrays as the core needs them: of one dtype and rank, in C order; nothing is converted.

use merged_diffusion_core::Error;
use numpy::ndarray::Dimension;
use numpy::{Element, PyArray, PyUntypedArray, PyUntypedArrayMethods, dtype};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::error::to_py;

/// The array, or a TypeError that says what was given and what is needed.
pub(crate) fn array<'a, 'py, T: Element, D: Dimension>(
    name: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyArray<T, D>>> {
    match value.cast::<PyArray<T, D>>() {
        Ok(array) if array.is_c_contiguous() => Ok(array),
        _ => Err(refused(
            name,
            value,
            &dtype::<T>(value.py()).to_string(),
            D::NDIM,
        )),
    }
}

/// A TypeError for a value that is no array of `needed` and `ndim` in C order.
pub(crate) fn refused(
    name: &str,
    value: &Bound<'_, PyAny>,
    needed: &str,
    ndim: Option<usize>,
) -> PyErr {
    let shape = match ndim {
        Some(1) => "[N]",
        _ => "[N, d]",
    };
    let found = match value.cast::<PyUntypedArray>() {
        Ok(array) => {
            let order = if array.is_c_contiguous() {
                "C order"
            } else {
                "another order"
            };
            format!(
                "{} {:?} in {order}",
                array
                    .dtype()
                    .str()
                    .map_or_else(|_| String::new(), |name| name.to_string()),
                array.shape()
            )
        }
        Err(_) => value.get_type().to_string(),
    };
    PyTypeError::new_err(format!(
        "{name} is {found}; an array of {needed} {shape} in C order is needed"
    ))
}

/// A UsageError unless two arrays agree in length.
pub(crate) fn check_length(
    py: Python<'_>,
    name: &'static str,
    expected: usize,
    found: usize,
) -> PyResult<()> {
    if expected == found {
        return Ok(());
    }
    let error = Error::Length {
        name,
        expected,
        found,
    };
    Err(to_py(py, &error))
}

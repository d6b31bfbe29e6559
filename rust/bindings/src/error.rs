//! One mapping from a failure of the core to a Python exception.

use merged_diffusion_core::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception class of that name in `merged_diffusion.errors`, raised with message and fields.
fn raise(py: Python<'_>, class: &str, message: String, fields: &Bound<'_, PyDict>) -> PyErr {
    let build = || -> PyResult<Bound<'_, PyAny>> {
        py.import("merged_diffusion.errors")?
            .getattr(class)?
            .call((message,), Some(fields))
    };
    match build() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// What can go wrong in a solve: an exception of a callback, or an argument that the core refuses.
pub(crate) enum Failure {
    Raised(PyErr),
    Refused(Error),
}

impl From<PyErr> for Failure {
    fn from(exception: PyErr) -> Self {
        Self::Raised(exception)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    /// The very exception that was raised, or what the core's error is in Python.
    pub(crate) fn into_py(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Raised(exception) => exception,
            Self::Refused(error) => to_py(py, &error),
        }
    }
}

/// Maps an argument error of the core; the fields carry what the message says.
pub(crate) fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    let fields = PyDict::new(py);
    let class = match error {
        Error::OutsideExpert {
            gamma,
            expert,
            min,
            max,
        } => {
            let filled = fields
                .set_item("gamma", *gamma)
                .and_then(|()| fields.set_item("expert", *expert))
                .and_then(|()| fields.set_item("expected", (*min, *max)));
            if let Err(error) = filled {
                return error;
            }
            "ExpertRangeError"
        }
        Error::OutsideThreshold {
            kind,
            value,
            limit,
            expert,
            ..
        } => {
            let filled = fields
                .set_item(*kind, *value)
                .and_then(|()| fields.set_item("expert", *expert))
                .and_then(|()| fields.set_item("expected", *limit));
            if let Err(error) = filled {
                return error;
            }
            "ExpertRangeError"
        }
        Error::OutsideMerged { .. } | Error::OutsideLeg { .. } | Error::NoOverlap { .. } => {
            "ExpertRangeError"
        }
        Error::Memory { .. } => "ResourceError",
        _ => "UsageError",
    };
    if let Err(error) = fields.set_item("hint", error.hint()) {
        return error;
    }
    raise(py, class, error.to_string(), &fields)
}

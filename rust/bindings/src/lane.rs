//! `lane` of the core, for Python: one call takes every problem through all legs.

use std::cell::RefCell;
use std::collections::HashMap;

use merged_diffusion_core::Error;
use merged_diffusion_core::adams::{self, MAX_ORDER, Precision};
use merged_diffusion_core::control::{StepControl, Tolerance};
use merged_diffusion_core::field::Field;
use merged_diffusion_core::lane::{self, Method, Observer, Settings};
use merged_diffusion_core::outcome::{Finished, Job, Step};
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::runge_kutta;
use merged_diffusion_core::timed::{Timed, Times, Verb};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Failure;
use crate::host::{HostWorkspace, Opened};
use crate::outcome::Outcome;
use crate::workspace::Forwarded;

/// Tells Python of every problem that is over.
struct Report<'py> {
    finished: Bound<'py, PyAny>,
    routes: &'py Routes,
    /// Times of accepted steps by problem, where they are wanted.
    steps: Option<HashMap<u64, Vec<f64>>>,
}

impl Observer<Failure> for Report<'_> {
    fn step(&mut self, step: Step) {
        if let Some(steps) = &mut self.steps {
            steps.entry(step.key).or_default().push(step.t);
        }
    }

    fn forked(&mut self, from: u64, job: &Job) {
        if let Some(steps) = &mut self.steps {
            let shared = steps.get(&from).map_or(&[][..], Vec::as_slice);
            let own = shared[..job.accepted as usize].to_vec();
            steps.insert(job.key, own);
        }
    }

    fn finished(&mut self, leg: usize, finished: Finished) -> Result<(), Failure> {
        let steps = self
            .steps
            .as_mut()
            .map(|steps| steps.remove(&finished.job.key).unwrap_or_default());
        let py = self.finished.py();
        let n_legs = self.routes.legs(finished.job.key).len();
        let outcome = Outcome::new(py, finished, leg, n_legs, steps.as_deref());
        self.finished.call1((outcome,))?;
        Ok(())
    }
}

fn field(drift: &str, dim: usize) -> Result<Field, Error> {
    match drift {
        "probability-flow" => Ok(Field::ProbabilityFlow { dim }),
        "flow" => Ok(Field::Flow),
        "plain" => Ok(Field::Plain),
        other => Err(Error::Choice {
            name: "drift",
            value: other.to_owned(),
            allowed: "\"probability-flow\", \"flow\" or \"plain\"",
        }),
    }
}

fn control(step_control: &str, steps: Option<u32>) -> Result<StepControl, Error> {
    match (step_control, steps) {
        ("per-image", _) => Ok(StepControl::PerProblem),
        ("shared", _) => Ok(StepControl::Shared),
        ("constant", Some(steps)) if steps > 0 => Ok(StepControl::Constant { steps }),
        ("constant", _) => Err(Error::Count { name: "steps" }),
        (other, _) => Err(Error::Choice {
            name: "step_control",
            value: other.to_owned(),
            allowed: "\"per-image\", \"shared\" or \"constant\"",
        }),
    }
}

/// Adams integrates the probability flow alone, and its images never share a step.
fn exponential_adams(
    dim: usize,
    drift: &str,
    step_control: &str,
    steps: Option<u32>,
    (tol, h_max): (f64, f64),
    noise_floor: f64,
) -> Result<Method, Error> {
    let unsuited = |name, value: &str, allowed| Error::Choice {
        name,
        value: value.to_owned(),
        allowed,
    };
    if drift != "probability-flow" {
        let allowed = "\"probability-flow\", the only drift of method \"adams\"";
        return Err(unsuited("drift", drift, allowed));
    }
    let constant = match control(step_control, steps)? {
        StepControl::PerProblem => None,
        StepControl::Constant { steps } => Some(steps),
        StepControl::Shared => {
            let allowed = "\"per-image\" or \"constant\" with method \"adams\"";
            return Err(unsuited("step_control", step_control, allowed));
        }
    };
    Ok(Method::Adams(adams::Plan {
        dim,
        precision: Precision::new(tol, h_max)?,
        order: MAX_ORDER,
        noise_floor,
        constant,
    }))
}

/// Calls and seconds of each verb, by name.
fn verbs<'py>(py: Python<'py>, times: &Times) -> PyResult<Bound<'py, PyDict>> {
    let spent = PyDict::new(py);
    for verb in Verb::ALL {
        let seconds = times.duration(verb).as_secs_f64();
        spent.set_item(verb.name(), (times.calls(verb), seconds))?;
    }
    Ok(spent)
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // Sequences of Python's become Vecs.
#[pyo3(signature = (
    legs, workspaces, keys, *, rows, dim, finished, method, precision, drift = "probability-flow",
    step_control = "per-image", steps = None, noise_floor = 0.0, keep = false, record_steps = false,
    branches = None, stride = 0, soft = None, time_verbs = false
))]
fn solve<'py>(
    py: Python<'py>,
    legs: Vec<(f64, f64)>,
    workspaces: Vec<Bound<'py, PyAny>>,
    keys: PyReadonlyArray1<'py, u64>,
    rows: usize,
    dim: usize,
    finished: Bound<'py, PyAny>,
    method: &str,
    precision: (f64, f64),
    drift: &str,
    step_control: &str,
    steps: Option<u32>,
    noise_floor: f64,
    keep: bool,
    record_steps: bool,
    branches: Option<Vec<Vec<(f64, f64)>>>,
    stride: u64,
    soft: Option<Vec<usize>>,
    time_verbs: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let branches = branches.unwrap_or_default();
    let choose = || -> Result<Method, Error> {
        match method {
            "dopri5" => Ok(Method::DormandPrince(runge_kutta::Plan {
                field: field(drift, dim)?,
                control: control(step_control, steps)?,
                tolerance: Tolerance::new(precision.0, precision.1)?,
                dim,
            })),
            "adams" => exponential_adams(dim, drift, step_control, steps, precision, noise_floor),
            other => Err(Error::Choice {
                name: "method",
                value: other.to_owned(),
                allowed: "\"dopri5\" or \"adams\"",
            }),
        }
    };
    let keys = keys.as_array().to_vec();
    let settings = || -> Result<(Settings, Routes), Error> {
        for (name, count) in [("rows", rows), ("dim", dim)] {
            if count == 0 {
                return Err(Error::Count { name });
            }
        }
        if step_control == "shared" && !branches.is_empty() {
            return Err(Error::Choice {
                name: "step_control",
                value: step_control.to_owned(),
                allowed: "\"per-image\" or \"constant\" with branches",
            });
        }
        let settings = Settings {
            method: choose()?,
            rows,
            keep,
        };
        let routes = Routes::new(std::iter::once(legs).chain(branches).collect(), stride)?;
        routes.check(&keys, workspaces.len())?;
        Ok((settings, routes.softly(soft.unwrap_or_default())))
    };
    let (settings, routes) = settings().map_err(|error| Failure::from(error).into_py(py))?;
    let idle = keys.first().copied().unwrap_or(0);
    let times = RefCell::new(Times::default());
    let slots = settings.method.slots();
    let open = |object: Bound<'py, PyAny>| match object.cast::<HostWorkspace>() {
        Ok(host) => host.get().open(py, (rows, dim, slots), idle),
        Err(_) => Ok(Box::new(Forwarded::new(object, slots)) as Opened<'py>),
    };
    let opened: Result<Vec<_>, _> = workspaces.into_iter().map(open).collect();
    let mut opened = opened.map_err(|failure| failure.into_py(py))?;
    if time_verbs {
        opened = opened
            .into_iter()
            .map(|plain| Box::new(Timed::new(plain, &times)) as Opened<'_>)
            .collect();
    }
    let mut report = Report {
        finished,
        routes: &routes,
        steps: record_steps.then(HashMap::new),
    };
    let tally = lane::solve(&routes, &settings, &mut opened, &keys, &mut report)
        .map_err(|failure| failure.into_py(py))?;
    let counts = PyDict::new(py);
    counts.set_item("frames", tally.frames)?;
    counts.set_item("calls", tally.calls)?;
    counts.set_item("evaluations", tally.evaluations)?;
    counts.set_item("rows_before_drain", tally.rows_before_drain)?;
    counts.set_item("evaluations_before_drain", tally.evaluations_before_drain)?;
    if time_verbs {
        counts.set_item("verbs", verbs(py, &times.borrow())?)?;
    }
    Ok(counts)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(solve, module)?)
}

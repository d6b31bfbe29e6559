//! What a row does in a frame: it starts, or takes a step. Every stage, the new state and the error are
//! combinations of its state and its slots.

use crate::field::Field;
use crate::tableau::{A, C, E, STAGES};

/// Scale of the state, and weights of the slots.
pub(super) type Combination = (f64, [f64; STAGES]);

/// The state itself.
const STATE: Combination = (1.0, [0.0; STAGES]);

/// What a row does in a frame.
#[expect(clippy::large_enum_variant, reason = "nearly every attempt is a step")]
pub(super) enum Attempt {
    /// Its first evaluation, and an Euler probe, which tells the size of its first step.
    Start(Start),
    /// A step.
    Step(Step),
}

impl Attempt {
    /// When the row evaluates at this stage, and into which slot; without one it sits out.
    pub(super) fn at(&self, stage: usize) -> (f64, Option<usize>) {
        match (self, stage) {
            (Self::Step(step), _) => (step.t[stage], Some(step.slots[stage])),
            (Self::Start(start), 1) => (start.t, Some(0)),
            (
                Self::Start(Start {
                    probe: Some(probe), ..
                }),
                2,
            ) => (probe.t, Some(1)),
            (Self::Start(start), _) => (start.t, None),
        }
    }

    /// What it evaluates at; the last stage's is the new state.
    pub(super) fn input(&self, stage: usize) -> Combination {
        match (self, stage) {
            (Self::Step(step), _) => step.placed(step.scale[stage], &step.weights[stage]),
            (
                Self::Start(Start {
                    probe: Some(probe), ..
                }),
                2,
            ) => probe.input,
            (Self::Start(_), _) => STATE,
        }
    }

    /// The error of a step, or the derivative's change along an Euler probe.
    pub(super) fn error(&self) -> Option<Combination> {
        match self {
            Self::Step(step) => Some(step.placed(step.error_scale, &step.error_weights)),
            Self::Start(start) => start.probe.as_ref().map(|probe| probe.change),
        }
    }

    /// The new state, where |y|^2 is wanted of it.
    pub(super) fn end(&self) -> Option<Combination> {
        match self {
            Self::Step(step) if step.square => Some(self.input(STAGES - 1)),
            _ => None,
        }
    }

    /// The state of a row that starts.
    pub(super) fn state(&self) -> Option<Combination> {
        matches!(self, Self::Start(_)).then_some(STATE)
    }

    /// The derivative of a row that starts.
    pub(super) fn slope(&self) -> Option<Combination> {
        match self {
            Self::Start(start) => Some(start.slope),
            Self::Step(_) => None,
        }
    }

    /// Takes in q of a stage.
    pub(super) fn note(&mut self, stage: usize, q: f64) {
        match self {
            Self::Start(start) => start.q[stage] = q,
            Self::Step(step) => step.q[stage] = q,
        }
    }

    /// Integrates the log-density entry: what it is afterwards, and its error.
    pub(super) fn integrate(&mut self, field: Field, before: f64) -> (f64, f64) {
        match self {
            Self::Step(step) => {
                let (mut entry, mut error) = (before, 0.0);
                for stage in 0..STAGES {
                    let rate = field.trace(step.t[stage], step.q[stage]);
                    entry += step.h * A[STAGES - 1][stage] * rate;
                    error += step.h * E[stage] * rate;
                }
                step.entry = entry;
                (entry, error)
            }
            Self::Start(Start { t, q, probe, .. }) => {
                let change = |probe: &Probe| field.trace(probe.t, q[2]) - field.trace(*t, q[1]);
                (before, probe.as_ref().map_or(0.0, change))
            }
        }
    }
}

/// The start of a leg: its first evaluation beside the others' stage 1, its Euler probe beside stage 2.
pub(super) struct Start {
    pub(super) t: f64,
    /// The derivative there.
    slope: Combination,
    /// q of the two evaluations, in the places of their stages.
    pub(super) q: [f64; STAGES],
    /// None before the first evaluation is known, and where that is not finite.
    pub(super) probe: Option<Probe>,
}

/// An Euler step that only looks how the derivative changes.
pub(super) struct Probe {
    /// Its signed step.
    pub(super) h: f64,
    /// Norm of the derivative at the start.
    pub(super) d1: f64,
    t: f64,
    input: Combination,
    /// The derivative's change along it.
    change: Combination,
}

impl Start {
    pub(super) fn new(field: Field, t: f64) -> Self {
        Self {
            t,
            slope: (field.linear(t), slots(field.gain(t), 0.0)),
            q: [f64::NAN; STAGES],
            probe: None,
        }
    }

    /// The Euler probe of that step.
    pub(super) fn look(&mut self, field: Field, h: f64, d1: f64) {
        let (linear, [gain, ..]) = self.slope;
        let t = self.t + h;
        let after = field.linear(t);
        let scale = after * (1.0 + h * linear) - linear;
        self.probe = Some(Probe {
            h,
            d1,
            t,
            input: (1.0 + h * linear, slots(h * gain, 0.0)),
            change: (scale, slots(after * h * gain - gain, field.gain(t))),
        });
    }
}

/// Weights of the first two slots alone, which those of a start are.
fn slots(first: f64, second: f64) -> [f64; STAGES] {
    let mut weights = [0.0; STAGES];
    weights[..2].copy_from_slice(&[first, second]);
    weights
}

/// A step: stage times and the combinations of all stages, in stage order.
pub(super) struct Step {
    pub(super) t: [f64; STAGES],
    pub(super) h: f64,
    /// Physical slot of each stage.
    slots: [usize; STAGES],
    scale: [f64; STAGES],
    weights: [[f64; STAGES]; STAGES],
    error_scale: f64,
    error_weights: [f64; STAGES],
    pub(super) q: [f64; STAGES],
    /// The log-density entry after it.
    pub(super) entry: f64,
    /// Whether |y|^2 is wanted at its end.
    square: bool,
}

impl Step {
    /// From t, where the network's output and q are known, to `t_new`.
    pub(super) fn new(
        field: Field,
        (t, t_new): (f64, f64),
        slots: [usize; STAGES],
        q0: f64,
        square: bool,
    ) -> Self {
        let h = t_new - t;
        let mut step = Self {
            // t + h may round one unit past the end, where another expert is in charge.
            t: C.map(|c| {
                let node = t + c * h;
                if h > 0.0 {
                    node.min(t_new)
                } else {
                    node.max(t_new)
                }
            }),
            h,
            slots,
            scale: [1.0; STAGES],
            weights: [[0.0; STAGES]; STAGES],
            error_scale: 0.0,
            error_weights: [0.0; STAGES],
            q: [f64::NAN; STAGES],
            entry: f64::NAN,
            square,
        };
        step.q[0] = q0;
        // The step ends where it was told to, as SciPy's: t + (t_new - t) may round to a unit before it,
        // and to reach an end from there would take another step.
        step.t[STAGES - 1] = t_new;
        // k_l = slope_scale[l] y_n + sum_j slopes[l][j] slot_j.
        let mut slope_scale = [0.0; STAGES];
        let mut slopes = [[0.0; STAGES]; STAGES];
        for stage in 0..STAGES {
            for before in 0..stage {
                let weight = A[stage][before] * h;
                step.scale[stage] += weight * slope_scale[before];
                for (sum, slope) in step.weights[stage].iter_mut().zip(slopes[before]) {
                    *sum += weight * slope;
                }
            }
            let linear = field.linear(step.t[stage]);
            slope_scale[stage] = linear * step.scale[stage];
            slopes[stage] = step.weights[stage].map(|weight| linear * weight);
            slopes[stage][stage] = field.gain(step.t[stage]);
            step.error_scale += h * E[stage] * slope_scale[stage];
            for (sum, slope) in step.error_weights.iter_mut().zip(slopes[stage]) {
                *sum += h * E[stage] * slope;
            }
        }
        step
    }

    /// A combination by stages as one by slots.
    fn placed(&self, scale: f64, weights: &[f64; STAGES]) -> Combination {
        let mut placed = [0.0; STAGES];
        for (slot, &weight) in self.slots.iter().zip(weights) {
            placed[*slot] = weight;
        }
        (scale, placed)
    }
}

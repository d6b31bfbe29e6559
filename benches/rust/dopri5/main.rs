//! What does the host's arithmetic of a Dormand-Prince step cost beside a bare fused loop over the same
//! buffers, plus one copy of the network's output per evaluation?
//!
//! A step of G rows of d values: six combinations (the last writes trial and input), six stores of the
//! network's output, one error norm, and acceptance. Least bytes per value, with slots of s bytes:
//!
//!   combine 1..=5   8 + i s read, s written        40 + 15 s + 5 s
//!   combine 6       8 + 6 s read, 8 + s written    16 + 6 s + s
//!   store, 6 times  s read, s written              12 s
//!   error norm      16 + 7 s read                  16 + 7 s
//!
//! so 72 + 46 s: 440 with float64 slots and 256 with float32 slots. Acceptance moves nothing.

mod bare;

use std::process::ExitCode;

use bare::Bare;
use merged_diffusion_benches::turns::{Shape, Stepping, compare};
use merged_diffusion_benches::workshop::{self, Opened};
use merged_diffusion_core::Error;
use merged_diffusion_core::control::{StepControl, Tolerance};
use merged_diffusion_core::field::Field;
use merged_diffusion_core::host::Slot;
use merged_diffusion_core::lane::Method;
use merged_diffusion_core::runge_kutta::Plan;
use merged_diffusion_core::tableau::STAGES;
use merged_diffusion_core::workspace::{Spans, Target};

/// Steps of the driver's leg.
const STEPS: u32 = 8;

/// Scale and weights of stages 1..=6 and of the error, of the size they have on the semi-linear form
/// at h = 0.3: row i weighs slots 0..i, all of them, and the error all seven.
const SCALES: [f64; STAGES] = [0.97, 0.95, 0.89, 0.88, 0.86, 0.86, -1e-6];
const WEIGHTS: [[f64; STAGES]; STAGES] = [
    [0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.01, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.14, -0.5, 0.5, 0.0, 0.0, 0.0, 0.0],
    [0.4, -1.6, 1.4, -0.04, 0.0, 0.0, 0.0],
    [0.4, -1.5, 1.3, 0.04, -0.04, 0.0, 0.0],
    [0.01, 1e-4, 0.07, 0.1, -0.05, 0.02, 0.0],
    [-2e-4, 1e-6, 6e-4, -7e-3, 7e-3, -6e-3, 3e-3],
];

const TOLERANCE: (f64, f64) = (1e-5, 1e-5);

struct Step<S> {
    shape: Shape,
    bare: Bare<S>,
    workshop: Opened,
    /// The combinations of a step: six stages and the error.
    spans: [Spans; STAGES],
}

impl<S: Slot + 'static> Stepping for Step<S> {
    const NAME: &str = if size_of::<S>() == 8 {
        "dopri5 step, float64 slots"
    } else {
        "dopri5 step, float32 slots"
    };
    const EVALUATIONS: usize = STAGES - 1;
    const BYTES: usize = 72 + 46 * size_of::<S>();

    fn new(shape: Shape) -> Self {
        Self {
            shape,
            bare: Bare::new(shape),
            workshop: workshop::open::<S>(shape, STAGES),
            spans: std::array::from_fn(|stage| {
                workshop::spans(shape.rows, STAGES, SCALES[stage], &WEIGHTS[stage])
            }),
        }
    }

    fn bare(&mut self) -> f64 {
        self.bare.step()
    }

    fn step(&mut self) -> f64 {
        let (rows, workshop) = (self.shape.rows, &mut self.workshop[0]);
        let (t, node) = (vec![0.0; rows], vec![0; rows]);
        let [stages @ .., error] = &self.spans;
        let mut step = || {
            for (stage, spans) in stages.iter().enumerate() {
                let is_last = stage + 1 == stages.len();
                let target = if is_last { Target::Both } else { Target::Input };
                workshop.combine(target, spans)?;
                workshop.evaluate(&t, &node, &vec![Some(stage + 1); rows])?;
            }
            let errors = workshop.scaled_square(error, tolerance())?;
            let columns = workshop.collect()?;
            workshop.accept(&vec![true; rows])?;
            Ok::<_, Error>(columns[errors].iter().sum())
        };
        step().expect("a network that answers")
    }

    fn drive(&mut self) -> u64 {
        let dim = self.shape.dim;
        let method = Method::DormandPrince(Plan {
            field: Field::ProbabilityFlow { dim },
            control: StepControl::Constant { steps: STEPS },
            tolerance: tolerance(),
            dim,
        });
        workshop::drive(&mut self.workshop, self.shape, method, (-5.0, 0.0))
    }
}

fn tolerance() -> Tolerance {
    let (rtol, atol) = TOLERANCE;
    Tolerance::new(rtol, atol).expect("both are positive")
}

fn main() -> ExitCode {
    compare::<Step<f64>, Step<f32>>()
}

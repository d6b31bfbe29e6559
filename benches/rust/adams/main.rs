//! What does the host's arithmetic of an adams step cost beside a bare fused loop over the same buffers,
//! plus one copy of the network's output per evaluation?
//!
//! A step of G rows of d values asks the network once: predictor into the network's input, store of its
//! output, corrector into the trial, inner products of the newest slot with all five, and acceptance. Least
//! bytes per value, with slots of s bytes, when the corrector's pass over the slots forms the products too:
//!
//!   predictor                  8 + 3 s read, s written    8 + 4 s
//!   store                      s read, s written          2 s
//!   corrector and products     8 + 5 s read, 8 written    16 + 5 s
//!
//! so 24 + 11 s: 112 with float64 slots and 68 with float32 slots. Acceptance moves nothing. A loop of its
//! own for the products would read four slots once more: 144 and 84.

mod bare;

use std::process::ExitCode;

use bare::Bare;
use merged_diffusion_benches::turns::{Shape, Stepping, compare};
use merged_diffusion_benches::workshop::{self, Opened};
use merged_diffusion_core::Error;
use merged_diffusion_core::adams::{MAX_ORDER, Plan, Precision, SLOTS};
use merged_diffusion_core::host::Slot;
use merged_diffusion_core::lane::Method;
use merged_diffusion_core::workspace::{Spans, Target};

/// Steps of the driver's leg: about as many as one has by default.
const STEPS: u32 = 24;

/// The step that a row of full order takes from its four nodes in slots 0 to 3 to a fifth in slot 4, of the
/// size that the numbers have at h = 0.5: the predictor weighs the latest three, the corrector the new one too.
const SCALE: f64 = 0.97;
const PREDICTOR: [f64; SLOTS] = [0.0, 0.07, -0.23, 0.31, 0.0];
const CORRECTOR: [f64; SLOTS] = [0.0, 0.01, -0.03, 0.11, 0.06];

struct Step<S> {
    shape: Shape,
    bare: Bare<S>,
    workshop: Opened,
    predictor: Spans,
    corrector: Spans,
}

impl<S: Slot + 'static> Stepping for Step<S> {
    const NAME: &str = if size_of::<S>() == 8 {
        "adams step, float64 slots"
    } else {
        "adams step, float32 slots"
    };
    const EVALUATIONS: usize = 1;
    const BYTES: usize = 24 + 11 * size_of::<S>();

    fn new(shape: Shape) -> Self {
        let spans = |weights| workshop::spans(shape.rows, SLOTS, SCALE, weights);
        Self {
            shape,
            bare: Bare::new(shape),
            workshop: workshop::open::<S>(shape, SLOTS),
            predictor: spans(&PREDICTOR),
            corrector: spans(&CORRECTOR),
        }
    }

    fn bare(&mut self) -> f64 {
        self.bare.step()
    }

    fn step(&mut self) -> f64 {
        let (rows, workshop) = (self.shape.rows, &mut self.workshop[0]);
        let newest = vec![Some(SLOTS - 1); rows];
        let mut step = || {
            workshop.combine(Target::Input, &self.predictor)?;
            workshop.evaluate(&vec![0.0; rows], &vec![0; rows], &newest)?;
            workshop.combine(Target::Trial, &self.corrector)?;
            let products = workshop.gram(&newest)?;
            let columns = workshop.collect()?;
            workshop.accept(&vec![true; rows])?;
            Ok::<_, Error>(columns[products].iter().sum())
        };
        step().expect("a network that answers")
    }

    fn drive(&mut self) -> u64 {
        let method = Method::Adams(Plan {
            dim: self.shape.dim,
            precision: Precision::new(3e-3, 0.7).expect("both are positive"),
            order: MAX_ORDER,
            noise_floor: 0.0,
            constant: Some(STEPS),
        });
        workshop::drive(&mut self.workshop, self.shape, method, (-8.0, 4.0))
    }
}

fn main() -> ExitCode {
    compare::<Step<f64>, Step<f32>>()
}

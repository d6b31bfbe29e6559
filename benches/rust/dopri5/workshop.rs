//! The host's whole path: its buffers as a workspace whose network costs nothing, stepped with ready
//! weights or by the real driver.

use std::convert::Infallible;

use merged_diffusion_core::control::{StepControl, Tolerance};
use merged_diffusion_core::course::Path;
use merged_diffusion_core::field::Field;
use merged_diffusion_core::host::{Arrival, Host, Slot};
use merged_diffusion_core::outcome::Job;
use merged_diffusion_core::runge_kutta::{DormandPrince, Plan};
use merged_diffusion_core::tableau::STAGES;
use merged_diffusion_core::workspace::{Spans, Target, Workspace};

use crate::{EVALUATIONS, SCALES, Shape, TOLERANCE, WEIGHTS, output};

/// Steps of the driver's leg.
const STEPS: u32 = 8;

/// A workspace of the host's buffers and the network above.
pub(crate) struct Workshop<S> {
    host: Host<S>,
    input: Vec<S>,
    output: Vec<S>,
    q: f64,
    start: Vec<f64>,
    columns: Vec<f64>,
    /// Where the output goes that the next verb stores.
    arriving: Option<Vec<Option<usize>>>,
}

/// The output on its way to the slots, if there is one.
fn arrival<'a, S>(slot: Option<&'a [Option<usize>]>, output: &'a [S]) -> Option<Arrival<'a, S>> {
    slot.map(|slot| Arrival { slot, output })
}

impl<S: Slot> Workshop<S> {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut workshop = Self {
            host: Host::new(shape.rows, shape.dim, STAGES).expect("memory of the buffers"),
            input: output(shape),
            output: output(shape),
            q: 0.1,
            start: vec![1.0; shape.dim],
            columns: Vec::new(),
            arriving: None,
        };
        for row in 0..shape.rows {
            let Ok(()) = workshop.load(row, 0);
        }
        for slot in 0..STAGES {
            workshop.host.store(Arrival {
                slot: &vec![Some(slot); shape.rows],
                output: &workshop.output,
            });
        }
        workshop
    }

    /// The same verbs that a frame of the driver asks for, with ready weights.
    pub(crate) fn step(&mut self, spans: &[Spans; STAGES]) -> f64 {
        let rows = spans[0].scale().len();
        for (stage, spans) in spans[..EVALUATIONS].iter().enumerate() {
            let is_last = stage + 1 == EVALUATIONS;
            let target = if is_last { Target::Both } else { Target::Input };
            let Ok(()) = self.combine(target, spans);
            self.arriving = Some(vec![Some(stage + 1); rows]);
        }
        let Ok(()) = self.scaled_square(&spans[STAGES - 1], tolerance());
        self.host.accept(&vec![true; rows]);
        self.columns.drain(..).sum()
    }
}

impl<S: Slot> Workspace for Workshop<S> {
    type Error = Infallible;

    fn load(&mut self, row: usize, _key: u64) -> Result<(), Infallible> {
        self.host
            .fill(row, &self.start)
            .expect("start has d values");
        Ok(())
    }

    fn save(&mut self, _row: usize, _key: u64, _slots: &[usize]) -> Result<(), Infallible> {
        Ok(())
    }

    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), Infallible> {
        let slot = self.arriving.take();
        let arrival = arrival(slot.as_deref(), &self.output);
        self.host.combine(arrival, target, spans, &mut self.input);
        Ok(())
    }

    fn evaluate(
        &mut self,
        _t: &[f64],
        _node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<(), Infallible> {
        self.arriving = Some(slot.to_vec());
        self.columns.extend(slot.iter().map(|_| self.q));
        Ok(())
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> Result<(), Infallible> {
        let slot = self.arriving.take();
        let arrival = arrival(slot.as_deref(), &self.output);
        let (sums, _) = self.host.scaled_square(arrival, spans, tolerance);
        self.columns.extend(sums);
        Ok(())
    }

    fn gram(&mut self, new: &[Option<usize>]) -> Result<(), Infallible> {
        self.columns.extend(self.host.gram(new));
        Ok(())
    }

    fn collect(&mut self) -> Result<Vec<f64>, Infallible> {
        Ok(std::mem::take(&mut self.columns))
    }

    fn accept(&mut self, mask: &[bool]) -> Result<(), Infallible> {
        self.host.accept(mask);
        Ok(())
    }
}

fn tolerance() -> Tolerance {
    let (rtol, atol) = TOLERANCE;
    Tolerance::new(rtol, atol).expect("both are positive")
}

/// The combinations of a step: six stages and the error.
pub(crate) fn spans(rows: usize) -> [Spans; STAGES] {
    std::array::from_fn(|stage| {
        let mut spans = Spans::zeros(rows, STAGES);
        for row in 0..rows {
            spans.set_scale(row, SCALES[stage]);
            for (slot, &weight) in WEIGHTS[stage].iter().enumerate() {
                spans.set_weight(row, slot, weight);
            }
        }
        spans
    })
}

/// The real driver along one leg of equal steps; returns its network calls.
pub(crate) fn drive<S: Slot>(shape: Shape, workshop: &mut Workshop<S>) -> u64 {
    let plan = Plan {
        idle: -5.0,
        field: Field::ProbabilityFlow { dim: shape.dim },
        control: StepControl::Constant { steps: STEPS },
        tolerance: tolerance(),
        dim: shape.dim,
    };
    let path = Path {
        start: -5.0,
        end: 0.0,
        square: true,
    };
    let mut driver = DormandPrince::new(plan, shape.rows);
    for row in 0..shape.rows {
        let Ok(()) = workshop.load(row, 0);
        driver.admit(row, Job::new(row as u64), path);
    }
    let mut calls = 0;
    while driver.active() > 0 {
        let Ok(frame) = driver.frame(workshop, &mut |_| {});
        calls += frame.calls;
    }
    calls
}

//! The host's whole path: its buffers as a workspace whose network costs nothing, and the real driver over it.

use std::convert::Infallible;

use merged_diffusion_core::control::Tolerance;
use merged_diffusion_core::host::{Arrival, Host, Slot};
use merged_diffusion_core::lane::{self, Method, Observer, Settings};
use merged_diffusion_core::outcome::{Finished, Job, Step};
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::workspace::{Column, Columns, Spans, Target, Workspace};

use crate::turns::{Shape, output};

/// A workspace of the host's buffers and a network that answers the same every time.
pub struct Workshop<S> {
    host: Host<S>,
    input: Vec<S>,
    output: Vec<S>,
    q: f64,
    start: Vec<f64>,
    columns: Columns,
    /// Where the output goes that the next verb stores.
    arriving: Option<Vec<Option<usize>>>,
    /// A combination into the trial that waits for inner products of the same slots, as in the bindings.
    queued: Option<Spans>,
}

/// What the driver takes.
pub type Opened = [Box<dyn Workspace<Error = Infallible>>; 1];

/// The output on its way to the slots, if there is one.
fn arrival<'a, S>(slot: Option<&'a [Option<usize>]>, output: &'a [S]) -> Option<Arrival<'a, S>> {
    slot.map(|slot| Arrival { slot, output })
}

impl<S: Slot> Workshop<S> {
    /// Loaded rows, whose slots all hold an output; one workspace, as a solve of one leg takes it.
    ///
    /// # Panics
    /// Where memory does not suffice.
    pub fn open(shape: Shape, slots: usize) -> Opened
    where
        S: 'static,
    {
        let mut workshop = Self {
            host: Host::new(shape.rows, shape.dim, slots).expect("memory of the buffers"),
            input: output(shape),
            output: output(shape),
            q: 0.1,
            start: vec![1.0; shape.dim],
            columns: Columns::default(),
            arriving: None,
            queued: None,
        };
        for row in 0..shape.rows {
            let Ok(()) = workshop.load(row, 0);
        }
        for slot in 0..slots {
            workshop.host.store(Arrival {
                slot: &vec![Some(slot); shape.rows],
                output: &workshop.output,
            });
        }
        [Box::new(workshop)]
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
        if target == Target::Trial {
            self.queued = Some(spans.clone());
            return Ok(());
        }
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
    ) -> Result<Column, Infallible> {
        self.arriving = Some(slot.to_vec());
        Ok(self.columns.queue(slot.iter().map(|_| self.q)))
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> Result<Column, Infallible> {
        let slot = self.arriving.take();
        let arrival = arrival(slot.as_deref(), &self.output);
        let (sums, _) = self.host.scaled_square(arrival, spans, tolerance);
        Ok(self.columns.queue(sums))
    }

    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, Infallible> {
        let slot = self.arriving.take();
        let arrival = arrival(slot.as_deref(), &self.output);
        let spans = self
            .queued
            .take()
            .expect("drivers form the trial, then its inner products");
        let (products, _) = self.host.combine_and_gram(arrival, &spans, new);
        Ok(self.columns.queue(products))
    }

    fn collect(&mut self) -> Result<Columns, Infallible> {
        Ok(std::mem::take(&mut self.columns))
    }

    fn accept(&mut self, mask: &[bool]) -> Result<(), Infallible> {
        self.host.accept(mask);
        Ok(())
    }
}

/// The same combination in every row; what weighs zero is not read.
pub fn spans(rows: usize, slots: usize, scale: f64, weights: &[f64]) -> Spans {
    let mut spans = Spans::zeros(rows, slots);
    for row in 0..rows {
        spans.set_scale(row, scale);
        for (slot, &weight) in weights.iter().enumerate() {
            spans.set_weight(row, slot, weight);
        }
    }
    spans
}

struct Silent;

impl Observer<Infallible> for Silent {
    fn step(&mut self, _step: Step) {}

    fn forked(&mut self, _from: u64, _job: &Job) {}

    fn finished(&mut self, _leg: usize, _finished: Finished) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The real driver along one leg, as many problems as rows; its network calls.
pub fn drive(workshop: &mut Opened, shape: Shape, method: Method, leg: (f64, f64)) -> u64 {
    let settings = Settings {
        method,
        rows: shape.rows,
        keep: false,
    };
    let keys: Vec<u64> = (0..shape.rows as u64).collect();
    let routes = Routes::one(&[leg]);
    let Ok(tally) = lane::solve(&routes, &settings, workshop, &keys, &mut Silent);
    tally.calls[0]
}

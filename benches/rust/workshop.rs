//! The host's whole path: its workspace round a network that costs nothing, and the real driver over it.

use std::rc::Rc;
use std::sync::Arc;

use merged_diffusion_core::Error;
use merged_diffusion_core::host::{Asked, Closures, HostWorkspace, Slot};
use merged_diffusion_core::lane::{self, Method, Settings};
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::workspace::{Spans, Target, Workspace};

use crate::turns::{Shape, output};

/// What the driver takes: one workspace, as a solve of one leg does.
pub type Opened = [Box<dyn Workspace<Error = Error>>; 1];

/// Loaded rows, whose slots all hold an output.
///
/// # Panics
/// Where memory does not suffice.
pub fn open<S: Slot>(shape: Shape, slots: usize) -> Opened {
    let Shape { rows, dim } = shape;
    let answer: Rc<[S]> = output(shape).into();
    let network = move |asked: Asked<'_, S>| Ok((Rc::clone(&answer), vec![0.1; asked.t.len()]));
    let start = move |_| Ok::<_, Error>(vec![1.0; dim]);
    let closures = Closures::new((rows, dim), start, network);
    let workspace = HostWorkspace::new((rows, dim, slots), Arc::default(), 0, closures);
    let mut opened: Opened = [Box::new(workspace.expect("memory of the buffers"))];
    let mut fill = || {
        (0..rows).try_for_each(|row| opened[0].load(row, 0))?;
        for slot in 0..slots {
            opened[0].combine(Target::Input, &spans(rows, slots, 1.0, &[]))?;
            opened[0].evaluate(&vec![0.0; rows], &vec![0; rows], &vec![Some(slot); rows])?;
        }
        opened[0].collect()
    };
    fill().expect("a network that answers");
    opened
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

/// The real driver along one leg, as many problems as rows; its network calls.
///
/// # Panics
/// Never: its network answers.
pub fn drive(workshop: &mut Opened, shape: Shape, method: Method, leg: (f64, f64)) -> u64 {
    let settings = Settings {
        method,
        rows: shape.rows,
        keep: false,
    };
    let keys: Vec<u64> = (0..shape.rows as u64).collect();
    let routes = Routes::one(&[leg]);
    let tally = lane::solve(&routes, &settings, workshop, &keys, &mut Vec::new());
    tally.expect("a network that answers").calls[0]
}

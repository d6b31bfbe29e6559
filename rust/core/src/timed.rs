//! A workspace that keeps the time: what each verb took, and how often it was called.
//!
//! Where verbs only queue work for a device, what they take is the host's time for queueing; the work
//! itself is waited for in [`Verb::Collect`].

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::control::Tolerance;
use crate::workspace::{Column, Columns, Spans, Target, Workspace};

/// The verbs of a [`Workspace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`Workspace::load`].
    Load,
    /// [`Workspace::save`].
    Save,
    /// [`Workspace::combine`].
    Combine,
    /// [`Workspace::evaluate`].
    Evaluate,
    /// [`Workspace::scaled_square`].
    ScaledSquare,
    /// [`Workspace::gram`].
    Gram,
    /// [`Workspace::collect`].
    Collect,
    /// [`Workspace::accept`].
    Accept,
}

impl Verb {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Load,
        Self::Save,
        Self::Combine,
        Self::Evaluate,
        Self::ScaledSquare,
        Self::Gram,
        Self::Collect,
        Self::Accept,
    ];

    /// The name of its method.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Save => "save",
            Self::Combine => "combine",
            Self::Evaluate => "evaluate",
            Self::ScaledSquare => "scaled_square",
            Self::Gram => "gram",
            Self::Collect => "collect",
            Self::Accept => "accept",
        }
    }
}

/// Calls and time of each verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    spent: [(u64, Duration); Verb::ALL.len()],
}

impl Times {
    /// How often a verb was called.
    pub const fn calls(&self, verb: Verb) -> u64 {
        self.spent[verb as usize].0
    }

    /// What its calls took together.
    pub const fn duration(&self, verb: Verb) -> Duration {
        self.spent[verb as usize].1
    }

    fn add(&mut self, verb: Verb, duration: Duration) {
        let (calls, total) = &mut self.spent[verb as usize];
        *calls += 1;
        *total += duration;
    }
}

/// A workspace whose verbs are timed; several of one solve may share the times.
pub struct Timed<'t, W: ?Sized> {
    workspace: Box<W>,
    times: &'t RefCell<Times>,
}

impl<'t, W: Workspace + ?Sized> Timed<'t, W> {
    /// The same workspace, its verbs noted in `times`.
    pub fn new(workspace: Box<W>, times: &'t RefCell<Times>) -> Self {
        Self { workspace, times }
    }

    fn time<T>(&mut self, verb: Verb, run: impl FnOnce(&mut W) -> T) -> T {
        let begin = Instant::now();
        let result = run(&mut self.workspace);
        self.times.borrow_mut().add(verb, begin.elapsed());
        result
    }
}

impl<W: Workspace + ?Sized> Workspace for Timed<'_, W> {
    type Error = W::Error;

    fn load(&mut self, row: usize, key: u64) -> Result<(), W::Error> {
        self.time(Verb::Load, |workspace| workspace.load(row, key))
    }

    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> Result<(), W::Error> {
        self.time(Verb::Save, |workspace| workspace.save(row, key, slots))
    }

    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), W::Error> {
        self.time(Verb::Combine, |workspace| workspace.combine(target, spans))
    }

    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<Column, W::Error> {
        self.time(Verb::Evaluate, |workspace| {
            workspace.evaluate(t, node, slot)
        })
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> Result<Column, W::Error> {
        self.time(Verb::ScaledSquare, |workspace| {
            workspace.scaled_square(spans, tolerance)
        })
    }

    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, W::Error> {
        self.time(Verb::Gram, |workspace| workspace.gram(new))
    }

    fn collect(&mut self) -> Result<Columns, W::Error> {
        self.time(Verb::Collect, Workspace::collect)
    }

    fn accept(&mut self, mask: &[bool]) -> Result<(), W::Error> {
        self.time(Verb::Accept, |workspace| workspace.accept(mask))
    }
}

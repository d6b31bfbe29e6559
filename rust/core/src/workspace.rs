//! What a solver needs from whoever holds the tensors.
//!
//! A workspace has G rows of d values, one problem a row: a float64 state and trial, a network
//! input, and S slots of stored network outputs. It knows no stage, order, history or step: those
//! belong to the drivers. Verbs may only queue work; [`Workspace::collect`] alone waits.

use std::ops::{Index, IndexMut};

use crate::control::Tolerance;
use crate::error::Error;

/// Where a combination goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The network's input, in its dtype; the trial may serve as scratch.
    Input,
    /// The trial state.
    Trial,
    /// The trial state, and the network's input from it.
    Both,
}

/// One linear combination per row: scale * state + sum over slots of weight * slot.
///
/// A slot of weight zero is not read.
#[derive(Clone, Debug, PartialEq)]
pub struct Spans {
    slots: usize,
    scale: Vec<f64>,
    weights: Vec<f64>,
}

impl Spans {
    /// The zero combination for `rows` rows of `slots` slots.
    pub fn zeros(rows: usize, slots: usize) -> Self {
        Self {
            slots,
            scale: vec![0.0; rows],
            weights: vec![0.0; rows * slots],
        }
    }

    /// Back to zero in every row.
    pub fn clear(&mut self) {
        self.scale.fill(0.0);
        self.weights.fill(0.0);
    }

    /// Sets one row's scale and weights.
    pub fn set(&mut self, row: usize, scale: f64, weights: &[f64]) {
        self.scale[row] = scale;
        self.weights[row * self.slots..][..self.slots].copy_from_slice(weights);
    }

    /// Sets one row's scale and clears its weights.
    pub fn set_scale(&mut self, row: usize, scale: f64) {
        self.scale[row] = scale;
        self.weights[row * self.slots..][..self.slots].fill(0.0);
    }

    /// Sets one weight.
    pub fn set_weight(&mut self, row: usize, slot: usize, weight: f64) {
        self.weights[row * self.slots + slot] = weight;
    }

    /// Scales, one a row.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Weights [G, S], row by row.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Weights of one row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.weights[row * self.slots..][..self.slots]
    }

    /// Slots of a row.
    pub fn slots(&self) -> usize {
        self.slots
    }
}

/// What a verb has queued: the place of its numbers in the [`Columns`] of the next `collect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    start: usize,
    end: usize,
}

/// Numbers that verbs have queued, each verb's by its [`Column`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    values: Vec<f64>,
}

impl Columns {
    /// Queues the numbers of one verb.
    pub fn queue(&mut self, values: impl IntoIterator<Item = f64>) -> Column {
        let start = self.values.len();
        self.values.extend(values);
        let end = self.values.len();
        Column { start, end }
    }

    /// Queues that many numbers of one verb, which are not known yet.
    pub fn reserve(&mut self, count: usize) -> Column {
        self.queue(std::iter::repeat_n(f64::NAN, count))
    }

    /// The numbers for all that was queued, which is nothing from now on.
    ///
    /// # Errors
    /// [`Error::Length`] if they are more or fewer.
    pub fn fill(&mut self, values: Vec<f64>) -> Result<Self, Error> {
        let (expected, found) = (std::mem::take(&mut self.values).len(), values.len());
        if found != expected {
            return Err(Error::Length {
                name: "columns",
                expected,
                found,
            });
        }
        Ok(Self { values })
    }
}

impl Index<Column> for Columns {
    type Output = [f64];

    fn index(&self, column: Column) -> &[f64] {
        &self.values[column.start..column.end]
    }
}

impl IndexMut<Column> for Columns {
    fn index_mut(&mut self, column: Column) -> &mut [f64] {
        &mut self.values[column.start..column.end]
    }
}

/// G rows of state, trial, network input and stored network outputs.
///
/// Numbers are queued by [`evaluate`](Workspace::evaluate) (`[G]`: the row's q, NaN where the network's
/// output was not finite), [`scaled_square`](Workspace::scaled_square) (`[G]`) and
/// [`gram`](Workspace::gram) (`[G, S]`); [`collect`](Workspace::collect) brings them, and the column that
/// the verb returned finds them there. Stored slots are always finite: an output that is not is replaced
/// by zeros and told by its q.
pub trait Workspace {
    /// What can go wrong in it: an exception of a callback.
    type Error;

    /// Fills a row with what was saved under the key, else with the start of that item.
    ///
    /// # Errors
    /// Whatever the start of the item raises.
    fn load(&mut self, row: usize, key: u64) -> Result<(), Self::Error>;

    /// Copies out the state of a row under the key, and the slots named; the row is free then.
    ///
    /// # Errors
    /// Whatever keeps the state from being stored.
    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> Result<(), Self::Error>;

    /// Forms one combination per row.
    ///
    /// # Errors
    /// A failure of the device.
    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), Self::Error>;

    /// Network and vector-Jacobian product at the input; row i's output goes to `slot[i]` (none: the
    /// row sits out). `t` and `node` name the time and the accepted node of each row.
    ///
    /// # Errors
    /// Whatever the network raises.
    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<Column, Self::Error>;

    /// Queues, per row, the sum over d of (combination / (atol + rtol max(|state|, |trial|)))^2.
    ///
    /// # Errors
    /// A failure of the device.
    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance)
    -> Result<Column, Self::Error>;

    /// Queues the inner products, in float64, of one slot a row with all slots of that row.
    ///
    /// # Errors
    /// A failure of the device.
    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, Self::Error>;

    /// All that was queued since the last time. The only wait.
    ///
    /// # Errors
    /// Whatever the queued work raised.
    fn collect(&mut self) -> Result<Columns, Self::Error>;

    /// state <- trial where the mask says so.
    ///
    /// # Errors
    /// A failure of the device.
    fn accept(&mut self, mask: &[bool]) -> Result<(), Self::Error>;
}

//! Names for the numbers that a frame asks of its workspace.

/// Columns that a frame asks its workspace for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// q of a stage.
    Q(usize),
    /// Sum of squares of the starting state, in units of its tolerance.
    Start0,
    /// The same of its derivative.
    Start1,
    /// The same of the error, or of the derivative's change along the Euler probe.
    Error,
    /// |y_new|^2.
    Square,
}

#[derive(Default)]
pub(super) struct Columns {
    pub(super) names: Vec<Column>,
    pub(super) values: Vec<f64>,
}

impl Columns {
    pub(super) fn get(&self, name: Column, row: usize, rows: usize) -> f64 {
        self.names
            .iter()
            .position(|&column| column == name)
            .map_or(f64::NAN, |index| self.values[index * rows + row])
    }
}

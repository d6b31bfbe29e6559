//! One row's combination, scale * state + sum_j w_j slot_j, as a straight loop over the slots that
//! weigh: their number is a constant of the loop.

use super::Slot;
use crate::control::Tolerance;
use crate::workspace::Spans;

/// Partial sums of a reduction: enough to hide the latency of an addition, and a fixed order.
const LANES: usize = 8;

/// A combination whose entries can be computed.
pub(super) trait Combination {
    /// Entry i.
    fn at(&self, i: usize) -> f64;

    /// Entries i to i + 7.
    fn lanes(&self, i: usize) -> [f64; LANES] {
        std::array::from_fn(|lane| self.at(i + lane))
    }
}

/// Something to do with the entries of a combination.
pub(super) trait Reader {
    /// What comes of it.
    type Output;

    /// Reads all entries.
    fn read(self, combination: &impl Combination) -> Self::Output;

    /// What comes of a combination of nothing: zeros.
    fn zeros(self) -> Self::Output;
}

/// The state and the slots of one row with their weights.
#[derive(Clone, Copy)]
pub(super) struct RowSpan<'a, S> {
    pub(super) scale: f64,
    /// [d].
    pub(super) state: &'a [f64],
    /// [S].
    pub(super) weights: &'a [f64],
    /// [S][d].
    pub(super) slots: &'a [S],
}

impl<'a, S: Slot> RowSpan<'a, S> {
    /// Of that row, `stored` [S][d] being its slots.
    pub(super) fn of(spans: &'a Spans, row: usize, state: &'a [f64], stored: &'a [S]) -> Self {
        Self {
            scale: spans.scale()[row],
            state,
            weights: spans.row(row),
            slots: stored,
        }
    }

    /// Hands the combination to the reader, in the loop made for that many slots.
    pub(super) fn read<R: Reader>(self, reader: R) -> R::Output {
        let weighing = self.weights.iter().filter(|&&weight| weight != 0.0).count();
        // Only a combination without its state, or of more slots than any driver has, is slow.
        match (self.scale != 0.0, weighing) {
            (false, 0) => reader.zeros(),
            (true, 0) => reader.read(&self.terms::<0>()),
            (true, 1) => reader.read(&self.terms::<1>()),
            (true, 2) => reader.read(&self.terms::<2>()),
            (true, 3) => reader.read(&self.terms::<3>()),
            (true, 4) => reader.read(&self.terms::<4>()),
            (true, 5) => reader.read(&self.terms::<5>()),
            (true, 6) => reader.read(&self.terms::<6>()),
            (true, 7) => reader.read(&self.terms::<7>()),
            _ => reader.read(&self),
        }
    }

    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "its lengths must be known to the loop"
    )]
    fn terms<const N: usize>(&self) -> Terms<'_, S, N> {
        let dim = self.state.len();
        let mut terms = Terms {
            scale: self.scale,
            state: self.state,
            weights: [0.0; N],
            slots: [&self.slots[..0]; N],
        };
        let slots = self.weights.iter().zip(self.slots.chunks_exact(dim));
        let weighing = slots.filter(|&(&weight, _)| weight != 0.0);
        for (term, (&weight, slot)) in weighing.enumerate() {
            terms.weights[term] = weight;
            terms.slots[term] = slot;
        }
        // Says to the compiler that no index of the loop lies beyond a slot.
        terms.slots = terms.slots.map(|slot| &slot[..dim]);
        terms
    }
}

/// Any number of slots, with or without the state.
impl<S: Slot> Combination for RowSpan<'_, S> {
    fn at(&self, i: usize) -> f64 {
        let mut sum = if self.scale == 0.0 {
            0.0
        } else {
            self.scale * self.state[i]
        };
        for (slot, &weight) in self.weights.iter().enumerate() {
            if weight != 0.0 {
                sum += weight * self.slots[slot * self.state.len() + i].wide();
            }
        }
        sum
    }
}

/// The state and N slots that weigh, all [d].
struct Terms<'a, S, const N: usize> {
    scale: f64,
    state: &'a [f64],
    weights: [f64; N],
    slots: [&'a [S]; N],
}

impl<S: Slot, const N: usize> Combination for Terms<'_, S, N> {
    #[inline]
    fn at(&self, i: usize) -> f64 {
        let mut sum = self.scale * self.state[i];
        for term in 0..N {
            sum += self.weights[term] * self.slots[term][i].wide();
        }
        sum
    }

    #[inline]
    fn lanes(&self, i: usize) -> [f64; LANES] {
        let mut sums = lanes(self.state, i).map(|state| self.scale * state);
        for term in 0..N {
            let slot = lanes(self.slots[term], i);
            for (sum, slot) in sums.iter_mut().zip(slot) {
                *sum += self.weights[term] * slot.wide();
            }
        }
        sums
    }
}

/// Writes a row's combination.
pub(super) enum Write<'a, S> {
    Input(&'a mut [S]),
    Trial(&'a mut [f64]),
    Both(&'a mut [f64], &'a mut [S]),
}

impl<S: Slot> Reader for Write<'_, S> {
    type Output = ();

    fn read(self, combination: &impl Combination) {
        match self {
            Self::Input(input) => {
                for (i, input) in input.iter_mut().enumerate() {
                    *input = S::narrow(combination.at(i));
                }
            }
            Self::Trial(trial) => {
                for (i, trial) in trial.iter_mut().enumerate() {
                    *trial = combination.at(i);
                }
            }
            Self::Both(trial, input) => {
                for (i, (trial, input)) in trial.iter_mut().zip(input).enumerate() {
                    *trial = combination.at(i);
                    *input = S::narrow(*trial);
                }
            }
        }
    }

    fn zeros(self) {
        match self {
            Self::Input(input) => input.fill(S::ZERO),
            Self::Trial(trial) => trial.fill(0.0),
            Self::Both(trial, input) => {
                trial.fill(0.0);
                input.fill(S::ZERO);
            }
        }
    }
}

/// Sums the squares of a row's combination in units of the tolerance.
pub(super) struct ScaledSquare<'a> {
    pub(super) state: &'a [f64],
    pub(super) trial: &'a [f64],
    pub(super) tolerance: Tolerance,
}

impl Reader for ScaledSquare<'_> {
    type Output = f64;

    fn read(self, combination: &impl Combination) -> f64 {
        let square = |value: f64, state: f64, trial: f64| {
            let (state, trial) = (state.abs(), trial.abs());
            // Not f64::max, which would drop a trial that is no number.
            let magnitude = if state > trial { state } else { trial };
            let ratio = self.tolerance.ratio(value, magnitude);
            ratio * ratio
        };
        sum(
            self.state.len(),
            |i| {
                let values = combination.lanes(i);
                let (state, trial) = (lanes(self.state, i), lanes(self.trial, i));
                std::array::from_fn(|lane| square(values[lane], state[lane], trial[lane]))
            },
            |i| square(combination.at(i), self.state[i], self.trial[i]),
        )
    }

    fn zeros(self) -> f64 {
        0.0
    }
}

/// Inner product in float64.
pub(super) fn inner<S: Slot>(a: &[S], b: &[S]) -> f64 {
    sum(
        a.len(),
        |i| {
            let (a, b) = (lanes(a, i), lanes(b, i));
            std::array::from_fn(|lane| a[lane].wide() * b[lane].wide())
        },
        |i| a[i].wide() * b[i].wide(),
    )
}

/// Sum of n values in an order that depends on n alone: eight partial sums, added in order, then
/// what is left over.
#[inline]
fn sum(n: usize, eight: impl Fn(usize) -> [f64; LANES], one: impl Fn(usize) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (sum, value) in sums.iter_mut().zip(eight(start)) {
            *sum += value;
        }
    }
    sums.iter().sum::<f64>() + (whole..n).map(one).sum::<f64>()
}

/// Entries i to i + 7.
#[inline]
fn lanes<T>(values: &[T], i: usize) -> &[T; LANES] {
    values[i..]
        .first_chunk()
        .expect("a block of lanes ends within d")
}

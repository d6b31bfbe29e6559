//! What the network has answered, before it is in the slots.

use super::Slot;

/// The network's output on its way into the slots: a verb that reads them stores it row by row, while
/// the row is at hand.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a, S> {
    /// The slot of each row `[G]`; none for a row that sits out.
    pub(super) slot: &'a [Option<usize>],
    /// eps_hat `[G, d]`.
    pub(super) output: &'a [S],
}

impl<S: Slot> Arrival<'_, S> {
    /// Copies one row into its slot in `stored` [S][d]; tells whether it was finite.
    pub(super) fn store(&self, row: usize, stored: &mut [S], dim: usize) -> bool {
        self.slot[row].is_none_or(|slot| {
            copy_finite(
                &mut stored[slot * dim..][..dim],
                &self.output[row * dim..][..dim],
            )
        })
    }
}

/// Copies a row if all of it is finite, else writes zeros; tells which.
fn copy_finite<S: Slot>(to: &mut [S], from: &[S]) -> bool {
    let mut finite = true;
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
        finite &= from.is_finite();
    }
    if !finite {
        to.fill(S::ZERO);
    }
    finite
}

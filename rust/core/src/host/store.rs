//! States that wait outside of their rows.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Slots that were saved with a row, by number.
pub(super) type Kept = Vec<(usize, Vec<f64>)>;

/// States that wait between legs, and those of the last one that a solve keeps, by key; and the slots of rows
/// that go on elsewhere, in float64, which holds every value of a narrower one.
#[derive(Debug, Default)]
pub struct Store(Mutex<HashMap<u64, Vec<f64>>>, Mutex<HashMap<u64, Kept>>);

impl Store {
    /// The state under the key, which is forgotten.
    pub fn take(&self, key: u64) -> Option<Vec<f64>> {
        self.with(|states| states.remove(&key))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.with(|states| states.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&self, key: u64, state: Vec<f64>) {
        self.with(|states| states.insert(key, state));
    }

    /// The slots under the key, which are forgotten.
    pub(super) fn take_slots(&self, key: u64) -> Kept {
        let mut slots = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(&key).unwrap_or_default()
    }

    pub(super) fn insert_slots(&self, key: u64, kept: Kept) {
        let mut slots = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        slots.insert(key, kept);
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<u64, Vec<f64>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

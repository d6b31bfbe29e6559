//! The network that a workspace on the host asks, and what its problems begin with.

use super::Slot;
use crate::Error;

/// A network, where it reads, and what its problems begin with.
pub trait Network {
    /// dtype of its input and output.
    type Slot: Slot;
    /// An output `[G, d]`, which stays as it is until the network is asked again.
    type Output: AsRef<[Self::Slot]>;
    /// What can go wrong in it.
    type Error: From<Error>;

    /// The state `[d]` that a problem begins with.
    ///
    /// # Errors
    /// Whatever keeps it from beginning.
    fn start(&mut self, key: u64) -> Result<Vec<f64>, Self::Error>;

    /// Lends its input `[G, d]` to a loop.
    ///
    /// # Errors
    /// Where somebody else holds it.
    fn lend<T: Send>(
        &mut self,
        work: impl FnOnce(&mut [Self::Slot]) -> T + Send,
    ) -> Result<T, Self::Error>;

    /// Its output at the input, and q `[G]`; t, node and key of each row.
    ///
    /// # Errors
    /// What it raises.
    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        key: &[u64],
    ) -> Result<(Self::Output, Vec<f64>), Self::Error>;

    /// Runs a loop that needs nothing of it.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }
}

/// What a closure is asked: t, node, key and input of each row.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a, S> {
    /// `[G]`.
    pub t: &'a [f64],
    /// The number of the accepted node `[G]`.
    pub node: &'a [u64],
    /// The problem `[G]`; rows without one carry any key.
    pub key: &'a [u64],
    /// `[G, d]`.
    pub input: &'a [S],
}

/// Two closures: what a problem begins with, and the network, which answers `[G, d]` and q `[G]`.
pub struct Closures<S, B, N> {
    input: Vec<S>,
    start: B,
    network: N,
}

impl<S: Slot, B, N> Closures<S, B, N> {
    /// Closures whose input has `rows * dim` values.
    pub fn new((rows, dim): (usize, usize), start: B, network: N) -> Self {
        Self {
            input: vec![S::ZERO; rows * dim],
            start,
            network,
        }
    }
}

impl<S, B, N, O, E> Network for Closures<S, B, N>
where
    S: Slot,
    B: FnMut(u64) -> Result<Vec<f64>, E>,
    N: FnMut(Asked<'_, S>) -> Result<(O, Vec<f64>), E>,
    O: AsRef<[S]>,
    E: From<Error>,
{
    type Slot = S;
    type Output = O;
    type Error = E;

    fn start(&mut self, key: u64) -> Result<Vec<f64>, E> {
        (self.start)(key)
    }

    fn lend<T: Send>(&mut self, work: impl FnOnce(&mut [S]) -> T + Send) -> Result<T, E> {
        Ok(work(&mut self.input))
    }

    fn evaluate(&mut self, t: &[f64], node: &[u64], key: &[u64]) -> Result<(O, Vec<f64>), E> {
        let input = &self.input;
        (self.network)(Asked {
            t,
            node,
            key,
            input,
        })
    }
}

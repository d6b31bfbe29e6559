//! The host as a [`Workspace`]: when its loops run, and what they do in one pass.
//!
//! - Laziness: an output of the network waits until a verb reads the slots, which stores it row by row on its way.
//! - Fusion: a combination into the trial waits for the inner products of the same slots; both are one pass.
//! - Aliasing: an output that lies where the network's input does is stored at once, because the next verb
//!   overwrites it; and nothing waits when the network is asked again, which may write where its last output is.

use std::ops::Range;
use std::sync::Arc;

use super::arrival::Arrival;
use super::buffers::Buffers;
use super::{Network, Slot, Store};
use crate::Error;
use crate::control::Tolerance;
use crate::workspace::{Column, Columns, Spans, Target, Workspace};

/// Buffers of G rows, a network, and what waits.
pub struct HostWorkspace<N: Network> {
    network: N,
    buffers: Buffers<N::Slot>,
    store: Arc<Store>,
    keys: Vec<u64>,
    columns: Columns,
    pending: Option<Pending<N::Output>>,
    /// A combination into the trial, not yet formed: inner products may be asked for next, of the same slots.
    queued: Option<Spans>,
    /// The addresses of the network's input.
    input: Range<usize>,
}

/// An output of the network that the next verb stores, and the column of its q.
struct Pending<O> {
    slot: Vec<Option<usize>>,
    output: O,
    q: Column,
}

impl<N: Network> HostWorkspace<N> {
    /// A workspace of G rows of d values and S slots; `idle` is the key of rows that hold no problem yet.
    ///
    /// # Errors
    /// [`Error::Memory`] where the system has no room for the buffers.
    ///
    /// # Panics
    /// Unless d and S are at least one.
    pub fn new(
        (rows, dim, slots): (usize, usize, usize),
        store: Arc<Store>,
        idle: u64,
        network: N,
    ) -> Result<Self, Error> {
        let buffers = network.run(|| Buffers::new(rows, dim, slots))?;
        Ok(Self {
            network,
            buffers,
            store,
            keys: vec![idle; rows],
            columns: Columns::default(),
            pending: None,
            queued: None,
            input: 0..0,
        })
    }

    /// Does all that waits.
    fn settle(&mut self) -> Result<(), N::Error> {
        self.form_queued()?;
        if self.pending.is_some() {
            self.pass(|buffers, arrival| ((), arrival.map_or_else(Vec::new, |a| buffers.store(a))));
        }
        Ok(())
    }

    fn form_queued(&mut self) -> Result<(), N::Error> {
        match self.queued.take() {
            Some(spans) => self.form(Target::Trial, &spans),
            None => Ok(()),
        }
    }

    /// Forms a combination now.
    fn form(&mut self, target: Target, spans: &Spans) -> Result<(), N::Error> {
        let pending = self.pending.take();
        let arrival = pending.as_ref().map(Pending::arrival);
        let buffers = &mut self.buffers;
        let (input, finite) = self.network.lend(|input| {
            let finite = buffers.combine(arrival, target, spans, input);
            (addresses(input), finite)
        })?;
        self.input = input;
        self.note(pending, &finite);
        Ok(())
    }

    /// One pass over the rows, which stores what is pending on its way.
    fn pass<T: Send>(
        &mut self,
        work: impl FnOnce(&mut Buffers<N::Slot>, Option<Arrival<'_, N::Slot>>) -> (T, Vec<bool>) + Send,
    ) -> T {
        let pending = self.pending.take();
        let arrival = pending.as_ref().map(Pending::arrival);
        let buffers = &mut self.buffers;
        let (found, finite) = self.network.run(|| work(buffers, arrival));
        self.note(pending, &finite);
        found
    }

    /// Writes NaN for q of the rows whose output was not finite.
    fn note(&mut self, stored: Option<Pending<N::Output>>, finite: &[bool]) {
        let Some(stored) = stored else { return };
        for (q, finite) in self.columns[stored.q].iter_mut().zip(finite) {
            if !finite {
                *q = f64::NAN;
            }
        }
    }
}

impl<O> Pending<O> {
    fn arrival<S>(&self) -> Arrival<'_, S>
    where
        O: AsRef<[S]>,
    {
        Arrival {
            slot: &self.slot,
            output: self.output.as_ref(),
        }
    }
}

fn addresses<S>(values: &[S]) -> Range<usize> {
    let Range { start, end } = values.as_ptr_range();
    start.addr()..end.addr()
}

/// Refuses anything but `expected` values.
fn check(name: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Length {
        name,
        expected,
        found,
    })
}

impl<N: Network> Workspace for HostWorkspace<N> {
    type Error = N::Error;

    fn load(&mut self, row: usize, key: u64) -> Result<(), N::Error> {
        self.form_queued()?;
        self.keys[row] = key;
        for (slot, values) in self.store.take_slots(key) {
            let values: Vec<N::Slot> = values.into_iter().map(N::Slot::narrow).collect();
            self.buffers.fill_slot(row, slot, &values);
        }
        let state = match self.store.take(key) {
            Some(state) => state,
            None => self.network.start(key)?,
        };
        Ok(self.buffers.fill(row, &state)?)
    }

    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> Result<(), N::Error> {
        self.form_queued()?;
        if !slots.is_empty() {
            let wide = |slot| self.buffers.slot(row, slot).iter().map(|v| v.wide());
            let kept = |&slot: &usize| (slot, wide(slot).collect());
            self.store
                .insert_slots(key, slots.iter().map(kept).collect());
        }
        self.store.insert(key, self.buffers.state(row).to_vec());
        Ok(())
    }

    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), N::Error> {
        self.form_queued()?;
        if target == Target::Trial {
            self.queued = Some(spans.clone());
            return Ok(());
        }
        self.form(target, spans)
    }

    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<Column, N::Error> {
        self.settle()?;
        let (output, q) = self.network.evaluate(t, node, &self.keys)?;
        let rows = self.keys.len();
        check("q", q.len(), rows)?;
        check("output", output.as_ref().len(), rows * self.buffers.dim)?;
        let place = addresses(output.as_ref());
        let q = self.columns.queue(q);
        self.pending = Some(Pending {
            slot: slot.to_vec(),
            output,
            q,
        });
        if place.start < self.input.end && self.input.start < place.end {
            self.settle()?;
        }
        Ok(q)
    }

    fn scaled_square(&mut self, spans: &Spans, tolerance: Tolerance) -> Result<Column, N::Error> {
        self.form_queued()?;
        let sums = self.pass(|buffers, arrival| buffers.scaled_square(arrival, spans, tolerance));
        Ok(self.columns.queue(sums))
    }

    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, N::Error> {
        let products = if let Some(spans) = self.queued.take() {
            self.pass(|buffers, arrival| buffers.combine_and_gram(arrival, &spans, new))
        } else {
            self.settle()?;
            let buffers = &self.buffers;
            self.network.run(|| buffers.gram(new))
        };
        Ok(self.columns.queue(products))
    }

    fn collect(&mut self) -> Result<Columns, N::Error> {
        self.settle()?;
        Ok(std::mem::take(&mut self.columns))
    }

    fn accept(&mut self, mask: &[bool]) -> Result<(), N::Error> {
        self.form_queued()?;
        self.buffers.accept(mask);
        Ok(())
    }
}

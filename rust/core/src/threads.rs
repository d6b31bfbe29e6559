//! Which threads a loop runs on: those of the pool that it is called in, or else the caller's alone.
//!
//! Rayon's global pool is left alone. A process that is forked has none of its threads, would wait for them
//! for ever, and cannot replace it; a pool of one's own can be replaced.

use rayon::iter::plumbing::{Producer, ProducerCallback};
use rayon::prelude::*;

/// Below that many values a loop takes less time than waking other threads: one task does it.
pub const SERIAL: usize = 16_384;

/// What `work` makes of every item, in their order.
pub(crate) fn mapped<I, T>(items: I, work: impl Fn(I::Item) -> T + Send + Sync) -> Vec<T>
where
    I: IndexedParallelIterator,
    T: Send,
{
    if rayon::current_thread_index().is_some() {
        items.map(work).collect()
    } else {
        items.with_producer(OneByOne(work))
    }
}

/// Takes the items on the caller's thread.
struct OneByOne<W>(W);

impl<I, T, W: Fn(I) -> T> ProducerCallback<I> for OneByOne<W> {
    type Output = Vec<T>;

    fn callback<P: Producer<Item = I>>(self, producer: P) -> Vec<T> {
        producer.into_iter().map(self.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use rayon::ThreadPoolBuilder;

    use super::*;

    fn places() -> Vec<(usize, ThreadId)> {
        let items = (0..1000_usize).into_par_iter().with_max_len(1);
        mapped(items, |item| (item, thread::current().id()))
    }

    #[test]
    fn a_loop_outside_of_a_pool_is_the_caller_s() {
        let own = thread::current().id();
        assert_eq!(
            places(),
            (0..1000).map(|item| (item, own)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_loop_in_a_pool_is_the_pool_s_and_keeps_its_order() {
        let own = thread::current().id();
        let pool = ThreadPoolBuilder::new().num_threads(3).build();
        let found = pool.expect("threads start").install(places);
        assert!(found.iter().all(|&(_, place)| place != own));
        assert!(found.iter().map(|&(item, _)| item).eq(0..1000));
    }
}

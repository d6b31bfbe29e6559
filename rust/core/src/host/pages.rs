//! Memory of the buffers: zeroed pages of the system, large ones where it has them.
//!
//! A solve of 512 x 3072 values holds 69 MB or more and walks over all of it at every stage. In pages
//! of 4 KiB, first touching them takes as long as the arithmetic of ten evaluations.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;
use rayon::prelude::*;

use crate::Error;
use crate::threads::mapped;

/// Bytes that one touch makes present, at least.
const PAGE: usize = 4096;

/// `[T]`, zero at first.
pub(super) struct Pages<T> {
    memory: MmapMut,
    values: PhantomData<T>,
}

impl<T: Pod> Pages<T> {
    /// `len` zeros, present in memory: touched in parallel, `chunk` of them after another.
    pub(super) fn zeros(len: usize, chunk: usize) -> Result<Self, Error> {
        let bytes = len.saturating_mul(size_of::<T>());
        // An empty mapping is refused by the system.
        let mut memory = MmapMut::map_anon(bytes.max(1)).map_err(|_| Error::Memory { bytes })?;
        #[cfg(target_os = "linux")]
        {
            // A wish: a kernel without large pages goes on with small ones.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        let chunks = memory.par_chunks_mut((chunk * size_of::<T>()).next_multiple_of(PAGE));
        mapped(chunks, |chunk| {
            for byte in chunk.iter_mut().step_by(PAGE) {
                *byte = 0;
            }
        });
        Ok(Self {
            memory,
            values: PhantomData,
        })
    }

    /// Bytes of the values: an empty mapping has one byte all the same.
    fn bytes(&self) -> usize {
        self.memory.len() / size_of::<T>() * size_of::<T>()
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.memory[..self.bytes()])
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = self.bytes();
        bytemuck::cast_slice_mut(&mut self.memory[..bytes])
    }
}

//! What does a row of dequantisation noise cost, and how much of it is the cipher?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use merged_diffusion_core::stream::{self, Entry, Key, Law, Normal, Purpose, Stream, Uniform};
use merged_diffusion_core::truncated_normal::TruncatedNormal;

/// A CIFAR image.
const DIM: usize = 3072;

const KEY: Key = Key {
    seed: 0,
    purpose: Purpose::Dequantisation,
    image: 0,
    draw: 0,
    node: 0,
};

fn fill<T: Entry>(criterion: &mut Criterion, name: &str, zero: T, law: &impl Law) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(DIM as u64));
    let mut row = vec![zero; DIM];
    group.bench_function(name, |bencher| {
        bencher.iter(|| stream::fill_rows(black_box(&mut row), &[KEY], law));
    });
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(DIM as u64));
    let mut bytes = vec![0; 8 * DIM];
    group.bench_function("cipher alone", |bencher| {
        bencher.iter(|| Stream::new(black_box(KEY)).signs(&mut bytes));
    });
    group.finish();
    let uniform = Uniform::new(0.0, 1.0).expect("0 < 1");
    fill(criterion, "uniform f64", 0.0_f64, &uniform);
    fill(criterion, "normal f64", 0.0_f64, &Normal);
    // Without tails, the VDM's at gamma = -13.3 and 256 levels.
    for tau in [0.5, 3.0187] {
        let law = TruncatedNormal::new(tau).expect("tau > 0");
        fill(criterion, &format!("tau {tau} f32"), 0.0_f32, &law);
        fill(criterion, &format!("tau {tau} f64"), 0.0_f64, &law);
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);

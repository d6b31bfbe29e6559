//! What do the terms of a batch cost, beside the network that they follow?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use merged_diffusion_core::bits::{self, ImageTerms};
use rayon::ThreadPoolBuilder;

/// As many rows as the largest usual batch.
const ROWS: usize = 512;
/// Values of a CIFAR-10 image.
const DIM: usize = 3072;

fn decoder(criterion: &mut Criterion) {
    let z: Vec<f64> = (0..ROWS * DIM).map(|i| (i as f64).sin()).collect();
    let pixels: Vec<u8> = z.iter().map(|z| (127.5 * (z + 1.0)) as u8).collect();
    let pool = ThreadPoolBuilder::new().build().expect("threads start");
    let mut group = criterion.benchmark_group("decoder");
    group.throughput(Throughput::Elements((ROWS * DIM) as u64));
    group.sample_size(10);
    // The usual end of the clock, and one where half of the levels count.
    for gamma_min in [-13.3, -2.0] {
        group.bench_function(format!("gamma_min = {gamma_min}"), |bencher| {
            let terms =
                || bits::decoder_log_likelihood(black_box(&z), &pixels, DIM, gamma_min, 256);
            bencher.iter(|| pool.install(terms));
        });
    }
    group.finish();
}

fn terms(criterion: &mut Criterion) {
    let draws: Vec<f64> = (0..100).map(|i| -f64::from(i).sqrt()).collect();
    criterion.bench_function("terms of 5 repeats of 20 draws", |bencher| {
        bencher.iter(|| ImageTerms::new(black_box(&draws), &draws, &draws, &draws, 20));
    });
}

fn errors(criterion: &mut Criterion) {
    let values: Vec<f64> = (0..50_000).map(|i| f64::from(i).sin()).collect();
    let clusters: Vec<i64> = (0..50_000).map(|i| i % 500).collect();
    let mut group = criterion.benchmark_group("50000 images");
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("mean and error", |bencher| {
        bencher.iter(|| bits::mean_and_error(black_box(&values)));
    });
    group.bench_function("clustered error", |bencher| {
        bencher.iter(|| bits::clustered_error(black_box(&values), &clusters));
    });
    group.finish();
}

criterion_group!(benches, decoder, terms, errors);
criterion_main!(benches);

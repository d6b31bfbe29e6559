//! What does a draw of the truncated normal cost, in f32 and f64, beside the bare words of its stream?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use merged_diffusion_core::Error;
use merged_diffusion_core::stream::{Float, Purpose, Rows};
use merged_diffusion_core::truncated_normal::TruncatedNormal;

/// The largest usual batch of CIFAR-10 images.
const ROWS: usize = 512;
const DIM: usize = 3072;

/// Half-width at gamma = -13.3 and 256 levels.
const TAU: f64 = 3.018_689;

fn noise<T: Float>(rows: &Rows<'_>, out: &mut [T]) -> Result<(), Error> {
    TruncatedNormal::new(TAU)?.fill(rows, DIM, 0, out)
}

fn fill(criterion: &mut Criterion) {
    let images: Vec<u64> = (0..ROWS as u64).collect();
    let draws = vec![0; ROWS];
    let rows =
        Rows::new(0, Purpose::Dequantisation, &images, &draws).expect("as many draws as images");
    let (mut single, mut double) = (vec![0.0_f32; ROWS * DIM], vec![0.0_f64; ROWS * DIM]);
    let mut signs = vec![0; ROWS * DIM / 8];
    let threads = rayon::current_num_threads();
    let mut group = criterion.benchmark_group(format!("truncated normal, {threads} threads"));
    group.throughput(Throughput::Elements((ROWS * DIM) as u64));
    group.bench_function("bare words", |bencher| {
        bencher.iter(|| rows.fill(DIM, 0, black_box(&mut double), |word| word as f64));
    });
    group.bench_function("f32", |bencher| {
        bencher.iter(|| noise(&rows, black_box(&mut single)));
    });
    group.bench_function("f64", |bencher| {
        bencher.iter(|| noise(&rows, black_box(&mut double)));
    });
    group.bench_function("signs", |bencher| {
        bencher.iter(|| rows.fill_signs(DIM / 8, 0, black_box(&mut signs)));
    });
    group.finish();
}

criterion_group!(benches, fill);
criterion_main!(benches);

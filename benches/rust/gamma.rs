//! What does the clock cost beside the exponentials it cannot do without?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use merged_diffusion_core::gamma::{self, GammaRange, Threshold};
use merged_diffusion_core::merge::{Alone, Pair, Toward};

/// As many rows as the largest usual batch.
const ROWS: usize = 512;

/// A function of gamma by its name.
type Named = (&'static str, fn(f64) -> f64);

fn clock(criterion: &mut Criterion) {
    let gammas: Vec<f64> = (0..ROWS)
        .map(|row| GammaRange::MERGED.gamma(row as f64 / (ROWS - 1) as f64))
        .collect();
    let mut group = criterion.benchmark_group("gamma");
    group.throughput(Throughput::Elements(ROWS as u64));
    let functions: [Named; 5] = [
        ("bare exp", f64::exp),
        ("alpha", gamma::alpha),
        ("sigma_squared", gamma::sigma_squared),
        ("log_sigma", gamma::log_sigma),
        ("edm_sigma", gamma::edm_sigma),
    ];
    for (name, function) in functions {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                black_box(&gammas)
                    .iter()
                    .map(|gamma| function(*gamma))
                    .sum::<f64>()
            });
        });
    }
    group.finish();
}

fn legs(criterion: &mut Criterion) {
    criterion.bench_function("legs of a pair", |bencher| {
        bencher.iter(|| {
            let threshold = Threshold::new(black_box(gamma::Given::Eta(0.4)))?;
            let pair = Pair::new(GammaRange::VDM, GammaRange::EDM, None)?;
            let (merged, _) = pair.merge(threshold, Alone::Native, false)?;
            Ok::<_, merged_diffusion_core::Error>(merged.legs(Toward::Noise))
        });
    });
}

criterion_group!(benches, clock, legs);
criterion_main!(benches);

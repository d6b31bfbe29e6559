//! A step on the host beside a bare loop over the same buffers, timed in turn: the machine's speed drifts by
//! more than the difference. `DIM`, `ROWS` and `RAYON_NUM_THREADS` are read from the environment.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use merged_diffusion_core::host::Slot;

/// Turns of the table.
const TURNS: usize = 41;

/// G rows of d values.
#[derive(Clone, Copy)]
pub struct Shape {
    /// G.
    pub rows: usize,
    /// D.
    pub dim: usize,
}

impl Shape {
    /// Of all rows.
    pub fn values(self) -> usize {
        self.rows * self.dim
    }
}

/// A method's step in three guises.
pub trait Stepping {
    /// Of the criterion group and the table.
    const NAME: &str;
    /// Evaluations of a step.
    const EVALUATIONS: usize;
    /// Least bytes per value that a bare step moves.
    const BYTES: usize;

    /// All buffers, loaded.
    fn new(shape: Shape) -> Self;

    /// The least that a step can be; a number that needs all of it.
    fn bare(&mut self) -> f64;

    /// The verbs that a frame of the driver asks for, with ready weights; a number that needs all of it.
    fn step(&mut self) -> f64;

    /// The real driver along one leg of equal steps; its network calls.
    fn drive(&mut self) -> u64;
}

/// What the network answers: the same eps_hat every time, at no cost.
pub fn output<S: Slot>(shape: Shape) -> Vec<S> {
    (0..shape.values())
        .map(|i| S::narrow((i as f64 * 0.7).sin()))
        .collect()
}

/// The ratios of both kinds of slots, then criterion's own figures.
///
/// # Panics
/// Where the system gives no threads.
pub fn compare<Double: Stepping, Single: Stepping>() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("a debug build says nothing about speed; use cargo bench");
        return ExitCode::FAILURE;
    }
    let shape = Shape {
        rows: setting("ROWS", 512),
        dim: setting("DIM", 3072),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(setting("RAYON_NUM_THREADS", 2));
    // Outside of a pool the core's loops run on one thread.
    pool.build().expect("threads start").install(|| {
        table::<Double>(shape);
        table::<Single>(shape);
        let mut criterion = Criterion::default().configure_from_args();
        figures::<Double>(&mut criterion, shape);
        figures::<Single>(&mut criterion, shape);
        criterion.final_summary();
    });
    ExitCode::SUCCESS
}

/// Median and quartiles.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn show(name: &str, unit: &str, values: Vec<f64>) {
    let [low, median, high] = quartiles(values);
    println!("  {name:<42} {median:8.3} {unit:<6} (quartiles {low:.3} to {high:.3})");
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = std::hint::black_box(work());
    (result, start.elapsed().as_secs_f64() * 1e3)
}

/// The ratios, each pair timed within milliseconds of each other.
fn table<M: Stepping>(shape: Shape) {
    let bytes = M::BYTES * shape.values();
    println!(
        "{}, {} x {}, {} threads, {:.0} MB a step at least, {TURNS} turns",
        M::NAME,
        shape.rows,
        shape.dim,
        rayon::current_num_threads(),
        bytes as f64 / 1e6
    );
    let mut method = M::new(shape);
    let mut times: [Vec<f64>; 5] = Default::default();
    for turn in 0..=TURNS {
        let bare_step = timed(|| method.bare()).1;
        let step = timed(|| method.step()).1;
        let (calls, leg) = timed(|| method.drive());
        let bare_evaluation = bare_step / M::EVALUATIONS as f64;
        let evaluation = leg / calls as f64;
        // The first turn warms up.
        if turn > 0 {
            times[0].push(bare_step);
            times[1].push(step);
            times[2].push(step / bare_step);
            times[3].push(evaluation);
            times[4].push(evaluation / bare_evaluation);
        }
    }
    let [bare_step, step, ratio, evaluation, driver_ratio] = times;
    let rates = bare_step.iter().map(|ms| bytes as f64 / ms / 1e6).collect();
    show("bare fused loop, a step", "ms", bare_step);
    show("  its rate over the least bytes", "GB/s", rates);
    show("host, a step", "ms", step);
    show("host / bare", "", ratio);
    show("driver over the host, an evaluation", "ms", evaluation);
    show("driver / bare", "", driver_ratio);
}

fn figures<M: Stepping>(criterion: &mut Criterion, shape: Shape) {
    let mut group = criterion.benchmark_group(M::NAME);
    group.throughput(Throughput::Bytes((M::BYTES * shape.values()) as u64));
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    let mut method = M::new(shape);
    group.bench_function("bare", |bencher| bencher.iter(|| method.bare()));
    group.bench_function("host", |bencher| bencher.iter(|| method.step()));
    group.finish();
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

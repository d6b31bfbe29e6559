//! What does the host's arithmetic of a Dormand-Prince step cost beside a bare fused loop over the same
//! buffers, plus one copy of the network's output per evaluation?
//!
//! A step of G rows of d values: six combinations (the last writes trial and input), six stores of the
//! network's output, one error norm, and acceptance. Least bytes per value, with slots of s bytes:
//!
//!   combine 1..=5   8 + i s read, s written        40 + 15 s + 5 s
//!   combine 6       8 + 6 s read, 8 + s written    16 + 6 s + s
//!   store, 6 times  s read, s written              12 s
//!   error norm      16 + 7 s read                  16 + 7 s
//!
//! so 72 + 46 s: 440 with float64 slots and 256 with float32 slots. Acceptance moves nothing.
//! Before criterion's own figures stands a table of ratios whose two sides were timed in turn, as the
//! machine's speed drifts by more than the difference. `DIM`, `ROWS` and `RAYON_NUM_THREADS` are read
//! from the environment.

mod bare;
mod workshop;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bare::Bare;
use criterion::{Criterion, Throughput};
use merged_diffusion_core::host::Slot;
use merged_diffusion_core::tableau::STAGES;
use workshop::{Workshop, drive, spans};

/// Evaluations of a step.
const EVALUATIONS: usize = STAGES - 1;

/// Turns of the table.
const TURNS: usize = 41;

/// Scale and weights of stages 1..=6 and of the error, of the size they have on the semi-linear form
/// at h = 0.3: row i weighs slots 0..i, all of them, and the error all seven.
const SCALES: [f64; STAGES] = [0.97, 0.95, 0.89, 0.88, 0.86, 0.86, -1e-6];
const WEIGHTS: [[f64; STAGES]; STAGES] = [
    [0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.01, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.14, -0.5, 0.5, 0.0, 0.0, 0.0, 0.0],
    [0.4, -1.6, 1.4, -0.04, 0.0, 0.0, 0.0],
    [0.4, -1.5, 1.3, 0.04, -0.04, 0.0, 0.0],
    [0.01, 1e-4, 0.07, 0.1, -0.05, 0.02, 0.0],
    [-2e-4, 1e-6, 6e-4, -7e-3, 7e-3, -6e-3, 3e-3],
];

const TOLERANCE: (f64, f64) = (1e-5, 1e-5);

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    dim: usize,
}

impl Shape {
    fn values(self) -> usize {
        self.rows * self.dim
    }
}

/// What the network answers: the same eps_hat every time, at no cost.
fn output<S: Slot>(shape: Shape) -> Vec<S> {
    (0..shape.values())
        .map(|i| S::narrow((i as f64 * 0.7).sin()))
        .collect()
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
fn table<S: Slot>(name: &str, shape: Shape) {
    let bytes = (72 + 46 * size_of::<S>()) * shape.values();
    println!(
        "{name} slots, {} x {}, {} threads, {:.0} MB a step at least, {TURNS} turns",
        shape.rows,
        shape.dim,
        rayon::current_num_threads(),
        bytes as f64 / 1e6
    );
    let mut bare = Bare::<S>::new(shape);
    let mut workshop = Workshop::<S>::new(shape);
    let spans = spans(shape.rows);
    let mut times: [Vec<f64>; 5] = Default::default();
    for turn in 0..=TURNS {
        let bare_step = timed(|| bare.step()).1;
        let step = timed(|| workshop.step(&spans)).1;
        let (calls, leg) = timed(|| drive(shape, &mut workshop));
        let bare_evaluation = bare_step / EVALUATIONS as f64;
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

fn figures<S: Slot>(criterion: &mut Criterion, name: &str, shape: Shape) {
    let mut group = criterion.benchmark_group(format!("dopri5 step, {name} slots"));
    let bytes = (72 + 46 * size_of::<S>()) * shape.values();
    group.throughput(Throughput::Bytes(bytes as u64));
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3));
    {
        let mut bare = Bare::<S>::new(shape);
        group.bench_function("bare", |bencher| bencher.iter(|| bare.step()));
    }
    let mut workshop = Workshop::<S>::new(shape);
    let spans = spans(shape.rows);
    group.bench_function("host", |bencher| bencher.iter(|| workshop.step(&spans)));
    group.finish();
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("dopri5: a debug build says nothing about speed; use cargo bench");
        return ExitCode::FAILURE;
    }
    let shape = Shape {
        rows: setting("ROWS", 512),
        dim: setting("DIM", 3072),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(setting("RAYON_NUM_THREADS", 2));
    pool.build_global().expect("the first pool of this process");
    table::<f64>("float64", shape);
    table::<f32>("float32", shape);
    let mut criterion = Criterion::default().configure_from_args();
    figures::<f64>(&mut criterion, "float64", shape);
    figures::<f32>(&mut criterion, "float32", shape);
    criterion.final_summary();
    ExitCode::SUCCESS
}

//! The Adams driver on flows whose densities are known: order, landing, retries, restarts, cost.

mod problems;

use std::convert::Infallible;

use merged_diffusion_core::adams::{Plan, Precision, SLOTS};
use merged_diffusion_core::gamma::{log_alpha, sigma, sigma_squared};
use merged_diffusion_core::lane::{Method, Observer, Settings, solve};
use merged_diffusion_core::outcome::{Finished, Job, Status, Step};
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::workspace::{Column, Columns, Spans, Target, Workspace};
use problems::{Naive, Store, variance};

const DIM: usize = 4;
/// Standard deviations of the data: a stiff value, easy ones.
const STDS: [f64; DIM] = [0.05, 0.2, 0.5, 1.0];
const RANGE: (f64, f64) = (-8.0, 5.0);

fn start(key: u64) -> Vec<f64> {
    (0..DIM)
        .map(|i| 0.3 + 0.1 * (key as f64) - 0.2 * i as f64)
        .collect()
}

fn settings(rows: usize, tol: f64, order: usize, constant: Option<u32>) -> Settings {
    Settings {
        method: Method::Adams(Plan {
            dim: DIM,
            precision: Precision::new(tol, 0.7).expect("both are positive"),
            order,
            noise_floor: 0.0,
            constant,
        }),
        rows,
        keep: true,
    }
}

#[derive(Default)]
struct Log {
    finished: Vec<(usize, Finished)>,
    steps: Vec<Step>,
}

impl Observer<Infallible> for Log {
    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn forked(&mut self, _: u64, job: &Job) {
        panic!("problem {} has one route", job.key);
    }

    fn finished(&mut self, leg: usize, finished: Finished) -> Result<(), Infallible> {
        self.finished.push((leg, finished));
        Ok(())
    }
}

fn solved<'a>(
    workspaces: &mut [Box<dyn Workspace<Error = Infallible> + 'a>],
    legs: &[(f64, f64)],
    settings: &Settings,
    keys: &[u64],
) -> Log {
    let mut log = Log::default();
    let Ok(_) = solve(&Routes::one(legs), settings, workspaces, keys, &mut log);
    log
}

fn run(legs: &[(f64, f64)], settings: &Settings, keys: &[u64]) -> (Log, Store) {
    let saved = Store::default();
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> = legs
        .iter()
        .map(|_| {
            let mut workspace = Naive::new(settings.rows, DIM, SLOTS, start, gaussian());
            workspace.saved = Store::clone(&saved);
            Box::new(workspace) as Box<dyn Workspace<Error = Infallible>>
        })
        .collect();
    let log = solved(&mut workspaces, legs, settings, keys);
    (log, saved)
}

/// The network of data N(0, diag STDS^2) and q = sigma tr(d `eps_hat` / dz), exactly.
fn gaussian() -> impl Fn(f64, u64, &[f64]) -> (Vec<f64>, f64) {
    |gamma, _, z| {
        let slopes = STDS.map(|std| sigma(gamma) / variance(gamma, std));
        let output = z.iter().zip(slopes).map(|(z, slope)| slope * z).collect();
        (output, sigma(gamma) * slopes.iter().sum::<f64>())
    }
}

/// The log-density entry and the growth of each value, exactly.
fn exact(from: f64, to: f64) -> (f64, [f64; DIM]) {
    let growth = STDS.map(|std| (variance(to, std) / variance(from, std)).sqrt());
    (growth.iter().map(|growth| growth.ln()).sum(), growth)
}

/// Log-density at gamma of the flow's Gaussian.
fn log_density(z: &[f64], gamma: f64) -> f64 {
    z.iter()
        .zip(STDS)
        .map(|(z, std)| {
            let variance = variance(gamma, std);
            -0.5 * z * z / variance - 0.5 * (std::f64::consts::TAU * variance).ln()
        })
        .sum()
}

fn end_error(saved: &Store, key: u64, growth: [f64; DIM]) -> f64 {
    let ends = &saved.borrow()[&key];
    let exact = start(key)
        .into_iter()
        .zip(growth)
        .map(|(z, growth)| z * growth);
    ends.iter()
        .zip(exact)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

#[test]
fn the_error_falls_with_the_order_of_the_corrector() {
    let (entry, growth) = exact(RANGE.0, RANGE.1);
    for order in 1..=3 {
        let errors: Vec<(f64, f64)> = [200, 400]
            .iter()
            .map(|&steps| {
                let (log, saved) = run(&[RANGE], &settings(1, 1e-3, order, Some(steps)), &[1]);
                let (_, finished) = &log.finished[0];
                assert_eq!(finished.status, Status::Ok);
                assert_eq!(finished.job.accepted, u64::from(steps));
                assert_eq!(finished.job.evaluations, [u64::from(steps) + 1]);
                let state = end_error(&saved, 1, growth);
                (state, (finished.job.log_density - entry).abs())
            })
            .collect();
        // The corrector has one node more than the predictor; it starts at a lower order, which the
        // short first steps of a real run hide and equal steps do not: at least the predictor's order.
        let fall = (errors[0].0 / errors[1].0).log2();
        assert!(fall > order as f64 - 0.3, "order {order}: {errors:?}");
        // Here q does not depend on the state: the entry is the spline's alone.
        assert!(errors[1].1 < 1e-6, "order {order}: {errors:?}");
    }
}

#[test]
fn a_tighter_tolerance_gives_a_smaller_error_and_lands_on_every_end() {
    let legs = [(RANGE.0, -2.7), (-2.7, RANGE.1)];
    let (entry, growth) = exact(RANGE.0, RANGE.1);
    let mut errors = Vec::new();
    for tol in [1e-2, 1e-3, 1e-4] {
        let (log, saved) = run(&legs, &settings(2, tol, 3, None), &[0, 1, 2]);
        assert_eq!(log.finished.len(), 3);
        let mut worst: f64 = 0.0;
        for (leg, finished) in &log.finished {
            assert_eq!(
                (*leg, finished.status, finished.t),
                (1, Status::Ok, RANGE.1)
            );
            let key = finished.job.key;
            let ends = log.steps.iter().filter(|step| step.key == key);
            assert!(ends.clone().any(|step| step.t == -2.7));
            // A node at the start of each leg, and one a step.
            assert_eq!(finished.job.nodes, ends.count() as u64 + 2);
            let spent: u64 = finished.job.evaluations.iter().sum();
            assert_eq!(spent, finished.job.nodes + finished.job.rejected);
            worst = worst.max(end_error(&saved, key, growth));
            assert!((finished.job.log_density - entry).abs() < 30.0 * tol);
        }
        errors.push(worst);
    }
    assert!(
        errors[0] > errors[1] && errors[0] > 8.0 * errors[2],
        "{errors:?}"
    );
}

#[test]
fn the_path_correction_takes_the_paths_error_away() {
    // Against the density of what was started from, the path's own error alone: the trace is exact.
    let (entry, _) = exact(RANGE.0, RANGE.1);
    let truth = log_density(&start(1), RANGE.0);
    for tol in [3e-3, 1e-3, 3e-4] {
        let (log, saved) = run(&[RANGE], &settings(1, tol, 3, None), &[1]);
        let (_, finished) = &log.finished[0];
        let end = log_density(&saved.borrow()[&1], RANGE.1);
        let path = end + entry - truth;
        let rest = path + finished.job.path_correction;
        assert!(rest.abs() < 0.02 * path.abs(), "tol {tol}: {path} {rest}");
    }
}

#[test]
fn a_row_is_unmoved_by_its_neighbours_and_costs_one_wait_an_attempt() {
    let alone = run(&[RANGE], &settings(1, 1e-3, 3, None), &[2]).0;
    let (_, expected) = &alone.finished[0];
    let mut workspace = Naive::new(2, DIM, SLOTS, start, gaussian());
    workspace.saved = Store::default();
    let mut log = Log::default();
    let keys = [0, 1, 2, 3, 4];
    let mut boxed: Vec<Box<dyn Workspace<Error = Infallible> + '_>> =
        vec![Box::new(Counted(&mut workspace))];
    let Ok(tally) = solve(
        &Routes::one(&[RANGE]),
        &settings(2, 1e-3, 3, None),
        &mut boxed,
        &keys,
        &mut log,
    );
    drop(boxed);
    let found = log
        .finished
        .iter()
        .find(|(_, finished)| finished.job.key == 2);
    let (_, found) = found.expect("all problems finish");
    assert_eq!(
        (&found.job, found.square.to_bits()),
        (&expected.job, expected.square.to_bits())
    );
    assert_eq!(workspace.calls.collect, tally.calls[0]);
    assert_eq!(workspace.calls.evaluate, tally.calls[0]);
    assert_eq!(workspace.calls.gram, tally.calls[0]);
}

#[test]
fn a_step_that_is_repeated_keeps_its_probe() {
    let mut workspace = Naive::new(1, DIM, SLOTS, start, gaussian());
    let mut boxed: Vec<Box<dyn Workspace<Error = Infallible> + '_>> =
        vec![Box::new(Counted(&mut workspace))];
    let log = solved(&mut boxed, &[RANGE], &settings(1, 1e-4, 3, None), &[1]);
    drop(boxed);
    let job = &log.finished[0].1.job;
    assert!(job.rejected > 0, "no step was repeated");
    let mut nodes = workspace.nodes;
    assert_eq!(nodes.len() as u64, job.nodes + job.rejected);
    nodes.dedup();
    assert_eq!(nodes, (0..job.nodes).collect::<Vec<_>>());
}

#[test]
fn a_leg_knows_nothing_of_the_one_before() {
    // Experts of opposite sign: what the one says is nothing for the other to go on with.
    let middle = -2.7;
    let there = gaussian();
    let back = move |gamma: f64, key: u64, z: &[f64]| {
        let (output, q) = there(gamma, key, z);
        (output.into_iter().map(|value: f64| -value).collect(), -q)
    };
    let saved = Store::default();
    let mut first = Naive::new(1, DIM, SLOTS, start, gaussian());
    let mut second = Naive::new(1, DIM, SLOTS, start, back);
    first.saved = Store::clone(&saved);
    second.saved = Store::clone(&saved);
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> =
        vec![Box::new(first), Box::new(second)];
    let log = solved(
        &mut workspaces,
        &[(RANGE.0, middle), (middle, RANGE.1)],
        &settings(1, 1e-6, 3, None),
        &[1],
    );
    // With eps_hat reversed, z/alpha shrinks as it grew: y goes as 1 / growth of y.
    let (entry, growth) = exact(RANGE.0, middle);
    let (entry_back, growth_back) = exact(middle, RANGE.1);
    let scale = log_alpha(RANGE.1) - log_alpha(middle);
    let growth = growth
        .iter()
        .zip(growth_back)
        .map(|(there, back)| there * (2.0 * scale).exp() / back);
    let wanted: Vec<f64> = start(1)
        .into_iter()
        .zip(growth)
        .map(|(z, g)| z * g)
        .collect();
    let entry = entry - entry_back + 2.0 * DIM as f64 * scale;
    for (found, wanted) in saved.borrow()[&1].iter().zip(&wanted) {
        assert!(
            (found - wanted).abs() <= 1e-3 * wanted.abs(),
            "{found} {wanted}"
        );
    }
    let found = log.finished[0].1.job.log_density;
    assert!((found - entry).abs() < 1e-6, "{found} {entry}");
}

/// Lends a workspace to a solve, so that its counts can be read afterwards.
struct Counted<'a>(&'a mut Naive);

impl Workspace for Counted<'_> {
    type Error = Infallible;

    fn load(&mut self, row: usize, key: u64) -> Result<(), Infallible> {
        self.0.load(row, key)
    }
    fn save(&mut self, row: usize, key: u64, slots: &[usize]) -> Result<(), Infallible> {
        self.0.save(row, key, slots)
    }
    fn combine(&mut self, target: Target, spans: &Spans) -> Result<(), Infallible> {
        self.0.combine(target, spans)
    }
    fn evaluate(
        &mut self,
        t: &[f64],
        node: &[u64],
        slot: &[Option<usize>],
    ) -> Result<Column, Infallible> {
        self.0.evaluate(t, node, slot)
    }
    fn scaled_square(
        &mut self,
        spans: &Spans,
        tolerance: merged_diffusion_core::control::Tolerance,
    ) -> Result<Column, Infallible> {
        self.0.scaled_square(spans, tolerance)
    }
    fn gram(&mut self, new: &[Option<usize>]) -> Result<Column, Infallible> {
        self.0.gram(new)
    }
    fn collect(&mut self) -> Result<Columns, Infallible> {
        self.0.collect()
    }
    fn accept(&mut self, mask: &[bool]) -> Result<(), Infallible> {
        self.0.accept(mask)
    }
}

/// Runs one problem with a network that fails as `fails` says of (call, gamma).
fn with_failures(fails: impl Fn(u64, f64) -> bool + 'static) -> Finished {
    let honest = gaussian();
    let mut calls = 0;
    let network = move |t: f64, key: u64, z: &[f64]| {
        calls += 1;
        let (mut output, q) = honest(t, key, z);
        if fails(calls, t) {
            output[0] = f64::NAN;
        }
        (output, q)
    };
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> =
        vec![Box::new(Naive::new(1, DIM, SLOTS, start, network))];
    let mut log = solved(&mut workspaces, &[RANGE], &settings(1, 1e-3, 3, None), &[1]);
    log.finished.remove(0).1
}

#[test]
fn a_value_that_is_not_finite_shortens_the_step_three_times_at_most() {
    let once = with_failures(|call, _| call == 20);
    assert_eq!((once.status, once.job.rejected >= 1), (Status::Ok, true));
    let (entry, _) = exact(RANGE.0, RANGE.1);
    assert!((once.job.log_density - entry).abs() < 1e-2);
    let wall = with_failures(|_, t| t > 0.0);
    assert_eq!((wall.status, wall.t <= 0.0), (Status::Nonfinite, true));
    let start = with_failures(|call, _| call == 1);
    assert_eq!((start.status, start.t), (Status::Nonfinite, RANGE.0));
}

#[test]
fn a_kink_that_no_step_resolves_is_told() {
    // eps_hat jumps in time by a hundred times the state: forced steps far beyond the tolerance.
    let network = |t: f64, _: u64, z: &[f64]| {
        let jump = if (t * 400.0).sin() > 0.0 { 1e3 } else { -1e3 };
        (z.iter().map(|z| z + jump).collect(), 0.0)
    };
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> =
        vec![Box::new(Naive::new(1, DIM, SLOTS, start, network))];
    let legs = [(0.0, 0.5)];
    let log = solved(&mut workspaces, &legs, &settings(1, 1e-4, 3, None), &[1]);
    assert_eq!(log.finished[0].1.status, Status::ToleranceMissed);
}

#[test]
fn the_linear_part_of_the_entry_is_exact() {
    // A network that says nothing leaves z alpha-scaled and the entry d log(alpha_1 / alpha_0).
    let nothing = |_: f64, _: u64, z: &[f64]| (vec![0.0; z.len()], 0.0);
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> =
        vec![Box::new(Naive::new(1, DIM, SLOTS, start, nothing))];
    let log = solved(&mut workspaces, &[RANGE], &settings(1, 1e-3, 3, None), &[1]);
    let entry = DIM as f64 * (log_alpha(RANGE.1) - log_alpha(RANGE.0));
    assert!((log.finished[0].1.job.log_density - entry).abs() < 1e-12);
    let square: f64 = start(1).iter().map(|z| z * z).sum();
    let alpha = (1.0 - sigma_squared(RANGE.1)) / (1.0 - sigma_squared(RANGE.0));
    assert!((log.finished[0].1.square - alpha * square).abs() < 1e-14);
    // Nothing changes, so steps grow to the longest at once: 0.057 doubled, then 0.7.
    assert!(log.steps.len() < 26, "{}", log.steps.len());
}

#[test]
fn precision_refuses_what_inner_products_cannot_tell() {
    for (tol, h_max) in [
        (0.0, 0.7),
        (1e-8, 0.7),
        (f64::NAN, 0.7),
        (1e-3, 0.0),
        (1e-3, f64::INFINITY),
    ] {
        assert!(Precision::new(tol, h_max).is_err(), "{tol} {h_max}");
    }
}

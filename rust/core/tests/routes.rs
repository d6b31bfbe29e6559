//! Problems that differ in their routes alone: to the last bit what each comes to by itself, at the cost
//! of the steps that differ.

mod problems;

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;

use merged_diffusion_core::adams::{self, Precision};
use merged_diffusion_core::control::{StepControl, Tolerance};
use merged_diffusion_core::field::Field;
use merged_diffusion_core::lane::{Method, Observer, Settings, Tally, solve};
use merged_diffusion_core::outcome::{Finished, Job, Status, Step};
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::runge_kutta;
use merged_diffusion_core::workspace::Workspace;
use problems::{Naive, Store, gaussian};

const DIM: usize = 3;
const START: f64 = -8.0;
/// Ends of the first lane, the last one final; the second lane goes on to 5.
const SWITCHES: [f64; 7] = [-7.999, -7.7, -4.0, -3.9, 0.0, 1.0, 2.0];
const END: f64 = 2.0;
const STRIDE: u64 = 100;

fn routes() -> Vec<Vec<(f64, f64)>> {
    let mut routes = vec![vec![(START, END)]];
    routes.extend(SWITCHES.map(|switch| vec![(START, switch), (switch, 5.0)]));
    routes
}

fn every_key(n: u64) -> Vec<u64> {
    let routes = 0..=SWITCHES.len() as u64;
    routes
        .flat_map(|route| (0..n).map(move |problem| route * STRIDE + problem))
        .collect()
}

fn without_origin(job: &Job) -> Job {
    Job {
        origin: None,
        ..job.clone()
    }
}

fn dormand_prince(control: StepControl, tolerance: f64) -> Method {
    Method::DormandPrince(runge_kutta::Plan {
        field: Field::ProbabilityFlow { dim: DIM },
        control,
        tolerance: Tolerance::new(tolerance, tolerance).expect("positive"),
        dim: DIM,
    })
}

fn dopri5(tolerance: f64) -> Method {
    dormand_prince(StepControl::PerProblem, tolerance)
}

fn adams(tol: f64) -> Method {
    Method::Adams(adams::Plan {
        dim: DIM,
        precision: Precision::new(tol, 0.7).expect("both are positive"),
        order: 3,
        noise_floor: 0.0,
        constant: None,
    })
}

#[derive(Default)]
struct Log {
    finished: HashMap<u64, (usize, Finished)>,
    steps: HashMap<u64, Vec<f64>>,
}

impl Observer<Infallible> for Log {
    fn step(&mut self, step: Step) {
        self.steps.entry(step.key).or_default().push(step.t);
    }

    fn forked(&mut self, from: u64, job: &Job) {
        let shared = self.steps.entry(from).or_default()[..job.accepted as usize].to_vec();
        assert_eq!(
            self.steps.insert(job.key, shared),
            None,
            "{} forks once",
            job.key
        );
    }

    fn finished(&mut self, leg: usize, finished: Finished) -> Result<(), Infallible> {
        let again = self.finished.insert(finished.job.key, (leg, finished));
        assert_eq!(again, None);
        Ok(())
    }
}

/// What the network says of problem `key % STRIDE`, whatever the route.
type Expert = Rc<dyn Fn(f64, u64, &[f64]) -> (Vec<f64>, f64)>;

fn run(method: Method, rows: usize, keys: &[u64], experts: [&Expert; 2]) -> (Log, Store, Tally) {
    let saved = Store::default();
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> = Vec::new();
    for expert in experts {
        let expert = Rc::clone(expert);
        let mut naive = Naive::new(
            rows,
            DIM,
            method.slots(),
            |key| {
                let problem = (key % STRIDE) as f64;
                (0..DIM)
                    .map(|i| 0.3 + 0.1 * problem - 0.2 * i as f64)
                    .collect()
            },
            move |t, key, z| expert(t, key % STRIDE, z),
        );
        naive.saved = Store::clone(&saved);
        workspaces.push(Box::new(naive));
    }
    let settings = Settings {
        method,
        rows,
        keep: true,
    };
    let routes = Routes::new(routes(), STRIDE).expect("all begin together");
    let mut log = Log::default();
    let Ok(tally) = solve(&routes, &settings, &mut workspaces, keys, &mut log);
    (log, saved, tally)
}

fn experts() -> [Expert; 2] {
    [Rc::new(gaussian(0.5)), Rc::new(gaussian(0.7))]
}

fn assert_equal_to_single_runs(
    method: Method,
    rows: usize,
    keys: &[u64],
    experts: [&Expert; 2],
) -> f64 {
    let (log, saved, tally) = run(method, rows, keys, experts);
    let mut single = 0;
    for &key in keys {
        let (alone, ends, cost) = run(method, 1, &[key], experts);
        single += cost.evaluations;
        let ((leg, found), (own_leg, own)) = (&log.finished[&key], &alone.finished[&key]);
        assert_eq!((leg, found.status), (own_leg, own.status), "problem {key}");
        let shared = found.job.origin.map_or(0, |(_, steps)| steps);
        assert!(shared <= found.job.accepted);
        assert_eq!(without_origin(&found.job), own.job, "problem {key}");
        assert_eq!(found.t.to_bits(), own.t.to_bits());
        assert_eq!(found.ratio.to_bits(), own.ratio.to_bits());
        let steps = |log: &Log| log.steps.get(&key).cloned().unwrap_or_default();
        assert_eq!(steps(&log), steps(&alone), "problem {key}");
        if found.status == Status::Ok {
            assert_eq!(found.square.to_bits(), own.square.to_bits());
            assert_eq!(saved.borrow()[&key], ends.borrow()[&key]);
        }
    }
    let spent: u64 = tally.evaluations;
    assert!(spent <= single);
    spent as f64 / single as f64
}

#[test]
fn every_route_ends_as_it_would_alone() {
    let [first, second] = &experts();
    for tolerance in [1e-2, 1e-4, 1e-7] {
        for rows in [1, 4, 64] {
            let share = assert_equal_to_single_runs(
                dopri5(tolerance),
                rows,
                &every_key(3),
                [first, second],
            );
            assert!(share < 0.85, "{share} at {tolerance}");
        }
    }
    for tol in [3e-2, 3e-3, 1e-4] {
        for rows in [1, 4, 64] {
            let share =
                assert_equal_to_single_runs(adams(tol), rows, &every_key(3), [first, second]);
            assert!(share < 0.85, "{share} at {tol}");
        }
    }
}

#[test]
fn order_and_choice_of_routes_change_nothing() {
    let [first, second] = &experts();
    let mut keys = every_key(2);
    keys.reverse();
    assert_equal_to_single_runs(dopri5(1e-5), 3, &keys, [first, second]);
    // Without the trunk, and not the same for every problem.
    assert_equal_to_single_runs(dopri5(1e-5), 3, &[301, 501, 200], [first, second]);
    assert_equal_to_single_runs(adams(1e-3), 3, &[301, 501, 200], [first, second]);
}

/// A flow of short steps with narrow features, which reject some wherever a switch may lie.
fn bumpy() -> Expert {
    let smooth = gaussian(0.5);
    Rc::new(move |t, key, z| {
        let (mut output, q) = smooth(t, key, z);
        let bump = 60.0 * (-(((t * 1.7).sin() / 0.05).powi(2))).exp();
        for value in &mut output {
            *value += 20.0 * (2.0 * t).cos() + bump;
        }
        (output, q + bump)
    })
}

/// Problems that left another's row after some steps of its.
fn n_branched(log: &Log) -> usize {
    let origins = log.finished.values().map(|(_, found)| found.job.origin);
    origins.flatten().filter(|&(_, steps)| steps > 0).count()
}

#[test]
fn rejected_steps_at_a_branch_are_those_of_the_single_run() {
    let (first, [_, second]) = (&bumpy(), &experts());
    for method in [dopri5(1e-4), dopri5(1e-6), adams(3e-3)] {
        let (log, _, _) = run(method, 4, &every_key(2), [first, second]);
        let rejected = log
            .finished
            .values()
            .filter(|(_, found)| found.job.rejected > 0);
        assert!(rejected.count() > SWITCHES.len());
        assert!(n_branched(&log) >= 2 * (SWITCHES.len() - 2));
        assert_equal_to_single_runs(method, 4, &every_key(2), [first, second]);
    }
}

/// One leg, and the shorter one of problem `STRIDE`, which rides along or goes alone.
fn along(leg: (f64, f64), end: f64, method: Method, expert: &Expert, rides: bool) -> Log {
    let expert = Rc::clone(expert);
    let mut naive: Vec<Box<dyn Workspace<Error = Infallible>>> = vec![Box::new(Naive::new(
        2,
        DIM,
        method.slots(),
        |_| vec![0.3, 0.1, -0.1],
        move |t, key, z| expert(t, key % STRIDE, z),
    ))];
    let settings = Settings {
        method,
        rows: 2,
        keep: false,
    };
    let mut log = Log::default();
    let fan = vec![vec![leg], vec![(leg.0, end)]];
    let routes = Routes::new(fan, STRIDE).expect("all begin together");
    let keys = if rides { vec![0, STRIDE] } else { vec![STRIDE] };
    let Ok(_) = solve(&routes, &settings, &mut naive, &keys, &mut log);
    log
}

fn assert_same(branched: &Log, alone: &Log, end: f64) {
    let ((_, found), (_, own)) = (&branched.finished[&STRIDE], &alone.finished[&STRIDE]);
    assert_eq!(without_origin(&found.job), own.job, "end {end}");
    assert_eq!(found.square.to_bits(), own.square.to_bits());
    assert_eq!(branched.steps[&STRIDE], alone.steps[&STRIDE]);
}

#[test]
fn a_switch_within_the_first_step_cuts_it_as_alone() {
    // A flow so easy that the starting step passes the ends; near zero, end - start is rounded, so that
    // a step of that length may stop short of the end.
    let easy: Expert = Rc::new(|_, _, z| (vec![0.0; z.len()], 0.0));
    let mut stopped_short = 0;
    for number in 1..400 {
        let end = -0.05 + 0.001 * f64::from(number);
        let start = -0.1;
        stopped_short += u32::from(start + (end - start) < end);
        for method in [dopri5(1.0), adams(1e-3)] {
            let branched = along((start, 3.0), end, method, &easy, true);
            let alone = along((start, 3.0), end, method, &easy, false);
            assert_same(&branched, &alone, end);
        }
    }
    assert!(stopped_short > 0);
}

#[test]
fn switches_anywhere_along_rejected_steps_branch_alike() {
    // The ends move over every attempt of the trunk: short of it, on it, past it.
    let (first, [_, second]) = (&bumpy(), &experts());
    let (trunk, _, _) = run(dopri5(1e-4), 1, &[0], [first, second]);
    let nodes = &trunk.steps[&0];
    let mut n_shared = 0;
    for pair in nodes.windows(2) {
        let middle = 0.5 * (pair[0] + pair[1]);
        for end in [middle, pair[1], pair[1].next_up(), pair[1].next_down()] {
            if end >= END {
                continue;
            }
            let branched = along((START, END), end, dopri5(1e-4), first, true);
            let alone = along((START, END), end, dopri5(1e-4), first, false);
            assert_same(&branched, &alone, end);
            n_shared += n_branched(&branched);
        }
    }
    assert!(n_shared > nodes.len());
}

#[test]
fn what_fails_before_a_branch_fails_every_route_alike() {
    let smooth = gaussian(0.5);
    let holed: Expert = Rc::new(move |t, key, z| {
        let (mut output, q) = smooth(t, key, z);
        if key == 1 && t > -3.95 {
            output[0] = f64::NAN;
        }
        (output, q)
    });
    let [_, second] = &experts();
    for method in [dopri5(1e-5), adams(3e-3)] {
        let (log, _, _) = run(method, 4, &every_key(2), [&holed, second]);
        let failed = log
            .finished
            .values()
            .filter(|(_, found)| found.status != Status::Ok);
        // Of problem 1 the trunk, and the routes whose switch lies beyond.
        assert_eq!(failed.count(), 5);
        assert_equal_to_single_runs(method, 4, &every_key(2), [&holed, second]);
    }
}

#[test]
fn a_start_that_is_not_finite_fails_every_route() {
    let hopeless: Expert = Rc::new(|_, _, z| (vec![f64::NAN; z.len()], f64::NAN));
    let [_, second] = &experts();
    for method in [dopri5(1e-5), adams(3e-3)] {
        assert_equal_to_single_runs(method, 4, &every_key(2), [&hopeless, second]);
    }
}

#[test]
fn equal_steps_are_shared_by_nobody_and_right_all_the_same() {
    let [first, second] = &experts();
    let method = dormand_prince(StepControl::Constant { steps: 9 }, 1e-5);
    assert_equal_to_single_runs(method, 4, &every_key(2), [first, second]);
}

#[test]
fn a_problem_that_asks_once_is_evaluated_as_often_as_without_routes() {
    let [first, second] = &experts();
    let calls = Rc::new(Cell::new(0_u64));
    let (counted, count) = (Rc::clone(first), Rc::clone(&calls));
    let counting: Expert = Rc::new(move |t, key, z| {
        count.set(count.get() + 1);
        counted(t, key, z)
    });
    let (log, _, tally) = run(dopri5(1e-5), 1, &[301], [&counting, second]);
    let own = &log.finished[&301].1.job.evaluations;
    assert_eq!(calls.get(), own[0]);
    assert_eq!(tally.evaluations, own.iter().sum::<u64>());
}

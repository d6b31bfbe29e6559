//! The workspace on the host: what its verbs put off changes no number, whoever owns the network's memory.

mod problems;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use merged_diffusion_core::adams::{self, Precision};
use merged_diffusion_core::control::{StepControl, Tolerance};
use merged_diffusion_core::field::Field;
use merged_diffusion_core::host::{Asked, Closures, HostWorkspace, Network, Store};
use merged_diffusion_core::lane::{Method, Settings, solve};
use merged_diffusion_core::outcome::Finished;
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::runge_kutta;
use merged_diffusion_core::workspace::{Spans, Target, Workspace};
use merged_diffusion_core::{Error, tableau::STAGES};
use problems::{Naive, Store as NaiveStore, gaussian};

/// Few values: both workspaces add them in one order.
const DIM: usize = 3;
const ROWS: usize = 3;

fn start(key: u64) -> Vec<f64> {
    (0..DIM)
        .map(|i| 0.3 + 0.1 * (key % 100) as f64 - 0.2 * i as f64)
        .collect()
}

fn methods() -> [Method; 2] {
    [
        Method::DormandPrince(runge_kutta::Plan {
            field: Field::ProbabilityFlow { dim: DIM },
            control: StepControl::PerProblem,
            tolerance: Tolerance::new(1e-5, 1e-5).expect("positive"),
            dim: DIM,
        }),
        Method::Adams(adams::Plan {
            dim: DIM,
            precision: Precision::new(1e-3, 0.7).expect("both are positive"),
            order: 3,
            noise_floor: 0.0,
            constant: None,
        }),
    ]
}

fn routes() -> Routes {
    let ends = [-6.0, 0.0, 2.0].map(|end| vec![(-8.0, end), (end, 5.0)]);
    Routes::new(ends.to_vec(), 100).expect("all begin together")
}

/// The last state of every problem, and how it ended.
type Ends = HashMap<u64, (Option<Vec<f64>>, Finished)>;

fn solved<E>(
    method: Method,
    mut workspaces: [Box<dyn Workspace<Error = E>>; 2],
    take: impl Fn(u64) -> Option<Vec<f64>>,
) -> Result<Ends, E> {
    let keys: Vec<u64> = (0..5).chain(100..105).chain(200..205).collect();
    let settings = Settings {
        method,
        rows: ROWS,
        keep: true,
    };
    let mut finished: Vec<Finished> = Vec::new();
    solve(&routes(), &settings, &mut workspaces, &keys, &mut finished)?;
    let ends = finished
        .into_iter()
        .map(|end| (end.job.key, (take(end.job.key), end)));
    Ok(ends.collect())
}

/// A network that answers row by row.
fn answers(s: f64) -> impl FnMut(Asked<'_, f64>) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let network = gaussian(s);
    move |asked| {
        let rows = asked.t.iter().zip(asked.key).zip(asked.input.chunks(DIM));
        let (output, q): (Vec<_>, Vec<_>) = rows.map(|((&t, &key), z)| network(t, key, z)).unzip();
        Ok((output.concat(), q))
    }
}

#[test]
fn a_solve_on_the_host_is_the_naive_one() {
    for method in methods() {
        let saved = NaiveStore::default();
        let naive = [0.5, 0.7].map(|s| {
            let mut naive = Naive::new(ROWS, DIM, method.slots(), start, gaussian(s));
            naive.saved = NaiveStore::clone(&saved);
            Box::new(naive) as Box<dyn Workspace<Error = Infallible>>
        });
        let Ok(expected) = solved(method, naive, |key| saved.borrow_mut().remove(&key));
        let store = Arc::new(Store::default());
        let hosts = [0.5, 0.7].map(|s| {
            let closures = Closures::new((ROWS, DIM), |key| Ok(start(key)), answers(s));
            let shape = (ROWS, DIM, method.slots());
            let host = HostWorkspace::new(shape, Arc::clone(&store), 0, closures);
            Box::new(host.expect("memory")) as Box<dyn Workspace<Error = Error>>
        });
        let found = solved(method, hosts, |key| store.take(key)).expect("nothing is refused");
        assert_eq!(found, expected);
        assert!(store.is_empty());
    }
}

/// A network whose memory is held by whoever has its last output; it answers its input, there or elsewhere.
struct Echo {
    input: Arc<[f64]>,
    output: Arc<[f64]>,
    in_place: bool,
}

impl Network for Echo {
    type Slot = f64;
    type Output = Arc<[f64]>;
    type Error = Error;

    fn start(&mut self, key: u64) -> Result<Vec<f64>, Error> {
        Ok(start(key))
    }

    fn lend<T: Send>(&mut self, work: impl FnOnce(&mut [f64]) -> T + Send) -> Result<T, Error> {
        let input = Arc::get_mut(&mut self.input).ok_or(Error::Count { name: "input" })?;
        Ok(work(input))
    }

    fn evaluate(
        &mut self,
        t: &[f64],
        _node: &[u64],
        _key: &[u64],
    ) -> Result<(Arc<[f64]>, Vec<f64>), Error> {
        if self.in_place {
            return Ok((Arc::clone(&self.input), vec![0.0; t.len()]));
        }
        let output = Arc::get_mut(&mut self.output).ok_or(Error::Count { name: "output" })?;
        output.copy_from_slice(&self.input);
        Ok((Arc::clone(&self.output), vec![0.0; t.len()]))
    }
}

fn echo(in_place: bool) -> HostWorkspace<Echo> {
    let memory = || Arc::from(vec![0.0; ROWS * DIM]);
    let network = Echo {
        input: memory(),
        output: memory(),
        in_place,
    };
    let shape = (ROWS, DIM, STAGES);
    HostWorkspace::new(shape, Arc::default(), 0, network).expect("memory")
}

#[test]
fn an_output_in_the_inputs_memory_or_in_that_of_the_last_one_is_stored_before_it_is_lost() {
    let mut sums = Vec::new();
    for in_place in [true, false] {
        let mut workspace = echo(in_place);
        let mut spans = Spans::zeros(ROWS, STAGES);
        let mut step = || -> Result<Vec<f64>, Error> {
            for row in 0..ROWS {
                workspace.load(row, row as u64)?;
                spans.set(row, 1.0, &[0.0; STAGES]);
            }
            for slot in 0..3 {
                workspace.combine(Target::Input, &spans)?;
                workspace.evaluate(&[0.0; ROWS], &[0; ROWS], &[Some(slot); ROWS])?;
                let mut weights = [0.0; STAGES];
                weights[slot] = 1.0 + slot as f64;
                (0..ROWS).for_each(|row| spans.set(row, 0.5, &weights));
            }
            let sum = workspace.scaled_square(&spans, Tolerance::UNIT)?;
            let products = workspace.gram(&[Some(1); ROWS])?;
            let columns = workspace.collect()?;
            Ok([&columns[sum], &columns[products]].concat())
        };
        sums.push(step().expect("nobody holds the memory"));
    }
    assert_eq!(sums[0], sums[1]);
    // y, 1.5 y, 3.5 y in the slots of the first row; the sum weighs 0.5 y + 3 * 3.5 y.
    let square: f64 = start(0).iter().map(|y| y * y).sum();
    assert!((sums[0][0] - 121.0 * square).abs() < 1e-12);
    assert!((sums[0][ROWS + 2] - 1.5 * 3.5 * square).abs() < 1e-12);
}

#[test]
fn what_is_not_finite_is_told_wherever_it_is_stored() {
    for collected_at_once in [true, false] {
        let network = |asked: Asked<'_, f64>| {
            let mut output = asked.input.to_vec();
            output[DIM] = f64::NAN;
            Ok::<_, Error>((output, vec![1.0; ROWS]))
        };
        let closures = Closures::new((ROWS, DIM), |key| Ok(start(key)), network);
        let mut workspace =
            HostWorkspace::new((ROWS, DIM, STAGES), Arc::default(), 0, closures).expect("memory");
        let mut step = || -> Result<Vec<f64>, Error> {
            let q = workspace.evaluate(&[0.0; ROWS], &[0; ROWS], &[Some(0); ROWS])?;
            if !collected_at_once {
                workspace.combine(Target::Trial, &Spans::zeros(ROWS, STAGES))?;
                workspace.gram(&[Some(0); ROWS])?;
            }
            Ok(workspace.collect()?[q].to_vec())
        };
        let q = step().expect("a network that answers");
        assert!(q[0] == 1.0 && q[1].is_nan() && q[2] == 1.0, "{q:?}");
    }
}

#[test]
fn lengths_are_checked() {
    for (output, q, name) in [(ROWS * DIM, 1, "q"), (1, ROWS, "output")] {
        let network = move |_: Asked<'_, f64>| Ok::<_, Error>((vec![0.0; output], vec![0.0; q]));
        let closures = Closures::new((ROWS, DIM), |_| Ok(vec![0.0]), network);
        let mut workspace =
            HostWorkspace::new((ROWS, DIM, STAGES), Arc::default(), 0, closures).expect("memory");
        let asked = workspace.evaluate(&[0.0; ROWS], &[0; ROWS], &[Some(0); ROWS]);
        assert!(matches!(asked, Err(Error::Length { name: found, .. }) if found == name));
        let loaded = workspace.load(0, 0);
        assert!(matches!(loaded, Err(Error::Length { name: "start", .. })));
    }
}

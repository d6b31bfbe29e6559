//! Soft joints: a row goes on in the next lane as if there were none.

mod problems;

use std::convert::Infallible;

use merged_diffusion_core::adams::{self, Precision};
use merged_diffusion_core::control::{StepControl, Tolerance};
use merged_diffusion_core::field::Field;
use merged_diffusion_core::lane::{Method, Settings, Tally, solve};
use merged_diffusion_core::outcome::Finished;
use merged_diffusion_core::route::Routes;
use merged_diffusion_core::runge_kutta;
use merged_diffusion_core::workspace::Workspace;
use problems::{Kept, Naive, Store, gaussian};

const DIM: usize = 3;
const MIDDLE: f64 = -1.5;

fn adams(constant: Option<u32>) -> Method {
    Method::Adams(adams::Plan {
        dim: DIM,
        precision: Precision::new(1e-4, 0.7).expect("both are positive"),
        order: 3,
        noise_floor: 0.0,
        constant,
    })
}

fn dopri5(control: StepControl) -> Method {
    Method::DormandPrince(runge_kutta::Plan {
        field: Field::ProbabilityFlow { dim: DIM },
        control,
        tolerance: Tolerance::new(1e-6, 1e-6).expect("positive"),
        dim: DIM,
    })
}

/// Five problems on two rows through these legs, all of one network.
fn run(method: Method, legs: &[(f64, f64)], soft: bool) -> (Vec<Finished>, Tally) {
    let (saved, kept) = (Store::default(), Kept::default());
    let mut workspaces: Vec<Box<dyn Workspace<Error = Infallible>>> = Vec::new();
    for _ in legs {
        let start = |key: u64| {
            (0..DIM)
                .map(|i| 0.3 + 0.1 * (key as f64) - 0.2 * i as f64)
                .collect()
        };
        let mut naive = Naive::new(2, DIM, method.slots(), start, gaussian(0.5));
        naive.saved = Store::clone(&saved);
        naive.kept = Kept::clone(&kept);
        workspaces.push(Box::new(naive));
    }
    let settings = Settings {
        method,
        rows: 2,
        keep: false,
    };
    let joints = if soft {
        (0..legs.len() - 1).collect()
    } else {
        Vec::new()
    };
    let routes = Routes::one(legs).softly(joints);
    let mut ended: Vec<Finished> = Vec::new();
    let keys: Vec<u64> = (0..5).collect();
    let Ok(tally) = solve(&routes, &settings, &mut workspaces, &keys, &mut ended);
    ended.sort_by_key(|finished| finished.job.key);
    (ended, tally)
}

fn assert_alike(one: &[Finished], two: &[Finished], tolerance: f64) {
    for (one, two) in one.iter().zip(two) {
        assert_eq!((one.status, one.job.nodes), (two.status, two.job.nodes));
        let (a, b) = (one.job.log_density, two.job.log_density);
        assert!((a - b).abs() < tolerance, "{a} {b}");
        let (a, b) = (one.job.path_correction, two.job.path_correction);
        assert!((a - b).abs() < tolerance, "{a} {b}");
        assert!((one.square - two.square).abs() < tolerance);
    }
}

/// With equal steps the nodes are the same: what differs is rounding, for a row forgets nothing at the joint.
#[test]
fn equal_steps_come_to_the_same_across_a_joint() {
    let steps = StepControl::Constant { steps: 8 };
    for (whole, half) in [
        (adams(Some(16)), adams(Some(8))),
        (dopri5(StepControl::Constant { steps: 16 }), dopri5(steps)),
    ] {
        let (one, single) = run(whole, &[(-8.0, 5.0)], false);
        let (two, joined) = run(half, &[(-8.0, MIDDLE), (MIDDLE, 5.0)], true);
        assert_alike(&one, &two, 1e-12);
        assert_eq!(single.evaluations, joined.evaluations);
        // A hard end restarts: other numbers, and more of them asked.
        let (_, hard) = run(half, &[(-8.0, MIDDLE), (MIDDLE, 5.0)], false);
        assert!(hard.evaluations > joined.evaluations);
    }
}

/// Where steps are chosen, landing costs about one of them a joint, and a restart more.
#[test]
fn landing_on_a_joint_is_cheaper_than_a_restart() {
    for (method, landing) in [(adams(None), 1), (dopri5(StepControl::PerProblem), 12)] {
        let (_, whole) = run(method, &[(-8.0, 5.0)], false);
        let legs = [(-8.0, -4.2), (-4.2, 1.1), (1.1, 5.0)];
        let (_, soft) = run(method, &legs, true);
        let (_, hard) = run(method, &legs, false);
        assert!(
            soft.evaluations <= whole.evaluations + 5 * 2 * landing,
            "{} {} {}",
            whole.evaluations,
            soft.evaluations,
            hard.evaluations
        );
        assert!(soft.evaluations < hard.evaluations, "{soft:?} {hard:?}");
    }
}

//! A workspace that keeps the time does the same, and counts every verb.

mod problems;

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use merged_diffusion_core::adams::{Adams, Plan, Precision, SLOTS};
use merged_diffusion_core::outcome::{Finished, Job};
use merged_diffusion_core::route::Path;
use merged_diffusion_core::timed::{Timed, Times, Verb};
use merged_diffusion_core::workspace::Workspace;
use problems::{Naive, gaussian};

const DIM: usize = 4;
const RANGE: (f64, f64) = (-8.0, 5.0);
/// What a call of the network takes at least.
const NAP: Duration = Duration::from_millis(1);

fn naive() -> Naive {
    let answer = gaussian(0.5);
    let network = move |t: f64, key: u64, z: &[f64]| {
        std::thread::sleep(NAP);
        answer(t, key, z)
    };
    Naive::new(2, DIM, SLOTS, |key| vec![0.3 + key as f64; DIM], network)
}

/// Takes two problems to the end, and saves the first: what became of them, and the frames it took.
fn walked(workspace: &mut dyn Workspace<Error = Infallible>) -> (Vec<Finished>, u64) {
    let mut driver = Adams::new(
        Plan {
            dim: DIM,
            precision: Precision::new(1e-2, 0.7).expect("both are positive"),
            order: 3,
            noise_floor: 0.0,
            constant: None,
        },
        2,
        RANGE.0,
    );
    let path = Path {
        start: RANGE.0,
        end: RANGE.1,
        square: true,
        soft: false,
    };
    for key in 0..2 {
        let Ok(()) = workspace.load(key, key as u64);
        driver.admit(key, Job::new(key as u64), path);
    }
    let (mut finished, mut frames) = (Vec::new(), 0);
    while driver.active() > 0 {
        let Ok(frame) = driver.frame(workspace, &mut |_| ());
        finished.extend(frame.finished);
        frames += 1;
    }
    let Ok(()) = workspace.save(0, 0, &[]);
    (finished, frames)
}

#[test]
fn timing_changes_nothing_and_counts_every_verb() {
    let mut plain = naive();
    let (expected, frames) = walked(&mut plain);
    let times = RefCell::new(Times::default());
    let begin = Instant::now();
    let (found, _) = walked(&mut Timed::new(Box::new(naive()), &times));
    let wall = begin.elapsed();
    assert_eq!(found, expected);
    let (times, calls) = (times.into_inner(), plain.calls);
    let counted = Verb::ALL.map(|verb| (verb.name(), times.calls(verb)));
    let wanted = [
        ("load", calls.load),
        ("save", calls.save),
        ("combine", calls.combine),
        ("evaluate", calls.evaluate),
        ("scaled_square", calls.scaled_square),
        ("gram", calls.gram),
        ("collect", calls.collect),
        ("accept", calls.accept),
    ];
    assert_eq!(counted, wanted);
    assert_eq!((times.calls(Verb::Collect), calls.save), (frames, 1));
    // Each call of the network is in the time of its verb, and no time is counted twice.
    assert!(times.duration(Verb::Evaluate) >= NAP * frames as u32);
    let total: Duration = Verb::ALL.map(|verb| times.duration(verb)).iter().sum();
    assert!(total <= wall, "{total:?} of {wall:?}");
}

//! A dry run of an exponential Adams method through the workspace's verbs, so that the trait carries
//! it: five steps of predict, evaluate once, correct, over a ring of five slots; errors from inner
//! products. The flow is a Gaussian's, so the answer is known.

mod problems;

use merged_diffusion_core::gamma::{alpha, edm_sigma};
use merged_diffusion_core::workspace::{Spans, Target, Workspace};
use problems::{Calls, Naive, gaussian, variance};

const DIM: usize = 4;
const SLOTS: usize = 5;
const ROWS: usize = 2;
const STD: f64 = 0.5;

/// Integral over [a, b] of e^{gamma/2}/2 times each Lagrange basis polynomial of the nodes, by
/// Simpson's rule on 64 intervals (error far below that of the method).
fn weights(nodes: &[f64], a: f64, b: f64) -> Vec<f64> {
    let basis = |j: usize, t: f64| -> f64 {
        (0..nodes.len())
            .filter(|&l| l != j)
            .map(|l| (t - nodes[l]) / (nodes[j] - nodes[l]))
            .product()
    };
    let n = 64;
    let h = (b - a) / f64::from(n);
    (0..nodes.len())
        .map(|j| {
            (0..=n)
                .map(|i| {
                    let t = a + h * f64::from(i);
                    let simpson = match i {
                        0 => 1.0,
                        i if i == n => 1.0,
                        i if i % 2 == 1 => 4.0,
                        _ => 2.0,
                    };
                    simpson * h / 3.0 * 0.5 * edm_sigma(t) * basis(j, t)
                })
                .sum()
        })
        .collect()
}

#[test]
fn five_adams_steps_pass_through_the_verbs() {
    let start = |key: u64| vec![0.4 + key as f64, -0.2, 0.1, 0.9];
    let network = gaussian(STD);
    let mut workspace = Naive::new(ROWS, DIM, SLOTS, start, network);
    let Ok(()) = workspace.load(0, 1);
    let Ok(()) = workspace.load(1, 2);
    // Each row has its own times: per-image steps.
    let mut gamma = [-2.0, -1.5];
    let h = [0.02, 0.03];
    let mut nodes: [Vec<(f64, usize)>; ROWS] = [vec![], vec![]];

    let mut spans = Spans::zeros(ROWS, SLOTS);
    (0..ROWS).for_each(|row| spans.set_scale(row, 1.0));
    let Ok(()) = workspace.combine(Target::Input, &spans);
    let Ok(()) = workspace.evaluate(&gamma, &[0, 0], &[Some(0), Some(0)]);
    let Ok(q0) = workspace.collect();
    assert_eq!(q0.len(), ROWS);
    (0..ROWS).for_each(|row| nodes[row].push((gamma[row], 0)));

    for step in 1..=5_u64 {
        let waits = workspace.calls.collect;
        let next: [f64; ROWS] = std::array::from_fn(|row| gamma[row] + h[row]);
        let slot = (step as usize) % SLOTS;
        // alpha goes into scale and weights: z' = alpha'/alpha z + alpha' sum w_j eps_j.
        let mut predictor = Spans::zeros(ROWS, SLOTS);
        let mut corrector = Spans::zeros(ROWS, SLOTS);
        let mut change = [[0.0; SLOTS]; ROWS];
        for row in 0..ROWS {
            let scale = alpha(next[row]) / alpha(gamma[row]);
            let last = &nodes[row][nodes[row].len().saturating_sub(3)..];
            let times: Vec<f64> = last.iter().map(|node| node.0).collect();
            predictor.set_scale(row, scale);
            for (w, node) in weights(&times, gamma[row], next[row]).iter().zip(last) {
                predictor.set_weight(row, node.1, alpha(next[row]) * w);
                change[row][node.1] += w;
            }
            let times: Vec<f64> = times.iter().copied().chain([next[row]]).collect();
            let slots: Vec<usize> = last.iter().map(|node| node.1).chain([slot]).collect();
            corrector.set_scale(row, scale);
            for (w, &slot) in weights(&times, gamma[row], next[row]).iter().zip(&slots) {
                corrector.set_weight(row, slot, alpha(next[row]) * w);
                change[row][slot] -= w;
            }
        }
        let Ok(()) = workspace.combine(Target::Input, &predictor);
        let Ok(()) = workspace.evaluate(&next, &[step; ROWS], &[Some(slot); ROWS]);
        let Ok(()) = workspace.gram(&[Some(slot); ROWS]);
        let Ok(()) = workspace.combine(Target::Trial, &corrector);
        let Ok(columns) = workspace.collect();
        assert_eq!(workspace.calls.collect - waits, 1, "one wait an attempt");
        assert_eq!(columns.len(), ROWS + ROWS * SLOTS);
        for row in 0..ROWS {
            // The new slot's inner product with itself bounds the difference of the two solutions.
            let own = columns[ROWS + row * SLOTS + slot];
            let delta = change[row].iter().map(|c| c.abs()).sum::<f64>() * own.sqrt();
            assert!(own > 0.0 && delta < 0.1 * f64::from(ROWS as u32));
            gamma[row] = next[row];
            nodes[row].push((next[row], slot));
        }
        let Ok(()) = workspace.accept(&[true; ROWS]);
    }
    for (row, key) in [(0, 1), (1, 2)] {
        let from = gamma[row] - 5.0 * h[row];
        let growth = (variance(gamma[row], STD) / variance(from, STD)).sqrt();
        for (found, z) in workspace.state(row).iter().zip(start(key)) {
            // First order at the first step, of the third beyond: h^2 and the rest smaller.
            assert!((found - growth * z).abs() < 1e-4 * z.abs());
        }
    }
    let expected = Calls {
        combine: 11,
        evaluate: 6,
        gram: 5,
        collect: 6,
        accept: 5,
        load: 2,
        ..Calls::default()
    };
    assert_eq!(workspace.calls, expected);
}

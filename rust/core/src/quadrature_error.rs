//! What the spline through the nodes of a leg may miss of a trace that bends between them.
//!
//! Nodes lie where the path needs them; nothing says that the trace bends no faster than the path. What is
//! known of it is how far apart the splines through every second node are from that through all, and how far
//! each value is from what its neighbours predict. Any one of these may be small by chance.

use crate::probe_noise::{NEIGHBOURS, distances};
use crate::quadrature::{spline_integral, spline_weights};

/// Fewer nodes predict nothing.
pub const LEAST_NODES: usize = 4;

/// How far half an integral may be off, in three parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Misfit {
    /// By every second node from the first, less that by all.
    pub even: f64,
    /// By every second node from the second, and the two ends, less that by all.
    pub odd: f64,
    /// Sum of the squares of (w r / 2), with w the weights of the spline and r the distance of each value from
    /// the polynomial through its neighbours, in units of what independent errors make of it.
    pub distances: f64,
}

impl Misfit {
    /// Of the values on a leg; None where there are fewer than [`LEAST_NODES`].
    ///
    /// # Panics
    /// Unless there are as many values as times; times rise or fall strictly.
    pub fn new(times: &[f64], values: &[f64]) -> Option<Self> {
        let n = times.len();
        assert_eq!(n, values.len(), "values on a leg");
        if n < LEAST_NODES {
            return None;
        }
        let whole = spline_integral(times, values);
        let by_half = |first: usize| {
            let kept = (0..n).filter(|&node| node % 2 == first || node == 0 || node == n - 1);
            let (times, values): (Vec<f64>, Vec<f64>) =
                kept.map(|node| (times[node], values[node])).unzip();
            0.5 * (spline_integral(&times, &values) - whole)
        };
        let distances = distances(times, NEIGHBOURS.min(n - 1))
            .iter()
            .zip(spline_weights(times))
            .map(|(distance, weight)| (0.5 * weight * distance.of(values)).powi(2))
            .sum();
        Some(Self {
            even: by_half(0),
            odd: by_half(1),
            distances,
        })
    }

    /// The square of the error to be expected.
    pub fn square(&self) -> f64 {
        self.even.powi(2) + self.odd.powi(2) + self.distances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [f64; 9] = [-3.0, -2.95, -2.8, -2.5, -2.0, -1.4, -0.7, 0.0, 0.6];

    /// Both half splines have four nodes or more, and are then the cubic.
    #[test]
    fn a_cubic_is_missed_by_nothing() {
        let cubic = |t: f64| 3.0 - t + 2.0 * t * t - 0.5 * t.powi(3);
        for n in 6..=TIMES.len() {
            let values: Vec<f64> = TIMES[..n].iter().map(|&t| cubic(t)).collect();
            let found = Misfit::new(&TIMES[..n], &values).expect("enough nodes");
            assert!(found.square() < 1e-20, "{n}: {found:?}");
        }
    }

    /// Of 1, -1, 1, ... the even nodes see the constant 1.
    #[test]
    fn what_every_second_node_sees_is_told() {
        let times: Vec<f64> = (0..9).map(f64::from).collect();
        let signs: Vec<f64> = (0..9)
            .map(|i| if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let found = Misfit::new(&times, &signs).expect("enough nodes");
        let whole = spline_integral(&times, &signs);
        assert!((found.even - 0.5 * (8.0 - whole)).abs() < 1e-12);
        let ends = [0.0, 1.0, 3.0, 5.0, 7.0, 8.0];
        let seen = spline_integral(&ends, &[1.0, -1.0, -1.0, -1.0, -1.0, 1.0]);
        assert!((found.odd - 0.5 * (seen - whole)).abs() < 1e-12);
    }

    /// One value off by e moves its own distance by e / sqrt(1 + sum b^2), and those of four others.
    #[test]
    fn a_lone_value_is_told_by_its_distances() {
        let times: Vec<f64> = (0..13).map(f64::from).collect();
        let mut values = vec![0.0; 13];
        values[6] = 1.0;
        let found = Misfit::new(&times, &values).expect("enough nodes");
        // Of five equally spaced nodes the fourth difference (1, -4, 6, -4, 1), of length sqrt(70).
        let weights = spline_weights(&times);
        let shares = [(4, 1.0), (5, 4.0), (6, 6.0), (7, 4.0), (8, 1.0_f64)];
        let expected: f64 = shares
            .iter()
            .map(|&(node, share): &(usize, f64)| (0.5 * weights[node] * share).powi(2) / 70.0)
            .sum();
        assert!((found.distances / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn three_nodes_predict_nothing() {
        assert!(Misfit::new(&TIMES[..3], &[1.0, 2.0, 1.0]).is_none());
        assert!(Misfit::new(&TIMES[..4], &[1.0, 2.0, 1.0, 3.0]).is_some());
    }
}

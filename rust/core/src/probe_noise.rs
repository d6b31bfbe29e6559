//! What fresh probes leave uncertain in the integral of a trace.
//!
//! Each node has probes of its own, so that the errors of q at the nodes are independent: the variance of the
//! integral is the sum of w_n^2 var(q_n) with the weights w of the quadrature. Where a node has several
//! probes their spread tells var(q_n); where it has one, the distance of q_n from its neighbours does, since
//! the trace is smooth along the path (residual variance estimators: Gasser, Sroka & Jennen-Steinmetz 1986).

use crate::quadrature::spline_weights;

/// Neighbours that predict a value, where there are so many. The fewer there are, the more independent
/// distances a leg has, and the less of the noise at one node is taken for that of another: with 6 the error
/// of a dense Gaussian (d = 64) is 2 to 7 % too small and intervals of 95 % hold 93.1, with 4 they hold 94.1.
/// But a trace of d values bends with d, and its noise grows as sqrt(d): of a diagonal Gaussian (d = 3072),
/// which has no noise, 3 report 5e-3 bits/dim, 4 report 2e-3, 6 report 4e-4, where natural spectra have 9e-3.
pub(crate) const NEIGHBOURS: usize = 4;
/// With fewer neighbours the least bend is taken for noise.
const LEAST_NEIGHBOURS: usize = 3;

/// Nodes over which a running mean of squares tells the size of an error, for the freedom of their sum.
const SMOOTHED: usize = 7;

/// The variance of half the integral of q, and how well it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// Parts of the variance, by node.
    pub parts: Vec<f64>,
    /// Half the variance of their sum: its square over the degrees of freedom (Satterthwaite 1946).
    pub doubt: f64,
}

impl Noise {
    /// `square` is half the variance of a sum of `typical` size: where the sum of the parts is another by
    /// chance its degrees of freedom are those all the same.
    fn new(parts: Vec<f64>, square: f64, typical: f64) -> Self {
        let total: f64 = parts.iter().sum();
        let doubt = if typical > 0.0 {
            square * (total / typical).powi(2)
        } else {
            0.0
        };
        Self { parts, doubt }
    }
}

/// The variance of half the integral of q, from the values of q of each probe at all the nodes of a leg; None
/// where they cannot tell: one probe and too few nodes.
///
/// # Panics
/// Without a probe, or with other numbers of values than of times.
pub fn variances(times: &[f64], probes: &[Vec<f64>]) -> Option<Noise> {
    assert!(!probes.is_empty(), "no probe");
    let halves: Vec<f64> = spline_weights(times).iter().map(|w| 0.25 * w * w).collect();
    if let [values] = probes {
        of_residuals(times, values, &halves)
    } else {
        Some(of_spread(probes, &halves))
    }
}

/// From how far several probes of a node spread around their mean.
fn of_spread(probes: &[Vec<f64>], halves: &[f64]) -> Noise {
    let m = probes.len() as f64;
    let errors: Vec<f64> = (0..halves.len())
        .map(|node| {
            let mean = probes.iter().map(|q| q[node]).sum::<f64>() / m;
            let squares: f64 = probes.iter().map(|q| (q[node] - mean).powi(2)).sum();
            squares / (m * (m - 1.0))
        })
        .collect();
    let typical = product(halves, &running_mean(&errors));
    let doubt: f64 = typical.iter().map(|part| part * part / (m - 1.0)).sum();
    Noise::new(product(halves, &errors), doubt, typical.iter().sum())
}

/// From the distance r of each value from the polynomial through its nearest neighbours, in units of what
/// independent errors of one variance make of it.
///
/// Neighbouring distances share values. With p_n the coefficients of r_n the sum of h_n r_n^2 is the form
/// M = sum of h_n p_n p_n^T of the errors, of which half the variance is tr(M S M S), S their variances.
fn of_residuals(times: &[f64], values: &[f64], halves: &[f64]) -> Option<Noise> {
    let n = times.len();
    assert_eq!(n, values.len(), "values of a probe");
    let neighbours = NEIGHBOURS.min(n.checked_sub(1)?);
    if neighbours < LEAST_NEIGHBOURS {
        return None;
    }
    let distances = distances(times, neighbours);
    let squares: Vec<f64> = distances.iter().map(|d| d.of(values).powi(2)).collect();
    let (trace, doubt) = traces(&distances, halves, &running_mean(&squares));
    Some(Noise::new(product(halves, &squares), doubt, trace))
}

/// tr(M S) and tr(M S M S) of the form M = sum of h_n p_n p_n^T and variances S.
fn traces(distances: &[Distance], halves: &[f64], variances: &[f64]) -> (f64, f64) {
    let mut form = vec![[0.0; 2 * NEIGHBOURS + 1]; variances.len()]; // a band: its middle is the diagonal
    for (d, half) in distances.iter().zip(halves) {
        for (i, p) in d.entries() {
            for (j, q) in d.entries() {
                form[i][j + NEIGHBOURS - i] += half * p * q;
            }
        }
    }
    let (mut trace, mut square) = (0.0, 0.0);
    for (i, row) in form.iter().enumerate() {
        trace += row[NEIGHBOURS] * variances[i];
        for (at, m) in row.iter().enumerate() {
            if let Some(other) = (i + at)
                .checked_sub(NEIGHBOURS)
                .and_then(|j| variances.get(j))
            {
                square += m * m * variances[i] * other;
            }
        }
    }
    (trace, square)
}

/// The distance of the value at each node from the polynomial through so many of its nearest neighbours.
pub(crate) fn distances(times: &[f64], neighbours: usize) -> Vec<Distance> {
    (0..times.len())
        .map(|node| Distance::new(times, node, neighbours))
        .collect()
}

/// The distance of a value from the polynomial through its nearest neighbours, as a sum over the nodes from
/// `first`; the squares of its coefficients add up to one.
pub(crate) struct Distance {
    first: usize,
    coefficients: Vec<f64>,
}

impl Distance {
    fn new(times: &[f64], node: usize, neighbours: usize) -> Self {
        let first = node
            .saturating_sub(neighbours / 2)
            .min(times.len() - 1 - neighbours);
        let all = || first..=first + neighbours;
        let raw: Vec<f64> = all()
            .map(|i| {
                let basis: f64 = all()
                    .filter(|&j| j != i && j != node)
                    .map(|j| (times[node] - times[j]) / (times[i] - times[j]))
                    .product();
                if i == node { 1.0 } else { -basis }
            })
            .collect();
        let length = raw.iter().map(|c| c * c).sum::<f64>().sqrt();
        Self {
            first,
            coefficients: raw.iter().map(|c| c / length).collect(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (usize, f64)> {
        (self.first..).zip(self.coefficients.iter().copied())
    }

    pub(crate) fn of(&self, values: &[f64]) -> f64 {
        self.entries().map(|(i, p)| p * values[i]).sum()
    }
}

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| x * y).collect()
}

/// The mean of each value and its neighbours, of fewer at the ends.
fn running_mean(values: &[f64]) -> Vec<f64> {
    let reach = SMOOTHED / 2;
    (0..values.len())
        .map(|node| {
            let near = &values[node.saturating_sub(reach)..(node + reach + 1).min(values.len())];
            near.iter().sum::<f64>() / near.len() as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [f64; 9] = [-3.0, -2.95, -2.8, -2.5, -2.0, -1.4, -0.7, 0.0, 0.6];

    #[test]
    fn smooth_trace_has_no_noise() {
        let quadratic: Vec<f64> = TIMES.iter().map(|t| 3.0 - t + 2.0 * t * t).collect();
        let found = variances(&TIMES, std::slice::from_ref(&quadratic)).expect("enough nodes");
        assert!(found.parts.iter().all(|part| *part < 1e-20), "{found:?}");
        let both = variances(&TIMES, &[quadratic.clone(), quadratic]).expect("two probes");
        assert_eq!((both.parts, both.doubt), (vec![0.0; 9], 0.0));
    }

    #[test]
    fn three_nodes_with_one_probe_cannot_tell() {
        assert!(variances(&TIMES[..3], &[vec![1.0, 2.0, 1.0]]).is_none());
        assert!(variances(&TIMES[..3], &[vec![1.0; 3], vec![2.0; 3]]).is_some());
    }

    /// Over all signs of errors of size 1 both estimates are on average the variance of half the integral.
    #[test]
    fn estimates_have_no_bias() {
        let n = TIMES.len();
        let signs = |bits: usize| -> Vec<f64> {
            (0..n)
                .map(|i| if bits >> i & 1 == 1 { 1.0 } else { -1.0 })
                .collect()
        };
        let expected: f64 = spline_weights(&TIMES).iter().map(|w| 0.25 * w * w).sum();
        let (mut one, mut two) = (0.0, 0.0);
        for bits in 0..1 << n {
            one += variances(&TIMES, &[signs(bits)])
                .expect("enough nodes")
                .parts
                .iter()
                .sum::<f64>();
            let other = (bits * 73 + 11) % (1 << n); // as many pairs, the errors of which are not alike
            let pair = [signs(bits), signs(other)];
            two += 2.0
                * variances(&TIMES, &pair)
                    .expect("two probes")
                    .parts
                    .iter()
                    .sum::<f64>();
        }
        let count = f64::from(1 << n);
        assert!((one / count / expected - 1.0).abs() < 1e-12, "{one}");
        assert!((two / count / expected - 1.0).abs() < 0.1, "{two}");
    }

    /// Over all signs of errors of size 1 half the variance of the sum is that of the form without its
    /// diagonal, which a sign cannot change.
    #[test]
    fn doubt_is_half_the_variance_of_the_sum() {
        let n = TIMES.len();
        let total = |values: Vec<f64>| -> f64 {
            let found = variances(&TIMES, &[values]).expect("enough nodes");
            found.parts.iter().sum()
        };
        let count = f64::from(1 << n);
        let totals: Vec<f64> = (0..1_usize << n)
            .map(|bits| {
                let sign = |i: usize| if bits >> i & 1 == 1 { 1.0 } else { -1.0 };
                total((0..n).map(sign).collect())
            })
            .collect();
        let mean = totals.iter().sum::<f64>() / count;
        let variance = totals.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / count;
        let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect();
        let diagonal: f64 = (0..n).map(|i| total(unit(i)).powi(2)).sum();
        let halves: Vec<f64> = spline_weights(&TIMES)
            .iter()
            .map(|w| 0.25 * w * w)
            .collect();
        let distances = distances(&TIMES, NEIGHBOURS);
        let (trace, found) = traces(&distances, &halves, &vec![1.0; n]);
        assert!((trace / mean - 1.0).abs() < 1e-12, "{trace}");
        assert!(
            ((found - diagonal) / (variance / 2.0) - 1.0).abs() < 1e-12,
            "{found}"
        );
    }

    /// m probes of one node alone leave m - 1 degrees of freedom, n alike ones n times as many.
    #[test]
    fn freedom_of_alike_nodes_adds_up() {
        let probes: Vec<Vec<f64>> = [1.0, -2.0, 4.0].map(|v| vec![v; TIMES.len()]).to_vec();
        let found = variances(&TIMES, &probes).expect("three probes");
        let squares: f64 = found.parts.iter().map(|part| part * part).sum();
        assert!((found.doubt / (squares / 2.0) - 1.0).abs() < 1e-12);
    }
}

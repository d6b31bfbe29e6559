//! Integrals that an exponential multistep method needs: of e^{gamma/2}/2 times a polynomial through the
//! nodes, and of what was seen at the nodes alone.

/// Positive nodes and weights of the 12-point Gauss-Legendre rule on [-1, 1] (Abramowitz & Stegun 1964,
/// table 25.4).
const NODES: [(f64, f64); 6] = [
    (0.125_233_408_511_468_9, 0.249_147_045_813_402_8),
    (0.367_831_498_998_180_2, 0.233_492_536_538_354_8),
    (0.587_317_954_286_617_5, 0.203_167_426_723_065_92),
    (0.769_902_674_194_304_7, 0.160_078_328_543_346_22),
    (0.904_117_256_370_474_9, 0.106_939_325_995_318_43),
    (0.981_560_634_246_719_2, 0.047_175_336_386_511_83),
];

/// Most nodes of a polynomial.
pub const MAX_NODES: usize = 5;

/// For each node j, the integral over [from, to] of `weight`(t) l_j(t), with l_j the Lagrange polynomial
/// that is one at node j and zero at the others. Exact to rounding where `weight` is an exponential and
/// the interval a few units long.
///
/// # Panics
/// With more than [`MAX_NODES`] nodes.
pub fn lagrange_weights(
    nodes: &[f64],
    from: f64,
    to: f64,
    weight: impl Fn(f64) -> f64,
) -> [f64; MAX_NODES] {
    assert!(nodes.len() <= MAX_NODES, "{} nodes", nodes.len());
    let mut integrals = [0.0; MAX_NODES];
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    for (x, share) in NODES.iter().flat_map(|&(x, w)| [(-x, w), (x, w)]) {
        let t = middle + half * x;
        let scaled = half * share * weight(t);
        for (j, &node) in nodes.iter().enumerate() {
            let others = nodes.iter().enumerate().filter(|&(l, _)| l != j);
            let basis: f64 = others
                .map(|(_, &other)| (t - other) / (node - other))
                .product();
            integrals[j] += scaled * basis;
        }
    }
    integrals
}

/// For each node j, the derivative at node `at` of l_j, the Lagrange polynomial that is one at node j and zero
/// at the others.
pub fn lagrange_slopes(nodes: &[f64], at: usize) -> Vec<f64> {
    let others = |j: usize| (0..nodes.len()).filter(move |&l| l != j);
    let slope = |j: usize| {
        let without = |left_out: usize| {
            let factors = others(j).filter(|&l| l != left_out);
            let rest: f64 = factors
                .map(|l| (nodes[at] - nodes[l]) / (nodes[j] - nodes[l]))
                .product();
            rest / (nodes[j] - nodes[left_out])
        };
        others(j).map(without).sum()
    };
    (0..nodes.len()).map(slope).collect()
}

/// Integral of the not-a-knot cubic spline through the points, from the first to the last; of the
/// polynomial through them where there are fewer than four (de Boor 1978, chapter IV).
///
/// # Panics
/// Unless there are as many values as times; times rise or fall strictly.
pub fn spline_integral(times: &[f64], values: &[f64]) -> f64 {
    assert_eq!(times.len(), values.len(), "values of the spline");
    let n = times.len();
    match n {
        0 | 1 => return 0.0,
        2 | 3 => {
            let weights = lagrange_weights(times, times[0], times[n - 1], |_| 1.0);
            return weights.iter().zip(values).map(|(w, v)| w * v).sum();
        }
        _ => {}
    }
    let h: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let slope: Vec<f64> = values
        .windows(2)
        .zip(&h)
        .map(|(pair, h)| (pair[1] - pair[0]) / h)
        .collect();
    let second = second_derivatives(&h, &slope);
    h.iter()
        .enumerate()
        .map(|(i, h)| {
            0.5 * h * (values[i] + values[i + 1]) - h.powi(3) / 24.0 * (second[i] + second[i + 1])
        })
        .sum()
}

/// What each value is multiplied by in [`spline_integral`].
pub fn spline_weights(times: &[f64]) -> Vec<f64> {
    let mut unit = vec![0.0; times.len()];
    (0..times.len())
        .map(|i| {
            unit[i] = 1.0;
            let weight = spline_integral(times, &unit);
            unit[i] = 0.0;
            weight
        })
        .collect()
}

/// Second derivatives of the not-a-knot spline at its points, by elimination in the tridiagonal system
/// of the inner points; the outer two follow from the third derivative's continuity.
fn second_derivatives(h: &[f64], slope: &[f64]) -> Vec<f64> {
    let n = h.len() + 1;
    let inner = n - 2;
    let mut lower: Vec<f64> = (1..=inner).map(|i| h[i - 1]).collect();
    let mut diagonal: Vec<f64> = (1..=inner).map(|i| 2.0 * (h[i - 1] + h[i])).collect();
    let mut upper: Vec<f64> = (1..=inner).map(|i| h[i]).collect();
    let mut right: Vec<f64> = (1..=inner)
        .map(|i| 6.0 * (slope[i] - slope[i - 1]))
        .collect();
    // m_0 = (1 + h_0/h_1) m_1 - h_0/h_1 m_2, and its mirror image.
    let (first, last) = (h[0] / h[1], h[n - 2] / h[n - 3]);
    diagonal[0] += lower[0] * (1.0 + first);
    upper[0] -= lower[0] * first;
    diagonal[inner - 1] += upper[inner - 1] * (1.0 + last);
    lower[inner - 1] -= upper[inner - 1] * last;
    for i in 1..inner {
        let factor = lower[i] / diagonal[i - 1];
        diagonal[i] -= factor * upper[i - 1];
        right[i] -= factor * right[i - 1];
    }
    let mut second = vec![0.0; n];
    second[inner] = right[inner - 1] / diagonal[inner - 1];
    for i in (0..inner - 1).rev() {
        second[i + 1] = (right[i] - upper[i] * second[i + 2]) / diagonal[i];
    }
    second[0] = (1.0 + first) * second[1] - first * second[2];
    second[n - 1] = (1.0 + last) * second[n - 2] - last * second[n - 3];
    second
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Integral of e^{t/2}/2 t^p over [a, b], by parts.
    fn moment(p: i32, a: f64, b: f64) -> f64 {
        let end = |t: f64| (t / 2.0).exp() * t.powi(p);
        if p == 0 {
            end(b) - end(a)
        } else {
            end(b) - end(a) - 2.0 * f64::from(p) * moment(p - 1, a, b)
        }
    }

    /// Points from -1 with these gaps, or the same backwards.
    fn steps(gaps: &[f64], falling: bool) -> Vec<f64> {
        let mut points = vec![-1.0];
        for gap in gaps {
            points.push(points[points.len() - 1] + gap);
        }
        if falling {
            points.reverse();
        }
        points
    }

    /// Value at t of the polynomial with coefficients `c`, the constant first.
    fn polynomial(c: &[f64], t: f64) -> f64 {
        c.iter().rev().fold(0.0, |sum, c| sum * t + c)
    }

    proptest! {
        #[test]
        fn weights_integrate_polynomials_exactly(
            start in -14.0..8.0_f64, gaps in prop::collection::vec(0.05..0.9_f64, MAX_NODES - 1), h in 0.05..0.9_f64, n in 1..=MAX_NODES
        ) {
            let mut nodes = vec![start];
            for gap in &gaps {
                nodes.push(nodes[nodes.len() - 1] + gap);
            }
            let nodes = &nodes[..n];
            let from = nodes[n - 1];
            let to = from + h;
            let weights = lagrange_weights(nodes, from, to, |t| 0.5 * (t / 2.0).exp());
            for p in 0..i32::try_from(n).expect("few nodes") {
                // Powers of (t - from), so that no digit is lost far from zero.
                let found: f64 = nodes.iter().zip(weights).map(|(t, w)| w * (t - from).powi(p)).sum();
                let expected = (from / 2.0).exp() * moment(p, 0.0, h);
                let scale = (from / 2.0).exp() * weights.iter().map(|w| w.abs()).sum::<f64>().max(1.0);
                prop_assert!((found - expected).abs() <= 1e-11 * scale, "p {p}: {found} {expected}");
            }
        }

        #[test]
        fn slopes_of_polynomials_are_exact(
            gaps in prop::collection::vec(0.05..0.9_f64, 0..4), c in prop::collection::vec(-2.0..2.0_f64, 5), falling: bool
        ) {
            let nodes = steps(&gaps, falling);
            let c = &c[..nodes.len()];
            let value = |t: f64| polynomial(c, t);
            let derivative = |t: f64| {
                let terms = c.iter().enumerate().skip(1).rev();
                terms.fold(0.0, |sum, (p, c)| sum * t + p as f64 * c)
            };
            for at in 0..nodes.len() {
                let weights = lagrange_slopes(&nodes, at);
                let found: f64 = nodes.iter().zip(&weights).map(|(&t, w)| w * value(t)).sum();
                let scale = weights.iter().map(|w| w.abs()).sum::<f64>().max(1.0);
                prop_assert!((found - derivative(nodes[at])).abs() <= 1e-12 * scale, "{found}");
            }
        }

        #[test]
        fn splines_of_cubics_are_the_cubics(
            gaps in prop::collection::vec(0.1..1.0_f64, 1..9), c in prop::collection::vec(-2.0..2.0_f64, 4), falling: bool
        ) {
            let times = steps(&gaps, falling);
            let c = &c[..times.len().min(4)];
            let value = |t: f64| polynomial(c, t);
            let primitive = |t: f64| {
                let divided = c.iter().enumerate().rev().map(|(p, c)| c / (p as f64 + 1.0));
                t * divided.fold(0.0, |sum, c| sum * t + c)
            };
            let values: Vec<f64> = times.iter().map(|&t| value(t)).collect();
            let expected = primitive(times[times.len() - 1]) - primitive(times[0]);
            prop_assert!((spline_integral(&times, &values) - expected).abs() < 1e-8);
        }
    }

    #[test]
    fn one_point_has_no_integral() {
        assert_eq!(spline_integral(&[1.0], &[3.0]), 0.0);
    }
}

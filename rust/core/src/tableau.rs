//! Dormand-Prince 5(4) as data (Dormand & Prince 1980, table 2; Hairer, Nørsett & Wanner, II.5).
//!
//! y_i = y_n + h sum_{l<i} a_il k_l, k_i = f(t_n + c_i h, y_i), i = 0..6; the last row of A holds the
//! weights of the fifth-order solution, so that k_6 is the next step's k_0.

/// Number of stages, first-same-as-last included.
pub const STAGES: usize = 7;

/// Order of the solution that is propagated.
pub const ORDER: i32 = 5;

/// Order of the embedded solution, on which the step size rests.
pub const ERROR_ORDER: i32 = 4;

/// Nodes, in units of the step.
pub const C: [f64; STAGES] = [0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];

/// Stage coefficients; row 6 is the fifth-order solution.
pub const A: [[f64; STAGES]; STAGES] = [
    [0.0; STAGES],
    [1.0 / 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [3.0 / 40.0, 9.0 / 40.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0, 0.0, 0.0, 0.0, 0.0],
    [
        19372.0 / 6561.0,
        -25360.0 / 2187.0,
        64448.0 / 6561.0,
        -212.0 / 729.0,
        0.0,
        0.0,
        0.0,
    ],
    [
        9017.0 / 3168.0,
        -355.0 / 33.0,
        46732.0 / 5247.0,
        49.0 / 176.0,
        -5103.0 / 18656.0,
        0.0,
        0.0,
    ],
    [
        35.0 / 384.0,
        0.0,
        500.0 / 1113.0,
        125.0 / 192.0,
        -2187.0 / 6784.0,
        11.0 / 84.0,
        0.0,
    ],
];

/// Fourth-order minus fifth-order weights: the error estimate is h sum e_l k_l.
pub const E: [f64; STAGES] = [
    -71.0 / 57600.0,
    0.0,
    71.0 / 16695.0,
    -71.0 / 1920.0,
    17253.0 / 339_200.0,
    -22.0 / 525.0,
    1.0 / 40.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_sum_to_their_nodes() {
        for (row, c) in A.iter().zip(C) {
            assert!((row.iter().sum::<f64>() - c).abs() < 1e-14);
        }
    }

    #[test]
    fn solution_meets_the_quadrature_conditions_to_order_five() {
        for power in 0..ORDER {
            let moment: f64 = A[6].iter().zip(C).map(|(b, c)| b * c.powi(power)).sum();
            assert!(
                (moment - 1.0 / f64::from(power + 1)).abs() < 1e-14,
                "c^{power}"
            );
        }
    }

    #[test]
    fn error_estimate_vanishes_to_order_four_and_not_beyond() {
        for power in 0..ORDER {
            let moment: f64 = E.iter().zip(C).map(|(e, c)| e * c.powi(power)).sum();
            assert_eq!(moment.abs() < 1e-14, power < ERROR_ORDER, "c^{power}");
        }
    }
}

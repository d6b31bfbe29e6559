//! Means over images and their standard errors.
//!
//! Images that share a cluster (crops of one photograph) are not independent:
//! se^2 = G/(G - 1) sum over clusters g of (sum_{i in g} (x_i - mean))^2 / N^2
//! (Liang & Zeger 1986). Clusters of one image each give the plain standard error.

use std::collections::BTreeMap;

use super::{at_least_one, mean, same_length};
use crate::Error;

/// Sum by Neumaier's compensation: as if added in twice the digits, then rounded.
pub fn compensated_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Neumaier::default();
    for value in values {
        sum.add(value);
    }
    sum.total()
}

#[derive(Clone, Copy, Default)]
struct Neumaier {
    sum: f64,
    lost: f64,
}

impl Neumaier {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() {
            (self.sum - sum) + value
        } else {
            (value - sum) + self.sum
        };
        self.sum = sum;
    }

    fn total(self) -> f64 {
        // What is lost to an infinite sum is NaN.
        if self.sum.is_finite() {
            self.sum + self.lost
        } else {
            self.sum
        }
    }
}

/// A mean and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error; one value has none.
    pub error: Option<f64>,
}

/// Mean and standard error of independent values.
///
/// # Errors
/// [`Error::Count`] for no values.
pub fn mean_and_error(values: &[f64]) -> Result<Mean, Error> {
    at_least_one("length of values", values.len())?;
    let mean = mean(values);
    let residuals: Vec<f64> = values.iter().map(|value| value - mean).collect();
    Ok(Mean {
        mean,
        error: error(&residuals, values.len()),
    })
}

/// Standard error of the mean of values that depend on each other within a cluster; one cluster
/// has none.
///
/// # Errors
/// [`Error::Count`] for no values, [`Error::Length`] unless each has a cluster.
pub fn clustered_error(values: &[f64], clusters: &[i64]) -> Result<Option<f64>, Error> {
    at_least_one("length of values", values.len())?;
    same_length("clusters", values.len(), clusters.len())?;
    let mean = mean(values);
    let mut sums = BTreeMap::<i64, Neumaier>::new();
    for (value, cluster) in values.iter().zip(clusters) {
        sums.entry(*cluster).or_default().add(value - mean);
    }
    let residuals: Vec<f64> = sums.into_values().map(Neumaier::total).collect();
    Ok(error(&residuals, values.len()))
}

/// Standard error of a mean of `n` values from the residuals' sums by cluster.
fn error(residuals: &[f64], n: usize) -> Option<f64> {
    let clusters = residuals.len() as f64;
    (clusters > 1.0).then(|| (clusters / (clusters - 1.0)).sqrt() * norm(residuals) / n as f64)
}

/// Standard error of the mean of values that have independent errors of their own.
///
/// # Errors
/// [`Error::Count`] for no errors.
pub fn error_of_mean(errors: &[f64]) -> Result<f64, Error> {
    at_least_one("length of errors", errors.len())?;
    Ok(norm(errors) / errors.len() as f64)
}

/// Euclidean norm; squares of large values do not overflow.
fn norm(values: &[f64]) -> f64 {
    let greatest = values
        .iter()
        .map(|value| value.abs())
        .fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a });
    if greatest == 0.0 {
        return 0.0;
    }
    let squares = values.iter().map(|value| (value / greatest).powi(2));
    greatest * compensated_sum(squares).sqrt()
}

/// A mean difference over the images that two models share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Mean of a - b.
    pub difference: f64,
    /// Its standard error, clustered where clusters are known.
    pub error: Option<f64>,
    /// Its standard error as if all images were independent.
    pub error_of_images: Option<f64>,
    /// Number of images.
    pub n: usize,
}

/// Mean of a - b, image by image.
///
/// # Errors
/// [`Error::Count`] for no values, [`Error::Length`] unless the slices are equally long.
pub fn paired_difference(
    a: &[f64],
    b: &[f64],
    clusters: Option<&[i64]>,
) -> Result<Difference, Error> {
    same_length("b", a.len(), b.len())?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let Mean { mean, error } = mean_and_error(&differences)?;
    Ok(Difference {
        difference: mean,
        error: match clusters {
            Some(clusters) => clustered_error(&differences, clusters)?,
            None => error,
        },
        error_of_images: error,
        n: differences.len(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_that_cancel_keep_what_is_small() {
        assert_eq!(compensated_sum([1e300, 1.0, -1e300]), 1.0);
        assert_eq!(compensated_sum([1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(compensated_sum(std::iter::repeat_n(0.1, 1_000_000)), 1e5);
        assert_eq!(compensated_sum([]), 0.0);
        assert_eq!(compensated_sum([1.0, f64::NEG_INFINITY]), f64::NEG_INFINITY);
        assert!(compensated_sum([f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn one_value_and_one_cluster_have_no_error() {
        let single = mean_and_error(&[2.5]).unwrap();
        assert_eq!((single.mean, single.error), (2.5, None));
        assert_eq!(clustered_error(&[1.0, 2.0], &[7, 7]), Ok(None));
    }

    #[test]
    fn errors_of_their_own_add_in_squares() {
        assert_eq!(error_of_mean(&[3.0, 4.0]), Ok(2.5));
        assert_eq!(error_of_mean(&[0.0; 3]), Ok(0.0));
        assert!(matches!(error_of_mean(&[]), Err(Error::Count { .. })));
    }

    #[test]
    fn nan_is_never_hidden() {
        let nan = f64::NAN;
        for values in [[nan, 1.0], [1.0, nan], [nan, nan]] {
            let found = mean_and_error(&values).unwrap();
            assert!(found.mean.is_nan() && found.error.unwrap().is_nan());
        }
        for values in [[nan, 0.0], [0.0, nan], [f64::INFINITY, nan]] {
            assert!(norm(&values).is_nan());
        }
    }

    #[test]
    fn large_values_do_not_overflow() {
        let found = mean_and_error(&[1e300, -1e300]).unwrap();
        assert_eq!(found.mean, 0.0);
        assert!((found.error.unwrap() / 1e300 - 1.0).abs() < 1e-15);
    }

    #[test]
    fn lengths_and_counts_are_checked() {
        assert!(matches!(mean_and_error(&[]), Err(Error::Count { .. })));
        assert!(matches!(
            clustered_error(&[], &[]),
            Err(Error::Count { .. })
        ));
        assert!(matches!(
            clustered_error(&[1.0], &[1, 2]),
            Err(Error::Length {
                name: "clusters",
                ..
            })
        ));
        assert!(matches!(
            paired_difference(&[], &[], None),
            Err(Error::Count { .. })
        ));
        assert!(matches!(
            paired_difference(&[1.0], &[], None),
            Err(Error::Length { name: "b", .. })
        ));
        assert!(matches!(
            paired_difference(&[1.0], &[1.0], Some(&[])),
            Err(Error::Length { .. })
        ));
    }

    fn images() -> impl Strategy<Value = Vec<(f64, i64)>> {
        prop::collection::vec((-10.0..10.0, 0_i64..5), 2..40)
    }

    fn unzip(images: &[(f64, i64)]) -> (Vec<f64>, Vec<i64>) {
        images.iter().copied().unzip()
    }

    fn close(a: Option<f64>, b: Option<f64>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-12,
            (a, b) => a == b,
        }
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            (images, shuffled) in images().prop_flat_map(|i| (Just(i.clone()), Just(i).prop_shuffle()))
        ) {
            let ((a, of_a), (b, of_b)) = (unzip(&images), unzip(&shuffled));
            let (one, two) = (mean_and_error(&a).unwrap(), mean_and_error(&b).unwrap());
            prop_assert!((one.mean - two.mean).abs() < 1e-14);
            prop_assert!(close(one.error, two.error));
            prop_assert!(close(
                clustered_error(&a, &of_a).unwrap(),
                clustered_error(&b, &of_b).unwrap()
            ));
        }

        #[test]
        fn clusters_of_one_are_independent_images(images in images()) {
            let (values, _) = unzip(&images);
            let own: Vec<i64> = (0_i64..).take(values.len()).collect();
            let plain = mean_and_error(&values).unwrap().error;
            prop_assert!(close(clustered_error(&values, &own).unwrap(), plain));
        }

        #[test]
        fn a_model_does_not_differ_from_itself(images in images()) {
            let (values, clusters) = unzip(&images);
            let found = paired_difference(&values, &values, Some(&clusters)).unwrap();
            let one = clusters.iter().all(|cluster| *cluster == clusters[0]);
            prop_assert_eq!(found, Difference {
                difference: 0.0,
                error: (!one).then_some(0.0),
                error_of_images: Some(0.0),
                n: values.len(),
            });
        }
    }
}

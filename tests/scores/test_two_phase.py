"""The mean of N values of which n are known: where it is exact, against other formulas, its coverage."""

import numpy as np
import pytest
from scipy import stats

from merged_diffusion.scores.two_phase import two_phase, unusable, values_for

N = 400


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def drawn(generator, p, n, n_set=N):
    """Features [N, p], values [N] whose spread grows with the first, skewed one, and a choice [n]."""
    x = generator.standard_normal((n_set, p))
    x[:, 0] = np.exp(0.5 * x[:, 0])
    noise = (0.5 + np.abs(x[:, 0])) * generator.standard_normal(n_set)
    return x, 3 + x @ np.linspace(1, 0.2, p) + 0.4 * noise, generator.permutation(n_set)[:n]


def left_out(y, x, shift):
    """The regression's value at the features ``shift`` without each of the values in turn [n]."""
    found = []
    for row in range(len(y)):
        rest = np.arange(len(y)) != row
        design = np.column_stack([np.ones(rest.sum()), x[rest]])
        found.append(np.concatenate([[1.0], shift]) @ np.linalg.lstsq(design, y[rest], rcond=None)[0])
    return np.array(found)


@pytest.mark.parametrize("p", [1, 3])
def test_values_that_are_linear_in_the_features_have_their_exact_mean_and_no_error(generator, p):
    x = generator.standard_normal((N, p))
    y = 2 + x @ np.arange(1, p + 1)
    chosen = generator.permutation(N)[:24]
    found = two_phase(y[chosen], chosen, x)
    assert found.mean == pytest.approx(y.mean(), abs=1e-12)
    assert found.se < 1e-12
    assert found.residual < 1e-12
    assert found.correlation == pytest.approx(1)


def test_no_feature_is_the_plain_mean_of_a_finite_set(generator):
    _, y, chosen = drawn(generator, 1, 24)
    found = two_phase(y[chosen], chosen, np.empty((N, 0)))
    se = np.sqrt((1 - 24 / N) * y[chosen].var(ddof=1) / 24)
    assert found.mean == pytest.approx(y[chosen].mean())
    assert found.se == pytest.approx(se)
    low, high = stats.t.interval(0.95, 23, found.mean, se)
    assert (found.low, found.high, found.freedom) == (pytest.approx(low), pytest.approx(high), 23)
    assert (found.correlation, found.saved) == (None, pytest.approx(1))


@pytest.mark.parametrize(("p", "n"), [(1, 12), (3, 24), (6, 20)])
def test_error_is_what_leaving_out_each_value_changes(generator, p, n):
    """The weights g, the residuals and the leverages at once: the jackknife, by n regressions."""
    x, y, chosen = drawn(generator, p, n)
    found = two_phase(y[chosen], chosen, x)
    changes = found.mean - left_out(y[chosen], x[chosen], x.mean(axis=0))
    assert found.se**2 == pytest.approx((1 - n / N) * (n - 1) / n * np.square(changes).sum())


@pytest.mark.parametrize("p", [1, 4])
def test_estimate_is_the_mean_with_weights_that_carry_the_features_over(generator, p):
    """The values' weights w = x_N^T (X^T X)^-1 X^T sum to 1 and give the features' mean over the set."""
    x, y, chosen = drawn(generator, p, 30)
    design = np.column_stack([np.ones(30), x[chosen]])
    target = np.concatenate([[1.0], x.mean(axis=0)])
    weights = design @ np.linalg.inv(design.T @ design) @ target
    assert weights @ x[chosen] == pytest.approx(x.mean(axis=0))
    assert two_phase(y[chosen], chosen, x).mean == pytest.approx(weights @ y[chosen])


def test_noise_of_the_values_is_no_error_of_the_choice(generator):
    """Once all are known no choice is left, but what their probes left is."""
    x, y, _ = drawn(generator, 1, 24)
    errors = np.full(N, 0.3)
    whole = two_phase(y, np.arange(N), x, errors=errors)
    assert whole.se_choice == 0
    assert whole.mean == pytest.approx(y.mean())
    assert whole.se == whole.se_errors == pytest.approx(0.3 / np.sqrt(N))
    half = np.arange(N // 2)
    part = two_phase(y[half], half, x, errors=errors[half])
    assert part.se_errors == pytest.approx(0.3 / np.sqrt(N))
    assert part.se == pytest.approx(np.hypot(part.se_choice, part.se_errors))
    assert two_phase(y[half], half, x).se_errors is None


def test_a_unit_of_a_feature_and_an_origin_change_nothing(generator):
    x, y, chosen = drawn(generator, 3, 24)
    one, other = (two_phase(y[chosen], chosen, each) for each in (x, 1e6 + x * [1e-3, 1, 1e4]))
    assert other.mean == pytest.approx(one.mean)
    assert other.se == pytest.approx(one.se)


def test_error_for_a_population_is_that_of_drawing_the_set_too():
    generator = np.random.default_rng(3)
    means, squares = [], []
    for _ in range(1000):
        x, y, chosen = drawn(generator, 1, 40, n_set=120)
        found = two_phase(y[chosen], chosen, x)
        means.append(found.mean)
        squares.append(found.se_population**2)
        assert found.se_population > found.se
    # The variance of 1,000 means has a standard error of 4.5 %, or a little more: HC3 errs to the large side.
    assert np.mean(squares) == pytest.approx(np.var(means), rel=0.12)


def test_a_cluster_of_images_that_are_alike_tells_as_much_as_one_of_them(generator):
    x, y, chosen = drawn(generator, 1, 40)
    whole = {"y": np.repeat(y[chosen], 4), "features": np.repeat(x, 4, axis=0)}
    whole["positions"] = np.repeat(chosen * 4, 4) + np.tile(np.arange(4), 40)
    clusters = np.repeat(np.arange(N), 4)
    one, other = two_phase(**whole), two_phase(**whole, clusters=clusters)
    assert other.se_population == pytest.approx(2 * one.se_population, rel=2 / N)
    assert other.se == one.se  # of a choice within the set
    assert two_phase(**whole, clusters=np.zeros(4 * N, dtype=np.int64)).se_population is None


def test_few_values_tell_no_error(generator):
    x, y, chosen = drawn(generator, 2, 3)
    found = two_phase(y[chosen], chosen, x)
    assert (found.se, found.low, found.freedom) == (None, None, 0)
    assert two_phase(y[chosen[:1]], chosen[:1], x[:, :0]).mean == y[chosen[0]]


def test_saved_runs_are_those_that_the_plain_mean_needs(generator):
    x, y, chosen = drawn(generator, 1, 24)
    found = two_phase(y[chosen], chosen, x)
    runs = found.saved * 24
    assert (1 - runs / N) * y[chosen].var(ddof=1) / runs == pytest.approx(found.se_choice**2)


def test_planned_runs_reach_the_error():
    runs = values_for(0.02, residual=0.2, error=0.05, n_set=N)
    se = [np.sqrt((1 - n / N) * 0.2**2 / n + 0.05**2 / N) for n in (runs - 1, runs)]
    assert se[1] <= 0.02 < se[0]
    assert values_for(1e-9, 0.2, 0.0, N) == N
    assert values_for(0.05 / np.sqrt(N) / 2, 0.2, 0.05, N) is None
    assert values_for(0.1, 0.0, 0.0, N) == 1


def test_features_that_no_regression_can_use_are_named(generator):
    x = generator.standard_normal((N, 7))
    x[:, 1] = 5.0
    x[:, 2] = 3 * x[:, 0] + 1
    x[:, 4] = x[:, 3] + 1e-9 * generator.standard_normal(N)
    x[:, 5] = 0.0
    x[7, 5] = 1.0
    x[:, 6] = x[:, 3] - 2 * x[:, 0]
    assert unusable(x) == {
        1: "does not vary",
        2: "says what others say",
        4: "says what others say",
        5: "is decided by one image",
        6: "says what others say",
    }
    assert unusable(x[:5, [0, 3]]) == {}


@pytest.mark.parametrize("p", [1, 6])
@pytest.mark.parametrize("n", [24, 48, 96])
def test_intervals_hold_the_mean_as_often_as_they_say(p, n):
    """1,000 choices: 93 to 97 %, three standard errors of a share of 95 % being 2.1 %."""
    generator = np.random.default_rng(n + p)
    x, y, _ = drawn(generator, p, n, n_set=1000)
    held = 0
    for _ in range(1000):
        chosen = generator.permutation(1000)[:n]
        found = two_phase(y[chosen], chosen, x)
        held += found.low <= y.mean() <= found.high
    assert 930 <= held <= 970

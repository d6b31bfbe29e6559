"""What repeats say of a value: the spread of noise and probes, beside what probes alone tell."""

import dataclasses

import numpy as np
import pytest
from tests.asked import asked

from merged_diffusion.data.images import make_data
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.likelihood.likelihoods import Likelihood
from merged_diffusion.likelihood.repeats import reaches, repeated_error
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams, Probes
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.student import student_t

DIM = 4


def record(number, draws, **more):
    nats = float(np.mean(draws))
    return Record(
        id=number, status="ok", bits_per_dim=-nats / (DIM * np.log(2)), draws=list(map(float, draws)),
        terms_nats={"end_density": nats}, evaluations={"likelihood": 1, "quality": 0}, **more,
    )  # fmt: skip


def test_the_interval_of_repeats_holds_the_value_as_often_as_it_says():
    """Draws N(0, 1), whose probes' part is half of the variance and known to nine degrees of freedom."""
    random, n, repeats = np.random.RandomState(0), 4000, 4
    draws = random.normal(size=(n, repeats))
    probe = np.sqrt(0.5 / repeats * random.chisquare(9, n) / 9) / (DIM * np.log(2))
    found = Likelihood(
        tuple(record(i, draws[i], se_probe=float(probe[i]), freedom=9.0) for i in range(n)), DIM
    )
    low, high = found.interval(0.9).T
    held = np.mean((low < 0) & (high > 0))
    # By the spread alone 0.9; the wider of two holds no less. Five standard errors of 4,000 draws are 0.024.
    assert 0.9 - 0.024 < held < 0.97
    # Probes alone tell half of the variance: t with 9 degrees reaches 1.83 of them, which is 1.30 of all.
    alone = dataclasses.replace(found, records=tuple(dataclasses.replace(r, draws=None) for r in found))
    low, high = alone.interval(0.9).T
    assert np.mean((low < 0) & (high > 0)) < 0.85
    np.testing.assert_array_equal(alone.se_value, probe)
    # The variance of the mean of four draws is 1/4; its estimate's relative error over 4,000 images is 0.013.
    variance = np.mean((found.se_draws * DIM * np.log(2)) ** 2)
    assert variance == pytest.approx(1 / repeats, rel=5 * np.sqrt(2 / 3 / n))
    assert (found.se_value == np.maximum(found.se_draws, probe)).all()
    mean = found.estimate()
    assert mean.se_draws == pytest.approx(np.sqrt(np.sum(found.se_draws**2)) / n)
    # The choice of images is by chance here, and has all noise in it.
    assert mean.se == pytest.approx(mean.se_draws, rel=0.06)


def test_an_interval_adds_up_what_is_no_estimate():
    own, missed = np.array([0.3, 0.0]), np.array([0.4, 0.4])
    found = reaches(own, np.array([2.0, np.nan]), missed, 0.95)
    # Welch and Satterthwaite: 2 degrees times (0.5/0.3)^4, which would reach less far than the
    # estimate alone; of an error without doubt it is the normal law.
    assert 0.5 * student_t(2 * (5 / 3) ** 4) < found[0] == pytest.approx(0.3 * student_t(2.0))
    assert found[1] == pytest.approx(0.4 * 1.959964, rel=1e-5)


@pytest.mark.parametrize("repeats", [2, 3, 8])
@pytest.mark.parametrize("missed", [0.1, 0.3, 1.0])
def test_what_is_missed_makes_no_interval_narrower_and_it_is_still_held(repeats, missed):
    random, n = np.random.RandomState(repeats), 4000
    own = np.sqrt(random.chisquare(repeats - 1, n) / (repeats - 1))
    degrees = np.full(n, repeats - 1.0)
    alone = reaches(own, degrees, np.zeros(n), 0.95)
    np.testing.assert_array_equal(alone, student_t(degrees) * own)
    both = reaches(own, degrees, np.full(n, missed), 0.95)
    assert (both >= alone).all()
    held = np.abs(random.normal(size=n) + missed * random.normal(size=n)) < both
    # By 10^5 draws at least 0.943 (three repeats, 0.5); four standard errors of 4,000 are 0.015.
    assert held.mean() > 0.943 - 0.015
    assert np.isnan(reaches(own, degrees, np.full(n, np.nan), 0.95)).all()


def test_a_table_has_what_the_properties_say_and_rows_are_its_rows():
    records = tuple(record(i, [0.1, 0.3 + i], se_probe=0.1, freedom=9.0, path_error=0.0) for i in range(3))
    found = Likelihood(records, DIM, quadrature_of_pilot=0.02)
    table, rows = found.to_dict(), found.rows()
    np.testing.assert_array_equal(table["quadrature_error"], [0.02] * 3)
    assert [list(row) for row in rows] == [list(table)] * 3
    for name in ("quadrature_error", "se_draws", "se_value", "bits_per_dim"):
        np.testing.assert_array_equal([row[name] for row in rows], getattr(found, name))
    lost = Record(id=3, status="nonfinite", evaluations={"likelihood": 1, "quality": 0})
    with_lost = dataclasses.replace(found, records=(*records, lost)).rows()[3]
    assert (with_lost["bits_per_dim"], with_lost["status"]) == (None, "nonfinite")


def test_repeats_of_several_draws_count_as_one_each():
    draws = np.array([0.1, -0.4, 0.7, 0.2, -1.0, 0.3])
    bounds = np.logaddexp(*draws.reshape(3, 2).T)
    assert repeated_error(draws, 2) == pytest.approx(bounds.std(ddof=1) / np.sqrt(3), rel=1e-12)
    assert repeated_error(draws, 6) is None
    assert repeated_error([], 1) is None


@pytest.mark.parametrize("dequantise", ["decoder", "uniform"])
def test_noise_that_the_probes_do_not_know_of_is_in_the_table(dequantise):
    """Of a Gaussian the trace is exact, so probes leave nothing, and the draws' noise is all there is."""
    # gamma_min is high, so that the decoder's noise reaches beyond a bin.
    expert = GaussianExpert((1, 2, 2), variance=0.2, gamma_range=(-6.0, 6.0), levels=16)
    images = np.random.RandomState(1).randint(0, 16, (6, 1, 2, 2)).astype(np.uint8)
    options = {
        **asked(dtype="float64"), "dequantise": dequantise, "solver": Adams(tol=1e-3),
        "probes": Probes(kind="exact"), "machine": Machine(dtype="float64", batch_size=8),
    }  # fmt: skip
    data = make_data("few", "test", images, 16)
    found = log_likelihood(expert, data, repeats=8, **{k: options[k] for k in options if k in KNOWN})
    single = log_likelihood(expert, data, **{k: options[k] for k in options if k in KNOWN})
    assert (found.se_probe == 0).all()
    assert (found.se_draws > 0).all()
    bits = -np.array([r.draws for r in found]) / (DIM * np.log(2))
    np.testing.assert_allclose(found.se_draws, bits.std(axis=1, ddof=1) / np.sqrt(8), rtol=1e-12)
    columns = list(found.to_dict())
    assert columns[columns.index("freedom") + 1 :][:2] == ["se_draws", "se_value"]
    assert "se_value" in found._glance()
    assert "se_draws" not in single.to_dict()
    low, high = found.interval().T
    np.testing.assert_allclose((high - low) / 2, student_t(7) * found.se_draws, rtol=1e-9)
    assert "se_draws" in found.summary().bits_per_dim.as_dict()
    assert "se_draws" not in single.summary().bits_per_dim.as_dict()


KNOWN = ("dequantise", "solver", "probes", "machine")

"""Models that begin alike, scored together: to the last bit what each is alone, for less."""

import numpy as np
import pytest
import torch
from tests.asked import asked

from merged_diffusion import GaussianExpert, MergedModel, Threshold, load_data, log_likelihood
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood import can_share, log_likelihoods
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import as_model
from merged_diffusion.ode.methods import Adams, Dopri5
from merged_diffusion.pairs import load_pair

SHAPE = (1, 4, 4)


def gaussian(name, low, high, spread):
    std = torch.linspace(0.2, spread, 16, dtype=torch.float64).reshape(SHAPE)
    return GaussianExpert(SHAPE, variance=std**2, name=name, gamma_range=(low, high), levels=16)


def models(etas=(0.06, 0.1, 0.4, 0.7)):
    likelihood, quality = gaussian("l", -8.0, 5.0, 0.9), gaussian("q", -7.0, 8.764, 0.7)
    found = {str(eta): MergedModel(likelihood, quality, Threshold.eta(eta)) for eta in etas}
    return found | {"likelihood": as_model(likelihood)}


def images(n=6):
    pixels = np.random.default_rng(0).integers(0, 16, (n, *SHAPE)).astype(np.uint8)
    return make_data("some", "test", pixels, 16)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "dopri5"},
        {"method": "adams"},
        {"method": "adams", "probe": "exact"},
        {"method": "dopri5", "importance": 3, "repeats": 2},
        {"method": "dopri5", "probes": 3},
        {"method": "adams", "probes": 2},
        {"method": "dopri5", "dequantise": "uniform", "rtol": 1e-4, "atol": 1e-4},
        {"method": "dopri5", "dequantise": "none", "workspace": "torch"},
    ],
)
def test_records_are_those_of_each_model_alone(options):
    data, fan = images(), models()
    together = log_likelihoods(fan, data, Options(**asked(batch_size=4, dtype="float64", **options)))
    single = 0
    for name, model in fan.items():
        alone = log_likelihood(model, data, **asked(batch_size=4, dtype="float64", **options))
        assert together[name].records == alone.records
        single += alone.tally["evaluations"]
    assert together["likelihood"].tally["evaluations"] < 0.9 * single


def test_bundled_networks_give_the_same_bits_together_and_alone():
    pair = load_pair("digits")
    likelihood, quality = pair.experts
    fan = {
        str(eta): MergedModel(likelihood, quality, Threshold.eta(eta), eta_range=(-7.876, 8.764))
        for eta in (0.1, 0.5)
    }
    data = load_data("digits").select(limit=3)
    for options in ({"method": "dopri5", "rtol": 1e-4, "atol": 1e-4}, {"method": "adams"}):
        together = log_likelihoods(fan, data, Options(**asked(batch_size=3, **options)))
        for name, model in fan.items():
            assert (
                together[name].records
                == log_likelihood(model, data, **asked(batch_size=3, **options)).records
            )


def test_each_model_scores_what_is_wanted_of_it():
    data, fan = images(), models((0.1, 0.4))
    wanted = {"0.1": np.array([1, 3]), "0.4": np.array([3, 5]), "likelihood": np.array([], dtype=np.int64)}
    seen = []
    found = log_likelihoods(
        fan,
        data,
        Options(**asked(batch_size=4, dtype="float64")),
        wanted=wanted,
        on_record=lambda name, record: seen.append((name, record.id)),
    )
    assert sorted(seen) == [("0.1", 1), ("0.1", 3), ("0.4", 3), ("0.4", 5)]
    everything = log_likelihoods(fan, data, Options(**asked(batch_size=4, dtype="float64")))
    for name, ids in wanted.items():
        assert list(found[name].records) == [everything[name].records[i] for i in ids]


def test_models_that_do_not_begin_alike_are_refused():
    likelihood, quality = gaussian("l", -8.0, 5.0, 0.9), gaussian("q", -7.0, 8.764, 0.7)
    merged = MergedModel(likelihood, quality, Threshold.eta(0.3))
    other = MergedModel(gaussian("l", -8.0, 5.0, 0.9), quality, Threshold.eta(0.3))
    later = MergedModel(gaussian("l", -7.5, 5.0, 0.9), quality, Threshold.eta(0.3))
    assert can_share([merged, as_model(likelihood)], Adams())
    for wrong in (as_model(quality, role="quality"), other, later):
        assert not can_share([merged, wrong], Adams())
        with pytest.raises(UsageError, match="cannot share"):
            log_likelihoods({"one": merged, "two": wrong}, images(), Options())
    together = {"one": merged, "two": as_model(likelihood)}
    with pytest.raises(UsageError, match="cannot share"):
        log_likelihoods(together, images(), Options(solver=Dopri5(shared=True)))

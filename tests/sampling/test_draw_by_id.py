"""What an image depends on: its id, seed and model, never what is drawn beside it."""

import numpy as np
import pytest
import torch
from tests.asked import drawn

import merged_diffusion as md
from merged_diffusion.errors import ExpertError, SolveError, UsageError
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams, Dopri5
from merged_diffusion.samplers import Ancestral, Dpmpp2m, Ode
from merged_diffusion.sampling import Samples, draw

FEW = {
    "ode": {},
    "ancestral": {"steps": 12},
    "heun": {"steps": 6, "s_churn": 20.0},
    "dpmpp-2m": {"steps": 8},
    "dpmpp-3m": {"steps": 8},
    "unipc": {"steps": 8},
    "deis": {"steps": 8, "sigmas": "quadratic"},
    "ipndm": {"steps": 8},
}
SAMPLERS = tuple(FEW)


@pytest.fixture(scope="module")
def digits():
    return md.load_pair("digits")


@pytest.fixture(scope="module")
def many(digits):
    return {
        name: draw(
            digits, np.arange(40), decode="sample", latents=True, **drawn(sampler=name, **FEW.get(name, {}))
        )
        for name in SAMPLERS
    }


@pytest.mark.parametrize("name", SAMPLERS)
def test_image_is_unmoved_by_its_neighbours(digits, many, name):
    wanted = np.array([37, 5, 20])
    found = draw(digits, wanted, decode="sample", latents=True, **drawn(sampler=name, **FEW.get(name, {})))
    expected = many[name].in_order(wanted)
    np.testing.assert_array_equal(found.ids, wanted)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.latents, expected.latents)
    for role, counts in expected.evaluations.items():
        np.testing.assert_array_equal(found.evaluations[role], counts)


def test_samplers_start_from_one_noise(many):
    # ode, heun without churn and dpmpp-2m follow one flow; here only their agreement by id is asked.
    ode = many["ode"].images.astype(float)
    other = many["dpmpp-2m"].images.astype(float)
    own = np.abs(ode - other).mean()
    assert own < 0.5 * np.abs(ode - np.roll(other, 1, axis=0)).mean()


def test_start_is_shared_by_all_thresholds():
    seen = []

    def eps(z, gamma, cond=None):
        seen.append((float(gamma[0]), z.clone()))
        return z * 1.0

    expert = CallableExpert(
        eps, predicts="eps", time="gamma", input="vp", pixels="centred", gamma_range=(-5.0, 5.0),
        image_shape=(1, 2, 2), levels=256,
    )  # fmt: skip
    other = CallableExpert(
        lambda z, gamma, cond=None: z * 1.0, predicts="eps", time="gamma", input="vp", pixels="centred",
        gamma_range=(-5.0, 5.0), image_shape=(1, 2, 2), levels=256,
    )  # fmt: skip
    starts = []
    for eta in (0.2, 0.7):
        seen.clear()
        model = md.MergedModel(other, expert, md.Threshold.eta(eta))
        draw(model, [3], sampler=Ancestral(steps=4), machine=Machine(dtype="float64", batch_size=1))
        starts.append([z for gamma, z in seen if gamma == 5.0][-1])
    assert torch.equal(*starts)


def test_parts_are_handed_on_once_each(digits):
    parts = []
    found = draw(digits, np.arange(40), on_images=parts.append, sampler=Dpmpp2m(steps=4))
    assert sorted(np.concatenate([part.ids for part in parts]).tolist()) == list(range(40))
    assert Samples.joined(parts).in_order(found.ids).sha256 == found.sha256


def test_seed_and_id_name_the_noise(digits):
    one, two = (draw(digits, [0, 1], seed=seed, sampler=Dpmpp2m(steps=6)).images for seed in (0, 1))
    assert not np.array_equal(one, two)
    assert not np.array_equal(one[0], one[1])


def test_sample_is_the_short_way(digits):
    images = md.sample(digits, num=3, sampler=Dpmpp2m(steps=4))
    assert images.dtype == np.uint8
    assert images.shape == (3, 1, 8, 8)
    assert images.max() <= 16
    again = md.sample(digits, ids=[2], sampler=Dpmpp2m(steps=4))
    np.testing.assert_array_equal(again[0], images[2])


@pytest.mark.parametrize("tol", [0.003, 0.01])
def test_adams_draws_what_dopri5_draws(digits, tol):
    fine = draw(
        digits,
        np.arange(8),
        latents=True,
        sampler=Ode(Dopri5(rtol=1e-7, atol=1e-7)),
        machine=Machine(batch_size=8, dtype="float64"),
    )
    adams = draw(
        digits,
        np.arange(8),
        latents=True,
        sampler=Ode(Adams(tol=tol)),
        machine=Machine(batch_size=8, dtype="float64"),
    )
    assert np.sqrt(np.mean((fine.latents - adams.latents) ** 2)) < tol
    assert sum(counts.mean() for counts in adams.evaluations.values()) < 100


def test_failed_images_are_named_and_the_others_drawn():
    """The expert fails below gamma 0 for starts whose first value is positive."""

    def eps(z, gamma, cond=None):
        bad = (gamma < 0)[:, None, None, None] & (z[:, :1, :1, :1] > 0)
        return torch.where(bad, torch.nan, z * 0.5)

    expert = CallableExpert(
        eps, predicts="eps", time="gamma", input="vp", pixels="centred", gamma_range=(-3.0, 3.0),
        image_shape=(1, 2, 2), levels=256,
    )  # fmt: skip
    for name in ("ode", "dpmpp-2m"):
        parts = []
        with pytest.raises(SolveError, match="images failed, the first of them id") as caught:
            draw(expert, np.arange(20), sampler=name, on_images=parts.append)
        drawn = {int(i) for part in parts for i in part.ids}
        assert drawn
        assert drawn | set(caught.value.fields["ids"]) == set(range(20))
        assert not drawn & set(caught.value.fields["ids"])


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ([], {}, "one whole number"),
        ([0.5], {}, "one whole number"),
        ([-1], {}, "ids hold -1"),
        ([1, 1], {}, "twice"),
        ([0], {"labels": [0, 1]}, "1 whole numbers are needed"),
        ([0], {"batch_size": 0}, "batch_size = 0"),
        ([0], {"dtype": "float16"}, "dtype"),
        ([0], {"device": "nowhere"}, "not usable"),
        ([0], {"image_shape": (1, 4, 4)}, "image_shape"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_drawn(digits, ids, options, message):
    with pytest.raises((UsageError, ExpertError), match=message):
        draw(digits, ids, on_images=lambda _: pytest.fail("drawn"), **drawn(**options))


def test_expert_of_any_size_needs_a_shape():
    expert = CallableExpert(
        lambda z, gamma, cond=None: z * 1.0, predicts="eps", time="gamma", input="vp", pixels="centred",
        gamma_range=(-3.0, 3.0), image_shape=(1, None, None), levels=256,
    )  # fmt: skip
    with pytest.raises(UsageError, match="image_shape"):
        draw(expert, [0], sampler="dpmpp-2m")
    assert draw(expert, [0], sampler="dpmpp-2m", image_shape=(1, 3, 5)).images.shape == (1, 1, 3, 5)


def test_conditional_expert_needs_labels_and_uses_them():
    def eps(z, gamma, cond):
        pull = cond * gamma.sigmoid()
        return z - 0.3 * pull.to(z.dtype)[:, None, None, None]

    expert = CallableExpert(
        eps, predicts="eps", time="gamma", input="vp", pixels="centred", gamma_range=(-3.0, 3.0),
        image_shape=(1, 2, 2), levels=256, conditional=True,
    )  # fmt: skip
    with pytest.raises(UsageError, match="conditional"):
        draw(expert, [0])
    for name in ("ode", "heun"):
        both = draw(expert, [0, 1], sampler=name, labels=[1, 3])
        alone = draw(expert, [1], sampler=name, labels=[3])
        assert both.labels.tolist() == [1, 3]
        np.testing.assert_array_equal(both.images[1], alone.images[0])
        assert not np.array_equal(alone.images, draw(expert, [1], sampler=name, labels=[1]).images)


@pytest.mark.parametrize("num", [0, -1, 2.5, "3"])
def test_a_number_of_images_is_whole_and_positive(digits, num):
    with pytest.raises(UsageError, match=f"num = {num} is no whole number from 1 up"):
        md.sample(digits, num)

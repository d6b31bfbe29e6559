"""Two experts, one threshold: legs, echoes, and what is refused."""

import copy
import warnings
from dataclasses import FrozenInstanceError

import pytest
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.errors import ExpertError, ExpertRangeError, UsageError
from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.merge import MergedModel, Threshold, as_model

SHAPE = (3, 2, 2)


def expert(gamma_range: tuple[float, float], name: str, **facts: object) -> GaussianExpert:
    facts = {"variance": 0.3, "image_shape": SHAPE, **facts}
    return GaussianExpert(gamma_range=gamma_range, name=name, **facts)


LIKELIHOOD = expert(_core.VDM_RANGE, "vdm")
QUALITY = expert(_core.EDM_RANGE, "edm")


def merged(threshold: Threshold, **options: object) -> MergedModel:
    return MergedModel(LIKELIHOOD, QUALITY, threshold, **options)


@pytest.mark.parametrize("eta", [0.0394307, 0.1, 0.4, 0.8, 0.829405])
def test_legs_cover_the_range_without_gap(eta: float) -> None:
    model = merged(Threshold.eta(eta))
    first, second = model.legs("noise")
    assert (first.start, second.end) == model.gamma_range == (-13.3, 8.764)
    assert first.end == second.start
    assert (first.expert, first.role) == (LIKELIHOOD, "likelihood")
    assert (second.expert, second.role) == (QUALITY, "quality")
    back = model.legs("data")
    assert [(leg.start, leg.end) for leg in back] == [(leg.end, leg.start) for leg in (second, first)]
    assert [leg.role for leg in back] == ["quality", "likelihood"]


def test_eta_0_or_1_is_the_expert_alone_on_its_own_range() -> None:
    for eta, role, ends in [(0, "quality", (-12.43, 8.764)), (1, "likelihood", (-13.3, 5.0))]:
        model = merged(Threshold.eta(eta))
        (leg,) = model.legs()
        assert (leg.role, leg.start, leg.end) == (role, *ends)
        assert model.gamma_range == ends
        assert model.threshold == {"eta": eta, "gamma": None, "edm_sigma": None, "logsnr": None}
        assert not model.extrapolated


def test_range_merged_needs_extrapolation_and_says_so() -> None:
    with pytest.raises(ExpertRangeError, match="quality") as refused:
        merged(Threshold.eta(0), range="merged")
    assert refused.value.hint
    model = merged(Threshold.eta(0), range="merged", extrapolate=True)
    assert model.gamma_range == (-13.3, 8.764)
    assert model.extrapolated
    assert [leg.extrapolated for leg in model.legs()] == [True]


def test_expert_asked_outside_its_trained_range_is_refused_before_the_run() -> None:
    with pytest.raises(ExpertRangeError) as refused:
        merged(Threshold.eta(0.02))
    assert str(refused.value) == (
        "eta = 0.02 lies below 0.0394, where the quality expert was not trained (gamma < -12.43); "
        "use eta = 0 for the quality expert alone"
    )
    assert refused.value.exit_code == 2
    assert refused.value.fields["expert"] == "quality"
    with pytest.raises(ExpertRangeError, match="use eta = 1 for the likelihood expert alone"):
        merged(Threshold.gamma(6.0))
    model = merged(Threshold.eta(0.02), extrapolate=True)
    assert model.extrapolated
    assert [leg.extrapolated for leg in model.legs()] == [False, True]


@pytest.mark.parametrize("gamma", [-12.43, -4.0, 0.0, 5.0])
def test_threshold_given_as_sigma_or_log_snr_instead_of_eta_means_the_same(gamma: float) -> None:
    by_gamma = merged(Threshold.gamma(gamma))
    echo = by_gamma.threshold
    assert echo is not None
    others = [
        Threshold.edm_sigma(_core.edm_sigma(gamma)),
        Threshold.logsnr(-gamma),
        Threshold.eta(_core.eta_of_gamma(gamma, _core.MERGED_RANGE)),
    ]
    for other in others:
        assert merged(other).threshold == pytest.approx(echo, rel=1e-14, abs=1e-14)


def test_the_papers_printed_threshold_snaps_and_says_so() -> None:
    model = merged(Threshold.eta(0.0394307))
    assert model.threshold is not None
    assert model.threshold["gamma"] == -12.43
    assert model.snapped == "threshold at gamma = -12.4300010 taken as -12.43, the end of an expert's range"
    assert merged(Threshold.eta(0.4)).snapped is None
    assert merged(Threshold.eta("min")).snapped is None


def test_min_and_max_are_the_ends_of_what_both_were_trained_on() -> None:
    assert merged(Threshold.eta("min")).legs()[0].end == -12.43
    assert merged(Threshold.eta("max")).legs()[0].end == 5.0


def test_the_grid_of_a_pair() -> None:
    grid = _core.eta_grid(_core.VDM_RANGE, _core.EDM_RANGE)
    papers = [0.0394307, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.829405]
    assert grid == pytest.approx(papers, abs=5e-7)
    for eta in grid:
        assert len(merged(Threshold.eta(eta)).legs()) == 2


def test_eta_range_translates_eta_and_moves_nothing_else() -> None:
    learned = expert((-13.31, 5.0), "learned")
    model = MergedModel(learned, QUALITY, Threshold.eta(0.4), eta_range=_core.MERGED_RANGE)
    assert model.gamma_range == (-13.31, 8.764)
    assert model.legs()[0].end == _core.gamma_of_eta(0.4, _core.MERGED_RANGE)


def test_any_number_of_experts_is_a_route() -> None:
    route = _core.Route([(-10, 0), (-5, 5), (-1, 9)], [-3, 2])
    assert route.legs() == [(0, -10, -3, False), (1, -3, 2, False), (2, 2, 9, False)]
    assert route.threshold is None
    assert _core.Route([(-10, 0)], []).gamma_range == (-10, 0)
    for ranges, thresholds in [([], []), ([(0, 1)], [0.5]), ([(0, 2), (1, 3)], [5.0])]:
        with pytest.raises(UsageError):
            _core.Route(ranges, thresholds)


def test_a_deep_copy_has_experts_of_its_own() -> None:
    for model in (merged(Threshold.eta(0.3)), as_model(QUALITY, role="quality")):
        copied = copy.deepcopy(model)
        assert [(leg.start, leg.end, leg.role) for leg in copied.legs()] == [
            (leg.start, leg.end, leg.role) for leg in model.legs()
        ]
        assert all(a.expert is not b.expert for a, b in zip(copied.legs(), model.legs(), strict=True))


def test_one_expert_alone_has_the_interface_of_a_model() -> None:
    model = as_model(QUALITY, role="quality")
    (leg,) = model.legs("noise")
    assert (leg.expert, leg.role, leg.start, leg.end) == (QUALITY, "quality", -12.43, 8.764)
    assert model.legs("data")[0].start == 8.764
    assert (model.threshold, model.snapped, model.extrapolated) == (None, None, False)
    assert (model.levels, model.pixels, model.image_shape) == (256, "centred", SHAPE)
    assert as_model(model) is model


def test_legs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        merged(Threshold.eta(0.4)).legs()[0].start = 0.0


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"image_shape": (3, 4, 4)}, "shape"),
        ({"image_shape": (1, 2, 2)}, "shape"),
        ({"levels": 17}, "grey levels"),
    ],
)
def test_experts_with_different_image_size_channels_or_levels_are_refused(
    facts: dict[str, object], said: str
) -> None:
    other = expert(_core.EDM_RANGE, "other", **facts)
    with pytest.raises(ExpertError, match=said) as refused:
        MergedModel(LIKELIHOOD, other, Threshold.eta(0.4))
    assert refused.value.exit_code == 4


def test_an_axis_of_any_size_takes_the_other_experts() -> None:
    anything = expert(_core.EDM_RANGE, "any")
    anything.image_shape = (3, None, None)
    assert MergedModel(LIKELIHOOD, anything, Threshold.eta(0.4)).image_shape == SHAPE
    assert MergedModel(anything, LIKELIHOOD, Threshold.gamma(0)).image_shape == SHAPE


def test_swapped_kinds_are_refused() -> None:
    likelihood, quality = expert(_core.VDM_RANGE, "vdm"), expert(_core.EDM_RANGE, "edm")
    likelihood.kind, quality.kind = "vdm", "edm"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MergedModel(likelihood, quality, Threshold.eta(0.4))
    with pytest.raises(ExpertError, match="exchange the two"):
        MergedModel(quality, likelihood, Threshold.gamma(0.0))


def test_the_same_expert_twice_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="the same"):
        MergedModel(QUALITY, QUALITY, Threshold.gamma(0.0))


def test_unknown_words_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match='"native" or "merged"'):
        merged(Threshold.eta(0), range="own")
    with pytest.raises(UsageError, match='"noise" or "data"'):
        merged(Threshold.eta(0)).legs("up")
    with pytest.raises(UsageError, match='"exact" nor "paper"'):
        merged(Threshold.eta(0), convention="edm")


def test_what_is_no_expert_is_refused_with_what_it_lacks() -> None:
    def function(z: Tensor, gamma: Tensor) -> Tensor:
        return z

    with pytest.raises(ExpertError, match="it has no name, gamma_range, pixels"):
        as_model(function)


def test_paper_convention_feeds_an_expert_of_ends_unscaled() -> None:
    ends = GaussianExpert(SHAPE, variance=0.25, pixels="ends", gamma_range=_core.EDM_RANGE)
    model = MergedModel(LIKELIHOOD, ends, Threshold.eta(0.4), convention="paper")
    assert model.legs()[1].expert is ends
    assert MergedModel(LIKELIHOOD, ends, Threshold.eta(0.4)).legs()[1].expert is not ends
    assert model.pixels == "centred"

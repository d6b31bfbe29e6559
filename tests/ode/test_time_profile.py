"""Where the time goes: parts add up, counts are exact, and an evaluation costs no more than it must."""

import time

import numpy as np
import pytest
import torch
from tests.asked import asked, drawn

from merged_diffusion.experts.gaussian import GaussianExpert
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.merge import MergedModel, Threshold
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.time_profile import PARTS, TimeProfile
from merged_diffusion.sampling import draw

SHAPE = (1, 2, 2)
N, ROWS = 6, 4
PIXELS = np.random.default_rng(0).integers(0, 4, (N, *SHAPE)).astype(np.uint8)
METHODS = [{"method": "adams"}, {"method": "dopri5", "rtol": 1e-4, "atol": 1e-4}]
WORKSPACES = ["host", "torch"]


class Counting(GaussianExpert):
    """Counts its calls from when it is told to."""

    calls = 0

    def forward(self, z, gamma, cond=None):
        self.calls += 1
        return super().forward(z, gamma)


def expert(kind=GaussianExpert, low=-6.0, high=5.0):
    return kind(SHAPE, variance=0.2, gamma_range=(low, high), levels=4, name="small")


def pair():
    return MergedModel(expert(), expert(low=-5.0, high=8.0), Threshold.eta(0.4))


def scored(model, **options):
    return log_likelihood(model, PIXELS, **asked(**{"batch_size": ROWS, "profile_time": True} | options))


@pytest.fixture
def unchecked(monkeypatch):
    """Nothing asks expert or device before a solve, so that every call is the solver's."""
    monkeypatch.setattr("merged_diffusion.scores.prepared.check_expert", lambda *_, **__: None)
    monkeypatch.setattr("merged_diffusion.ode.devices.resolve_device", lambda name: (name, None))


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("options", METHODS)
def test_parts_add_up_to_the_whole_and_change_no_number(workspace, options):
    found = scored(pair(), workspace=workspace, **options)
    plain = scored(pair(), workspace=workspace, **options, profile_time=False)
    assert found.records == plain.records
    assert plain.time_profile is None
    profile = found.time_profile
    # Ten numbers added in another order: a few units in the last place.
    assert profile.total == pytest.approx(found.seconds, rel=1e-12)
    assert set(profile.seconds) == set(PARTS)
    # The rest of a verb, or of the solve, is never less than nothing; the images were there already.
    assert all(seconds > 0 for part, seconds in profile.seconds.items() if part != "data")
    assert profile.seconds["data"] == 0
    spent = {name: seconds for name, (_, seconds) in profile.verbs.items()}
    answering = sum(profile.seconds[part] for part in ("network", "products", "probes"))
    assert 0 < answering < spent["evaluate"]
    assert 0 < profile.seconds["starts"] < spent["load"]
    assert profile.device_seconds is None


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_adams_calls_once_and_waits_once_an_attempt(workspace):
    found = scored(pair(), workspace=workspace, method="adams")
    profile = found.time_profile
    assert profile.frames == profile.waits == profile.network_calls == sum(found.tally["calls"]) > 0
    assert profile.rows_called == ROWS * profile.network_calls
    assert profile.useful_rows == sum(counts.sum() for counts in found.evaluations.values())
    assert profile.useful_rows <= profile.rows_called
    calls = {name: count for name, (count, _) in profile.verbs.items()}
    once = ("evaluate", "gram", "collect", "accept")
    assert {calls[name] for name in once} == {profile.frames}
    # Input and trial; |z|^2 only in frames that can be the last of a row.
    assert calls["combine"] == 2 * profile.frames
    assert calls["scaled_square"] <= N


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_dopri5_waits_once_a_frame_and_once_more_where_a_row_starts(workspace):
    # One row: every problem starts in a frame of its own, which calls twice where a step calls six times.
    profile = scored(pair(), workspace=workspace, batch_size=1, **METHODS[1]).time_profile
    starts = 2 * N
    assert profile.waits == profile.frames + starts
    assert profile.network_calls == 6 * (profile.frames - starts) + 2 * starts
    assert profile.rows_called == profile.useful_rows == profile.network_calls


@pytest.mark.parametrize("options", [*METHODS, {"probes": 2}, {"probe": "fixed", "probes": 3}])
@pytest.mark.parametrize("workspace", WORKSPACES)
def test_an_evaluation_is_one_forward_its_products_and_nothing_else(
    unchecked, monkeypatch, workspace, options
):
    network, products, reads = expert(Counting), 0, 0
    grad, cpu = torch.autograd.grad, torch.Tensor.cpu

    def product(*given, **named):
        nonlocal products
        products += 1
        return grad(*given, **named)

    def read(tensor):
        nonlocal reads
        reads += 1
        return cpu(tensor)

    monkeypatch.setattr(torch.autograd, "grad", product)
    monkeypatch.setattr(torch.Tensor, "cpu", read)
    monkeypatch.setattr(torch.Tensor, "item", lambda _: pytest.fail("a device would be waited for"))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda _: pytest.fail("a device would be waited for"))
    profile = scored(network, workspace=workspace, **options).time_profile
    assert network.calls == profile.network_calls
    assert products == options.get("probes", 1) * profile.network_calls
    # What the host reads of a device it reads in collect, also what probes leave uncertain.
    assert reads == (profile.waits if workspace == "torch" else 0)


def test_a_solve_that_runs_out_of_memory_is_other_and_its_calls_are_not_counted():
    class Hungry(Counting):
        def forward(self, z, gamma, cond=None):
            if self.calls > 20 and len(z) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(z, gamma)

    found = scored(expert(Hungry))
    profile = found.time_profile
    assert {record.rows for record in found.records} == {2}
    assert profile.total == pytest.approx(found.seconds, rel=1e-12)
    assert min(profile.seconds.values()) == profile.seconds["data"] == 0
    assert profile.rows_called == 2 * profile.network_calls


@pytest.mark.parametrize("method", ["adams", "dopri5"])
def test_samples_have_a_profile_without_products(method):
    options = {"method": method, "batch_size": ROWS}
    found = draw(expert(), range(N), **drawn(**options, profile_time=True))
    plain = draw(expert(), range(N), **drawn(**options))
    np.testing.assert_array_equal(found.images, plain.images)
    assert plain.time_profile is None
    profile = found.time_profile
    absent = {part for part, seconds in profile.seconds.items() if seconds == 0}
    assert absent == {"products", "probes", "data"}
    assert min(profile.seconds.values()) == 0
    assert profile.useful_rows == sum(counts.sum() for counts in found.evaluations.values())


@pytest.mark.parametrize("rows", [1, N + 1])  # images handed on in the solve, and after it
def test_keeping_samples_is_records(rows):
    def keep(_):
        time.sleep(0.05)

    profile = draw(
        expert(), range(N), on_images=keep, machine=Machine(batch_size=rows, profile_time=True)
    ).time_profile
    assert profile.seconds["records"] >= 0.05 * (N if rows == 1 else 1)


def test_profiles_add_up_and_shares_of_nothing_are_unknown():
    nothing = TimeProfile()
    assert (nothing.total, nothing.waits, nothing.outside_network) == (0, 0, None)
    empty = nothing.as_dict()
    assert [empty[name] for name in ("waits_per_call", "useful_share", "outside_network")] == [None] * 3
    seconds = {part: float(number) for number, part in enumerate(PARTS)}
    counts = {"frames": 1, "network_calls": 2, "rows_called": 8, "useful_rows": 6}
    one = TimeProfile(seconds, {"collect": (3, 0.5)}, {"network": 1.0, "products": 2.0}, **counts)
    two = (one + one + nothing).with_data(7.0).as_dict()
    assert two["seconds"]["data"] == 2 * one.seconds["data"] + 7
    assert two["seconds"]["total"] == 2 * one.total + 7 == sum(two["seconds"][part] for part in PARTS)
    assert two["verbs"] == {"collect": {"calls": 6, "seconds": 1.0}}
    assert two["device_seconds"] == {"network": 2.0, "products": 4.0}
    assert two["outside_network"] == 1 - 6 / two["seconds"]["total"]
    assert (two["waits"], two["waits_per_call"], two["useful_share"]) == (6, 1.5, 0.75)

"""The torch workspace where the tensors of the networks live: ``pytest tests/ode --device cuda``.

On the CPU, the default, they hold between the host and the torch workspace.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tests.asked import asked

from merged_diffusion.data import load_data
from merged_diffusion.likelihood import log_likelihood
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.workspace import TorchWorkspace
from merged_diffusion.pairs import load_pair

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def digits():
    return load_data("digits").select(ids=(0, 4))


# Devices round a float32 network differently, and that moves the steps: 6e-4 bits/dim were seen at 1e-5.
@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-9), ("float32", 3e-3)])
@pytest.mark.parametrize("step_control", ["per-image", "shared"])
def test_device_agrees_with_the_host(device, digits, dtype, limit, step_control):
    options = {"dtype": dtype, "step_control": step_control, "batch_size": 4, **TOLERANCE}
    there = log_likelihood(load_pair("digits"), digits, **asked(device=device, workspace="torch", **options))
    here = log_likelihood(load_pair("digits"), digits, **asked(device="cpu", workspace="host", **options))
    np.testing.assert_allclose(there.bits_per_dim, here.bits_per_dim, rtol=0, atol=limit)


def test_neighbours_and_refill_change_no_bit(device, digits):
    options = {"device": device, "workspace": "torch", "batch_size": 2, **TOLERANCE}
    whole = log_likelihood(load_pair("digits"), digits, **asked(**options))
    last = log_likelihood(load_pair("digits"), digits.select(ids=(3, 4)), **asked(**options))
    assert last.bits_per_dim[0] == whole.bits_per_dim[3]


@contextmanager
def waiting(mode):
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("probes", [1, 2])
def test_nothing_waits_for_the_device_but_collect_and_save(device, digits, monkeypatch, probes):
    if torch.device(device).type != "cuda":
        pytest.skip("needs --device cuda")
    options = {"device": device, "batch_size": 4, "probes": probes, **TOLERANCE}
    model = load_pair("digits")
    log_likelihood(model, digits, **asked(**options))  # libraries and kernels are loaded by now

    def watched(verb):
        def run(self, *given):
            with waiting("error"):
                return verb(self, *given)

        return run

    for name in ("load", "combine", "evaluate", "scaled_square", "gram", "accept"):
        monkeypatch.setattr(TorchWorkspace, name, watched(getattr(TorchWorkspace, name)))
    log_likelihood(model, digits, **asked(**options))


def test_seconds_of_the_device_stand_beside_those_of_the_host(device, digits):
    found = log_likelihood(
        load_pair("digits"), digits, machine=Machine(device=device, batch_size=4, profile_time=True)
    )
    profile = found.time_profile
    assert profile.total == pytest.approx(found.seconds, rel=1e-12)
    assert min(profile.seconds.values()) >= 0
    is_queued = torch.device(device).type == "cuda"
    assert (profile.device_seconds is not None) == is_queued
    for seconds in (profile.device_seconds or {}).values():
        assert 0 < seconds < found.seconds

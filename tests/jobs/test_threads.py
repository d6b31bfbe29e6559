"""The machine that a run settles on, and what is said of a GPU that is not there."""

import pytest
import torch

from merged_diffusion.jobs import threads
from merged_diffusion.ode.machine import Machine
from merged_diffusion.runs.settings_file import RecordedMachine


@pytest.mark.parametrize(
    ("reason", "is_said"),
    [
        ("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU", False),
        ("The NVIDIA driver on your system is too old (found version 11040)", True),
        ("Torch not compiled with CUDA enabled", True),
    ],
)
def test_a_machine_without_a_gpu_is_no_news_but_one_that_is_not_usable_is(monkeypatch, reason, is_said):
    zeros = torch.zeros

    def refused(*size, device="cpu"):
        if device == "cuda":
            raise RuntimeError(reason)
        return zeros(*size, device=device)

    monkeypatch.setattr(torch, "zeros", refused)
    machine, note = threads.settled(Machine(), RecordedMachine(), lambda device: 4)
    assert machine.device == "cpu"
    assert (note is not None) == is_said
    if is_said:
        assert reason in note

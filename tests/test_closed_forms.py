"""`selftest`: closed forms hold on this machine, in both dtypes."""

import pytest

from merged_diffusion import closed_forms
from merged_diffusion.ode.machine import Machine


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_check_is_within_its_tolerance(dtype, recwarn):
    checks = list(closed_forms.run(Machine("cpu", dtype)))
    assert [check.name for check in checks if not check.error <= check.tolerance] == []
    assert len({check.name for check in checks}) == len(checks) == 11


def test_a_wrong_number_fails(monkeypatch):
    monkeypatch.setattr(closed_forms, "DIGIT_BITS", closed_forms.DIGIT_BITS + 1e-3)
    *_, last = closed_forms.run(Machine("cpu", "float32"))
    assert not last.error <= last.tolerance

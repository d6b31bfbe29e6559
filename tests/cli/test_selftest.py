"""``selftest``: a line per check, exit code 1 if one fails."""

from dataclasses import dataclass

import pytest

from merged_diffusion import closed_forms


@dataclass(frozen=True)
class Check:
    name: str
    error: float
    tolerance: float


@pytest.mark.parametrize(
    ("error", "code", "word"), [(1e-13, 0, "ok"), (1e-3, 1, "FAILED"), (float("nan"), 1, "FAILED")]
)
def test_line_per_check_and_code_1_if_one_fails(run_cli, monkeypatch, error, code, word):
    monkeypatch.setattr(
        closed_forms, "run", lambda machine: [Check("tau", 0.0, 1e-12), Check("Z", error, 1e-12)]
    )
    result = run_cli("selftest", "--device", "cpu", "--threads", 1)
    assert result.code == code
    _heading, first, second = result.out.splitlines()
    assert first.split()[-1] == "ok"
    assert second.split()[-1] == word
    asked = run_cli("selftest", "--device", "cpu", "--threads", 1, "--json")
    assert asked.json["code"] == code
    assert [check["ok"] for check in asked.json["checks"]] == [True, code == 0]

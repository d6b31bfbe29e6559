"""`sweep` in Python: the table of the command line, from settings that name no threshold."""

import pytest

import merged_diffusion as md
from merged_diffusion import Settings, sweep
from merged_diffusion.errors import UsageError
from merged_diffusion.runs import open_run

FEW = {"data": "digits", "limit": 2, "rtol": 1e-3, "atol": 1e-3, "device": "cpu", "threads": 1}


def test_rows_compared_and_kept(tmp_path):
    seen = []
    table = sweep(
        Settings.of(FEW), [0.4, 0.1], out=tmp_path / "swept", observe=lambda row, record: seen.append(row)
    )
    assert [line["name"] for line in table["rows"]] == ["eta 0.1000", "eta 0.4000"]
    assert sorted(seen) == ["eta 0.1000"] * 2 + ["eta 0.4000"] * 2
    kept = open_run(tmp_path / "swept" / "eta-0.1000")
    alone = md.evaluate(Settings.of(FEW | {"eta": 0.1}))
    assert table["rows"][0]["summary"]["bits_per_dim"] == alone["bits_per_dim"]
    assert kept.settings["threshold"] == alone["threshold"]
    assert table["evaluations"]["spent"] < table["evaluations"]["single_runs"]
    assert table["best"]["name"] == min(
        table["rows"], key=lambda line: line["summary"]["bits_per_dim"]["mean"]
    )["name"]  # fmt: skip


@pytest.mark.parametrize("given", [{"eta": 0.3}, {"gamma": -3.0}, {"expert": "bundled:digits-vdm"}])
def test_settings_of_one_threshold_are_refused(given):
    with pytest.raises(UsageError, match="was given, but a sweep"):
        sweep(Settings.of(FEW | given))

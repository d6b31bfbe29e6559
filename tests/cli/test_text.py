"""A summary in words."""

import pytest

from merged_diffusion.cli.text import lines


@pytest.mark.parametrize(
    ("hint", "line"),
    [
        (None, "  image 7: nonfinite at gamma -5.9 (likelihood)"),
        ("raise it", "  image 7: nonfinite at gamma -5.9 (likelihood); raise it"),
    ],
)
def test_failed_image_is_named_with_its_hint(hint: str | None, line: str) -> None:
    failure = {
        "model": "likelihood",
        "id": 7,
        "status": "nonfinite",
        "gamma": -5.9,
        "leg": "likelihood",
        "expert": "a",
        "hint": hint,
    }
    summary = {
        "model": "likelihood",
        "data": {"name": "digits", "split": "test", "n": 2},
        "threshold": None,
        "legs": [{"role": "likelihood", "start": -6.0, "end": 5.0}],
        "experts": {"likelihood": {"source": "a.py:a"}},
        "n": 2,
        "n_failed": 1,
        "bits_per_dim": None,
        "evaluations": None,
        "compare": [],
        "failures": [failure],
        "extrapolated": False,
        "rebatched": False,
        "settings": {"allow_failed": False, "dequantise": "uniform"},
    }
    found = lines(summary)
    assert line in found
    assert "no mean" in found[1]
    assert "1 of 2 images failed" in found

"""A summary in words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from merged_diffusion.cli.text import lines
from merged_diffusion.jobs.summary import Failure, Summary

# 6 of 8 images failed.
HOLED = Path(__file__).parents[1] / "reference" / "summaries" / "vlbh.json"


@pytest.mark.parametrize(
    ("hint", "line"),
    [
        (None, "  image 7: nonfinite at gamma -5.9 (likelihood)"),
        ("raise it", "  image 7: nonfinite at gamma -5.9 (likelihood); raise it"),
    ],
)
def test_failed_image_is_named_with_its_hint(hint: str | None, line: str) -> None:
    failure = Failure("likelihood", 7, "nonfinite", -5.9, "likelihood", "a", hint)
    summary = replace(Summary.from_dict(json.loads(HOLED.read_text("utf-8"))), failures=(failure,))
    found = lines(summary)
    assert line in found
    assert "no mean" in found[1]
    assert "6 of 8 images failed" in found

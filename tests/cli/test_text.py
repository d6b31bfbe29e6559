"""A summary in words."""

from dataclasses import replace

import pytest

from merged_diffusion.cli.text import lines
from merged_diffusion.jobs.identity import Identity, LegSpan, SetIdentity
from merged_diffusion.jobs.summary import Failure, summarise
from merged_diffusion.scores.means import Means


@pytest.mark.parametrize(
    ("hint", "line"),
    [
        (None, "  image 7: nonfinite at gamma -5.9 (likelihood)"),
        ("raise it", "  image 7: nonfinite at gamma -5.9 (likelihood); raise it"),
    ],
)
def test_failed_image_is_named_with_its_hint(hint: str | None, line: str) -> None:
    failure = Failure("likelihood", 7, "nonfinite", -5.9, "likelihood", "a", hint)
    data = SetIdentity(name="digits", split="test", sha256="", n_set=2, image_shape=[1, 8, 8], levels=17)
    identity = Identity(
        command="nll",
        model="likelihood",
        settings={"allow_failed": False, "dequantise": "uniform", "importance": 1},
        data=data,
        threshold=None,
        legs=(LegSpan("likelihood", -6.0, 5.0),),
        extrapolated=False,
        experts={"likelihood": {"source": "a.py:a"}},
    )
    summary = summarise(identity, {"likelihood": []}, versions={})
    means = Means(n=2, n_failed=1, bits_per_dim=None, evaluations=None)
    summary = replace(summary, means=means, failures=(failure,))
    found = lines(summary)
    assert line in found
    assert "no mean" in found[1]
    assert "1 of 2 images failed" in found

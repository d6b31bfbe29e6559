"""What goes to standard error besides the result."""

import logging
import warnings

import pytest

from merged_diffusion.cli.output import remarks
from merged_diffusion.errors import ExpertWarning


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_and_log_are_lines_unless_quiet(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    log = logging.getLogger("merged_diffusion")
    with remarks(quiet=quiet):
        warnings.warn("narrow noise", stacklevel=1)
        log.warning("running the code")
        log.error("broken")
    remarked = [] if quiet else ["warning: narrow noise", "warning: running the code"]
    assert capsys.readouterr().err.splitlines() == [*remarked, "error: broken"]


def test_a_remark_is_made_once_and_none_that_the_result_makes(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("merged_diffusion")
    with remarks(told=["above uniform"]):
        for text in ("loss 0.1", "loss 0.2"):
            warnings.warn(ExpertWarning(text, "the declaration of one"), stacklevel=1)
            log.warning("running the code")
        warnings.warn(ExpertWarning("loss 0.3", "the declaration of two"), stacklevel=1)
        warnings.warn(ExpertWarning("9 bits/dim", "above uniform"), stacklevel=1)
    said = ["warning: loss 0.1", "warning: running the code", "warning: loss 0.3"]
    assert capsys.readouterr().err.splitlines() == said

"""What goes to standard error besides the result."""

import logging
import warnings

import pytest

from merged_diffusion.cli.output import remarks


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_and_log_are_lines_unless_quiet(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    log = logging.getLogger("merged_diffusion")
    with remarks(quiet=quiet):
        warnings.warn("narrow noise", stacklevel=1)
        log.warning("running the code")
        log.error("broken")
    remarked = [] if quiet else ["warning: narrow noise", "warning: running the code"]
    assert capsys.readouterr().err.splitlines() == [*remarked, "error: broken"]

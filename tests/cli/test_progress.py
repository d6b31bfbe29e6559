"""Progress: one line that is rewritten on a terminal, a line a minute elsewhere."""

import io

import numpy as np
import pytest

from merged_diffusion.cli import progress
from merged_diffusion.cli.progress import Progress, RunningMean, duration
from merged_diffusion.scores.record import Record


class Terminal(io.StringIO):
    def isatty(self):
        return True


def record(bits):
    return Record(id=0, status="ok", bits_per_dim=bits, evaluations={"likelihood": 80, "quality": 110})


@pytest.fixture
def stderr(monkeypatch):
    def use(stream, seconds):
        monkeypatch.setattr("sys.stderr", stream)
        clock = iter(np.arange(0.0, 1e6, seconds))
        monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
        return stream

    return use


def test_running_mean_is_numpy_s():
    values = np.random.RandomState(0).randn(50) + 1e6
    mean = RunningMean()
    for value in values:
        mean.add(value)
    assert mean.mean == pytest.approx(values.mean(), rel=1e-15)
    assert mean.se == pytest.approx(values.std(ddof=1) / 50**0.5, rel=1e-8)


def test_terminal_shows_one_line_that_is_rewritten(stderr, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = stderr(Terminal(), seconds=1.0)
    with Progress({"merged": 4}, [], quiet=False) as shown:
        for bits in (3.0, 4.0):
            shown.update("merged", record(bits))
    assert "\n" not in stream.getvalue()
    assert "merged 2/4  3.500 ± 0.500 bits/dim  190 evaluations/image  done at " in stream.getvalue()


@pytest.mark.parametrize("no_color", [True, False])
def test_without_a_terminal_or_with_no_color_there_is_a_line_a_minute(stderr, monkeypatch, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = stderr(Terminal() if no_color else io.StringIO(), seconds=25.0)
    with Progress({"merged": 9}, [], quiet=False) as shown:
        for bits in range(9):
            shown.update("merged", record(float(bits)))
    assert stream.getvalue().count("\n") == 3  # at 75, 150 and 225 s
    assert "\x1b" not in stream.getvalue()


def test_reader_of_standard_error_that_went_away_stops_nothing(stderr):
    class Gone(Terminal):
        def write(self, text):
            raise BrokenPipeError

    stderr(Gone(), seconds=1.0)
    with Progress({"merged": 2}, [], quiet=False) as shown:
        shown.update("merged", record(3.0))


def test_durations_are_short():
    assert [duration(s) for s in (0.1, 59, 120, 7200)] == ["1 s", "59 s", "2 min", "2.0 h"]

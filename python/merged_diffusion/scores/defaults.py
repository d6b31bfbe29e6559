"""Defaults of calls that the command line shows without loading torch."""

from typing import Final

SEED: Final = 0
IMPORTANCE: Final = 1
REPEATS: Final = 1
TIMES: Final = 16  # of a variational bound: network evaluations an image and repeat
DRAWN: Final = 16  # images of `sample`
SWEPT: Final = 1000  # samples of each row of a sweep
EXACT: Final = 64  # of those, on which a fitted gate and its relatives are compared
TUNED: Final = 256  # images that a threshold is chosen on; more narrow the interval, at their price
SPACING: Final = 0.25  # of gamma in statistics of a model: what a spline misses is less than images leave

"""Defaults of scores that the command line shows without loading torch."""

from typing import Final

TIMES: Final = 16  # of a variational bound: network evaluations an image and repeat

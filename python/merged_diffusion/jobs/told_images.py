"""Which images of which rows workers have told, a bit for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from merged_diffusion.jobs.crew import Key

WORD: Final = 1024  # ids that share an integer


@dataclass
class ToldImages:
    """Ids of images by row and model, of any size and order.

    Examples
    --------
    >>> told = ToldImages()
    >>> told.add(("", "merged"), [3, 5000]), told.add(("", "merged"), [3]), told.add(("", "merged"), [3, 4])
    (True, False, True)
    """

    _bits: defaultdict[tuple[Key, int], int] = field(default_factory=lambda: defaultdict(int), init=False)

    def add(self, key: Key, ids: Sequence[int]) -> bool:
        """Whether one of them is new."""
        is_new = False
        for number in map(int, ids):
            word, bit = (key, number // WORD), 1 << number % WORD
            is_new |= not self._bits[word] & bit
            self._bits[word] |= bit
        return is_new

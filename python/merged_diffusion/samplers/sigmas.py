"""Which noise levels a sampler stops at: by a word, or as numbers, EDM's sigma/alpha = exp(gamma/2).

    logsnr       equal distances in gamma
    edm          sigma/alpha to the power 1/7 at equal distances (Karras et al. 2022, eq. 5)
    quadratic    the root of the time t at equal distances (Zhang and Chen 2023, ingredient 4), t that of the
                 VP SDE with beta from 0.1 to 20 (Song et al. 2021, appendix C)

A file has a number a line, under a first line that says which they are: ``edm_sigma`` or ``gamma``. Nothing
in 0.5, 0.3, 0.1 tells one from the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from merged_diffusion.errors import UsageError
from merged_diffusion.files.reading import read_text

Word = Literal["logsnr", "edm", "quadratic"]
Sigmas = Word | tuple[float, ...]
WORDS: Final[tuple[Word, ...]] = get_args(Word)
HEADS: Final = ("edm_sigma", "gamma")
MOST_GAMMA: Final = 100.0  # of a number in a file: exp of half of it is finite, and no model comes near
MOST_BYTES: Final = 1 << 24


def checked(given: str | Sequence[float]) -> Sigmas:
    """A word that is known, or numbers that fall and are above 0, as a tuple."""
    if isinstance(given, str):
        word = next((word for word in WORDS if word == given), None)
        if word is None:
            raise UsageError(
                f"sigmas = {given!r}, possible are {', '.join(WORDS)}, and numbers",
                hint="on the command line --sigmas FILE names a file of numbers",
            )
        return word
    return falling(given)


def falling(given: Sequence[float]) -> tuple[float, ...]:
    """Numbers that fall and are above 0."""
    try:
        numbers = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        raise UsageError(
            f"sigmas = {given!r} are no numbers",
            hint=f"{', '.join(WORDS)}, or EDM's sigmas, the largest first",
        ) from None
    if len(numbers) < 2:
        raise UsageError(f"sigmas hold {len(numbers)} numbers", hint="two are the least: start and end")
    for at, value in enumerate(numbers):
        if not 0 < value < math.inf:
            raise UsageError(f"sigmas: number {at + 1} is {value:g}, where it must be finite and above 0")
        if at and value >= numbers[at - 1]:
            raise UsageError(
                f"sigmas: number {at + 1} is {value:g} and the one before it {numbers[at - 1]:g}",
                hint="they must fall, from noise to data",
            )
    return numbers


def from_word(word: str) -> tuple[float, ...]:
    """EDM's sigmas with commas between, or those of a file."""
    if "," not in word:
        return from_file(word)
    try:
        numbers = [float(number) for number in word.split(",")]
    except ValueError:
        raise UsageError(f"sigmas {word[:80]!r} are no numbers with commas between") from None
    return falling(numbers)


def from_file(path: str | Path) -> tuple[float, ...]:
    """EDM's sigmas of a file of numbers.

    Raises
    ------
    UsageError
        It cannot be read, says not which numbers they are, or they do not fall.
    """
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise UsageError(f"sigmas {path}: more than {MOST_BYTES} bytes", hint="a number a line")
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is no text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise UsageError(
            f"sigmas {path}: {reason}", hint=f"possible are {', '.join(WORDS)} and the name of a file"
        ) from None
    said = [(at, line.strip()) for at, line in enumerate(lines, 1) if line.strip()]
    if not said or said[0][1] not in HEADS:
        raise UsageError(
            f"sigmas {path}: its first line is {said[0][1][:40]!r}" if said else f"sigmas {path}: is empty",
            hint=f"write {HEADS[0]} (sigma/alpha) or {HEADS[1]} there, and a number on each line below",
        )
    numbers = [_number(path, at, line, said[0][1]) for at, line in said[1:]]
    try:
        return falling(numbers)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None


def _number(path: str | Path, at: int, line: str, head: str) -> float:
    """EDM's sigma of a line."""
    try:
        value = float(line)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (head == "gamma" and abs(value) > MOST_GAMMA):
        raise UsageError(f"sigmas {path}, line {at}: {line[:40]!r} is no {head}", hint="a number a line")
    return math.exp(value / 2) if head == "gamma" else value

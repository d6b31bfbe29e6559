"""`estimate_mean`: the mean over a set of which some images were measured exactly (`two_phase`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from merged_diffusion.data.images import Data
from merged_diffusion.data.pixel_features import pixel_features
from merged_diffusion.errors import UsageError
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.frames import Column, Tabular, one_row, text_of_error
from merged_diffusion.scores.means import Floats
from merged_diffusion.scores.score_table import Scores
from merged_diffusion.scores.student import LEVEL
from merged_diffusion.scores.two_phase import (
    Integers,
    TwoPhase,
    two_phase,
    unusable,
    values_for,
)

RUNS_A_FEATURE: Final = 8  # exact runs: with fewer, what a feature explains is less than what its slope costs
PAYS: Final = 1.25  # times the exact runs; less is not worth the words
BOUND: Final = "bound"
# Of the set. (1 - n/N) s^2/n leaves out what noise of the values leaves in the mean of all, at most s^2/N: of
# fewer images a tenth of the variance, or 5 % of the standard error.
COUNTS: Final = 0.1
DRAWS: Final = "draws"


@dataclass(frozen=True)
class Planned(TypedValues):
    """Exact runs that a standard error ``se`` in bits/dim takes; None where its probes forbid it.

    Or where nothing tells what they leave, and it takes more than a tenth of the set.
    """

    se: float
    runs: int | None


@dataclass(frozen=True, repr=False)
class MeanOverSet(Tabular, TypedValues):
    """The mean over ``n_set`` images in bits/dim, of which ``n`` were measured; None: not known.

    As a table it is a row with its numbers for columns, and ``features`` with commas between.
    """

    ERRORS: ClassVar = {"mean": "se"}
    GLANCE: ClassVar = ("mean", "se", "low", "high", "n", "n_set", "features")

    mean: float
    se: float | None
    se_choice: float | None
    """Part of ``se``: which images were chosen out of the set."""
    se_probe: float | None
    """The other part: what the probes of all images of the set would leave; of repeats, with their noise."""
    se_population: float | None
    """Of the mean of what the set was drawn from, by clusters where the set has some."""
    low: float | None
    high: float | None
    confidence: float
    freedom: int
    """The interval from ``low`` to ``high`` is Student's with so many degrees of freedom."""
    n: int
    n_set: int
    features: tuple[str, ...]
    left_out: Mapping[str, str]
    """Features that were not used, and why."""
    correlation: float | None
    """Multiple R of features and exact bits/dim."""
    saved: float | None
    """How many times the exact runs the same error would take without features."""
    residual: float | None
    error: float | None
    """Standard deviation of what the features leave, and root mean square of the images' own errors."""
    untold: tuple[str, ...]
    """Of which random numbers nothing tells what they leave in a value: ``probe``, ``draws``, ``times``."""
    bound_calls: int = 0
    """Network calls that the bound took, where it is a feature."""
    planned: Planned | None = None

    def runs_for(self, se: float) -> int | None:
        """How many exact runs out of the set a standard error in bits/dim takes, by what these left.

        None where no number does: the probes alone leave more, or what they leave is not known (``error``),
        and it takes more than a tenth of the set.
        """
        if not se > 0:
            raise UsageError(f"se = {se} is no standard error", hint="use a number above 0, in bits/dim")
        if self.residual is None:
            raise UsageError(f"{self.n} images do not tell how they differ", hint="measure more of them")
        found = values_for(se, self.residual, self.error or 0.0, self.n_set)
        return None if self.error is None and counts(found, self.n_set) else found

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of ``untold`` that count, since more than a tenth of the set was measured.

        ``draws``: the interval is of the mean of all images with these draws of dequantisation, and says
        nothing of what others would give. Anything else: there is no interval.
        """
        return self.left_out_of(self.n)

    def left_out_of(self, n: int) -> tuple[str, ...]:
        """The same, were ``n`` images measured."""
        return self.untold if counts(n, self.n_set) else ()

    @property
    def pays(self) -> bool:
        """Whether the features are worth naming."""
        return self.saved is not None and self.saved >= PAYS

    def to_dict(self) -> dict[str, Column]:
        """Columns [1] by name; NaN for what is not known."""
        numbers = {k: v for k, v in vars(self).items() if k not in ("left_out", "planned")}
        lists = {name: ", ".join(numbers[name]) for name in ("features", "untold")}
        return one_row(numbers | lists)

    def _glance(self) -> dict[str, Column]:
        found = self.to_dict()
        return {name: found[name] for name in self.GLANCE}

    def __repr__(self) -> str:
        features = ", ".join(self.features) or "no feature"
        value = f"{self.mean:.4f}{text_of_error(self.se)} bits/dim"
        return f"MeanOverSet({value}, {self.n} of {self.n_set} images, {features})"


def counts(n: int | None, n_set: int) -> bool:
    """Whether so many of a set are too many to leave out what noise of values leaves in the mean of all."""
    return n is not None and n > COUNTS * n_set


def estimate_mean(scores: Scores, data: Data, *, bound: Scores | None = None) -> MeanOverSet:
    """The mean over all images of ``data``, of which ``scores`` holds a random choice.

    Pixels tell much of how images of a set differ in bits/dim, and they are known of all images (Cochran
    1977, chapter 7; the formulas are `merged_diffusion.scores.two_phase`).

    Where more than a tenth of the set was measured, noise of the values counts. Repeats tell all of it.
    Without them an image has one draw of dequantisation, and the interval is of the mean with these draws;
    where the probe's error is not known either, there is none (``missing`` of what is returned says so).

    Parameters
    ----------
    scores
        Bits/dim of n images of ``data``, by their ids: of `log_likelihood`, `load_scores` or
        `variational_bound`. They must have been chosen at random, as ``data.select(limit=n)`` does; nothing
        here can tell.
    data
        All N images.
    bound
        Of all N images, as one feature more.

    Raises
    ------
    UsageError
        There are no scores, some failed or are densities without bits/dim, or their ids are not of the data.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> data = md.load_data("photos")
    >>> found = md.log_likelihood(md.load_pair("photos"), data.select(limit=8))
    >>> mean = md.estimate_mean(found, data)
    >>> mean.n, mean.n_set, mean.features
    (8, 360, ('roughness',))
    >>> bool(mean.saved > 4)  # times as many images without the feature
    True
    """
    y = _bits(scores)
    positions = _positions(scores.ids, data)
    names, values = _features(data, bound)
    out = {names[column]: f"{why} over the set" for column, why in unusable(values).items()}
    usable = [name for name in names if name not in out]
    fitting = _as_many_as_fit(usable, len(y))
    need = f"{len(usable)} features take {RUNS_A_FEATURE * len(usable)} exact runs, {len(y)} were made"
    out |= {name: need for name in usable if name not in fitting}
    measured = values[positions][:, [names.index(name) for name in fitting]]
    out |= {fitting[k]: f"{why} over the images measured" for k, why in unusable(measured).items()}
    used = [name for name in fitting if name not in out]
    errors = scores.own_errors
    is_known = set(scores.untold) <= {DRAWS}
    found = two_phase(
        y,
        positions,
        values[:, [names.index(name) for name in used]],
        errors=errors if is_known else None,
        clusters=data.clusters,
    )
    calls = 0 if bound is None or BOUND not in used else sum(each.total_evaluations for each in bound)
    own = float(np.sqrt(np.square(errors).mean())) if is_known else None
    if not is_known and counts(len(y), len(data)):
        found = replace(found, se=None, low=None, high=None)
    return _told(found, len(y), len(data), tuple(used), out, own, scores.untold, calls)


def _told(
    found: TwoPhase,
    n: int,
    n_set: int,
    features: tuple[str, ...],
    left_out: Mapping[str, str],
    error: float | None,
    untold: tuple[str, ...],
    bound_calls: int,
) -> MeanOverSet:
    return MeanOverSet(
        mean=found.mean,
        se=found.se,
        se_choice=found.se_choice,
        se_probe=found.se_errors,
        se_population=found.se_population,
        low=found.low,
        high=found.high,
        confidence=LEVEL,
        freedom=found.freedom,
        n=n,
        n_set=n_set,
        features=features,
        left_out=left_out,
        correlation=found.correlation,
        saved=found.saved,
        residual=found.residual,
        error=error,
        untold=untold,
        bound_calls=bound_calls,
    )


def _bits(scores: Scores) -> Floats:
    if scores.unit.startswith("nats"):
        raise UsageError("log densities have no bits/dim", hint="score images with a dequantisation")
    if not len(scores) or scores.n_failed:
        raise UsageError(
            f"{scores.n_failed} of {len(scores)} images failed: those that are left are no random choice"
            if len(scores)
            else "no image was scored",
            hint="the mean over a set needs a value of every image that was chosen",
        )
    return scores.bits_per_dim


def _positions(ids: Integers, data: Data) -> Integers:
    """Where the images stand in the set [n]."""
    places = {int(image): place for place, image in enumerate(data.ids)}
    found = np.array([places.get(int(image), -1) for image in ids], dtype=np.int64)
    if (found < 0).any() or len(np.unique(found)) < len(found):
        raise UsageError(
            f"{data.name} has not each of the {len(ids)} images that were scored once",
            hint="give the set of which they were chosen: data.select(limit=n) keeps its ids",
        )
    return found


def _features(data: Data, bound: Scores | None) -> tuple[list[str], Floats]:
    """Names [p] and values [N, p] of all candidates; the bound is the last."""
    pixels = pixel_features(data)
    if bound is None:
        return list(pixels.names), pixels.values
    if bound.ids.tolist() != data.ids.tolist():
        raise UsageError(
            f"the bound is of {len(bound)} images that are not the {len(data)} of {data.name} in their order",
            hint="variational_bound(model, data) is of all of them",
        )
    return [*pixels.names, BOUND], np.column_stack([pixels.values, _bits(bound)])


def _as_many_as_fit(usable: list[str], n: int) -> list[str]:
    """All features that n exact runs can bear; else the first pixel feature and the bound, or the first."""
    few = [name for name in usable if name != BOUND][:1] + [name for name in usable if name == BOUND]
    for choice in (usable, few, few[-1:]):
        if n >= RUNS_A_FEATURE * len(choice):
            return choice
    return []

"""The likelihood of a set of images: records, and what follows from them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self

import numpy as np

from merged_diffusion import _core
from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.frames import Column
from merged_diffusion.likelihood import recorder as fields
from merged_diffusion.likelihood.repeats import reaches, repeated_error
from merged_diffusion.scores.differences import Difference, paired
from merged_diffusion.scores.means import (
    Floats,
    MeanAndErrors,
    MeanOfLikelihoods,
    MeansOfDensities,
    MeansOfLikelihoods,
    floats,
    mean,
)
from merged_diffusion.scores.score_table import Scores
from merged_diffusion.scores.student import LEVEL

STEPS: Final = ("accepted", "rejected")
UNITS: Final = {
    "none": "nats (log density)",
    "uniform": "bits/dim (points without noise under the model noised to gamma_min)",
}


@dataclass(frozen=True, eq=False, repr=False)
class Likelihood(Scores):
    """Bits/dim of N images by the probability-flow ODE.

    As a table it has a row per image: ``id``, ``file`` and ``label`` where the data have them, ``status``,
    ``bits_per_dim``, the terms of log P in nats, ``se_probe`` with its degrees of ``freedom``, of repeats
    ``se_draws`` and ``se_value``, ``path_error`` and, where it was measured, ``quadrature_error``, what it
    cost, ``cluster``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> found = md.log_likelihood(md.load_pair("digits"), md.load_data("digits").select(limit=2))
    >>> list(found.to_dict())[:4]
    ['id', 'label', 'status', 'bits_per_dim']
    >>> [record.status for record in found]
    ['ok', 'ok']
    """

    TERMS: ClassVar = fields.TERMS
    COLUMNS: ClassVar = ("se_probe", "freedom", "path_error", "quadrature_error")
    ERROR: ClassVar = "se_probe"
    ERRORS: ClassVar = {"bits_per_dim": "se_probe", "log_density_nats": "se_probe"}
    MEAN: ClassVar = MeanOfLikelihoods

    importance: int = 1
    dequantise: str = "truncated-normal"
    guided: bool = False
    """Whether it is that of a guided flow: an expert was moved away from its guide (`Guided`)."""
    quadrature_of_pilot: float | None = None
    """What a pilot found that quadrature may miss of an image, in the unit of the value; None without one."""
    tally: Mapping[str, Any] = field(default_factory=dict)
    """Network calls by leg and their useful rows, also before the last image had a row (`_core.solve`)."""

    @property
    def is_density(self) -> bool:
        """Whether it is a density in nats, which has no bits/dim."""
        return self.dequantise == "none"

    @property
    def unit(self) -> str:
        """Nats of a density, else bits/dim; under the guided flow where an expert was guided."""
        return UNITS.get(self.dequantise, "bits/dim") + (" under the guided flow" if self.guided else "")

    @property
    def values(self) -> Floats:
        """The log density [N] where nothing was dequantised, else bits/dim."""
        return self.log_density_nats if self.is_density else self.bits_per_dim

    @property
    def se_probe(self) -> Floats:
        """Standard error [N] of each value that its probes leave; NaN where one probe cannot tell."""
        return self.column("se_probe")

    @property
    def se_draws(self) -> Floats:
        """Standard error [N] of each value by the spread of its repeats; NaN where there is only one.

        Each has noise and probes of its own, so what both leave is in it: ``se_probe`` is a part of it, and
        is not to be added.
        """
        spreads = [repeated_error(record.draws or (), self.importance) for record in self.scored]
        found = np.full(len(self), np.nan)
        found[self.status == "ok"] = floats(spreads) / (1 if self.is_density else self.dim * math.log(2))
        return found

    @property
    def repeats(self) -> int:
        """Independent draws, of ``importance`` ones each, that a value is the mean of."""
        return max((len(record.draws or ()) // self.importance for record in self.records), default=1) or 1

    @property
    def se_value(self) -> Floats:
        """Standard error [N] that random numbers leave in each value.

        The larger of `se_draws` and `se_probe`; without repeats `se_probe`, which knows of probes alone.
        """
        return np.fmax(self.se_draws, self.se_probe)

    @property
    def own_errors(self) -> Floats:
        """`se_value`."""
        return self.se_value

    @property
    def untold(self) -> tuple[str, ...]:
        """``probe``, and ``draws`` of dequantisation, where nothing tells their error; repeats tell both."""
        if np.isfinite(self.se_draws).all():
            return ()
        return super().untold if self.is_density else (*super().untold, "draws")

    @property
    def freedom(self) -> Floats:
        """Degrees of freedom [N] of ``se_probe``; NaN where it is 0 or not known."""
        return self.column("freedom")

    def interval(self, level: float = LEVEL, *, total: bool = False) -> Floats:
        """Ends [N, 2] of an interval that holds each value with exact traces with probability ``level``.

        ``total``: that holds the value itself, with `quadrature_error` and `path_error`, and is never the
        narrower; NaN where nothing tells `quadrature_error`.

        By Student's t with `freedom` degrees, which the size of the errors at single nodes tells
        (Satterthwaite 1946). Without repeats that is of the probes alone, and an image's own draw of
        dequantisation is not in it. With R of them it is the wider of that interval and of the one by
        `se_draws` with R - 1 degrees, so of two it is wide: t is 12.7 there. NaN where one probe cannot tell
        and there are no repeats, and of records that were written before `freedom` was.

        Raises
        ------
        UsageError
            ``level`` is not between 0 and 1.

        Examples
        --------
        >>> import merged_diffusion as md
        >>> found = md.log_likelihood(md.load_pair("digits"), md.load_data("digits")[:2])
        >>> low, high = found.interval()[0]
        >>> bool(low < found.bits_per_dim[0] < high)
        True
        """
        missed = np.hypot(self.quadrature_error, self.path_error) if total else np.zeros(len(self))
        reach = reaches(self.se_probe, self.freedom, missed, level)
        if self.repeats > 1:
            of_draws = reaches(self.se_draws, np.full(len(self), self.repeats - 1.0), missed, level)
            reach = np.fmax(reach, of_draws)
        return np.stack([self.values - reach, self.values + reach], axis=1)

    @property
    def path_error(self) -> Floats:
        """How far adams' path was off to first order [N], in the unit of the value; NaN for dopri5.

        Under closed forms it is corrected for up to ``tol`` = 0.005, and less is left.
        """
        return self.column("path_error")

    @property
    def quadrature_error(self) -> Floats:
        """Standard deviation [N] of what quadrature may miss of the trace, in the unit of the value.

        Of adams, where a companion was there (`Probes`): how far the splines through every second node are
        from that through all, and each node's companion from its neighbours. Of a run that was kept, what its
        pilot found, which is alike in all images; else NaN.
        """
        own, pilot = self.column("quadrature_error"), self.quadrature_of_pilot
        return own if pilot is None else np.where(np.isnan(own) & (self.status == "ok"), pilot, own)

    @property
    def total_error(self) -> Floats:
        """Root of the sum of the squares of `se_value`, `quadrature_error` and `path_error` [N].

        NaN without one of them.
        """
        found: Floats = np.sqrt(self.se_value**2 + self.quadrature_error**2 + self.path_error**2)
        return found

    @property
    def log_density_nats(self) -> Floats:
        """Log p at gamma_min [N], where nothing was dequantised."""
        return self.column("log_density_nats")

    def to_dict(self) -> dict[str, Column]:
        """Columns [N] by name: as of every score, with the solver's steps."""
        steps = [record.steps or {} for record in self.records]
        found = super().to_dict() | {"quadrature_error": self.quadrature_error}
        if np.isnan(self.quadrature_error).all():  # measured for none of them
            del found["quadrature_error"]
        if self.repeats > 1:
            own = {"se_draws": self.se_draws, "se_value": self.se_value}
            found = _after("freedom", found, own)
        return found | {f"steps_{kind}": np.array([each.get(kind, 0) for each in steps]) for kind in STEPS}

    def _scores(self) -> dict[str, Column]:
        return {"log_density_nats": self.log_density_nats} if self.is_density else super()._scores()

    def _glance(self) -> dict[str, Column]:
        found = super()._glance()
        return _after("se_probe", found, {"se_value": self.se_value}) if self.repeats > 1 else found

    def estimate(self) -> MeanAndErrors | None:
        """Mean and errors over the images that did not fail; None where there is no mean.

        The error over images, ``se``, has what noise and probes leave in it, as has that of a paired
        difference; ``se_probe`` and, of repeats, ``se_draws`` say how much of it would be there without a
        choice of images.
        """
        found, known = super().estimate(), self.status == "ok"
        if not isinstance(found, MeanOfLikelihoods):
            return found
        spread = self.se_draws[known]
        if np.isfinite(spread).all():
            found = replace(found, se_draws=_core.error_of_mean(spread))
        own = self.column("quadrature_error")
        own = own[np.isfinite(own)]
        missed = float(np.sqrt(np.mean(own**2))) if len(own) else self.quadrature_of_pilot
        if missed is not None:
            found = found.with_quadrature(missed, self._mean_path_error())
        if not found.se_probe:
            return found
        variances, degrees = self.se_probe[known] ** 2, self.freedom[known]
        doubt = float(np.sum(variances**2 / degrees, where=variances > 0))
        return replace(found, freedom=float(variances.sum() ** 2 / doubt)) if np.isfinite(doubt) else found

    def summary(self) -> MeansOfLikelihoods:
        """Means over the images."""
        steps = [record.steps or {} for record in self.scored or self.records]
        found = MeansOfLikelihoods(
            **vars(self._means()),
            steps={kind: mean(each[kind] for each in steps) for kind in STEPS} if steps else None,
            path_error=self._mean_path_error(),
        )
        if not self.is_density or not self.records:
            return found
        return MeansOfDensities(**vars(found) | {"bits_per_dim": None}, log_density_nats=found.bits_per_dim)

    def _mean_path_error(self) -> float | None:
        errors = [record.path_error for record in self.scored if record.path_error is not None]
        return mean(errors) if errors else None

    def check(self) -> Self:
        """Raise `SolveError` if any image failed; else return the result itself."""
        failed = [record for record in self.records if not record.is_ok]
        if not failed:
            return self
        first = failed[0]
        files = self.beside.get("file")
        file = "" if files is None else f" ({files[self.records.index(first)]})"
        raise SolveError(
            f"{len(failed)} of {len(self)} images failed, the first: image {first.id}{file}, "
            f'{first.status} at gamma = {first.gamma:.4g} (leg "{first.leg}", expert {first.expert})',
            hint=first.hint or "the others are unharmed",
            ids=[record.id for record in failed],
            gamma=first.gamma,
            expert=first.expert,
        )


def _after(name: str, columns: Mapping[str, Column], more: Mapping[str, Column]) -> dict[str, Column]:
    """Columns with others behind the one of that name."""
    found: dict[str, Column] = {}
    for own, column in columns.items():
        found |= {own: column, **(more if own == name else {})}
    return found


def paired_difference(one: Likelihood, two: Likelihood) -> Difference:
    """``one`` minus ``two`` in bits/dim over the images that both scored, paired by id.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> photos = md.load_data("photos")[:4]
    >>> merged = md.log_likelihood(md.load_pair("photos"), photos)
    >>> alone = md.log_likelihood(md.load_expert("bundled:photos-vdm"), photos)
    >>> found = md.paired_difference(merged, alone)
    >>> found.n, bool(abs(found.difference) < 0.5)
    (4, True)
    """
    if one.is_density or two.is_density:
        raise UsageError("a log density without dequantisation has no bits/dim to compare")
    found = paired(one.records, two.records)
    if found is None:
        raise UsageError("the two have no image in common that did not fail", hint="score the same ids")
    return found

"""Exact runs of thresholds near the bound's best, on images that are chosen on, and what each of them takes.

Least bound is not yet best likelihood, and seconds that are foretold are not those that a course takes: a
quick network may need smaller steps, and a switch starts the solver anew. So every candidate is solved by
itself for a few images, which says its seconds; those within the budget are solved exactly on more, all of
them with the same images, noise and probes, and the best is chosen.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.errors import ExpertError, UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.frames import Column, Tabular
from merged_diffusion.jobs.measuring_images import HERE, Measuring, ranked
from merged_diffusion.jobs.option_checks import check_budget
from merged_diffusion.likelihood import Likelihood, can_share, paired_difference
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel
from merged_diffusion.roles import roles_of
from merged_diffusion.scores.defaults import EXACT, SEED
from merged_diffusion.scores.differences import Difference
from merged_diffusion.scores.inputs import Images, as_data, as_labels
from merged_diffusion.scores.means import MeanAndErrors, floats
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.thresholds.confirm import NEIGHBOUR
from merged_diffusion.thresholds.prices import first_of, look_at, spent
from merged_diffusion.thresholds.switches import PILOT, Switches

BY_BOUND: Final = "by the bound"

Gammas = tuple[float, ...]


@dataclass(frozen=True)
class Tried:
    """Thresholds, what a pilot of them took for one image, and what an exact run came to.

    ``bits_per_dim`` is None where the seconds exceed the budget, and nothing more was run.
    """

    gammas: Gammas
    why: str
    seconds: float
    evaluations: Mapping[str, float]
    bits_per_dim: MeanAndErrors | None = None
    n_failed: int = 0
    worse_by: Difference | None = None

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        mean, paired = self.bits_per_dim, self.worse_by
        return {
            **vars(self),
            "gammas": list(self.gammas),
            "evaluations": dict(self.evaluations),
            "bits_per_dim": None if mean is None else mean.as_dict(),
            "worse_by": None if paired is None else [paired.difference, paired.se],
        }


@dataclass(frozen=True, eq=False, repr=False)
class ConfirmedSwitches(Tabular):
    """The best thresholds of those that were ``tried``, by exact runs on ``n`` images.

    As a table it has a row for each of ``tried``: ``gamma_1`` and so on, ``why``, ``bits_per_dim`` with
    ``se``, ``worse_by`` (than the best, paired) with ``worse_by_se``, and ``seconds``.
    """

    ERRORS: ClassVar = {"bits_per_dim": "se", "worse_by": "worse_by_se"}

    gammas: Gammas
    tried: tuple[Tried, ...]
    """The best first, then the others, at last those beyond the budget."""
    budget: float | None
    n: int
    n_pilot: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            **vars(self),
            "gammas": list(self.gammas),
            "tried": [one.as_dict() for one in self.tried],
        }

    def to_dict(self) -> dict[str, Column]:
        """Columns [tried] by name; NaN where nothing was run."""
        means = [one.bits_per_dim for one in self.tried]
        worse = [one.worse_by for one in self.tried]
        gammas = np.array([one.gammas for one in self.tried]).T
        return {
            **{f"gamma_{number}": column for number, column in enumerate(gammas, 1)},
            "why": np.array([one.why for one in self.tried]),
            "bits_per_dim": floats(None if one is None else one.mean for one in means),
            "se": floats(None if one is None else one.se for one in means),
            "worse_by": floats(None if one is None else one.difference for one in worse),
            "worse_by_se": floats(None if one is None else one.se for one in worse),
            "seconds": floats(one.seconds for one in self.tried),
        }

    def __repr__(self) -> str:
        return f"ConfirmedSwitches({', '.join(f'{gamma:.3f}' for gamma in self.gammas)} of {len(self.tried)})"


@checked_once()
def confirm_switches(
    experts: Sequence[Expert],
    images: Images,
    found: Switches,
    *,
    budget: float | None = None,
    exact: int = EXACT,
    options: Options | None = None,
    labels: npt.ArrayLike | None = None,
    convention: Convention = "exact",
    progress: bool = False,
    measuring: Measuring = HERE,
) -> ConfirmedSwitches:
    """The thresholds with the least bits/dim on ``images`` of those near the bound's best, by exact runs.

    Tried are the bound's best, or the slowest corner of cost over seconds that a pilot finds within the
    budget; the same with each threshold moved by a tenth of the gammas; the bound's best without each expert.

    Parameters
    ----------
    found
        Of the same experts and images.
    budget
        At most so many seconds for the exact likelihood of one image on this machine, by a pilot of as many
        images as a call has rows; None: as many as it takes, and pilots of 8 that only tell it.
    exact
        On how many of the images the exact runs are compared.
    options, labels, convention, measuring
        As of `find_switches`.

    Raises
    ------
    UsageError
        None of the thresholds that were tried keeps the budget.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> experts = [md.load_expert(f"bundled:digits-{name}") for name in ("vdm", "edm")]
    >>> held_back = md.load_data("digits", "train").select(limit=8)
    >>> found = md.find_switches(experts, held_back)
    >>> confirmed = md.confirm_switches(experts, held_back, found, exact=4)
    >>> len(confirmed.gammas)
    1
    """
    begin = time.perf_counter()
    check_budget(budget)
    if exact < 1:
        raise UsageError(f"exact = {exact} images for exact runs, where at least one is needed")
    options, experts = options or Options(seed=SEED), tuple(experts)
    first = MergedModel.of(experts, found.gammas, convention=convention)
    data = as_data(images, None, first)
    classes = as_labels(labels, len(data), first, data.labels)
    look_at(experts, data, options, classes, convention)
    # Seconds that nothing is decided by need no full call.
    rows = PILOT if budget is None else options.machine.here(partial(scoring_rows, len(data))).rows
    pilot, own = first_of(data, classes, rows)
    runs: dict[Gammas, Tried] = {}

    def timed(gammas: Gammas, why: str) -> Tried:
        if gammas not in runs:
            solved = partial(spent, experts, gammas, pilot, options, own, convention)
            seconds, *counts = measuring.once(f"pilot-{_word(gammas)}", solved)
            evaluations = dict(zip(roles_of(len(experts)), counts, strict=True))
            runs[gammas] = Tried(gammas, why, seconds, evaluations)
        return runs[gammas]

    lead = _lead(found, budget, lambda gammas: timed(gammas, BY_BOUND).seconds)
    near = [] if lead is None else [(lead, BY_BOUND), *((gammas, "moved") for gammas in moved(experts, lead))]
    for gammas, why in [*near, *((one.gammas, "without an expert") for one in found.without)]:
        timed(gammas, why)
    within = [gammas for gammas, one in runs.items() if budget is None or one.seconds <= budget]
    if not within:
        quickest = min(runs.values(), key=lambda one: one.seconds)
        told = ", ".join(f"{gamma:.4g}" for gamma in quickest.gammas)
        raise UsageError(
            f"a budget of {budget:g} seconds an image: of {len(runs)} choices of thresholds that were run "
            f"the quickest, gammas {told}, took {quickest.seconds:.3g}",
            hint="a larger budget, a smaller expert or a looser tolerance",
        )
    some, own = first_of(data, classes, exact)
    models = {gammas: MergedModel.of(experts, gammas, convention=convention) for gammas in within}
    scored = _scored(models, some, options, own, progress, measuring)
    is_ok = np.all([row.status == "ok" for row in scored.values()], axis=0)
    if not is_ok.any():
        raise UsageError("no image could be scored under all thresholds", hint="score one by nll")
    means = {gammas: float(row.bits_per_dim[is_ok].mean()) for gammas, row in scored.items()}
    order = ranked(measuring, "order", means)
    best = order[0]
    tried = [_told(runs[gammas], scored[gammas], scored[best]) for gammas in order]
    beyond = sorted((one for one in runs.values() if one.gammas not in scored), key=lambda one: one.seconds)
    return ConfirmedSwitches(
        best, (*tried, *beyond), budget, len(some), len(pilot), time.perf_counter() - begin
    )


def _word(gammas: Gammas) -> str:
    """By which what was measured of thresholds is kept: whatever else is tried, it is theirs."""
    return ",".join(repr(float(gamma)) for gamma in gammas)


def _lead(found: Switches, budget: float | None, seconds: Callable[[Gammas], float]) -> Gammas | None:
    """The bound's best, or of the corners the slowest that keeps the budget, by halving; None: none does."""
    if budget is None:
        return found.gammas
    corners = [corner.gammas for corner in found.corners]
    keeps, breaks = -1, len(corners)
    if seconds(corners[-1]) <= budget:
        return corners[-1]
    breaks -= 1
    while breaks - keeps > 1:
        middle = (keeps + breaks) // 2
        if seconds(corners[middle]) <= budget:
            keeps = middle
        else:
            breaks = middle
    return corners[keeps] if keeps >= 0 else None


def moved(experts: Sequence[Expert], gammas: Gammas) -> list[Gammas]:
    """Each threshold a tenth of the model's gammas higher and lower, pushing those that it meets.

    What an expert's range does not allow is left out.
    """
    low, high = experts[0].gamma_range[0], experts[-1].gamma_range[1]
    found: list[Gammas] = []
    for number, gamma in enumerate(gammas):
        for sign in (-1, 1):
            to = float(np.clip(gamma + sign * NEIGHBOUR * (high - low), low, high))
            below = [min(other, to) for other in gammas[:number]]
            above = [max(other, to) for other in gammas[number + 1 :]]
            one = (*below, to, *above)
            if one not in (gammas, *found) and _is_open(experts, one):
                found.append(one)
    return found


def _is_open(experts: Sequence[Expert], gammas: Gammas) -> bool:
    try:
        MergedModel.of(experts, gammas)
    except (UsageError, ExpertError):
        return False
    return True


def _scored(
    models: Mapping[Gammas, MergedModel],
    data: Data,
    options: Options,
    labels: npt.NDArray[np.int64] | None,
    progress: bool,
    measuring: Measuring,
) -> dict[Gammas, Likelihood]:
    """Every model's likelihood; what some of them share is solved once."""
    groups: list[list[Gammas]] = []
    for gammas, model in models.items():
        for group in groups:
            if can_share([*(models[other] for other in group), model], options.solver):
                group.append(gammas)
                break
        else:
            groups.append([gammas])
    found: dict[Gammas, Likelihood] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the errors of single candidates
        for group in groups:
            own = {f"course-{_word(gammas)}": models[gammas] for gammas in group}
            told = measuring.likelihoods(
                own,
                data,
                options,
                labels=labels,
                progress=progress,
                together=list(own) if len(own) > 1 else [],
            )
            found |= {gammas: row.allowing_failed() for gammas, row in zip(group, told.values(), strict=True)}
    return found


def _told(one: Tried, row: Likelihood, best: Likelihood) -> Tried:
    worse = None if row is best else paired_difference(row, best)
    return replace(one, bits_per_dim=row.estimate(), n_failed=row.n_failed, worse_by=worse)

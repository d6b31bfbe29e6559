"""`find_switches`: where each of N experts should hand over to the next, by loss profiles and prices.

The bound of a course is a sum over its intervals (Kingma et al. 2021, eq. 17),

    VLB = prior + reconstruction + 1/2 sum_i integral over expert i's interval of l_i(gamma),

so the best of all courses is a shortest way (`merged_diffusion.thresholds.shortest`). What an expert takes in
an interval is the seconds of one of its calls times the solver's evaluations there, which a pilot counts. The
choice is the bound's: exact runs of it are what `log_likelihood` is for.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import Profile, loss_profile
from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.experts.suiting import first_gammas
from merged_diffusion.jobs.cost import call_seconds
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.option_checks import check_budget
from merged_diffusion.likelihood import log_likelihoods
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel, as_model
from merged_diffusion.roles import roles_of
from merged_diffusion.scores.defaults import SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels, examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.thresholds.candidates import SPACING
from merged_diffusion.thresholds.find import VISITS, rest_nats
from merged_diffusion.thresholds.shortest import Course, cheapest, frontier, within
from merged_diffusion.thresholds.splines import integral_weights

STEP: Final = 0.01  # of gamma between thresholds that are tried
PILOT: Final = 8  # images whose solve counts evaluations and seconds
SHOWN: Final = 6  # choices between the quickest and the best

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Thresholds ``gammas``, one fewer than experts; two equal ones leave the expert between them out."""

    gammas: tuple[float, ...]
    bits_per_dim: float
    """The bound's."""
    seconds: float
    """For one image: of the networks, scaled to what a pilot took in all."""

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {"gammas": list(self.gammas), "bits_per_dim": self.bits_per_dim, "seconds": self.seconds}


@dataclass(frozen=True, eq=False, repr=False)
class Switches:
    """The chosen thresholds of N experts, what others cost, and what a call of each expert takes."""

    chosen: Choice
    choices: tuple[Choice, ...]
    """Those that some price of a second makes best, the quickest first."""
    call_seconds: tuple[float, ...]
    """Of one image in a call of each expert, with its product."""
    pilot_seconds: float
    """Measured for one image under the last pilot's thresholds."""
    n: int
    seconds: float

    @property
    def gammas(self) -> tuple[float, ...]:
        """The chosen thresholds."""
        return self.chosen.gammas

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "chosen": self.chosen.as_dict(),
            "choices": [choice.as_dict() for choice in self.choices],
            "call_seconds": list(self.call_seconds),
            "pilot_seconds": self.pilot_seconds,
            "n": self.n,
            "seconds": self.seconds,
        }

    def __repr__(self) -> str:
        return f"Switches({', '.join(f'{gamma:.3f}' for gamma in self.gammas)} in gamma, {self.n} images)"


@checked_once()
def find_switches(
    experts: Sequence[Expert],
    images: Images,
    *,
    budget: float | None = None,
    visits: int = VISITS,
    options: Options | None = None,
    labels: npt.ArrayLike | None = None,
    convention: Convention = "exact",
    measuring: Measuring = HERE,
) -> Switches:
    """The thresholds of experts in the order of rising noise with the least bound on ``images``.

    Parameters
    ----------
    images
        Neither trained on nor reported on.
    budget
        At most so many seconds for the exact likelihood of one image on this machine; None: as many as it
        takes.
    visits
        Gammas at which an image is asked for the profiles.
    options, measuring
        How the likelihood will be computed, which decides what a course takes; who measures the images.

    Raises
    ------
    UsageError
        The experts leave gammas out, or no choice keeps the budget, or it is no number above 0.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> experts = [md.load_expert(f"bundled:digits-{name}") for name in ("vdm", "edm")]
    >>> found = md.find_switches(experts, md.load_data("digits")[:16])
    >>> len(found.gammas)
    1
    """
    begin = time.perf_counter()
    check_budget(budget)
    options = options or Options(seed=SEED)
    experts = tuple(experts)
    grid = _grid(experts)
    fine = _fine(experts)
    first = MergedModel.of(experts, first_gammas(experts), convention=convention)
    data = as_data(images, None, first)
    classes = as_labels(labels, len(data), first, data.labels)
    place = options.machine.here(partial(scoring_rows, len(data)))
    asked = [
        (as_model(expert, convention=convention).legs()[0].expert, expert.gamma_range) for expert in experts
    ]
    shape = data.images.shape[1:]
    with prepared(asked, place, shape, labels=classes, examples=examples(data), accept=options.accept):
        pass  # found sound here, once: a pilot's seconds are the solver's
    stride = max(len(grid) // visits, 1) if visits >= 1 else 0
    if not stride:
        raise UsageError(f"visits = {visits} is no whole number from 1 up")
    measured = partial(
        loss_profile, data=data, stride=stride, seed=options.seed, labels=classes, machine=options.machine,
        convention=convention,
    )  # fmt: skip
    profiles = [
        measured(expert, gammas=grid[at], first=int(at[0]), by_image=by_image) if len(at) > 1 else None
        for number, expert in enumerate(experts)
        for at in [np.flatnonzero((grid >= expert.gamma_range[0]) & (grid <= expert.gamma_range[1]))]
        for by_image in [measuring.by_image(f"profile-{number}", data)]
    ]
    cost = np.stack([_steps(profile, fine) for profile in profiles])
    rest = rest_nats(data, float(grid[0]), float(grid[-1]), options.seed)
    bits = float(np.log(2)) * data.images[0].size
    calls = np.array(measuring.once("call-seconds", partial(_call_seconds, experts, data, options, classes)))
    pilot = data.select(limit=min(PILOT, len(data)))
    own = None if classes is None else classes[np.isin(data.ids, pilot.ids)]
    course = cheapest(cost, np.zeros_like(cost))
    for number in range(1 if budget is None else 2):
        gammas = _gammas(course, fine, len(experts))
        solved = partial(_spent, experts, gammas, pilot, options, own, convention)
        spent = measuring.once(f"pilot-{number}", solved)
        seconds = _seconds(spent, calls, course, fine)
        if budget is not None:
            try:
                course = within(cost, seconds, budget)
            except ValueError as error:
                raise UsageError(
                    f"a budget of {budget:g} seconds an image: {error}",
                    hint="a larger budget, a smaller expert or a looser tolerance",
                ) from error

    def choice(one: Course) -> Choice:
        return Choice(_gammas(one, fine, len(experts)), (one.cost + rest) / bits, one.seconds)

    corners = frontier(cost, seconds)
    kept = sorted({round(number) for number in np.linspace(0, len(corners) - 1, SHOWN)})
    final = replace(course, seconds=float(seconds[np.array(course.charge), np.arange(len(fine) - 1)].sum()))
    return Switches(
        choice(final), tuple(choice(corners[number]) for number in kept), tuple(calls.tolist()),
        spent[0], len(data), time.perf_counter() - begin,
    )  # fmt: skip


def _ends(experts: Sequence[Expert]) -> Floats:
    """The ends of all ranges within that of the whole model, ascending.

    Raises
    ------
    UsageError
        Fewer than two experts, or gammas that none of them knows.
    """
    if len(experts) < 2:
        raise UsageError(f"{len(experts)} experts, where thresholds are of at least two")
    low, high = experts[0].gamma_range[0], experts[-1].gamma_range[1]
    ends = np.unique([low, high, *(end for expert in experts for end in expert.gamma_range)])
    ends = ends[(ends >= low) & (ends <= high)]
    for a, b in pairwise(ends):
        if not any(expert.gamma_range[0] <= a and b <= expert.gamma_range[1] for expert in experts):
            raise UsageError(f"no expert was trained at gamma {a:g} to {b:g}", hint="add one that was")
    return ends


def _grid(experts: Sequence[Expert]) -> Floats:
    """Gammas of all profiles together, ends of ranges among them."""
    ends = _ends(experts)
    pieces = [np.linspace(a, b, max(int(np.ceil((b - a) / SPACING)), 1) + 1)[:-1] for a, b in pairwise(ends)]
    return np.append(np.concatenate(pieces), ends[-1])


def _fine(experts: Sequence[Expert]) -> Floats:
    """Thresholds that are tried: every `STEP`, and the ends of ranges."""
    ends = _ends(experts)
    return np.unique(np.concatenate([np.arange(ends[0], ends[-1], STEP), ends]))


def _steps(profile: Profile | None, fine: Floats) -> Floats:
    """Half the loss of one expert, integrated over each interval; infinite outside its range."""
    if profile is None:  # of one whose range lies outside that of the model
        return np.full(len(fine) - 1, np.inf)
    low, high = profile.gamma[0], profile.gamma[-1]
    inside = (fine >= low) & (fine <= high)
    total = 0.5 * integral_weights(profile.gamma, fine[inside]) @ profile.mean
    found = np.full(len(fine) - 1, np.inf)
    at = np.flatnonzero(inside)
    found[at[:-1]] = np.diff(total)
    return found


def _gammas(course: Course, fine: Floats, n: int) -> tuple[float, ...]:
    return tuple(float(fine[position]) for position in course.switches(n))


def _call_seconds(
    experts: Sequence[Expert], data: Data, options: Options, labels: npt.NDArray[np.int64] | None
) -> list[float]:
    """Of one image in a call of each expert in the model's space, with its products; the least of three."""
    place = options.machine.here(partial(scoring_rows, len(data)))
    shape = (place.rows, *data.images.shape[1:])
    products = options.probes.of_dim(data.images[0].size).n

    def once(expert: Expert) -> float:
        is_conditional = labels is not None and expert.conditional
        return call_seconds(expert, shape, place, probes=products, conditional=is_conditional)

    return [min(once(expert) for _ in range(3)) / place.rows for expert in experts]


def _spent(
    experts: Sequence[Expert],
    gammas: Sequence[float],
    pilot: Data,
    options: Options,
    labels: npt.NDArray[np.int64] | None,
    convention: Convention,
) -> list[float]:
    """Seconds of an image in an exact run of a few, and evaluations of each expert."""
    model = MergedModel.of(experts, gammas, convention=convention)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the errors of likelihoods that nobody is told
        found = log_likelihoods({"pilot": model}, pilot, options, labels=labels)["pilot"].allowing_failed()
    by_role = {role: float(counts.mean()) for role, counts in found.evaluations.items()}
    return [found.seconds / len(pilot), *(by_role.get(role, 0.0) for role in roles_of(len(experts)))]


def _seconds(spent: Sequence[float], calls: Floats, course: Course, fine: Floats) -> Floats:
    """What each expert takes in each interval for one image, scaled so that the pilot's course takes its own.

    Evaluations are spread evenly over each leg of the pilot.
    """
    charge, widths = np.array(course.charge), np.diff(fine)
    density = np.zeros(len(widths))
    for number, evaluations in enumerate(spent[1:]):
        own = charge == number
        if own.any():
            density[own] = evaluations / widths[own].sum()
    seconds: Floats = calls[:, None] * (density * widths)
    predicted = float(seconds[charge, np.arange(len(widths))].sum())
    return seconds * (spent[0] / predicted)

"""`find_switches`: where each of N experts should hand over to the next, by loss profiles and prices.

The bound of a course is a sum over its intervals (Kingma et al. 2021, eq. 17),

    VLB = prior + reconstruction + 1/2 sum_i integral over expert i's interval of l_i(gamma),

so the best of all courses is a shortest way (`merged_diffusion.thresholds.shortest`). What an expert takes in
an interval is the seconds of one of its calls times the solver's evaluations there, which a pilot counts. The
choice is the bound's, and its seconds are foretold: exact runs and pilots of what lies near it are those of
`confirm_switches`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import Profile, loss_profile
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.experts.suiting import first_gammas
from merged_diffusion.frames import Column, Tabular
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.option_checks import check_budget
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel
from merged_diffusion.scores.defaults import SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels
from merged_diffusion.thresholds.candidates import SPACING
from merged_diffusion.thresholds.find import VISITS, rest_nats
from merged_diffusion.thresholds.prices import first_of, foretold, look_at, seconds_of_calls, spent
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
    """For one image, foretold: of the networks, scaled to what a pilot took in all."""

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {"gammas": list(self.gammas), "bits_per_dim": self.bits_per_dim, "seconds": self.seconds}


@dataclass(frozen=True, eq=False, repr=False)
class Switches(Tabular):
    """The chosen thresholds of N experts, what others cost, and what a call of each expert takes.

    As a table it has a row for what was chosen and one for each other of ``choices``: ``gamma_1`` and so on,
    ``bits_per_dim`` (the bound's) and ``seconds``.
    """

    chosen: Choice
    choices: tuple[Choice, ...]
    """Those that some price of a second makes best, the quickest first."""
    corners: tuple[Choice, ...]
    """All of these, of which ``choices`` are some."""
    without: tuple[Choice, ...]
    """The best that leave one expert out, where the others can do without it."""
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

    def to_dict(self) -> dict[str, Column]:
        """Columns by name: the chosen thresholds, then the other choices from the quickest to the best."""
        rows = [self.chosen, *(one for one in self.choices if one != self.chosen)]
        gammas = np.array([one.gammas for one in rows]).T
        return {
            **{f"gamma_{number}": column for number, column in enumerate(gammas, 1)},
            "bits_per_dim": np.array([one.bits_per_dim for one in rows]),
            "seconds": np.array([one.seconds for one in rows]),
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
        At most so many seconds for the exact likelihood of one image on this machine, as foretold; None: as
        many as it takes.
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
    look_at(experts, data, options, classes, convention)
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
    steps = np.stack([_steps(profile, fine) for profile in profiles])
    # What all choices are made from: those of workers must not differ by last bits.
    cost = np.array(measuring.once("cost", lambda: steps.ravel().tolist())).reshape(steps.shape)
    rest = rest_nats(data, float(grid[0]), float(grid[-1]), options.seed)
    bits = float(np.log(2)) * data.images[0].size
    calls = np.array(
        measuring.once("call-seconds", partial(seconds_of_calls, experts, data, options, classes))
    )
    pilot, own = first_of(data, classes, PILOT)
    course = cheapest(cost, np.zeros_like(cost))
    for number in range(1 if budget is None else 2):
        gammas = _gammas(course, fine, len(experts))
        solved = partial(spent, experts, gammas, pilot, options, own, convention)
        run = measuring.once(f"pilot-{number}", solved)
        seconds = foretold(run, calls, course, fine)
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
    final = _timed(course, seconds)
    less = [_without(cost, number) for number in range(len(experts))]
    return Switches(
        choice(final), tuple(choice(corners[number]) for number in kept), tuple(map(choice, corners)),
        tuple(choice(_timed(one, seconds)) for one in less if one is not None),
        tuple(calls.tolist()), run[0], len(data), time.perf_counter() - begin,
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


def _timed(course: Course, seconds: Floats) -> Course:
    """The course with what it takes by these seconds."""
    charge = np.array(course.charge)
    return replace(course, seconds=float(seconds[charge, np.arange(len(charge))].sum()))


def _without(cost: Floats, number: int) -> Course | None:
    """The cheapest course in which one expert has no part; None where every way needs it."""
    closed = cost.copy()
    closed[number] = np.inf
    try:
        return cheapest(closed, np.zeros_like(cost))
    except ValueError:
        return None

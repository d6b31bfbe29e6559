"""The best threshold of a pair: by the bound's profiles and one pass of exact likelihood, half each.

On trained networks the two err on different sides. The one pass takes the quality expert's eps_hat for a
score, and the further below gamma_1 a threshold lies the more bits that costs; the bound knows no path, and
counts only how far each expert is off. A forward pass counts 1/2, one with a vector-Jacobian product 1.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import loss_profile, random_numbers, terms
from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.frames import SHOWN, Column, Tabular
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.likelihood.likelihood_options import DEQUANTISE, DequantisationKind, Options
from merged_diffusion.merge import Convention, MergedModel, Threshold, as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams, check_kind
from merged_diffusion.scores.defaults import SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels, examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.thresholds.answers import Answer
from merged_diffusion.thresholds.candidates import candidates, parts_of, profile_grid
from merged_diffusion.thresholds.eta_curves import (
    Curve,
    Floats,
    Profiles,
    gammas_of,
    likelihood_curve,
    mean_curve,
)
from merged_diffusion.thresholds.one_pass import one_pass

VISITS: Final = 8  # gammas at which an image is asked, of both experts
# Of adams: a curve of 2.3 times the evaluations has the same shape to 0.0025 bits/dim.
SOLVER: Final = Adams(tol=2e-2, h_max=1.0)
FORWARD: Final = 0.5


@dataclass(frozen=True, eq=False, repr=False)
class Found(Tabular):
    """The best threshold, and the curves that it was read from, over the same ``eta`` [E].

    As a table it has a row for each eta: the ``mean`` of the two curves, which is least at the best, the
    exact ``likelihood`` and the ``bound`` with their errors, all in bits/dim.
    """

    ERRORS: ClassVar = {"likelihood": "likelihood_se", "bound": "bound_se"}

    eta: float
    """Where the mean of the likelihood's and the bound's curve is least."""
    gamma: float
    indistinguishable: tuple[float, float]
    """Thresholds that this mean cannot tell from the best, images paired."""
    crossing: float
    """Eta where the bound is least: where the loss profiles cross."""
    crossing_interval: tuple[float, float]
    """The middle 95 % of that over resampled images."""
    at_edge: bool
    bound: Curve
    likelihood: Curve
    profiles: Profiles
    gammas: Floats
    eta_range: tuple[float, float]
    n: int
    n_failed: int
    evaluations: dict[str, float]
    """Of the ``profiles``, of ``one_pass``, and their sum ``finding``; a forward pass counts 1/2."""
    seconds: float

    @property
    def answer(self) -> Answer:
        """The best threshold by name and option."""
        return self.near(self.eta)

    def near(self, eta: float) -> Answer:
        """The threshold of the curves that is nearest to an eta."""
        position = int(np.argmin(np.abs(self.likelihood.eta - eta)))
        end: Literal["min", "max"] | None = "min" if position == 0 else None
        if position == len(self.gammas) - 1:
            end = "max"
        return Answer(float(self.likelihood.eta[position]), float(self.gammas[position]), end)

    def summary(self) -> dict[str, object]:
        """What was found as JSON values."""
        return {
            "eta": self.eta,
            "gamma": self.gamma,
            "indistinguishable": list(self.indistinguishable),
            "at_edge": self.at_edge,
            "one_pass": {"eta": float(self.likelihood.eta[self.likelihood.best])},
            "crossing": {"eta": self.crossing, "interval": list(self.crossing_interval)},
            "n": self.n,
            "n_failed": self.n_failed,
            "evaluations": dict(self.evaluations),
            "curves": {
                "eta": self.likelihood.eta.tolist(),
                "gamma": self.gammas.tolist(),
                "vlb": self.bound.as_dict(),
                "nll": self.likelihood.as_dict(),
            },
            "profiles": {
                name: {
                    "gamma": profile.gamma.tolist(),
                    "loss": profile.mean.tolist(),
                    "se": profile.se.tolist(),
                }
                for name, profile in (
                    ("likelihood", self.profiles.likelihood),
                    ("quality", self.profiles.quality),
                )
            },
            "seconds": self.seconds,
        }

    def to_dict(self) -> dict[str, Column]:
        """Columns [E] by name."""
        exact, bound = self.likelihood, self.bound
        return {
            "eta": exact.eta, "gamma": self.gammas, "mean": 0.5 * (exact.value + bound.value),
            "likelihood": exact.value, "likelihood_se": exact.se, "bound": bound.value, "bound_se": bound.se,
        }  # fmt: skip

    def _glance(self) -> dict[str, Column]:
        """The best threshold, and as many others at even distances as a notebook shows."""
        eta = self.likelihood.eta
        shown = np.linspace(0, len(eta) - 1, min(len(eta), SHOWN - 1)).round().astype(int)
        shown = np.union1d(shown, np.flatnonzero(eta == self.eta))
        return {name: column[shown] for name, column in self.to_dict().items()}

    def __repr__(self) -> str:
        low, high = self.indistinguishable
        return f"Found(eta {self.eta:.3f}, {low:.3f} to {high:.3f} alike, {self.n} images)"


@checked_once()
def find_threshold(
    likelihood: Expert,
    quality: Expert,
    data: Images,
    *,
    eta_range: tuple[float, float] | None = None,
    seed: int = SEED,
    visits: int = VISITS,
    solver: Adams = SOLVER,
    dequantise: DequantisationKind = DEQUANTISE,
    machine: Machine = Machine(),
    accept: Accept = Accept(),
    labels: npt.ArrayLike | None = None,
    convention: Convention = "exact",
    measuring: Measuring = HERE,
) -> Found:
    """The threshold with the least bits/dim on ``data``, which should be neither trained nor reported on.

    Parameters
    ----------
    eta_range
        The gammas of eta = 0 and 1, as in `MergedModel`.
    visits
        Gammas at which an image is asked for the profiles.
    solver
        Of the one pass.
    dequantise, machine, accept, labels, convention
        As in `log_likelihood` and `MergedModel`.
    measuring
        Who measures the images: by default this call.

    Raises
    ------
    UsageError, DataError, ExpertError
        An argument, the images or an expert is not sound.
    SolveError
        A loss is not finite, or no image could be solved.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> likelihood = md.load_expert("bundled:digits-vdm")
    >>> quality = md.load_expert("bundled:digits-edm")
    >>> found = md.find_threshold(likelihood, quality, md.load_data("digits")[:16])
    >>> low, high = found.indistinguishable
    >>> bool(low <= found.eta <= high)
    True
    """
    start = time.perf_counter()
    check_kind("solver", solver, Adams)
    options = Options(seed=seed, dequantise=dequantise, solver=solver, machine=machine, accept=accept)
    parts = parts_of(likelihood, quality)
    eta_range = (parts[0], parts[3]) if eta_range is None else eta_range
    eta = candidates(parts[1:3], eta_range)
    gammas = gammas_of(eta, eta_range, parts[1:3])
    model = MergedModel(
        likelihood,
        quality,
        Threshold.gamma(float(gammas[len(gammas) // 2])),
        eta_range=eta_range,
        convention=convention,
    )
    given = as_data(data, None, model)
    classes = as_labels(labels, len(given), model, given.labels)
    in_space = [as_model(expert, convention=convention).legs()[0].expert for expert in (likelihood, quality)]
    place = machine.here(partial(scoring_rows, len(given)))
    # The one pass asks the quality expert below every threshold, too.
    asked = zip(in_space, (parts[::2], parts[1::2]), strict=True)
    shape = given.images.shape[1:]
    with prepared(asked, place, shape, labels=classes, examples=examples(given), accept=accept):
        pass  # found sound, before the bound's profiles take their time
    profiles = _profiles(likelihood, quality, parts, given, classes, options, visits, convention, measuring)
    bound = profiles.curve(eta, gammas, rest_nats(given, parts[0], parts[3], seed))
    by_image = measuring.by_image("one-pass", given)
    passed = one_pass((in_space[0], in_space[1]), parts, given, gammas, options, classes, by_image)
    clusters = None if given.clusters is None else given.clusters[passed.is_solved]
    exact = likelihood_curve(eta, passed.bits_per_dim, clusters)
    both = mean_curve(exact, bound, passed.is_solved)
    best = int(measuring.once("best", lambda: [both.best])[0])
    spent = {
        "profiles": FORWARD * (profiles.likelihood.evaluations + profiles.quality.evaluations),
        "one_pass": float(passed.evaluations),
    }
    return Found(
        eta=float(eta[best]),
        gamma=float(gammas[best]),
        indistinguishable=both.indistinguishable,
        crossing=float(eta[bound.best]),
        crossing_interval=profiles.crossing_interval(eta, gammas, seed=seed),
        at_edge=best in (0, len(eta) - 1),
        bound=bound,
        likelihood=exact,
        profiles=profiles,
        gammas=gammas,
        eta_range=eta_range,
        n=len(given),
        n_failed=int((~passed.is_solved).sum()),
        evaluations=spent | {"finding": sum(spent.values())},
        seconds=time.perf_counter() - start,
    )


def _profiles(
    likelihood: Expert,
    quality: Expert,
    parts: tuple[float, float, float, float],
    data: Data,
    labels: npt.NDArray[np.int64] | None,
    options: Options,
    visits: int,
    convention: Convention,
    measuring: Measuring,
) -> Profiles:
    grid, first, last = profile_grid(parts)
    stride = max(len(grid) // visits, 1) if visits >= 1 else 0
    if not stride:
        raise UsageError(f"visits = {visits} is no whole number from 1 up")
    measured = partial(
        loss_profile,
        data=data,
        stride=stride,
        seed=options.seed,
        labels=labels,
        machine=options.machine,
        convention=convention,
    )
    return Profiles(
        measured(
            likelihood, gammas=grid[: last + 1], by_image=measuring.by_image("profile-likelihood", data)
        ),
        measured(
            quality, gammas=grid[first:], first=first, by_image=measuring.by_image("profile-quality", data)
        ),
        int(np.prod(data.images.shape[1:])),
    )


def rest_nats(data: Data, gamma_min: float, gamma_max: float, seed: int) -> float:
    """Mean prior and reconstruction terms, which no threshold moves."""
    x = pixel_values(data.images, data.levels).reshape(len(data), -1)
    drawn = random_numbers.reconstruction_noise(seed, data.ids.astype(np.uint64), 0, x.shape[1])
    pixels = data.images.reshape(len(data), -1)
    cost = terms.prior(x, gamma_max) + terms.reconstruction(x, pixels, drawn, gamma_min, data.levels)
    return float(cost.mean())

"""The tolerance of adams that an error asked for needs: tried on a few images before all are scored.

The discretisation error of a tolerance is what a finer one changes, on the same images with the same fixed
probe. Where it exceeds the wish, both the tolerance and the longest step are lowered for all images, so that
every image is treated alike, whatever its neighbours, its shard or the selection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import numpy as np

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.pilot_runs import pilot_images, recorded, scored
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.probe_pilot import Noise, at_least, counts_for, exact_words, with_probes
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.ode.methods import LEAST_TOL, MOST_COLOURS, Adams, Probes, ProbeScheme

PILOT_IMAGES: Final = 16
FINER: Final = 4.0  # a level's tolerance over the next one's; the longest step falls by its fourth root
LEVELS: Final = 6
TRIES: Final = 2  # of a number of probes before one is advised
FURTHER: Final = 1.25  # times as many, where the first were not enough
NOISE_SHARE: Final = 0.1  # of the probe noise: a discretisation error below it is lost in it


@dataclass(frozen=True)
class Trial:
    """A tolerance and the root mean square of its error over the images tried, with an error of its own."""

    solver: Adams
    error: float
    se: float
    n: int
    evaluations: float

    def words(self) -> str:
        """What a remark says."""
        return (
            f"tol {self.solver.tol:.3g} with steps up to {self.solver.h_max:.3g} has a discretisation error "
            f"of {self.error:.1e} ± {self.se:.0e} bits/dim on {self.n} images "
            f"({self.evaluations:.0f} evaluations an image)"
        )


def tried(plan: Plan, out: Path | None) -> Plan:
    """The plan with what pilots choose: first the number of probes, then the tolerance with so many."""
    return with_tolerance(with_probes(plan, out), out)


def with_tolerance(plan: Plan, out: Path | None) -> Plan:
    """The plan with the tolerance that ``--bpd-tol`` needs: as its run recorded it, else by a pilot.

    Raises
    ------
    UsageError
        The wish lies below what the probe noise hides, or no tolerance reaches it.
    """
    wish = plan.settings.bpd_tol
    if wish is None:
        return plan
    chosen = recorded(out, "bpd_tol", wish, lambda kept: Adams(float(kept["tol"]), float(kept["h_max"])))
    if chosen is not None:
        return replace(plan, settings=replace(plan.settings, solver=chosen))
    # What layers round in less than full precision is no error of a tolerance, and hides it.
    full = plan.settings.at(replace(plan.settings.machine, precision=None), plan.settings.compile)
    trial = _search(replace(plan, settings=full), wish)
    settings = replace(plan.settings, solver=trial.solver)
    return replace(plan, settings=settings, notes=(*plan.notes, f"bpd-tol {wish:g}: {trial.words()}"))


def _search(plan: Plan, wish: float) -> Trial:
    solver, usual = cast(Adams, plan.settings.options().solver), Adams()
    # At long steps what the trace bends between nodes would be taken for noise.
    _check_wish(plan, wish, Adams(min(solver.tol, usual.tol), min(solver.h_max, usual.h_max)))
    coarse = _scored(plan, solver)
    trial = None
    for _ in range(LEVELS):
        if solver.tol / FINER < LEAST_TOL:
            break
        finer = Adams(solver.tol / FINER, solver.h_max / FINER**0.25)
        fine = _scored(plan, finer)
        trial = _trial(solver, coarse, fine)
        if trial.error + trial.se <= wish:
            return trial
        solver, coarse = finer, fine
    raise UsageError(
        f"bpd-tol {wish:g} was not reached" + ("" if trial is None else f": {trial.words()}"),
        hint="ask for less; a network that is rough in gamma or in z may allow no more",
        bpd_tol=wish,
        found=None if trial is None else trial.error,
    )


def _check_wish(plan: Plan, wish: float, solver: Adams) -> None:
    """Refuse an error that the probe noise would hide: it says what noise, and what fewer would cost."""
    if plan.settings.probes.kind == "exact":
        return
    own = plan.settings.options().probes
    noise = _noise(plan, solver, own)
    floor = NOISE_SHARE * noise
    if wish < floor:
        more = _less_noise(plan, wish, solver, noise)
        raise UsageError(
            f"bpd-tol {wish:g} lies below {floor:.1e}, a tenth of the probe noise of an image "
            f"({noise:.1e} bits/dim)",
            hint=f"ask for {at_least(floor)} or more" + ("" if more is None else f", or for {more}"),
            bpd_tol=wish,
            floor=floor,
        )


def _noise(plan: Plan, solver: Adams, probes: Probes) -> float:
    """Standard error, in bits/dim, that probes leave in an image: root mean square."""
    own = replace(probes, kind="fresh")
    # On a leg of fewer than four nodes a probe cannot tell its noise; two of their own leave half of it.
    for tried, share in ((own, 1.0), (Probes(2, "fresh", "independent"), 2.0 / own.n)):
        errors = _scored(plan, solver, tried).se_probe
        if not np.isnan(errors).all():
            return math.sqrt(float(np.nanmean(errors**2)) * share)
    return 0.0


def _less_noise(plan: Plan, wish: float, solver: Adams, noise: float) -> str | None:
    """The option that leaves little enough, and what it costs; None where none is known to."""
    own = plan.settings.probes.n
    n = _enough(plan, wish, solver, noise)
    if n is not None:
        return f"--probes {n} ({n} products an evaluation in place of {own})"
    exact = exact_words(plan)
    if exact is None:
        return None
    return f"{exact} in place of {own})" + ("" if own == 1 else f" without --probes {own}")


def _enough(plan: Plan, wish: float, solver: Adams, noise: float) -> int | None:
    """How many probes: by what one and several of them leave, and tried, so that they are not refused."""
    own, dim = plan.settings.probes, math.prod(plan.data.images.shape[1:])
    is_cut = own.scheme != "independent" and own.kind != "gaussian"
    scheme: ProbeScheme = "lattice" if is_cut else "independent"

    def left(n: int) -> float:
        return noise if n == own.n else _noise(plan, solver, Probes(n, "fresh", scheme))

    most = min(MOST_COLOURS, dim - 1) if is_cut else dim - 1
    if is_cut:
        one, several = counts_for(dim)
        needed = Noise(left(one), left(several), several).colours_for(wish / NOISE_SHARE)
    else:
        needed = own.n * (NOISE_SHARE * noise / wish) ** 2
    for _ in range(TRIES):
        needed = max(needed, own.n + 1)
        if needed > most:
            return None
        n = math.ceil(needed)
        if NOISE_SHARE * left(n) <= wish:
            return n
        needed = FURTHER * n
    return None


def _scored(plan: Plan, solver: Adams, probes: Probes | None = None) -> Likelihood:
    """The images of the pilot: the same for every shard and limit, one draw, one fixed probe or as given."""
    is_exact = plan.settings.options().probes.kind == "exact"
    images = pilot_images(plan, PILOT_IMAGES)
    return scored(plan, images, solver, probes or Probes(kind="exact" if is_exact else "fixed"))


def _trial(solver: Adams, coarse: Likelihood, fine: Likelihood) -> Trial:
    """Images that failed in either are left out: their status will say so."""
    nats = coarse.is_density
    one, two = (r.log_density_nats if nats else r.bits_per_dim for r in (coarse, fine))
    squares = (one - two) ** 2
    squares = squares[np.isfinite(squares)]
    n = len(squares)
    if n == 0:
        raise UsageError("no image of the pilot could be scored", hint="leave --bpd-tol out to see why")
    error = math.sqrt(float(squares.mean()))
    spread = float(squares.std(ddof=1)) / math.sqrt(n) if n > 1 else float(squares[0])
    se = 0.5 * spread / error if error > 0 else 0.0
    return Trial(solver, error, se, n, (coarse.summary().evaluations or {})["total"])

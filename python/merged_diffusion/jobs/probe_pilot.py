"""How many colours ``--probes auto:E`` takes: measured on a few images of the set, before all are scored.

With k colours the standard error of an image falls as a power of k, which two numbers of them tell: four
leave about a third of one's. The images are the same for every shard and ``--limit``, so that all images of a
run are treated alike; what was chosen is recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.pilot_runs import recorded, scored, unseen
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.ode.methods import MOST_COLOURS, Probes

PILOT_IMAGES: Final = 8
MEASURED: Final = (1, 9)
SHARE: Final = 0.9  # of the images, whose error is to lie below the wish


@dataclass(frozen=True)
class Noise:
    """The standard error that nine of ten images lie below, in bits/dim: with one colour, and the power."""

    one: float
    power: float

    def of(self, colours: int) -> float:
        """With so many colours."""
        found: float = self.one * colours**self.power
        return found

    def colours_for(self, wish: float) -> float:
        """How many colours leave no more than ``wish``."""
        if self.one <= wish:
            return 1
        return math.inf if self.power >= 0 else math.exp(math.log(wish / self.one) / self.power)


def with_probes(plan: Plan, out: Path | None) -> Plan:
    """The plan with as many colours as ``--probes auto:E`` needs: as its run recorded it, else by a pilot.

    Raises
    ------
    UsageError
        More colours are needed than there are, or the probes do not tell their noise.
    """
    wish = plan.settings.probe_error
    if wish is None:
        return plan
    chosen = recorded(out, "probe_error", wish, lambda settings: int(settings["probes"]))
    if chosen is not None:
        return _with(plan, chosen)
    noise = _measured(plan)
    needed = noise.colours_for(wish) * (1 - 1e-9)
    if needed > MOST_COLOURS:
        floor = noise.of(MOST_COLOURS)
        dim = math.prod(plan.data.images.shape[1:])
        raise UsageError(
            f"--probes auto:{wish:g} needs more than {MOST_COLOURS} colours, the most that a probe is cut "
            f"into, which leave nine of ten images below about {floor:.1e} bits/dim",
            hint=f"ask for that or more, or for --probe exact ({dim} products an evaluation)",
            floor=floor,
        )
    colours = math.ceil(needed)
    told = ", ".join(f"{noise.of(k):.1e} with {k}" for k in MEASURED)
    note = (
        f"probes auto:{wish:g}: {colours}, each a product of its own at every evaluation, leave nine of ten "
        f"images below about {noise.of(colours):.1e} bits/dim ({told} on {_pilot(plan)} images)"
    )
    found = _with(plan, colours)
    return replace(found, notes=(*found.notes, note))


def _with(plan: Plan, colours: int) -> Plan:
    return replace(plan, settings=replace(plan.settings, probes=Probes(colours, plan.settings.probes.kind)))


def _pilot(plan: Plan) -> int:
    return min(PILOT_IMAGES, len(unseen(plan)))


def _measured(plan: Plan) -> Noise:
    solver, images = plan.settings.options().solver, unseen(plan).select(limit=_pilot(plan))
    found = []
    for colours in MEASURED:
        errors = scored(plan, images, solver, Probes(colours, "fresh")).se_probe
        known = errors[~np.isnan(errors)]
        if not len(known):
            raise UsageError(
                "--probes auto cannot tell the noise of a probe here: a leg has fewer than four nodes, or no "
                "image of the pilot could be scored",
                hint="say how many, --probes 4",
            )
        found.append(float(np.quantile(known, SHARE)))
    one, several = found
    if several == 0:
        return Noise(one, -math.inf if one else -1.0)
    return Noise(one, math.log(several / one) / math.log(MEASURED[1]))

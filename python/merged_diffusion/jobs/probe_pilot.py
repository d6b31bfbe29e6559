"""How many colours ``--probes auto:E`` takes: measured on a few images of the set, before all are scored.

With k colours the standard error of an image falls as a power of k, which two numbers of them tell: four
leave about a third of one's. As many as an image has values are the exact trace, and leave nothing. The
images are the same for every shard and ``--limit``, so that all images of a run are treated alike; what was
chosen is recorded. The noise of an image's draw of dequantisation, 0.02 to 0.16 bits/dim for the bundled
experts, is not in that error: colours do not make it less, repeats do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.pilot_runs import pilot_images, recorded, scored, unseen
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.ode.methods import MOST_COLOURS, Probes
from merged_diffusion.ode.probes import EXACT_DIM

PILOT_IMAGES: Final = 8
MEASURED: Final = 9  # colours
SHARE: Final = 0.9  # of the images, whose error is to lie below the wish


@dataclass(frozen=True)
class Noise:
    """A standard error in bits/dim: ``one`` with one colour, ``several`` with ``n``, between them a power.

    Of as many colours as an image has values nothing is left, which no power says: ``n`` is less than these.
    """

    one: float
    several: float
    n: int

    @property
    def power(self) -> float:
        """Of the number of colours; 0 where only one was measured."""
        return 0.0 if self.n == 1 or not self.one else math.log(self.several / self.one) / math.log(self.n)

    def of(self, colours: int) -> float:
        """With so many colours."""
        if not self.several:
            return 0.0 if colours >= self.n else self.one
        found: float = self.one * colours**self.power
        return found

    def colours_for(self, wish: float) -> float:
        """How many colours leave no more than ``wish``."""
        if self.one <= wish:
            return 1
        if self.several == 0:
            return self.n
        return math.inf if self.power >= 0 else math.exp(math.log(wish / self.one) / self.power)


def counts_for(dim: int) -> tuple[int, int]:
    """With how many colours the noise of images of ``dim`` values is measured: with fewer than these."""
    return 1, max(1, min(MEASURED, dim - 1))


def at_least(error: float) -> str:
    """To two digits, no less: what is asked for by it is not refused."""
    unit = 10.0 ** (math.floor(math.log10(error)) - 1)
    return f"{math.ceil(error / unit * (1 - 1e-12)) * unit:.1e}"


def exact_words(plan: Plan) -> str | None:
    """The option of the exact trace, where it is not refused."""
    dim = math.prod(plan.data.images.shape[1:])
    return f"--probe exact ({dim} products an evaluation" if dim <= EXACT_DIM else None


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
    dim = math.prod(plan.data.images.shape[1:])
    needed = min(noise.colours_for(wish) * (1 - 1e-9), dim)
    if needed > MOST_COLOURS:
        floor, exact = noise.of(MOST_COLOURS), exact_words(plan)
        raise UsageError(
            f"--probes auto:{wish:g} needs more than {MOST_COLOURS} colours, the most that a probe is cut "
            f"into, which leave nine of ten images below about {at_least(floor)} bits/dim",
            hint="ask for that or more" + ("" if exact is None else f", or for {exact})"),
            floor=floor,
        )
    colours = math.ceil(needed)
    told = ", ".join(f"{noise.of(k):.1e} with {k}" for k in dict.fromkeys(counts_for(dim)))
    left = f"leave nine of ten images below about {noise.of(colours):.1e} bits/dim"
    note = (
        f"probes auto:{wish:g}: {colours}, each a product of its own at every evaluation, "
        f"{left if colours < dim else 'are the exact trace'} ({told} on {_pilot(plan)} images)"
    )
    if not plan.settings.options().is_density:
        note += "; the noise of the dequantisation is not in that"
    found = _with(plan, colours)
    return replace(found, notes=(*found.notes, note))


def _with(plan: Plan, colours: int) -> Plan:
    return replace(plan, settings=replace(plan.settings, probes=Probes(colours, plan.settings.probes.kind)))


def _pilot(plan: Plan) -> int:
    return min(PILOT_IMAGES, len(unseen(plan)))


def _measured(plan: Plan) -> Noise:
    """What nine of ten images lie below."""
    solver, images = plan.settings.options().solver, pilot_images(plan, PILOT_IMAGES)
    counts, found = counts_for(math.prod(images.images.shape[1:])), dict[int, float]()
    for colours in dict.fromkeys(counts):
        errors = scored(plan, images, solver, Probes(colours, "fresh")).se_probe
        known = errors[~np.isnan(errors)]
        if not len(known):
            raise UsageError(
                "--probes auto cannot tell the noise of a probe here: a leg has fewer than four nodes, or no "
                "image of the pilot could be scored",
                hint="say how many, --probes 4",
            )
        found[colours] = float(np.quantile(known, SHARE))
    return Noise(found[1], found[counts[1]], counts[1])

"""How far layers in less than full precision move the grey levels of samples: measured on a few of them.

The first 8 samples that were asked for, from the same noise in the precision of the run and in full.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from merged_diffusion.jobs.precision_cost import MovedPixels, moved_in
from merged_diffusion.jobs.precision_pilot import PILOT_IMAGES, settings_in
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.ode.machine import PRECISION
from merged_diffusion.sampling import draw
from merged_diffusion.sampling.parts import is_taken, recorded_settings
from merged_diffusion.sampling.sample_files import form_of


def with_moved_pixels(plan: SamplePlan, out: Path | None) -> SamplePlan:
    """The plan of samples with how far its precision moves grey levels: as recorded, else measured now."""
    machine = plan.settings.machine
    if not machine.is_reduced:
        return plan
    held = None if out is None else moved_in(recorded_settings(out))
    if held is None and out is not None and is_taken(out) and form_of(out) != "png":
        return plan  # all of them are there, of a version that measured nothing
    if held is None:
        ids = plan.ids[: min(PILOT_IMAGES, len(plan.ids))]
        settings = [settings_in(plan.settings, len(ids), each) for each in (machine.precision, PRECISION)]
        one, two = (
            draw(
                plan.model,
                ids,
                seed=plan.how.seed,
                sampler=plan.how.sampler,
                decode=plan.how.decode,
                labels=plan.labels(ids),
                image_shape=plan.image_shape,
                machine=each.machine,
                accept=each.accept,
            ).images.astype(np.float64)
            for each in settings
        )
        held = MovedPixels(float(f"{math.sqrt(float(np.mean((one - two) ** 2))):.3g}"), len(ids))
    return replace(plan, precision_cost=held.as_dict())

"""`fit_gate`: a gate fitted to held-back images, and chosen among its relatives by exact runs on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound.losses import Losses
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.weights_hash import weights_sha256
from merged_diffusion.gating.fit import SPACING, bent, fitted, nearest
from merged_diffusion.gating.residuals import measure
from merged_diffusion.jobs.measuring_images import HERE, Measuring, ranked
from merged_diffusion.likelihood import Likelihood, paired_difference
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel, as_model
from merged_diffusion.scores.defaults import EXACT, SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels, examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.soft_gate import ORDER, Gate, digests

Form = Literal["low-noise", "full"]
FORMS: Final = ("low-noise", "full")
LOW_NOISE: Final = -3.0  # gamma at which a low-noise gate has ended: the look of an image is decided above
VISITS: Final = 32  # of every image by the fit
# a and b of logit w -> a logit w + b: least loss is not best likelihood. (0, 0) is one half.
FAMILY: Final = ((1.0, 0.0), (1.0, 0.7), (1.0, -0.7), (0.5, 0.0), (0.0, 0.0))


def fit_gate(
    likelihood: Expert,
    quality: Expert,
    images: Images,
    *,
    form: Form = "low-noise",
    exact: int = EXACT,
    options: Options | None = None,
    visits: int = VISITS,
    labels: npt.ArrayLike | None = None,
    convention: Convention = "exact",
    progress: bool = False,
    measuring: Measuring = HERE,
) -> Gate:
    """The gate of two experts with the least bits/dim on ``images``, which neither has seen.

    Parameters
    ----------
    images
        Those that it is fitted to and chosen on; it may not be scored on them.
    form
        ``low-noise``: 0 from gamma -3 on, so that samples look as those of the quality expert; ``full``: up
        to the likelihood expert's upper end.
    exact
        The fit and its relatives, logit w -> a logit w + b, are scored on as many of the images by exact
        runs, and the best of them is the gate; 0: the fit is.
    options
        How these are computed.
    visits
        Noise levels at which the fit asks both experts for each image.
    measuring
        Who measures the images: by default this call.

    Raises
    ------
    UsageError
        The experts leave no room for a gate, or the form is none.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> likelihood = md.load_expert("bundled:digits-vdm")
    >>> quality = md.load_expert("bundled:digits-edm")
    >>> held_back = md.load_data("digits", "train").select(limit=16)
    >>> gate = md.fit_gate(likelihood, quality, held_back, form="full", exact=0)
    >>> model = md.MergedModel(likelihood, quality, gate=gate)
    >>> [leg.role for leg in model.legs()]
    ['likelihood', 'both', 'quality']
    """
    if form not in FORMS:
        raise UsageError(f"form = {form!r} of a gate, possible are {', '.join(FORMS)}")
    options = options or Options(seed=SEED)
    low, high = _room(likelihood, quality)
    frame = MergedModel(likelihood, quality, gate=Gate(low, high), convention=convention)
    data = as_data(images, None, frame)
    classes = as_labels(labels, len(data), frame, data.labels)
    if form == "low-noise":
        # No less than a smooth gate needs to fall.
        high = min(high, max(LOW_NOISE, low + ORDER * SPACING))
    spaces = [as_model(expert, convention=convention).legs()[0].expert for expert in (likelihood, quality)]
    place = options.machine.here(partial(scoring_rows, len(data)))
    losses = Losses.of(data, classes, options.seed, place)
    asked = [(expert, (low, high)) for expert in spaces]
    with prepared(
        asked, place, data.images.shape[1:], labels=classes, examples=examples(data), accept=options.accept
    ):
        by_image = measuring.by_image("products", data)
        shares = measure(losses, (spaces[0], spaces[1]), low, high, visits, data.clusters, by_image)
    gate = agreed(measuring, "fit", fitted(shares, low, high, form=form))
    about: dict[str, object] = {
        "images": {"name": data.name, "split": data.split, "sha256": data.sha256, "n": len(data)},
        "measured": {
            "gamma": shares.gamma.tolist(), "w": shares.w.tolist(), "se": shares.se.tolist(),
            "curvature": shares.curvature.tolist(),
        },
        "fit_evaluations": shares.evaluations,
    }  # fmt: skip
    if exact:
        gates = {name: agreed(measuring, f"fit {name}", one) for name, one in family(gate).items()}
        models = {
            name: MergedModel(likelihood, quality, gate=one, convention=convention)
            for name, one in gates.items()
        }
        some = data.select(limit=min(exact, len(data)))
        own = None if classes is None else classes[np.isin(data.ids, some.ids)]
        scored = measuring.likelihoods(models, some, options, labels=own, progress=progress)
        best, about["family"] = chosen(scored, measuring)
        gate = gates[best]
    return replace(
        gate,
        form=form,
        seen=frozenset(digests(data.images)),
        experts={"likelihood": weights_sha256(likelihood), "quality": weights_sha256(quality)},
        about=about,
    )


def agreed(measuring: Measuring, name: str, gate: Gate) -> Gate:
    """The gate as whoever was first has it: machines may differ in the last bits of a least square."""
    return replace(gate, shares=tuple(measuring.once(name, lambda: gate.shares)))


def chosen(scored: Mapping[str, Likelihood], measuring: Measuring = HERE) -> tuple[str, dict[str, object]]:
    """The name with the least mean over the images that failed nowhere; and what each came to."""
    is_ok = np.all([row.status == "ok" for row in scored.values()], axis=0)
    if not is_ok.any():
        raise UsageError("no image could be scored under every gate", hint="score one by nll")
    means = {name: float(row.bits_per_dim[is_ok].mean()) for name, row in scored.items()}
    best = ranked(measuring, "best", means)[0]
    told: dict[str, object] = {"chosen": best, "n": int(is_ok.sum())}
    for name, row in scored.items():
        paired = paired_difference(row.allowing_failed(), scored[best].allowing_failed())
        spent = sum(counts.sum() for counts in row.evaluations.values())
        told[name] = {
            "bits_per_dim": means[name],
            "worse_by": means[name] - means[best],
            "se": None if name == best else paired.se,
            "evaluations": int(spent),
        }
    return best, told


def family(gate: Gate) -> dict[str, Gate]:
    """The fit and its relatives, by name."""
    gates: dict[str, Gate] = {}
    for a, b in FAMILY:
        one = gate if (a, b) == (1.0, 0.0) else bent(gate, a, b, form=gate.form)
        if one not in gates.values():
            gates[f"a {a:g} b {b:g}"] = one
    return gates


def one_half(likelihood: Expert, quality: Expert) -> Gate:
    """The control: one half of each wherever both may be asked, but for smooth ends."""
    low, high = _room(likelihood, quality)
    return bent(nearest(np.array([low, high]), np.array([1.0, 0.0]), np.ones(2), low, high), 0.0, 0.0)


def _room(likelihood: Expert, quality: Expert) -> tuple[float, float]:
    """Gammas between which both experts may be asked."""
    low = max(likelihood.gamma_range[0], quality.gamma_range[0])
    high = min(likelihood.gamma_range[1], quality.gamma_range[1])
    if not low < high:
        raise UsageError(
            f"the experts {likelihood.name} and {quality.name} have no gammas in common, so there is no gate",
            hint="take experts whose ranges overlap",
        )
    return low, high

"""The SDE that a network of score_sde_pytorch was trained with, as its card says it (Song et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts import clocks
from merged_diffusion.experts.card import Meaning


def sde_facts(
    options: Mapping[str, Any], tensors: Mapping[str, Tensor], is_fourier: bool, where: str
) -> Meaning:
    """Kind, clock and range of gammas."""
    others = ("sigma_min", "sigma_max") if options["sde"] != "ve" else ("beta_min", "beta_max")
    strange = [key for key in others if key in options]
    if strange:
        raise CheckpointError(
            f"{where}: {strange[0]} is said of {options['sde']}, which has none", file=where
        )
    if options["sde"] != "ve":
        if is_fourier or options.get("centered") is False or options.get("scale_by_sigma"):
            raise UnsupportedCheckpointError(
                f"{where}: {options['sde']} is said of a network that knows sigma, or of pixels in [0, 1], "
                "or of an output that is divided by sigma",
                hint="nobody has published such a one; declare it by CallableExpert.vp_sde",
                file=where,
            )
        given = "sub_vp" if options["sde"] == "subvp" else "vp"
        clock = {"beta_min": options.get("beta_min", 0.1), "beta_max": options.get("beta_max", 20.0)}
        try:
            ends = clocks.vp_sde_range(**clock, is_sub=given == "sub_vp")
        except (ArithmeticError, ValueError) as error:
            raise CheckpointError(
                f"{where}: {clock} is said, and no SDE has gammas of it", file=where
            ) from error
        return {
            "kind": "vp_sde", "predicts": "eps", "time": "t01", "input": given,
            "clock": {**clock, "scale": 999.0}, "gamma_range": ends,
        }  # fmt: skip
    if not is_fourier:
        raise UnsupportedCheckpointError(
            f"{where}: a VE SDE whose network knows the numbers of its sigmas only, not sigma itself",
            hint="declare it by CallableExpert.score",
            file=where,
        )
    unit = 1.0 if options.get("centered") else 2.0  # of pixels in [-1, 1], whose sigmas are twice as large
    held = tensors.get("sigmas")
    span = [options.get("sigma_min", 0.01), options.get("sigma_max", 50.0)]
    if held is not None and held.dim() != 1:
        raise CheckpointError(f"{where}: its sigmas have the shape {list(held.shape)}", file=where)
    if held is not None and len(held) > 1:
        span = [float(held.double().min()), float(held.double().max())]
        for key, own in zip(("sigma_min", "sigma_max"), span, strict=True):
            if not math.isclose(options.get(key, own), own, rel_tol=1e-6):
                raise CheckpointError(
                    f"{where}: {key} = {options[key]} is said, the file holds {own:g}", file=where
                )
    if not 0 < span[0] < span[1]:
        raise CheckpointError(f"{where}: sigmas from {span[0]:g} to {span[1]:g} do not rise", file=where)
    divided = options.get("scale_by_sigma", True)
    return {
        "kind": "ve", "predicts": "score", "time": "edm_sigma", "input": "edm",
        "clock": {"unit": unit, "logarithm": True, "divided": divided},
        "gamma_range": (2 * math.log(unit * span[0]), 2 * math.log(unit * span[1])),
    }  # fmt: skip

"""addtt's ``results/<run>/model.pt`` with its ``config.yaml``: a zip of torch with the EMA's state dict.

The EMA's network is what evaluates; the training's own weights and the optimiser's state are never fetched.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card, check_interval
from merged_diffusion.files import tensors
from merged_diffusion.files.plain_yaml import read_settings
from merged_diffusion.files.tensors import View
from merged_diffusion.files.weights import unwrapped

log = logging.getLogger("merged_diffusion")

EMA: Final = "ema_model."
NETWORK: Final = "model."
OWN: Final = "embed_conditioning.0.weight"  # of VDM's U-Net, and of no other network
LICENCE: Final = "of whoever trained it; addtt's code is MIT"
# The network's own clock, whatever gammas were trained, unless the configuration says otherwise.
SCHEDULES: Final = ("fixed_linear", "learned_linear")


def read(value: Any, size: int, path: Path, name: str) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict of the EMA network in ``value``, a ``model.pt`` with ``config.yaml`` beside."""
    where = str(path)
    ema = unwrapped(_ema(value, where), where)
    config = read_settings(path.parent / "config.yaml")
    views = {
        key.removeprefix(EMA): view
        for key, view in ema.items()
        if key.startswith(EMA + NETWORK) and isinstance(view, View)
    }
    ends = _ends(ema, config, where)
    _warn_of_start(ema, where)
    return _card(config, ends, name, where), tensors.tensors_of(views, size, where)


def _ema(value: Any, where: str) -> dict[str, object]:
    """The state of the EMA."""
    held = value if isinstance(value, dict) else {}
    if not isinstance(held.get("ema"), dict) or not any(map(_is_of_vdm, held["ema"])):
        raise UnsupportedCheckpointError(
            f"{where}: holds {sorted(map(str, held))[:8]}, but no state of an EMA called ema",
            hint="raw weights are never evaluated by accident; train.py writes step, model, opt and ema",
            file=where,
        )
    return {key: entry for key, entry in held["ema"].items() if isinstance(key, str)}


def is_addtt(value: Any) -> bool:
    """Whether a file of torch holds a network of addtt's, as its state or in a part of it."""
    held = value if isinstance(value, dict) else {}
    return any(map(_is_of_vdm, held)) or any(
        isinstance(state, dict) and any(map(_is_of_vdm, state)) for state in held.values()
    )


def _is_of_vdm(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(OWN)


def _number(config: dict[str, object], key: str, default: float | None, where: str) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise CheckpointError(
            f"{where}: config.yaml: {key} = {value!r:.60} is no number", key=key, file=where
        )
    return value


def _ends(ema: dict[str, object], config: dict[str, object], where: str) -> tuple[float, float]:
    """The ends of gamma: of the configuration, or learned."""
    low, high = (
        _number(config, key, default, where) for key, default in (("gamma_min", -13.3), ("gamma_max", 5.0))
    )
    schedule = config.get("noise_schedule", SCHEDULES[0])
    if schedule not in SCHEDULES:
        raise UnsupportedCheckpointError(
            f"{where}: config.yaml: noise_schedule = {schedule!r:.60} is none of {', '.join(SCHEDULES)}",
            file=where,
        )
    if schedule == "fixed_linear":
        return float(low), float(high)
    start, width = (ema.get(f"{EMA}gamma.{key}") for key in ("b", "w"))
    if not isinstance(start, View) or not isinstance(width, View) or start.numel != 1 or width.numel != 1:
        raise CheckpointError(
            f"{where}: noise_schedule = learned_linear, but the file has no {EMA}gamma.b and .w", file=where
        )
    first = float(tensors.few(start, where).reshape(()))
    return first, first + abs(float(tensors.few(width, where).reshape(())))


def _card(config: dict[str, object], ends: tuple[float, float], name: str, where: str) -> Card:
    check_interval(*ends, where)

    def count(key: str, default: int | None = None) -> int:
        value = _number(config, key, default, where)
        if value != int(value):
            raise CheckpointError(f"{where}: config.yaml: {key} = {value} is not whole", key=key, file=where)
        return int(value)

    exponents = config.get("fourier_exponents", [5, 6]) if config.get("use_fourier_features", True) else []
    clock = [
        float(_number(config, key, end, where)) for key, end in (("gamma_min", -13.3), ("gamma_max", 5.0))
    ]
    return Card(
        name=name,
        kind="vdm",
        predicts="eps",
        time="gamma",
        input="vp",
        pixels="centred",
        levels=count("vocab_size", 256),
        image_shape=(count("input_channels", 3), 0, 0),
        gamma_range=ends,
        network={
            "architecture": "vdm-unet",
            "embedding_dim": count("embedding_dim"),
            "n_blocks": count("n_blocks"),
            "n_attention_heads": count("n_attention_heads", 1),
            "dropout_prob": _number(config, "dropout_prob", 0.1, where),
            "norm_groups": count("norm_groups", 32),
            "attention_everywhere": bool(config.get("attention_everywhere", False)),
            "fourier_exponents": exponents,
            "time_range": clock,
        },
        licence=LICENCE,
        source="addtt/variational-diffusion-models",
        precision="float32",
    )


def _warn_of_start(ema: dict[str, object], where: str) -> None:
    initted = ema.get("initted")
    started = bool(tensors.few(initted, where).any()) if isinstance(initted, View) else initted
    if started is not None and not started:
        log.warning(
            "%s: its EMA has not begun (initted = 0): these are the raw weights of a training's start", where
        )

"""What a snapshot of EDM or EDM2 is: card and state dict from the attributes of its modules.

Four ways to precondition (Karras et al. 2022, table 1) and three networks, of which DhariwalUNet is OpenAI's
by other names. Arguments that a training left at their defaults are not in the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.experts import clocks
from merged_diffusion.experts.card import Card, Meaning
from merged_diffusion.experts.checkpoints.dhariwal import as_openai
from merged_diffusion.experts.checkpoints.module_records import attributes, modules, unknown
from merged_diffusion.experts.checkpoints.read_as import ReadAs
from merged_diffusion.files import inert

GAMMA_RANGE: Final = (-12.43, 8.764)  # 2 ln 0.002, 2 ln 80: where EDM samples, and the paper evaluates
LICENCE: Final = "CC BY-NC-SA 4.0 (non-commercial) where NVIDIA published it"
CHANNELS: Final = 3
# Arguments of the network that say nothing about the weights, or stand elsewhere in the card.
ELSEWHERE: Final = frozenset(
    ("img_resolution", "in_channels", "out_channels", "img_channels", "label_dropout")
)
UNUSED: Final = ("logvar_channels", "use_fp16", "sigma_data")
# Arguments of the preconditioning that are not the network's.
OUTER: Final = frozenset(
    (
        "img_channels", "use_fp16", "sigma_min", "sigma_max", "sigma_data", "model_type", "beta_d",
        "beta_min", "M", "epsilon_t", "C_1", "C_2", "logvar_channels",
    )
)  # fmt: skip
POSITIONAL: Final = ("img_resolution", "in_channels", "out_channels")
# What the public classes take where their arguments do not say.
DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "SongUNet": {
        "model_channels": 128, "channel_mult": [1, 2, 2, 2], "channel_mult_emb": 4, "num_blocks": 4,
        "attn_resolutions": [16], "dropout": 0.10,
    },
    "DhariwalUNet": {
        "model_channels": 192, "channel_mult": [1, 2, 3, 4], "channel_mult_emb": 4, "num_blocks": 3,
        "attn_resolutions": [32, 16, 8], "dropout": 0.10,
    },
    "UNet": {
        "model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_blocks": 3, "attn_resolutions": [16, 8],
    },
}  # fmt: skip
NETWORKS: Final = {
    "EDMPrecond": ("model", ("SongUNet", "DhariwalUNet")),
    "VPPrecond": ("model", ("SongUNet", "DhariwalUNet")),
    "VEPrecond": ("model", ("SongUNet", "DhariwalUNet")),
    "iDDPMPrecond": ("model", ("SongUNet", "DhariwalUNet")),
    "Precond": ("unet", ("UNet",)),
}
NOT_THE_NETWORK: Final = ("logvar_fourier.", "logvar_linear.", "u")


def read(
    ema: inert.Record, tensors: Mapping[str, Tensor], said: ReadAs | None, where: str, name: str
) -> tuple[Card, dict[str, Tensor]]:
    """Card and state dict of the network ``ema`` with its ``tensors``."""
    state = attributes(ema, where)
    if ema.kind not in NETWORKS:
        raise unknown(where, "preconditioning", ema.kind, ", ".join(NETWORKS))
    key, kinds = NETWORKS[ema.kind]
    network = modules(state).get(key)
    if not isinstance(network, inert.Record) or network.kind not in kinds:
        kind = network.kind if isinstance(network, inert.Record) else type(network).__name__
        raise unknown(where, "network", kind, " or ".join(kinds))
    arguments = _arguments(state, attributes(network, where), where)
    shape = _shape(arguments, ema.kind, where)
    table = {
        **DEFAULTS[network.kind],
        **{k: _plain(v) for k, v in arguments.items() if k not in ELSEWHERE and k not in UNUSED},
    }
    held = {
        f"model.{name.removeprefix(f'{key}.')}": value
        for name, value in tensors.items()
        if not name.startswith(NOT_THE_NETWORK[:2]) and name not in NOT_THE_NETWORK
    }
    if table.get("clip_act", 256) is None:
        raise unknown(where, "network", "without clip_act", "clip_act = a number")
    if said is not None and said.options.get("whole_steps") and ema.kind != "iDDPMPrecond":
        raise CheckpointError(
            f"{where}: --as {said} is said of {ema.kind}, which has no steps", hint="leave it out", file=where
        )
    if network.kind == "DhariwalUNet":
        table, held = as_openai(network, table, held, shape, where)
    else:
        table = {k: v for k, v in table.items() if v is not None}
        n_out = arguments.get("out_channels")
        table |= {"out_channels": n_out} if n_out not in (None, shape[0]) else {}
        table["architecture"] = {"SongUNet": "ddpmpp", "UNet": "edm2"}[network.kind]
    card = Card(
        name=name, pixels="ends", levels=256, image_shape=shape, network=table,
        labels=bool(table.get("label_dim", 0)), licence=LICENCE, source="EDM snapshot", precision="float32",
        **_preconditioning(ema.kind, state, tensors, said, where),
    )  # fmt: skip
    return card, held


def _preconditioning(
    kind: str, state: Mapping[str, object], tensors: Mapping[str, Tensor], said: ReadAs | None, where: str
) -> Meaning:
    """Kind, clock and range of gammas."""

    def number(key: str, usual: float) -> float:
        value = state.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise CheckpointError(f"{where}: {key} = {value!r:.40} is not positive and finite", file=where)
        return float(value)

    if kind in ("EDMPrecond", "Precond"):
        return {
            "kind": "edm", "predicts": "x0", "time": "log_edm_sigma_over_4", "input": "edm",
            "gamma_range": GAMMA_RANGE, "data_std": number("sigma_data", 0.5),
        }  # fmt: skip
    if kind != "iDDPMPrecond":  # whose table says it
        ends = (2 * math.log(number("sigma_min", 0.02)), 2 * math.log(number("sigma_max", 100.0)))
    if kind == "VEPrecond":
        return {
            "kind": "ve", "predicts": "score", "time": "edm_sigma", "input": "edm", "gamma_range": ends,
            "clock": {"unit": 2.0, "logarithm": True, "divided": True},
        }  # fmt: skip
    if kind == "VPPrecond":
        low = number("beta_min", 0.1)
        high = low + number("beta_d", 19.9)
        ends = clocks.vp_sde_range(low, high, is_sub=False)  # the file's sigma_min is rounded to 1/1024
        return {
            "kind": "vp_sde", "predicts": "eps", "time": "t01", "input": "vp", "gamma_range": ends,
            "clock": {"beta_min": low, "beta_max": high, "scale": number("M", 1000) - 1},
        }  # fmt: skip
    if "u" not in tensors or tensors["u"].dim() != 1 or len(tensors["u"]) < 3:
        raise CheckpointError(f"{where}: iDDPM's table u of noise levels is missing", file=where)
    if float(tensors["u"][-1]) != 0:
        raise CheckpointError(f"{where}: iDDPM's table u of noise levels does not end with 0", file=where)
    gammas = 2 * tensors["u"][:-1].double().log().flip(0)  # the last is 0, no noise
    clock: dict[str, object] = {"gammas": gammas.tolist()}
    if said is not None and said.options.get("whole_steps"):
        clock["nearest_sigma"] = True
    return {
        "kind": "ddpm", "predicts": "eps", "time": "timestep", "input": "vp", "clock": clock,
        "gamma_range": (float(gammas[0]), float(gammas[-1])),
    }  # fmt: skip


def _shape(arguments: Mapping[str, object], kind: str, where: str) -> tuple[int, int, int]:
    size = arguments.get("img_resolution")
    channels = arguments.get("in_channels", arguments.get("img_channels"))
    if type(size) is not int or type(channels) is not int:
        raise CheckpointError(
            f"{where}: the network's arguments name no img_resolution and in_channels", file=where
        )
    n_out = arguments.get("out_channels")
    allowed = (None, channels, 2 * channels) if kind == "iDDPMPrecond" else (None, channels)
    if n_out not in allowed or not 0 < size < 1 << 16 or not 0 < channels < 1024:
        raise unknown(where, "shape", f"{channels} x {size} in, {inert.shown(n_out)} out", "alike")
    if kind == "Precond" and channels != CHANNELS:
        raise UnsupportedCheckpointError(
            f"{where}: a network of {channels} channels of latents, whose likelihood is not that of images",
            hint="EDM2's networks of pixels are edm2-img64",
            file=where,
        )
    return channels, size, size


def _arguments(outer: Mapping[str, object], inner: Mapping[str, object], where: str) -> dict[str, object]:
    """What the network was made with: its own record, else the preconditioning's, which passed it on."""
    keywords, places = inner.get("_init_kwargs"), inner.get("_init_args", ())
    if not keywords and not places:
        given = outer.get("_init_kwargs")
        keywords = {k: v for k, v in given.items() if k not in OUTER} if type(given) is dict else None
        places = tuple(outer.get(key) for key in ("img_resolution", "img_channels", "img_channels"))
    if type(keywords) is not dict or type(places) is not tuple:
        raise CheckpointError(f"{where}: a network without the arguments it was made with", file=where)
    return keywords | dict(zip(POSITIONAL, places, strict=False))


def _plain(value: Any) -> Any:
    """An argument as TOML's values; None where it was none."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value[:64] if isinstance(item, int | float | str)]
    return value if isinstance(value, int | float | str | None) else str(type(value).__name__)

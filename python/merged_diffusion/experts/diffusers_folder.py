"""The parts of a diffusers folder: configs as checked JSON, network and scheduler built from them.

The network is built without memory (on torch's meta device) before a weight is read, so what a config can
cost is bounded by the limits below. diffusers is asked for its classes only; its loaders are not used.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import nn

from merged_diffusion.errors import (
    CheckpointError,
    ExpertError,
    MergedDiffusionError,
    UnsafeFileError,
    UnsupportedCheckpointError,
)
from merged_diffusion.experts.running_mean import is_running_mean
from merged_diffusion.files.reading import read_text
from merged_diffusion.files.standins import HEAD, refuse_standin

log = logging.getLogger("merged_diffusion")

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_TIMESTEPS: Final = 100_000
MAX_LAYERS: Final = 128  # in all blocks; the published have up to 60
MAX_NUMBER: Final = 1 << 16
MAX_LIST: Final = 16

UNET: Final = "UNet2DModel"
BLOCKS: Final = (
    *("DownBlock2D", "AttnDownBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D", "ResnetDownsampleBlock2D"),
    *("UpBlock2D", "AttnUpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D", "ResnetUpsampleBlock2D"),
)
# All of them tabulate alphas_cumprod for timesteps 0 .. N - 1 of one and the same training.
SCHEDULERS: Final = (
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "PNDMScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"),
    *("UniPCMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("HeunDiscreteScheduler", "LMSDiscreteScheduler", "KDPM2DiscreteScheduler"),
    "KDPM2AncestralDiscreteScheduler",
)
# EDM's preconditioning and flow matching, whose times are no table.
CONTINUOUS: Final = (
    *("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"),
    "FlowMatchHeunDiscreteScheduler",
)
# What of a scheduler belongs to the training; the rest is how it samples.
TRAINING: Final = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"),
    *("rescale_betas_zero_snr", "timestep_type", "variance_type", "sigma_min", "sigma_max", "sigma_data"),
    "invert_sigmas",
)
WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
INDEX: Final = f"{WEIGHTS}.index.json"
VARIANT: Final = re.compile(r"diffusion_pytorch_model\.(fp16|bf16|fp32)\.safetensors")
HOLD_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# The state of the running mean, which EMAModel.save_pretrained puts among the network's options.
OF_THE_MEAN: Final = frozenset(
    ("decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power")
)
Config = Mapping[str, Any]
"""The options of a network or a scheduler, as diffusers holds them and its files do."""


@dataclass(frozen=True)
class Parts:
    """Where the parts of an expert lie."""

    unet: Path
    scheduler: Path
    weights: Path


def find_parts(folder: Path) -> Parts:
    """The files of ``folder``; refused where one is missing or the pipeline has more than both parts."""
    index = folder / "model_index.json"
    if index.is_file():
        others = [
            k for k, v in read_config(index).items() if not k.startswith("_") and v not in (None, [None] * 2)
        ]
        others = [n for n in others if n not in ("unet", "scheduler") and not is_running_mean(n)]
        if others:
            raise UnsupportedCheckpointError(
                f"{index}: the pipeline has {', '.join(others)} beside unet and scheduler",
                hint="an expert works on pixels, by itself; md.log_density takes networks of latents",
                file=str(index),
                found=others,
            )
    mean = _mean_of(folder)
    unet = mean or _first(folder, "unet/config.json", "config.json")
    scheduler = _first(folder, "scheduler/scheduler_config.json", "scheduler_config.json")
    return Parts(unet, scheduler, _weights(unet.parent))


def _mean_of(folder: Path) -> Path | None:
    """The config of the network of averaged weights that lies beside the raw one, if there is one."""
    named = [path for path in sorted(folder.iterdir()) if is_running_mean(path.name)]
    found = [path for path in named if (path / "config.json").is_file() or _weights_in(path)]
    apart = [path.name for path in named if path.is_file() and path.suffix in HOLD_WEIGHTS]
    if len(found) > 1:
        names = [path.name for path in found]
        raise CheckpointError(
            f"{folder}: holds {len(found)} running means (EMA) of the weights: {', '.join(names[:8])}",
            hint="leave the one that is meant in the folder",
            file=str(folder),
            found=names,
        )
    if not found:
        if apart:
            log.warning("%s: %s is not read, a running mean (EMA) by its name", folder, ", ".join(apart[:4]))
        return None
    log.warning(
        "%s: taken are the weights in %s/, the running mean (EMA), and no others", folder, found[0].name
    )
    config = found[0] / "config.json"
    if not config.is_file():
        raise CheckpointError(
            f"{found[0]}: has no config.json, and the raw weights beside it are never evaluated instead",
            hint="copy the config.json of unet/ into it if the network is the same",
            file=str(config),
        )
    return config


def _weights_in(folder: Path) -> list[str]:
    """Names of the files of ``folder`` that may hold weights."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix in HOLD_WEIGHTS)


def _weights(folder: Path) -> Path:
    """The file of weights; of variants of which one says that it is the EMA, that one."""
    names = _weights_in(folder)
    means = [name for name in names if is_running_mean(name)]
    if means and not (len(means) == 1 and means[0].endswith(".safetensors")):
        raise UnsupportedCheckpointError(
            f"{folder}: holds {', '.join(means[:4])}, a running mean (EMA) of the weights; one file of "
            "safetensors is read",
            hint="save it by save_pretrained(folder), which writes safetensors in one file",
            file=str(folder),
            found=means,
        )
    if means:
        log.warning("%s: %s is taken, the running mean (EMA) of the weights", folder, means[0])
        return folder / means[0]
    if WEIGHTS in names:
        return folder / WEIGHTS
    if (folder / INDEX).is_file():
        return folder / INDEX
    variants = [name for name in names if VARIANT.fullmatch(name)]
    if len(variants) == 1:
        log.warning("%s: %s is taken, the only file of weights", folder, variants[0])
        return folder / variants[0]
    pickled = [name for name in names if not name.endswith(".safetensors")]
    there = (
        f"there is {(pickled or names)[0]}, {'a pickle, ' * bool(pickled)}which is not read" if names else ""
    )
    raise UnsupportedCheckpointError(
        f"{folder / WEIGHTS}: {there or 'it is not there'}",
        hint="save_pretrained(folder) writes safetensors in one file",
        file=str(folder / WEIGHTS),
    )


def read_config(path: Path) -> Config:
    """A JSON object of bounded size."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UnsafeFileError(
                f"{path}: a config of over {MAX_CONFIG_BYTES} bytes is refused", file=str(path)
            )
        text = read_text(path)
        refuse_standin(text[:HEAD].encode(), str(path), CheckpointError)
        config = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable JSON file ({error})", file=str(path)) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds a {type(config).__name__}, no object", file=str(path))
    return config


def make_unet(path: Path) -> nn.Module:
    """The network of a config, without memory for its weights."""
    config = read_config(path)
    _check_class(path, config, (UNET,))
    made = getattr(_diffusers(), UNET)
    options = {k: v for k, v in config.items() if not k.startswith("_") and k not in OF_THE_MEAN}
    unknown = sorted(options.keys() - inspect.signature(made).parameters.keys())
    strange = [key for key, value in options.items() if not _is_sane(value)]
    blocks = [*_list(options, "down_block_types"), *_list(options, "up_block_types")]
    strange += [str(block) for block in blocks if block not in BLOCKS]
    layers = options.get("layers_per_block", 1)
    is_bounded = isinstance(layers, int) and layers * len(blocks) <= MAX_LAYERS
    strange += [] if is_bounded else ["layers_per_block"]
    if unknown or strange:
        raise UnsupportedCheckpointError(
            f"{path}: options of {UNET} that are not known: {', '.join([*unknown, *strange][:8])}",
            hint="a newer diffusers may know them; DiffusersExpert(unet, scheduler) takes loaded objects",
            file=str(path),
            found=[*unknown, *strange],
        )
    with torch.device("meta"):
        unet: nn.Module = _made(path, made, options)
    return unet.eval()


def make_scheduler(path: Path) -> object:
    """The scheduler of a config: its table and what the network predicts, nothing of how it samples."""
    config = read_config(path)
    _check_class(path, config, (*SCHEDULERS, *CONTINUOUS))
    made = getattr(_diffusers(), config["_class_name"])
    betas = config.get("trained_betas")
    n = len(betas) if isinstance(betas, list) else config.get("num_train_timesteps", 1000)
    if not isinstance(n, int) or not 2 <= n <= MAX_TIMESTEPS:
        raise CheckpointError(
            f"{path}: a table of {n!r} timesteps, possible are 2 to {MAX_TIMESTEPS}", file=str(path)
        )
    if config.get("predict_epsilon") is False:  # before there was prediction_type
        config = {"prediction_type": "sample", **config}
    known = inspect.signature(made).parameters
    return _made(path, made, {key: config[key] for key in TRAINING if key in config and key in known})


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: has neither {' nor '.join(names)}",
        hint="a diffusers expert is a folder with unet/ and scheduler/, or with the files of both",
        file=str(folder),
    )


def _check_class(path: Path, config: Config, known: tuple[str, ...]) -> None:
    found = config.get("_class_name")
    if found not in known:
        raise UnsupportedCheckpointError(
            f"{path}: of the class {found!r}, known: {', '.join(known)}",
            hint="load it with diffusers and declare it by CallableExpert in a file of your own",
            file=str(path),
            expected=list(known),
            found=found,
        )


def _is_sane(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_LIST and all(not isinstance(v, list) and _is_sane(v) for v in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, dict) and (not isinstance(value, int) or 0 <= value <= MAX_NUMBER)


def _list(options: Config, key: str) -> list[object]:
    value = options.get(key, [])
    return value if isinstance(value, list) else [value]


def _made(path: Path, made: Any, options: Config) -> Any:
    try:
        return made(**options)
    except MergedDiffusionError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: diffusers makes no {made.__name__} of it ({type(error).__name__}: {error})",
            file=str(path),
        ) from error


def _diffusers() -> ModuleType:
    try:
        import diffusers
    except ImportError as error:
        raise ExpertError(
            "a diffusers folder needs the package diffusers", hint="pip install 'merged-diffusion[diffusers]'"
        ) from error
    module: ModuleType = diffusers
    return module

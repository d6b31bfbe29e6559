"""A diffusers ``UNet2DModel`` as an expert: its timestep from gamma by the log-SNR of its own scheduler.

A scheduler tabulates alpha_bar_t = alpha^2 of z_t = alpha x + sigma eps at t = 0, ..., N - 1 (Ho et al. 2020,
eq. 4), so that t is known at gamma_t = log((1 - alpha_bar_t) / alpha_bar_t); between the entries t is linear
in gamma. The table's ends are the range that the network was trained on. What it predicts is the scheduler's
``prediction_type``: ``epsilon``, ``sample`` (x) or ``v_prediction``. Clipping and thresholds belong to
sampling, not to the model, and are not applied. Pixels are ``ends``, v/127.5 - 1, as in diffusers' pipelines.

A scheduler of EDM's (``EDMEulerScheduler``) means its preconditioning, one of flow matching
(``FlowMatchEulerDiscreteScheduler``) the velocity eps - x; both have times that are no table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from merged_diffusion.errors import CheckpointError, ExpertError, UsageError
from merged_diffusion.experts import clocks, readings
from merged_diffusion.experts.base import Pixels
from merged_diffusion.experts.callables import CallableExpert, Clock, Input, Predicts, TimeName
from merged_diffusion.experts.diffusers_folder import (
    CONTINUOUS,
    Config,
    find_parts,
    make_scheduler,
    make_unet,
)
from merged_diffusion.experts.readings import Reading
from merged_diffusion.files.weights import check_keys, read_shards, read_weights, unwrapped

PREDICTS: Final[Mapping[str, Predicts]] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
FLOW: Final = (
    "a network of flow matching predicts noise minus data in diffusers: CallableExpert(..., "
    'predicts="eps-minus-x0", input="flow", time=lambda gamma: 1000 * torch.sigmoid(gamma / 2))'
)
LEARNED_VARIANCE: Final = ("learned", "learned_range")
# Names of attention layers before diffusers 0.17.
OLD_NAMES: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
NO_SIGNAL: Final = (0.0, 2.0**-24)  # alphas_cumprod of zero terminal SNR


class DiffusersExpert(CallableExpert):
    """``unet`` and the ``scheduler`` that it was trained with, as diffusers holds them.

    The network is put into evaluation mode. One with class embeddings is conditional: its labels are
    ``class_labels``. Of a network that also predicts a variance the first half of the channels is taken.

    Parameters
    ----------
    unet
        A ``UNet2DModel``, or what has the same call and ``config``.
    scheduler
        Anything with ``alphas_cumprod`` [N] and ``config.prediction_type``; how it samples is not asked.
    levels, pixels
        Grey levels of the training images, and the value that the network takes a pixel to be.
    image_shape
        C, H, W; default: ``in_channels`` and ``sample_size`` of the network.

    Raises
    ------
    ExpertError
        Network or scheduler have another clock or another input than z at an integer timestep.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> from diffusers import DDPMScheduler, UNet2DModel  # doctest: +SKIP
    >>> folder = "ddpm-cifar10-32"
    >>> unet = UNet2DModel.from_pretrained(folder, subfolder="unet")  # doctest: +SKIP
    >>> scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")  # doctest: +SKIP
    >>> expert = md.DiffusersExpert(unet.eval(), scheduler)  # doctest: +SKIP
    """

    def __init__(
        self,
        unet: nn.Module,
        scheduler: object,
        *,
        levels: int = 256,
        pixels: Pixels = "ends",
        image_shape: Sequence[int | None] | None = None,
        name: str | None = None,
    ) -> None:
        config, schedule = _config(unet, "unet"), _config(scheduler, "scheduler")
        _check_unet(config, schedule)
        super().__init__(
            _Unet(unet, config["in_channels"]),
            **vars(_declaration(scheduler, schedule)),
            pixels=pixels,
            levels=levels,
            image_shape=_image_shape(config) if image_shape is None else image_shape,
            conditional=_is_conditional(config),
            name=type(unet).__name__ if name is None else name,
        )
        if config.get("class_embed_type") is None and config.get("num_class_embeds"):
            self.label_range = (0, config["num_class_embeds"] - 1)
        self.eval()


@dataclass(frozen=True)
class Declaration:
    """What a network predicts, of which input, at which times: words and readings of `CallableExpert`."""

    predicts: Predicts | Reading
    input: Input | Reading
    time: TimeName | Clock
    gamma_range: tuple[float, float]
    schedule: Tensor | None = None


def _declaration(scheduler: object, schedule: Config) -> Declaration:
    """What the training of this scheduler's network made of it."""
    kind = type(scheduler).__name__
    if kind in CONTINUOUS:
        return _flow(schedule) if kind.startswith("FlowMatch") else _preconditioned(schedule)
    predicts = schedule.get("prediction_type", "epsilon")
    if not isinstance(predicts, str) or predicts not in PREDICTS:
        raise ExpertError(
            f"prediction_type = {predicts!r} of the scheduler is none of {', '.join(PREDICTS)}",
            hint=FLOW,
            expected=list(PREDICTS),
            found=predicts,
        )
    gammas = scheduler_gammas(scheduler)
    ends = (float(gammas[0]), float(gammas[-1]))
    return Declaration(PREDICTS[predicts], "vp", "timestep", ends, gammas)


def _preconditioned(schedule: Config) -> Declaration:
    """F of EDM's preconditioning, of which ``v_prediction`` means -F."""
    numbers: list[Any] = [schedule.get(key) for key in ("sigma_min", "sigma_max", "sigma_data")]
    if not all(isinstance(n, int | float) and 0 < n < math.inf for n in numbers):
        raise ExpertError(f"sigma_min, sigma_max, sigma_data = {numbers} of the scheduler are not positive")
    low, high, std = map(float, numbers)
    predicts = schedule.get("prediction_type", "epsilon")
    if predicts not in ("epsilon", "v_prediction"):
        raise ExpertError(
            f"prediction_type = {predicts!r} of a scheduler of EDM's, which has epsilon and v_prediction",
            expected=["epsilon", "v_prediction"],
            found=predicts,
        )
    reading = readings.edm(std, sign=1 if predicts == "epsilon" else -1)
    ends = (2 * math.log(low), 2 * math.log(high))
    return Declaration(reading, reading, "log_edm_sigma_over_4", ends)


def _flow(schedule: Config) -> Declaration:
    """Eps - x of x_t = (1 - t) x + t eps at the time N t; how sampling shifts its grid is no part of it."""
    if schedule.get("invert_sigmas"):
        raise ExpertError(
            "invert_sigmas = true of the scheduler: its time runs the other way",
            hint="declare it by CallableExpert.flow(net, data_at=1, time_scale=1000, ...)",
        )
    steps = float(schedule.get("num_train_timesteps", 1000))
    clock = clocks.flow_clock(0, steps, is_linear=True)
    return Declaration("eps-minus-x0", "flow", clock, readings.FLOW_RANGE)


class _Unet(nn.Module):
    """The network under the call that `CallableExpert` makes."""

    def __init__(self, unet: nn.Module, channels: int) -> None:
        super().__init__()
        self.unet = unet
        self._channels = channels

    def forward(self, z: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        out: Tensor = self.unet(z, timestep, class_labels=label, return_dict=False)[0]
        return out[:, : self._channels]


def scheduler_gammas(scheduler: object) -> Tensor:
    """gamma, float64 [N], at the timesteps 0, 1, ... of a scheduler, which must rise.

    A last entry without any signal (``rescale_betas_zero_snr``) lies at infinity and is left out; the
    schedulers of Euler, DPM-Solver and UniPC write 2^-24 in its place, so as to divide by it.
    """
    table = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(table, Tensor) or table.dim() != 1 or len(table) < 2:
        raise ExpertError(
            f"{type(scheduler).__name__} has no alphas_cumprod [N]: its timesteps say nothing of noise",
            hint=f"pass the scheduler of the training; CallableExpert takes any other clock; {FLOW}",
        )
    signal = table.detach().cpu().double()
    if float(signal[-1]) in NO_SIGNAL:
        signal = signal[:-1]
    gammas = torch.log1p(-signal) - signal.log()
    if not (bool(gammas.isfinite().all()) and bool((gammas.diff() > 0).all()) and len(gammas) > 1):
        raise ExpertError(
            f"alphas_cumprod of {type(scheduler).__name__} does not fall strictly between 1 and 0",
            hint="its betas must lie strictly between 0 and 1",
        )
    return gammas


def _config(part: object, what: str) -> Config:
    config = getattr(part, "config", None)
    if not isinstance(config, Mapping):
        raise UsageError(
            f"{what} is a {type(part).__name__} without a config",
            hint="pass diffusers' own objects; CallableExpert takes any callable",
        )
    return config


def _check_unet(config: Config, schedule: Config) -> None:
    """Refuse a network that is not fed with z and a timestep alone (and a class)."""
    channels, n_out = config.get("in_channels"), config.get("out_channels")
    is_double = schedule.get("variance_type") in LEARNED_VARIANCE and n_out == 2 * (channels or 0)
    facts = {**schedule, **config}
    size = config.get("sample_size")
    sizes = size if isinstance(size, list | tuple) else (size, size)
    time, labels = facts.get("time_embedding_type"), facts.get("class_embed_type")
    for key, sound, why in (
        ("in_channels", isinstance(channels, int), "it is no network of images"),
        (
            "sample_size",
            len(sizes) == 2 and all(n is None or isinstance(n, int) for n in sizes),
            "it is no height and width",
        ),
        (
            "out_channels",
            n_out == channels or is_double,
            f"of {channels} channels in it predicts none of them",
        ),
        ("cross_attention_dim", "cross_attention_dim" not in facts, "it needs states beside the image"),
        ("center_input_sample", not facts.get("center_input_sample"), "its input is no z of centred pixels"),
        ("time_embedding_type", time == "positional", "it has no times between the table's entries"),
        ("timestep_type", facts.get("timestep_type", "discrete") == "discrete", "its time is no timestep"),
        ("timestep_scaling", "timestep_scaling" not in facts, "distilled to few steps, it predicts no noise"),
        ("class_embed_type", labels in (None, "timestep"), "its labels are no classes"),
    ):
        if not sound:
            raise ExpertError(
                f"{key} = {facts.get(key)!r} of a diffusers network or scheduler: {why}",
                hint="declare what it is by CallableExpert",
                key=key,
                found=facts.get(key),
            )


def _is_conditional(config: Mapping[str, object]) -> bool:
    return config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None


def _image_shape(config: Mapping[str, object]) -> tuple[int | None, ...]:
    size = config.get("sample_size")
    sizes = tuple(size) if isinstance(size, list | tuple) else (size, size)
    return (config["in_channels"], *sizes)


def load_diffusers(folder: str | Path) -> DiffusersExpert:
    """The expert in a folder as ``save_pretrained`` writes it: ``unet/`` and ``scheduler/``, or both flat.

    JSON and safetensors are read, nothing is executed. 256 grey levels, pixels ``ends``.

    Raises
    ------
    UnsupportedCheckpointError
        Classes or options that are not known, pickled weights, a network that works on latents.
    CheckpointError
        Files that are missing or broken, or do not belong together.
    """
    parts = find_parts(Path(folder))
    unet, scheduler = make_unet(parts.unet), make_scheduler(parts.scheduler)
    is_index = parts.weights.suffix == ".json"
    tensors, dtype, sha256 = read_shards(parts.weights) if is_index else read_weights(parts.weights, None)
    tensors = _renamed(unwrapped(tensors, str(parts.weights)))
    check_keys(tensors, unet.state_dict(), str(parts.weights))
    unet.load_state_dict(tensors, assign=True)
    unet.requires_grad_(requires_grad=False)
    name = Path(folder).resolve().name
    try:
        expert = DiffusersExpert(unet, scheduler, name=name)
    except (ExpertError, UsageError) as error:
        raise CheckpointError(f"{folder}: {error.message}", hint=error.hint, **error.fields) from error
    facts = {"name": name, "kind": "diffusers", "source": str(folder), "format": "diffusers"}
    facts["weights"] = parts.weights.relative_to(folder).as_posix()
    expert.provenance = cast(Any, facts | {"sha256": sha256, "precision": dtype, "licence": ""})
    return expert


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that diffusers has used since 0.17."""
    result = {}
    for key, value in tensors.items():
        *path, layer, kind = key.split(".") if key.count(".") else ["", key, ""]
        is_old = len(path) > 1 and path[-2] == "attentions" and layer in OLD_NAMES
        result[".".join([*path, OLD_NAMES[layer], kind]) if is_old else key] = value
    return result

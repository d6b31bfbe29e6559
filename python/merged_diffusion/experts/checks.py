"""The start check: whatever would make a wrong number later is an error or a warning now.

Nine rows of noise, from one end of the gammas that the expert will be asked over to the other, so that an
expert which fails at one gamma only still starts; the solver reports that image by image. Where images are at
hand, the expert is also asked for the noise in them (`denoising`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from merged_diffusion import schedules
from merged_diffusion.caller import warn_caller
from merged_diffusion.errors import ExpertError, ExpertWarning, UsageError
from merged_diffusion.experts.arithmetic import FULL, in_precision
from merged_diffusion.experts.asked_again import check_repeats
from merged_diffusion.experts.base import Expert, check_declaration, takes_shape
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.denoising import warn_of_declaration
from merged_diffusion.experts.fence import fenced
from merged_diffusion.experts.guided import unguided
from merged_diffusion.experts.noised import Place
from merged_diffusion.experts.other_words import written
from merged_diffusion.experts.products import answer, check_gradient, check_products, unsound
from merged_diffusion.experts.rounded_times import warn_if_cut

ROWS = 9  # gammas that are looked at, both ends and the middle among them
ANY_SIZE = 8  # of an axis for which the expert takes any
NOISE_END = 3.0  # gamma above which sigma > 0.97, so that z is mostly noise
# Words of opposite sign at high noise.
OPPOSITE: Final = {
    "eps": "score",
    "score": "eps",
    "eps-minus-x0": "x0-minus-eps",
    "x0-minus-eps": "eps-minus-x0",
}
LIKE_NOISE = 0.5  # least correlation of eps_hat and z there; 1 for eps, -1 for a score taken as eps


@in_precision(FULL)
@fenced()
def check_expert(
    expert: Expert,
    shape: tuple[int, int, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    cond: Tensor | None = None,
    batch_coupled: bool = False,
    over: tuple[float, float] | None = None,
    images: Tensor | None = None,
    takes_products: bool = True,
    accept_gradient: Collection[str] = (),
    number: int = 0,
    precision: str = FULL,
) -> None:
    """Look at an expert before it is used, on images of ``shape`` (default: its own).

    Parameters
    ----------
    cond
        Labels [N, ...], repeated as needed.
    over
        The gammas that it will be asked over (default: its range), least noise first.
    images
        Some of the user's, x [N, C, H, W] in the model's space, which the expert should denoise.
    takes_products
        Whether its gradient will be needed, and is compared with differences. Not done where
        ``batch_coupled``: a row's difference is then not its own.
    accept_gradient
        Names of experts whose gradient is warned of, not refused.
    number
        Which of a model's experts it is: two of one name are warned of singly.
    precision
        In which it will be asked; all that is looked at is looked at in full, and then whether it can.

    Raises
    ------
    ExpertError
        It is in training mode, raises, returns something unlike its input, its input or nothing finite,
        changes its input, answers two equal calls differently, stops gradients or part of them, or lets the
        images of a batch depend on each other (unless ``batch_coupled``). Or it cannot be asked in that
        precision.
    UsageError
        It is conditional and has no labels.

    Warns
    -----
    ExpertWarning
        It does not denoise ``images``; it is too rough for its gradient to be checked; or nothing of it
        computes in the precision asked for.
    """
    check_declaration(expert)
    _check_mode(expert)
    if expert.conditional and cond is None:
        raise UsageError(
            f"expert {expert.name} is conditional",
            hint="give labels (from-data: those of the images)",
            expert=expert.name,
        )
    low, high = sorted(expert.gamma_range if over is None else over)
    machine = shape, str(device), dtype, batch_coupled, precision
    look = _Look(expert, (low, high), machine, takes_products, images is not None)
    looks = _looks.get()
    if looks is not None and any(earlier.covers(look) for earlier in looks):
        return
    z, gamma = _probe(expert, shape, (low, high), device, dtype)
    labels = cond
    if cond is not None:
        cond = cond[torch.arange(ROWS, device=cond.device) % len(cond)]
    first = answer(expert, z, gamma, cond)
    check_repeats(expert, z, gamma, cond, first, batch_coupled=batch_coupled)
    if takes_products:
        accepted = expert.name in accept_gradient
        check_products(expert, z, gamma, cond, first, accepted=accepted, coupled=batch_coupled)
    else:
        check_gradient(expert, z, gamma, cond, first)
    about = f"the declaration of {expert.name} ({number})"
    # A coupled batch is one noise level.
    is_cut = not batch_coupled and warn_if_cut(unguided(expert), z, gamma, cond, about=about)
    is_warned = False
    if images is not None:
        is_warned = warn_of_declaration(
            unguided(expert),
            Place(images, torch.device(device), dtype, labels, batch_coupled),
            (low, high),
            looks_at_clock=not is_cut,
            about=about,
        )
    declared = expert.expert if isinstance(expert, Centred) else expert
    if isinstance(declared, CallableExpert) and not is_warned:
        _warn_if_implausible(declared, z, gamma, first)
    if precision != FULL:
        _check_precision(expert, z, gamma, cond, first, precision)
    if looks is not None:
        looks.append(look)


@dataclass(frozen=True)
class _Look:
    """What a check has looked at; the expert is held, so that no other can have its identity."""

    expert: Expert
    over: tuple[float, float]
    machine: tuple[object, ...]
    took_products: bool
    had_images: bool

    def covers(self, other: _Look) -> bool:
        """Whether ``other`` would show nothing that this one has not shown."""
        within = self.over[0] <= other.over[0] and other.over[1] <= self.over[1]
        return (
            self.expert is other.expert
            and within
            and self.machine == other.machine
            and self.took_products >= other.took_products
            and self.had_images >= other.had_images
        )


_looks: ContextVar[list[_Look] | None] = ContextVar("looks", default=None)


@contextmanager
def checked_once() -> Iterator[None]:
    """One command: an expert that was looked at is not looked at again over the same gammas, or fewer."""
    token = _looks.set([] if (earlier := _looks.get()) is None else earlier)
    try:
        yield
    finally:
        _looks.reset(token)


def _check_mode(expert: Expert) -> None:
    if not isinstance(expert, nn.Module):
        return
    training = [name or "itself" for name, module in expert.named_modules() if module.training]
    if training:
        raise unsound(
            expert,
            f"is in training mode ({len(training)} modules, the first: {training[0]})",
            hint="call .eval() on the network",
        )


def _probe(
    expert: Expert,
    shape: tuple[int, int, int] | None,
    over: tuple[float, float],
    device: torch.device | str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Noised noise z [B, C, H, W]: a row at the data end, one at the noise end, the others between."""
    sizes = tuple(ANY_SIZE if size is None else size for size in expert.image_shape)
    if shape is not None:
        if not takes_shape(expert.image_shape, shape):
            raise ExpertError(
                f"expert {expert.name} takes images of shape {expert.image_shape}, not {shape}",
                expert=expert.name,
                expected=expert.image_shape,
                found=shape,
            )
        sizes = shape
    generator = torch.Generator().manual_seed(0)
    gamma = torch.linspace(*over, ROWS, dtype=torch.float64)
    x, eps = (torch.randn(ROWS, *sizes, generator=generator, dtype=torch.float64) for _ in range(2))
    alpha, sigma = (schedules.per_image(f(gamma), x) for f in (schedules.alpha, schedules.sigma))
    z = (alpha * 0.5 * x + sigma * eps).to(dtype).to(device)
    return z, gamma.to(schedules.home(z.device))


def _check_precision(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor, precision: str
) -> None:
    """It answers in less than full precision, and with numbers; what that costs is a pilot's to say."""
    with in_precision(precision):
        found = answer(expert, z, gamma, cond)
    lost = (first.isfinite() & ~found.isfinite()).flatten(1).any(1)
    if bool(lost.any()):
        where = _listed(gamma[lost.to(gamma.device)])
        text = f"returned values that are not finite in {precision} at gamma = {where}"
        raise unsound(expert, text, hint="leave --precision out")
    if torch.equal(found, first):
        text = f"nothing of expert {expert.name} computes in {precision}: it answers as in {FULL}"
        warn_caller(text, ExpertWarning)


def _warn_if_implausible(expert: CallableExpert, z: Tensor, gamma: Tensor, eps_hat: Tensor) -> None:
    """At high noise z is nearly eps, and so must be what any noise predictor makes of it."""
    if float(gamma[-1]) < NOISE_END or not bool(eps_hat[-1].isfinite().all()):
        return
    noise, guess = (schedules.widened(values[-1]).flatten() for values in (z, eps_hat))
    correlation = float(noise @ guess / (noise.norm() * guess.norm()).clamp(min=1e-300))
    if correlation < LIKE_NOISE:
        other = OPPOSITE.get(str(expert.predicts)) if correlation < -LIKE_NOISE else None
        line = "" if other is None or expert.likely else "; else write " + written(f'predicts="{other}"')
        declared = f'predicts = "{expert.predicts}", input = "{expert.input}" and time = {expert.time!r}'
        if expert.likely:
            declared = f"what it is declared by; {' or '.join(expert.likely)}"
        warn_caller(
            f"expert {expert.name}: at gamma = {float(gamma[-1]):.4g}, where z is nearly pure noise, its "
            f"noise prediction and z correlate by {correlation:.2f}; is {declared} what it was trained for?"
            f"{line}"
        )


def _listed(gamma: Tensor) -> str:
    return ", ".join(f"{float(value):.4g}" for value in gamma)

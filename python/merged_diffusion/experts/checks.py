"""The start check: whatever would make a wrong number later is an error or a warning now.

Nine rows of noise, from one end of the gammas that the expert will be asked over to the other, so that an
expert which fails at one gamma only still starts; the solver reports that image by image. Where images are at
hand, the expert is also asked for the noise in them (`denoising`).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from merged_diffusion import schedules
from merged_diffusion.errors import ExpertError, ExpertWarning, UsageError
from merged_diffusion.experts import gradient
from merged_diffusion.experts.base import Expert, check_declaration
from merged_diffusion.experts.callables import CallableExpert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.experts.denoising import warn_of_declaration
from merged_diffusion.experts.fence import ask, ask_in_parts, fenced, pull
from merged_diffusion.experts.memory import Rows

ROWS = 9  # gammas that are looked at, both ends and the middle among them
ANY_SIZE = 8  # of an axis for which the expert takes any
NOISE_END = 3.0  # gamma above which sigma > 0.97, so that z is mostly noise
LIKE_NOISE = 0.5  # least correlation of eps_hat and z there; 1 for eps, -1 for a score taken as eps


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

    Raises
    ------
    ExpertError
        It is in training mode, raises, returns something unlike its input, its input or nothing finite,
        changes its input, answers two equal calls differently, stops gradients or part of them, or lets the
        images of a batch depend on each other (unless ``batch_coupled``).
    UsageError
        It is conditional and has no labels.

    Warns
    -----
    ExpertWarning
        It does not denoise ``images``; or it is too rough for its gradient to be checked.
    """
    check_declaration(expert)
    _check_mode(expert)
    if expert.conditional and cond is None:
        raise UsageError(f"expert {expert.name} is conditional", hint="give labels", expert=expert.name)
    low, high = sorted(expert.gamma_range if over is None else over)
    look = _Look(
        expert, (low, high), (shape, str(device), dtype, batch_coupled), takes_products, images is not None
    )
    looks = _looks.get()
    if looks is not None and any(earlier.covers(look) for earlier in looks):
        return
    z, gamma = _probe(expert, shape, (low, high), device, dtype)
    labels = cond
    if cond is not None:
        cond = cond[torch.arange(ROWS, device=cond.device) % len(cond)]
    first = _ask(expert, z, gamma, cond)
    _check_repeats(expert, z, gamma, cond, first, batch_coupled=batch_coupled)
    if takes_products:
        accepted = expert.name in accept_gradient
        _check_products(expert, z, gamma, cond, first, accepted=accepted, coupled=batch_coupled)
    else:
        _check_gradient(expert, z, gamma, cond, first)
    if images is not None:
        warn_of_declaration(
            expert,
            images,
            (low, high),
            device=torch.device(device),
            dtype=dtype,
            cond=labels,
            one_gamma_a_call=batch_coupled,
        )
    declared = expert.expert if isinstance(expert, Centred) else expert
    if isinstance(declared, CallableExpert):
        _warn_if_implausible(declared, z, gamma, first)
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
        raise _unsound(
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
        fits = all(own in (None, size) for own, size in zip(expert.image_shape, shape, strict=True))
        if not fits:
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


def _ask(expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None) -> Tensor:
    """The expert's answer to copies, which must come back unchanged."""
    asked = [z, gamma] if cond is None else [z, gamma, cond]
    given = [tensor.clone() for tensor in asked]
    out = ask_in_parts(expert, given[0], given[1], None if cond is None else given[2])
    if not all(torch.equal(before, after) for before, after in zip(asked, given, strict=True)):
        raise _unsound(expert, "changes its input", hint="let it work on a copy")
    if out.untyped_storage().data_ptr() in {tensor.untyped_storage().data_ptr() for tensor in given}:
        raise _unsound(expert, "returned its input, or a view of it", hint="return a new tensor")
    return out


def _check_repeats(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor, *, batch_coupled: bool
) -> None:
    """The same rows in other company give the same again; or, where they need not, in the same."""
    # Rows that are finite speak for the expert; the solver meets the others.
    sound = first.isfinite().flatten(1).all(1)
    if not bool(sound.any()):
        raise _unsound(expert, f"returned non-finite values at all of gamma = {_listed(gamma)}")
    tolerance = torch.finfo(first.dtype).eps ** 0.5 * float(first[sound].abs().max().clamp(min=1))

    def apart(again: Tensor) -> float:
        return float((again - first)[sound].abs().max())

    middle = len(z) // 2
    others = [row for row in reversed(range(len(z))) if row != middle]
    by_company = 0.0
    if not batch_coupled:
        again = torch.empty_like(first)
        for rows in ([middle], others):
            again[rows] = _ask(expert, z[rows], gamma[rows], None if cond is None else cond[rows])
        by_company = apart(again)
        if by_company <= tolerance:
            return
    by_chance = apart(_ask(expert, z, gamma, cond))
    if not by_chance <= tolerance:
        raise _unsound(
            expert,
            f"answered two equal calls differently, by {by_chance:.3g}",
            hint="it draws random numbers, from dropout perhaps, or keeps a state",
        )
    if not by_company <= tolerance:
        raise _unsound(
            expert,
            f"answers an image differently, by {by_company:.3g}, when another is in the batch",
            hint="batch normalisation in training mode does that; batch_coupled allows it",
        )


def _check_gradient(expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor) -> None:
    """It has one, by a call of a single row: a graph of all may not fit into the memory."""
    row = slice(len(z) // 2, len(z) // 2 + 1)
    labels = None if cond is None else cond[row]
    out = ask(expert, z[row].clone().requires_grad_(), gamma[row].clone(), labels, grad=True)
    if not out.requires_grad:
        _refuse_unless_constant(expert, z, gamma, cond, first)


def _refuse_unless_constant(
    expert: Expert, z: Tensor, gamma: Tensor, cond: Tensor | None, first: Tensor
) -> None:
    """A constant has no gradient and needs none."""
    if not torch.equal(_ask(expert, 0.5 * z, gamma, cond), first):
        raise _unsound(
            expert,
            "depends on z but stops its gradient, so that its trace would be taken for zero",
            hint="it must not detach its input or run under no_grad",
        )


def _check_products(
    expert: Expert,
    z: Tensor,
    gamma: Tensor,
    cond: Tensor | None,
    first: Tensor,
    *,
    accepted: bool,
    coupled: bool,
) -> None:
    """Products with the gradient against differences of what is returned (`gradient`)."""
    width = float(gamma[-1] - gamma[0])

    def compared(rows: int) -> list[gradient.Verdict]:
        parts = [slice(start, start + rows) for start in range(0, len(z), rows)]
        found = [
            gradient.compare(
                partial(call, part), product, z[part], gamma[part], first[part], width, coupled=coupled
            )
            for part in parts
        ]
        return [verdict for verdict in found if verdict is not None]

    def call(part: slice, state: Tensor, rows: Tensor) -> Tensor:
        own = torch.arange(len(z))[part][rows]
        labels = None if cond is None else cond[own]
        return ask(expert, state, gamma[own], labels, grad=state.requires_grad)

    def product(out: Tensor, state: Tensor, v: Tensor) -> Tensor | None:
        return pull(expert, out, state, v)

    # Rows that depend on each other cannot be asked in parts.
    together = Rows(len(z), z.device, least=len(z) if coupled else 1)
    verdict = gradient.joined(together.fit(compared))
    if verdict is None:
        _refuse_unless_constant(expert, z, gamma, cond, first)
        return
    seen = f"this look sees errors of q from {gradient.resolution(width):.2g} a value on"
    if verdict.worst is not None:
        found = verdict.worst
        text = (
            f"has part of its gradient missing: at gamma = {found.gamma:.4g} its product says q = "
            f"{found.product:.4g} a value, differences of what it returns {found.difference:.4g} ({seen})"
        )
        if verdict.is_wrong and not accepted:
            raise _unsound(
                expert,
                text,
                hint="nothing on the way from z may be detached or computed under no_grad; "
                f"--accept-gradient {expert.name} (accept_gradient in Python) goes on all the same",
                gamma=found.gamma,
            )
        warnings.warn(f"expert {expert.name} {text}", ExpertWarning, stacklevel=4)
    elif verdict.rough:
        at = ", ".join(f"{value:.4g}" for value in verdict.rough)
        text = (
            f"expert {expert.name} is too rough at gamma = {at} to check its gradient by differences; {seen}"
        )
        if (doubt := verdict.doubt) is not None:
            text += (
                f". By coarse steps part of it may be missing: at gamma = {doubt.gamma:.4g} they say q = "
                f"{doubt.difference:.4g}, its product {doubt.product:.4g}"
            )
        warnings.warn(text, ExpertWarning, stacklevel=4)


def _warn_if_implausible(expert: CallableExpert, z: Tensor, gamma: Tensor, eps_hat: Tensor) -> None:
    """At high noise z is nearly eps, and so must be what any noise predictor makes of it."""
    if float(gamma[-1]) < NOISE_END or not bool(eps_hat[-1].isfinite().all()):
        return
    noise, guess = (schedules.widened(values[-1]).flatten() for values in (z, eps_hat))
    correlation = float(noise @ guess / (noise.norm() * guess.norm()).clamp(min=1e-300))
    if correlation < LIKE_NOISE:
        warnings.warn(
            f"expert {expert.name}: at gamma = {float(gamma[-1]):.4g}, where z is nearly pure noise, its "
            f'noise prediction and z correlate by {correlation:.2f}; is predicts = "{expert.predicts}", '
            f'input = "{expert.input}" and time = {expert.time!r} what it was trained for?',
            stacklevel=3,
        )


def _listed(gamma: Tensor) -> str:
    return ", ".join(f"{float(value):.4g}" for value in gamma)


def _unsound(expert: Expert, text: str, *, hint: str | None = None, **fields: object) -> ExpertError:
    return ExpertError(f"expert {expert.name} {text}", hint=hint, expert=expert.name, **fields)

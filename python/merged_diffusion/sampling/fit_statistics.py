"""`fit_model_statistics`: the statistics of a model's experts that the sampler DPM-Solver-v3 wants.

At every gamma all images are asked at the same noise, so that the tables are smooth. l comes from products
with random signs (Hutchinson 1990); d f/d lambda is a central difference along the flow. A table has a value
for each value of an image or one for each channel, whichever tells more of the images that it was not
measured on: each half of them is told by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from merged_diffusion import _core, schedules
from merged_diffusion.bound.random_numbers import diffusion_noise
from merged_diffusion.data.images import pixel_values
from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask, pull
from merged_diffusion.experts.memory import Rows
from merged_diffusion.experts.weights_hash import weights_sha256
from merged_diffusion.flow_statistics import LEAST, Floats, ModelStatistics, Table, rounded
from merged_diffusion.merge import MergedModel, as_model
from merged_diffusion.ode.machine import Machine, Place
from merged_diffusion.roles import roles_of
from merged_diffusion.scores.defaults import SEED, SPACING
from merged_diffusion.scores.inputs import Images, as_data, as_labels, examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import scoring_rows

AHEAD: Final = 0.01  # of gamma, to both sides of a difference: float32 leaves 1e-5 of it
# Of f's variance in that of its part: rounding, where l takes all of f away; float32 leaves 1e-13.
ROUNDING: Final = 1e-10
LEAST_IMAGES: Final = 4  # two halves that have a regression


def fit_model_statistics(
    model: Expert | MergedModel,
    images: Images,
    *,
    spacing: float = SPACING,
    seed: int = SEED,
    labels: npt.ArrayLike | None = None,
    machine: Machine = Machine(),
    accept: Accept = Accept(),
    observe: Callable[[int, int], object] = lambda _done, _of: None,
) -> ModelStatistics:
    """The l, s and b of each expert over its whole range (Zheng et al. 2023, DPM-Solver-v3).

    They serve `DpmV3` at any threshold.

    Parameters
    ----------
    images
        Of train; 128 suffice. Each is asked four times at every gamma, once with a product.
    spacing
        Of the gammas.
    observe
        Told how many of how many gammas are done.

    Raises
    ------
    UsageError
        The model has a gate, or the images are fewer than four.
    SolveError
        A value is not finite.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> images = md.load_data("digits", "train").select(limit=8)
    >>> statistics = md.fit_model_statistics(md.load_expert("bundled:digits-vdm"), images, spacing=2.0)
    >>> {role: len(table.gamma) for role, table in statistics.tables.items()}
    {'likelihood': 7}
    """
    model = as_model(model)
    if model.gate is not None:
        raise UsageError(
            "statistics are measured of experts, not of a gate", hint="give the model with a threshold"
        )
    if not 0 < spacing < np.inf:
        raise UsageError(f"spacing = {spacing} of gammas is no finite number above 0")
    data = as_data(images, None, model)
    if len(data) < LEAST_IMAGES:
        raise UsageError(f"{len(data)} images", hint=f"give {LEAST_IMAGES} or more; 128 suffice")
    classes = as_labels(labels, len(data), model, data.labels)
    place = machine.here(partial(scoring_rows, len(data)))
    spans = {leg.role: (leg.expert, _span(leg.expert, leg.start, leg.end)) for leg in model.legs()}
    grids = {
        role: np.linspace(low, high, max(LEAST, int((high - low) / spacing) + 1))
        for role, (_, (low, high)) in spans.items()
    }
    total, done = sum(map(len, grids.values())), 0

    def step() -> None:
        nonlocal done
        done += 1
        observe(done, total)

    tables: dict[str, Table] = {}
    with prepared(
        list(spans.values()), place, data.images.shape[1:], labels=classes, examples=examples(data),
        accept=accept,
    ):  # fmt: skip
        for role, (expert, _) in spans.items():
            asked = _Asked(expert, data.images, data.levels, data.ids.astype(np.uint64), classes, seed, place)
            tables[role] = rounded(_table(asked, grids[role], step))
    return ModelStatistics(
        tables,
        {role: weights_sha256(expert) for role, expert in _experts(model)},
        {"images": {"name": data.name, "split": data.split, "sha256": data.sha256, "n": len(data)},
         "seed": seed, "spacing": spacing},
    )  # fmt: skip


def _experts(model: MergedModel) -> Iterator[tuple[str, Expert]]:
    for leg in model.legs():
        number = 0 if len(model.experts) == 1 else roles_of(len(model.experts)).index(leg.role)
        yield leg.role, model.experts[number]


def _span(expert: Expert, *ends: float) -> tuple[float, float]:
    """The expert's own range, and what a model asks beyond it."""
    return min(expert.gamma_range[0], *ends), max(expert.gamma_range[1], *ends)


class _Asked:
    """An expert, asked about all images in calls of no more than the machine's rows."""

    def __init__(
        self,
        expert: Expert,
        images: npt.NDArray[np.uint8],
        levels: int,
        ids: npt.NDArray[np.uint64],
        labels: npt.NDArray[np.int64] | None,
        seed: int,
        place: Place,
    ) -> None:
        self.x = torch.from_numpy(pixel_values(images, levels))
        noise = np.empty((len(images), self.x[0].numel()))
        diffusion_noise(noise, seed, ids, np.zeros(len(ids), dtype=np.uint64))
        self.eps = torch.from_numpy(noise).view_as(self.x)
        signs = np.random.default_rng(seed).integers(0, 2, noise.shape, dtype=np.int8)
        self.v = torch.from_numpy(2.0 * signs - 1).view_as(self.x)
        self._expert = expert
        self._cond = None if labels is None else torch.from_numpy(labels)
        self._place = place
        self._rows = Rows(place.rows, place.device)

    def noise(self, z: Tensor, gamma: float) -> Tensor:
        """eps_hat [N, C, H, W], float64 on the host."""
        return self._by_parts(z, gamma, None)

    def product(self, z: Tensor, gamma: float) -> Tensor:
        """The signs times the product of the transposed Jacobian with them, like ``z``."""
        return self._by_parts(z, gamma, self.v)

    def _by_parts(self, z: Tensor, gamma: float, v: Tensor | None) -> Tensor:
        found = torch.empty_like(z)
        first = 0
        while first < len(z):
            with self._rows.attempt() as rows:
                part = slice(first, first + rows)
                found[part] = self._call(z[part], gamma, None if v is None else v[part], part)
                first += rows
        return found

    def _call(self, z: Tensor, gamma: float, v: Tensor | None, part: slice) -> Tensor:
        device = self._place.device
        given = z.to(device=device, dtype=self._place.dtype).requires_grad_(v is not None)
        clock = torch.full((len(z),), gamma, dtype=torch.float64, device=schedules.home(device))
        cond = None if self._cond is None else self._cond[part].to(device)
        eps_hat = ask(self._expert, given, clock, cond, grad=v is not None)
        if v is None:
            return eps_hat.detach().to("cpu", torch.float64)
        pulled = pull(self._expert, eps_hat, given, v.to(eps_hat)) if eps_hat.requires_grad else None
        return torch.zeros_like(v) if pulled is None else v * pulled.to("cpu", torch.float64)


def _table(asked: _Asked, gammas: Floats, step: Callable[[], None]) -> Table:
    """L first, then s and b of the f that it makes."""
    halves = [slice(0, None, 2), slice(1, None, 2)]
    diagonals = np.stack(
        [
            [(_core.sigma(gamma) * asked.product(_noised(asked, gamma), gamma)[half]).mean(0).numpy()
             for half in halves]
            for gamma in gammas.tolist()
        ]
    )  # fmt: skip
    _require_finite(diagonals, gammas)
    diagonals = np.moveaxis(diagonals, 1, 0)  # [2, T, C, H, W]

    def missed(form: Callable[[Floats], Floats]) -> float:
        """Of the squares of the other half's diagonals, but for a constant."""
        return sum(float((form(own) ** 2 - 2 * form(own) * other).mean())
                   for own, other in (diagonals, diagonals[::-1]))  # fmt: skip

    linear = min((_as_it_is, _by_channel), key=missed)(diagonals.mean(0))
    spline = CubicSpline(gammas, linear, axis=0)
    moments = []
    for gamma in gammas.tolist():
        values = _slopes(asked, gamma, (float(gammas[0]), float(gammas[-1])), spline)
        moments.append([_moments(*(value[half] for value in values)) for half in halves])
        step()
    found = np.moveaxis(np.array(moments), (1, 2), (0, 1))  # [2, 6, T, C, H, W]
    _require_finite(found[0, 0], gammas)

    def left(form: Callable[[Floats], Floats]) -> float:
        return sum(_left(_regression(form(own)), other) for own, other in (found, found[::-1]))

    form = min((_as_it_is, _by_channel), key=left)
    return Table(gammas, linear, *_regression(form(found.mean(0))))


def _noised(asked: _Asked, gamma: float) -> Tensor:
    return _core.alpha(gamma) * asked.x + _core.sigma(gamma) * asked.eps


def _slopes(
    asked: _Asked, gamma: float, ends: tuple[float, float], linear: Callable[[float], Floats]
) -> tuple[Tensor, Tensor, Tensor]:
    """f, its derivative by lambda along the flow, and the part of f that eps_hat has, [N, C, H, W]."""

    def f(state: Tensor, at: float, eps_hat: Tensor) -> Tensor:
        return (_core.sigma(at) * eps_hat - torch.from_numpy(linear(at)) * state) / _core.alpha(at)

    z, sigma = _noised(asked, gamma), _core.sigma(gamma)
    eps_hat = asked.noise(z, gamma)
    drift = (sigma * eps_hat - sigma**2 * z) / 2  # by gamma
    low, high = max(gamma - AHEAD, ends[0]), min(gamma + AHEAD, ends[1])
    first, last = (
        f(state, at, asked.noise(state, at))
        for at in (low, high)
        for state in (z + (at - gamma) * drift,)
    )  # fmt: skip
    return f(z, gamma, eps_hat), -2 * (last - first) / (high - low), sigma * eps_hat / _core.alpha(gamma)


def _moments(f: Tensor, slope: Tensor, part: Tensor) -> Floats:
    """Means of f, its derivative, their products, and the square of a part of f [6, C, H, W]."""
    columns = (f, slope, f * f, f * slope, slope * slope, part * part)
    found: Floats = torch.stack([column.mean(0) for column in columns]).numpy()
    return found


def _regression(moments: Floats) -> tuple[Floats, Floats]:
    """S and b, of moments [6, T, ...]; where f does not vary, s is 0."""
    f, slope, ff, both, _, part = moments
    variance = ff - f**2
    varies = variance > ROUNDING * part
    s = np.where(varies, both - f * slope, 0.0) / np.where(varies, variance, 1.0)
    return s, slope - s * f


def _left(regression: tuple[Floats, Floats], moments: Floats) -> float:
    """The mean square of slope - s f - b, in units of that of the slope, summed over gammas."""
    s, b = regression
    f, slope, ff, both, squares, _ = moments
    missed = squares - 2 * s * both - 2 * b * slope + s**2 * ff + 2 * s * b * f + b**2
    axes = (1, 2, 3)
    return float((missed.mean(axes) / np.maximum(squares.mean(axes), np.finfo(float).tiny)).sum())


def _as_it_is(values: Floats) -> Floats:
    return values


def _by_channel(values: Floats) -> Floats:
    """Means over height and width, [..., C, 1, 1]."""
    found: Floats = values.mean((-2, -1), keepdims=True)
    return found


def _require_finite(values: Floats, gammas: Floats) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(1)
    if not finite.all():
        gamma = float(gammas[int(np.argmin(finite))])
        raise SolveError(f"the expert's statistics are not finite at gamma = {gamma:.4g}", gamma=gamma)

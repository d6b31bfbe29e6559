"""`variational_bound`: images in, records out, an image at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from merged_diffusion import _core
from merged_diffusion.bound import random_numbers, terms
from merged_diffusion.bound.bounds import TERMS, Bound
from merged_diffusion.bound.losses import Losses, Positions
from merged_diffusion.bound.random_numbers import Floats
from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.base import Expert, check_posterior
from merged_diffusion.legs import asked_over
from merged_diffusion.merge import MergedModel, as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import check_kind, check_seed
from merged_diffusion.scores.defaults import REPEATS, SEED, TIMES
from merged_diffusion.scores.inputs import Images, as_data, as_labels
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.score_table import ROLES
from merged_diffusion.scores.usual_rows import scoring_rows


def variational_bound(
    model: Expert | MergedModel,
    images: Images,
    ids: npt.ArrayLike | None = None,
    *,
    seed: int = SEED,
    times: int = TIMES,
    repeats: int = REPEATS,
    profile: bool = False,
    machine: Machine = Machine(),
    accept: Accept = Accept(),
    labels: npt.ArrayLike | None = None,
    on_record: Callable[[Record], object] | None = None,
    progress: bool = False,
) -> Bound:
    """Variational bound of images in bits/dim; two calls with the same ids and seed use the same noise.

    Parameters
    ----------
    images, ids
        uint8 [N, C, H, W], and what names each image's random numbers (default: its own in `Data`, else its
        position).
    times
        Network evaluations an image and repeat, at t_j = (j + u)/times with u of the image and repeat.
    repeats
        How often times and noise are drawn afresh and averaged.
    profile
        Keep every loss with its gamma in the records.
    machine, accept, labels, on_record
        The same as in `log_likelihood`.

    Raises
    ------
    UsageError, DataError, ExpertError
        An argument, the images or an expert is not sound; nothing has been computed then.
    ResourceError
        The memory does not suffice for one row.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> model, digits = md.load_pair("digits"), md.load_data("digits")[:4]
    >>> found = md.variational_bound(model, digits)
    >>> round(found.mean, 1)
    1.8
    """
    begin = time.perf_counter()
    _check_counts(times=times, repeats=repeats)
    check_seed(seed)
    check_kind("machine", machine, Machine)
    check_kind("accept", accept, Accept)
    model = as_model(model)
    for leg in model.legs():
        for expert in leg.parts:
            check_posterior(expert, "a bound")
    data = as_data(images, ids, model)
    if model.gate is not None:
        model.gate.check_unseen(data.images)
    classes = as_labels(labels, len(data), model, data.labels)
    place = machine.here(partial(scoring_rows, len(data)))
    losses = Losses.of(data, classes, seed, place)
    found: list[Record] = []
    with (
        prepared(
            asked_over(model.legs()),
            place,
            data.images.shape[1:],
            labels=classes,
            examples=losses.x,
            takes_products=False,
            accept=accept,
        ),
        tqdm(total=len(data), unit="image", disable=not progress) as bar,
    ):
        for record in _Draws(model, data, losses, times, repeats, profile).records():
            found.append(record)
            if on_record is not None:
                on_record(record)
            bar.update()
    seconds = time.perf_counter() - begin
    return Bound(
        tuple(found),
        int(np.prod(data.images.shape[1:])),
        beside=data.columns,
        seconds=seconds,
        seconds_outside_network=seconds - losses.network_seconds,
    )


@dataclass(frozen=True)
class _Draws:
    """All times of all repeats of the images, under the model."""

    model: MergedModel
    data: Data
    losses: Losses
    times: int
    repeats: int
    keeps_profile: bool

    def records(self) -> Iterator[Record]:
        """One per image, in their order."""
        for first in range(0, len(self.data), self.losses.rows.number):
            chunk = np.arange(first, min(first + self.losses.rows.number, len(self.data)))
            gamma, loss = zip(*(self._repeat(chunk, repeat) for repeat in range(self.repeats)), strict=True)
            gammas, squares = np.stack(gamma, axis=1), np.stack(loss, axis=1)
            reconstructed = np.stack([self._reconstruction(chunk, r) for r in range(self.repeats)], axis=1)
            prior = terms.prior(self.losses.x[chunk].reshape(len(chunk), -1), self.model.gamma_range[1])
            for row, position in enumerate(chunk):
                record = self._record(int(position), gammas[row], squares[row])
                is_lost = ~np.isfinite(squares[row])
                if is_lost.any():
                    yield self._failed(record, float(gammas[row][is_lost][0]))
                else:
                    yield self._scored(record, prior[row], reconstructed[row], squares[row])

    def _repeat(self, chunk: Positions, repeat: int) -> tuple[Floats, Floats]:
        """Gammas and losses [n, T] of the images at the positions ``chunk`` [n]."""
        low, high = self.model.gamma_range
        index = np.arange(self.times)
        offsets = random_numbers.time_offsets(self.losses.seed, self.losses.ids[chunk], repeat)
        gamma = low + (high - low) * ((index + offsets[:, None]) / self.times)
        positions = np.repeat(chunk, self.times)
        draws = np.tile(random_numbers.time_draws(repeat, index), len(chunk))
        clock, squares = gamma.ravel(), np.empty(gamma.size)
        in_charge = self._legs_of(clock)
        for number, leg in enumerate(self.model.legs()):
            own = np.flatnonzero(in_charge == number)
            squares[own] = self.losses(leg.expert, positions[own], clock[own], draws[own])
        return gamma, squares.reshape(gamma.shape)

    def _legs_of(self, gamma: Floats) -> npt.NDArray[np.int64]:
        """Which leg has each gamma; t <= eta is the likelihood expert's."""
        ends = np.array([leg.end for leg in self.model.legs()[:-1]])
        return np.searchsorted(ends, gamma, side="left")

    def _reconstruction(self, chunk: Positions, repeat: int) -> Floats:
        x = self.losses.x[chunk].reshape(len(chunk), -1)
        pixels = self.data.images[chunk].reshape(len(chunk), -1)
        drawn = random_numbers.reconstruction_noise(
            self.losses.seed, self.losses.ids[chunk], repeat, x.shape[1]
        )
        return terms.reconstruction(x, pixels, drawn, self.model.gamma_range[0], self.data.levels)

    def _record(self, position: int, gamma: Floats, squares: Floats) -> Record:
        """An image and what it cost, with its losses ``squares`` [R, T] at ``gamma`` where they are kept."""
        in_charge = self._legs_of(gamma.ravel())
        counts = dict.fromkeys((*ROLES, *(role for leg in self.model.legs() for role in leg.roles)), 0)
        for number, leg in enumerate(self.model.legs()):
            for role in leg.roles:
                counts[role] += int((in_charge == number).sum())
        clusters = self.data.clusters
        return Record(
            id=int(self.data.ids[position]),
            status="ok",
            evaluations=counts,
            cluster=None if clusters is None else int(clusters[position]),
            rows=self.losses.rows.number,
            profile={"gamma": gamma.tolist(), "loss": squares.tolist()} if self.keeps_profile else None,
        )

    def _scored(self, record: Record, prior: float, reconstruction: Floats, squares: Floats) -> Record:
        """With the terms of an image: ``reconstruction`` [R], losses ``squares`` [R, T]."""
        low, high = self.model.gamma_range
        diffusion = 0.5 * (high - low) * squares.mean(axis=1)
        draws = -(prior + reconstruction + diffusion)
        costs = (prior, reconstruction.mean(), diffusion.mean())
        found = {name: -float(cost) for name, cost in zip(TERMS, costs, strict=True)}
        dim = int(np.prod(self.data.images.shape[1:]))
        error = _se_times(draws, squares, 0.5 * (high - low))
        return replace(
            record,
            bits_per_dim=float(_core.bits_per_dim(sum(found.values()), dim)),
            terms_nats=found,
            se_times=None if error is None else float(_core.bits_per_dim(-error, dim)),
            draws=draws.tolist() if self.repeats > 1 else None,
        )

    def _failed(self, record: Record, gamma: float) -> Record:
        """With the first gamma whose loss is not finite."""
        leg = self.model.legs()[int(self._legs_of(np.array([gamma]))[0])]
        return replace(record, status="nonfinite", gamma=gamma, leg=leg.role, expert=leg.expert.name)


def _se_times(draws: Floats, squares: Floats, width: float) -> float | None:
    """Standard error in nats of one image's bound: over repeats, else from second differences of losses."""
    repeats, n_times = squares.shape
    if repeats > 1:
        return float(draws.std(ddof=1) / np.sqrt(repeats))
    if n_times < 3:
        return None
    # A value less the mean of its neighbours has 3/2 of the noise's variance (Gasser et al. 1986).
    away = squares[0, 1:-1] - (squares[0, :-2] + squares[0, 2:]) / 2
    return float(width * np.sqrt(np.square(away).mean() / 1.5 / n_times))


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        if not isinstance(value, Integral) or not 1 <= int(value) < random_numbers.MOST:
            raise UsageError(f"{name} = {value} is no whole number from 1 to {random_numbers.MOST - 1}")

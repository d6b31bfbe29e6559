"""A sampler at work: batches of rows for fixed grids, one solve for the ODE, images as they are ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from merged_diffusion import _core
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.memory import SMALLER, Rows
from merged_diffusion.legs import asked_over
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Place
from merged_diffusion.ode.methods import Solver
from merged_diffusion.ode.time_profile import Timekeeper, kept_by
from merged_diffusion.samplers import CHURN, Ancestral, DpmV3, Heun, Ode, OnGrid, Sampling
from merged_diffusion.sampling import decode, grids
from merged_diffusion.sampling.ancestral import ancestral
from merged_diffusion.sampling.dpm_v3 import dpm_v3
from merged_diffusion.sampling.heun import ends_clean, heun
from merged_diffusion.sampling.multistep import method_of, multistep
from merged_diffusion.sampling.network import Network
from merged_diffusion.sampling.noise import Noise, decoding_uniforms, normal
from merged_diffusion.sampling.ode import integrate
from merged_diffusion.sampling.samples import Samples
from merged_diffusion.scores.prepared import prepared

FAILED: Final[Mapping[str, str]] = {
    "nonfinite": "its state is not finite",
    "dt_min": "its steps became too short",
    "max_steps": "it took too many steps",
}

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
OnImages = Callable[[Samples], object]


class Drawing:
    """A model, a sampler and a place; `run` gives images. ``failures`` says why an id has none.

    A ``keeper`` keeps the time of the ODE's solve.
    """

    def __init__(
        self,
        model: MergedModel,
        how: Sampling,
        place: Place,
        shape: tuple[int, int, int],
        keeper: Timekeeper | None = None,
    ) -> None:
        self.failures: dict[int, str] = {}
        self._legs = model.legs(toward="data")
        self._levels = model.levels
        self._how = how
        self._place = place
        self._shape = shape
        self._keeper = keeper
        self._dim = int(np.prod(shape))
        ends = self._legs[0].start, self._legs[-1].end
        if isinstance(how.sampler, DpmV3):
            how.sampler.known.check([(leg.role, leg.start, leg.end) for leg in self._legs], shape)
        self._gammas = None if isinstance(how.sampler, Ode) else grids.nodes(how.sampler, *ends)
        is_clean = isinstance(how.sampler, Heun) and ends_clean(self._legs)
        end = self._legs[-1].end
        # Of what samplers return: alpha of z_min and the noise in units of the data.
        self._alpha, self._noise = (1.0, 0.0) if is_clean else (_core.alpha(end), _core.edm_sigma(end))

    def run(
        self,
        ids: Integers,
        labels: Integers | None,
        *,
        accept: Accept,
        latents: bool = False,
        on_images: OnImages | None = None,
        progress: bool = False,
    ) -> list[Samples]:
        """The images in parts, in order of finishing; those that failed are in none."""
        parts: list[Samples] = []
        with (
            prepared(
                asked_over(self._legs),
                self._place,
                self._shape,
                labels=labels,
                takes_products=False,
                accept=accept,
            ),
            tqdm(total=len(ids), unit="image", disable=not progress) as bar,
        ):

            def ready(part: Samples) -> None:
                if on_images is not None:
                    on_images(part)
                parts.append(part)
                bar.update(len(part))

            maker = _Maker(self._how, self._levels, self._shape, self._alpha, self._noise, latents)
            draw = self._walk if self._how.solver is None else self._solve
            with self._rows().attempt():
                draw(ids, labels, maker, ready)
        return parts

    def _rows(self) -> Rows:
        """Never halved: samples record how many rows their network calls had."""
        n = self._place.rows
        hint = f"draw with a batch size of {n // 2}" if n > 1 else SMALLER
        return Rows(n, self._place.device, least=n, hint=hint)

    def _walk(self, ids: Integers, labels: Integers | None, maker: _Maker, ready: OnImages) -> None:
        """Batches down a fixed grid; the last one is padded with its first image."""
        rows = self._place.rows
        for first in range(0, len(ids), rows):
            at = np.arange(first, min(first + rows, len(ids)))
            padded = np.concatenate([at, np.full(rows - len(at), first)])
            cond = None if labels is None else torch.as_tensor(labels[padded], device=self._place.device)
            network = Network(self._place.device, self._place.dtype, cond)
            noise = Noise(self._how.seed, ids[padded].astype(np.uint64), self._shape, self._place.device)
            z = self._batch(noise, network)[: len(at)].cpu().numpy().reshape(len(at), -1)
            is_finite = np.isfinite(z).all(1)
            self.failures |= dict.fromkeys(ids[at][~is_finite].tolist(), FAILED["nonfinite"])
            at, z = at[is_finite], z[is_finite]
            if len(at):
                roles = dict.fromkeys(role for leg in self._legs for role in leg.roles)
                calls: dict[str, Floats] = {
                    role: np.full(len(at), float(network.calls[role])) for role in roles
                }
                ready(maker.images(z, ids[at], None if labels is None else labels[at], calls))

    def _batch(self, noise: Noise, network: Network) -> Tensor:
        """z_min of one batch."""
        how, legs, start = cast(OnGrid, self._how.sampler), self._legs, noise.start()
        gammas = cast(Floats, self._gammas)
        if isinstance(how, Ancestral):
            return ancestral(start, legs, network, noise.step, gammas, clip=how.clip)
        z, grid = _core.sigma(legs[0].start) * start, grids.by_legs(gammas, legs)
        if isinstance(how, Heun):
            churn = {name: getattr(how, name) for name in CHURN}
            return heun(z, legs, network, noise.step, grid, steps=how.steps, **churn)
        if isinstance(how, DpmV3):
            return dpm_v3(z, legs, network, grid, how.known, how.order)
        return multistep(z, legs, network, grid, method_of(how))

    def _solve(self, ids: Integers, labels: Integers | None, maker: _Maker, ready: OnImages) -> None:
        """One solve of all; images are handed on in as many as a batch has rows."""
        items = Items(ids.astype(np.uint64), seed=self._how.seed, labels=labels)
        sigma = _core.sigma(self._legs[0].start)
        arrived: dict[int, Floats] = {}
        waiting: list[tuple[int, Floats, list[int]]] = []

        def start(key: int) -> Floats:
            z: Floats = sigma * normal(self._how.seed, "start", items.ids[key : key + 1], self._dim)[0]
            return z

        def finished(outcome: _core.Outcome) -> None:
            if outcome.key not in arrived:
                where = f"{FAILED[outcome.status]} at gamma = {outcome.gamma:.4g}"
                self.failures[int(ids[outcome.key])] = f"{where} ({self._legs[outcome.leg].role} expert)"
                return
            waiting.append((outcome.key, arrived.pop(outcome.key), outcome.evaluations))
            if len(waiting) == self._place.rows:
                hand_on()

        def hand_on() -> None:
            waiting.sort(key=lambda item: item[0])
            keys, states, counts = zip(*waiting, strict=True)
            at = np.array(keys)
            calls = self._by_role(np.array(column, dtype=np.float64) for column in zip(*counts, strict=True))
            waiting.clear()
            ready(maker.images(np.stack(states), ids[at], None if labels is None else labels[at], calls))

        integrate(
            self._legs,
            items,
            np.arange(len(ids), dtype=np.uint64),
            start,
            shape=self._shape,
            place=self._place,
            solver=cast(Solver, self._how.solver),
            arrived=arrived.__setitem__,
            finished=finished,
            keeper=self._keeper,
        )
        if waiting:
            with kept_by(self._keeper)("records"):
                hand_on()

    def _by_role(self, columns: Iterable[Floats]) -> dict[str, Floats]:
        """Columns, leg by leg, under the roles of the experts that were asked."""
        found: dict[str, Floats] = {}
        for leg, column in zip(self._legs, columns, strict=True):
            for role in leg.roles:
                found[role] = found[role] + column if role in found else column
        return found


class _Maker:
    """From z_min to `Samples`."""

    def __init__(
        self,
        how: Sampling,
        levels: int,
        shape: tuple[int, int, int],
        alpha: float,
        noise: float,
        latents: bool,
    ) -> None:
        self._how = how
        self._levels = levels
        self._shape = shape
        self._alpha = alpha
        self._noise = noise
        self._latents = latents

    def images(
        self, z: Floats, ids: Integers, labels: Integers | None, calls: Mapping[str, Floats]
    ) -> Samples:
        """Images of z_min [N, d]."""
        x = z / self._alpha
        if self._how.decode == "argmax":
            pixels = decode.argmax(x, self._levels)
        else:
            uniforms = decoding_uniforms(self._how.seed, ids.astype(np.uint64), x.shape[1])
            pixels = decode.sampled(x, self._noise, self._levels, uniforms)
        images = pixels.reshape(-1, *self._shape)
        return Samples(images, ids, labels, self._levels, dict(calls), z if self._latents else None)

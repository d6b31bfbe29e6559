"""G rows of state, trial, network input and stored network outputs, held by torch.

The verbs that the core's drivers speak (its ``workspace.rs``); the twin of `_core.HostWorkspace` for tensors
on a device. Everything but `collect` and `save` only queues work: a step waits for the device once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.ode.items import Keys
from merged_diffusion.ode.placing import placed

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]
Target = Literal["input", "trial", "both"]
Start = Callable[[int], Floats]
Network = Callable[[Tensor, Floats, npt.NDArray[np.uint64], Keys], tuple[Tensor, Tensor]]
"""(input [G, d], t [G], node [G], key [G]) -> new output like the input, q float64 [G]."""

CHUNK: Final = 1 << 18  # float64 values, 2 MiB, which a cache holds
DEVICE_CHUNK: Final = 1 << 23  # the fewer kernels the better, as long as scratch stays below a state


class Workspace(Protocol):
    """What a driver asks of rows; scale [G], weights [G, S], mask [G], slot numbers [G] with -1 for none.

    ``evaluate`` (one: q, NaN where the output was not finite), ``scaled_square`` (one) and ``gram`` (S) queue
    columns of G numbers, which ``collect`` returns in that order. A slot of weight zero counts as zero
    whatever it holds.
    """

    def load(self, row: int, key: int) -> None:
        """Fill a row with what was saved under the key, else with the start of that problem."""

    def save(self, row: int, key: int, slots: list[int]) -> None:
        """Keep the state of a row under the key, and those slots for whoever goes on with it."""

    def combine(self, target: Target, scale: Floats, weights: Floats) -> None:
        """Write scale * state + sum over slots of weight * slot; the input may take the trial as scratch."""

    def evaluate(self, t: Floats, node: npt.NDArray[np.uint64], slot: Slots) -> None:
        """Call the network at the input; row i's output goes to slot[i]."""

    def scaled_square(self, scale: Floats, weights: Floats, atol: float, rtol: float) -> None:
        """Queue the sum over d of (combination / (atol + rtol max(|state|, |trial|)))^2."""

    def gram(self, new: Slots) -> None:
        """Queue the inner products of one slot a row with all slots of that row."""

    def collect(self) -> Floats:
        """All queued columns; the only wait."""

    def accept(self, mask: npt.NDArray[np.bool_]) -> None:
        """Make the trial the state where the mask says so."""


class TorchWorkspace:
    """A `Workspace` of tensors: state and trial float64, slots and input in the network's dtype.

    ``store`` holds states between the legs of a solve, by key, ``kept`` slots of rows that go on elsewhere;
    all workspaces of a solve have the same; ``idle`` is the key of rows without a problem.
    Sums over d are taken in blocks of columns whose width depends on G alone, so that a row's bits depend on
    neither its neighbours nor its place. Where a device has no float64 (mps) only the input lies on it.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        start: Start,
        network: Network,
        store: dict[int, Tensor],
        kept: dict[int, dict[int, Tensor]] | None = None,
        device: torch.device,
        dtype: torch.dtype,
        idle: int = 0,
        slots: int = 7,
    ) -> None:
        home = torch.device("cpu") if device.type == "mps" else device
        self._home = home
        self._start = start
        self._network = network
        self._store = store
        self._keys = np.full(rows, idle, dtype=np.uint64)
        self._state = torch.zeros(rows, dim, device=home, dtype=torch.float64)
        self._trial = torch.zeros_like(self._state)
        self._slots = torch.zeros(rows, slots, dim, device=home, dtype=dtype)
        self._input = torch.zeros(rows, dim, device=device, dtype=dtype)
        self._kept = {} if kept is None else kept
        self._columns: list[Tensor] = []
        self._width = max(1, (CHUNK if home.type == "cpu" else DEVICE_CHUNK) // rows)

    def load(self, row: int, key: int) -> None:
        """Fill a row with what was saved under the key, else with the start of that problem."""
        self._keys[row] = key
        saved = self._store.pop(key, None)
        self._state[row].copy_(placed(self._start(key), self._home) if saved is None else saved)
        for slot, values in self._kept.pop(key, {}).items():
            self._slots[row, slot].copy_(values)

    def save(self, row: int, key: int, slots: list[int]) -> None:
        """Keep the state of a row under the key, and those of its slots."""
        self._store[key] = self._state[row].clone()
        if slots:
            self._kept[key] = {slot: self._slots[row, slot].clone() for slot in slots}

    def combine(self, target: Target, scale: Floats, weights: Floats) -> None:
        """Write scale * state + sum over slots of weight * slot, by way of the trial."""
        span = self._span(scale, weights)
        for columns in self._blocks():
            span.into(self._trial[:, columns], columns)
        if target != "trial":
            self._input.copy_(self._trial)

    def evaluate(self, t: Floats, node: npt.NDArray[np.uint64], slot: Slots) -> None:
        """Call the network; an output that is not finite is stored as zeros, and q says so."""
        output, q = self._network(self._input, t, node, self._keys)
        output, q = output.to(self._home), q.to(self._home, torch.float64)
        finite = output.sum(1, dtype=torch.float64).isfinite()
        self._columns.append(torch.where(finite, q, torch.nan))
        # In place, slot by slot: no copy of the output. Two or three different ones occur in a call.
        for number in np.unique(slot[slot >= 0]):
            rows = placed(slot == number, self._home)
            stored = self._slots[:, number]
            torch.where(rows.unsqueeze(1), output, stored, out=stored)
            stored.masked_fill_((rows & ~finite).unsqueeze(1), 0.0)

    def scaled_square(self, scale: Floats, weights: Floats, atol: float, rtol: float) -> None:
        """Queue the sums of squares, formed block by block: no scratch of a state's size."""
        span = self._span(scale, weights)
        total = torch.zeros(len(self._state), device=self._home, dtype=torch.float64)
        for columns in self._blocks():
            state = self._state[:, columns]
            size = torch.maximum(state.abs(), self._trial[:, columns].abs()).mul_(rtol).add_(atol)
            ratio = span.into(torch.empty_like(state), columns).div_(size)
            total += ratio.square_().sum(1)
        self._columns.append(total)

    def gram(self, new: Slots) -> None:
        """Queue inner products in float64, S columns; NaN in rows without a new slot."""
        rows = torch.arange(len(new), device=self._home)
        number = placed(np.maximum(new, 0), self._home)
        n_slots = self._slots.shape[1]
        products = torch.zeros(len(new), n_slots, device=self._home, dtype=torch.float64)
        for columns in self._blocks(n_slots):
            block = self._slots[:, :, columns].double()
            products += (block * block[rows, number].unsqueeze(1)).sum(2)
        absent = placed(new < 0, self._home).unsqueeze(1)
        self._columns.append(products.masked_fill_(absent, torch.nan).flatten())

    def collect(self) -> Floats:
        """All queued columns, in order."""
        columns, self._columns = self._columns, []
        if not columns:
            return np.empty(0)
        found: Floats = torch.cat(columns).cpu().numpy()  # the wait: the driver decides by these numbers
        return found

    def accept(self, mask: npt.NDArray[np.bool_]) -> None:
        """Make the trial the state; where every row does, by exchanging the two."""
        if mask.all():
            self._state, self._trial = self._trial, self._state
        elif mask.any():
            where = placed(mask, self._home).unsqueeze(1)
            torch.where(where, self._trial, self._state, out=self._state)

    def _blocks(self, share: int = 1) -> Iterator[slice]:
        width = max(1, self._width // share)
        dim = self._state.shape[1]
        return (slice(first, min(first + width, dim)) for first in range(0, dim, width))

    def _span(self, scale: Floats, weights: Floats) -> _Span:
        # A slot that no row uses is not read.
        used = np.flatnonzero(weights.any(axis=0))
        numbers = placed(np.column_stack([scale, weights[:, used]]), self._home)
        return _Span(self._state, self._slots, numbers, used.tolist())


class _Span:
    """scale * state + sum over used slots of weight * slot; ``numbers`` [G, 1 + used] are all factors."""

    def __init__(self, state: Tensor, slots: Tensor, numbers: Tensor, used: list[int]) -> None:
        self._state = state
        self._slots = slots
        self._scale, *self._weights = numbers.unsqueeze(2).unbind(1)
        self._used = used

    def into(self, out: Tensor, columns: slice) -> Tensor:
        """The columns [G, c] of the combination, written to ``out``."""
        torch.mul(self._state[:, columns], self._scale, out=out)
        for slot, weight in zip(self._used, self._weights, strict=True):
            out.addcmul_(self._slots[:, slot, columns], weight)
        return out

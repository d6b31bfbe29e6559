"""What declares a kind of network: wrappers of the network, and what else may have been meant by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from merged_diffusion.experts.base import Expert

Changes = list[Mapping[str, object]]
Likely = Mapping[str, Callable[[], Expert]]
"""What the same network may have been meant to be, by the line that declares it."""


@dataclass(frozen=True)
class Said:
    """A value of a declaration, and how it is written."""

    value: object
    text: str


def likely(again: partial[Any], changes: Sequence[Mapping[str, object]], call: str = "") -> Likely:
    """The declaration ``again`` with some words changed, each by the line that says so."""
    called = call or f"CallableExpert.{again.func.__name__}"
    found: dict[str, Callable[[], Expert]] = {}
    for change in changes:
        words = ", ".join(f"{name}={_written(value)}" for name, value in change.items())
        found[f"{called}(net, {words}, ...)"] = partial(
            again, **{name: _value(value) for name, value in change.items()}
        )
    return found


def name_of(net: Callable[..., Any]) -> str:
    """What a network is called that nobody has given a name."""
    return str(getattr(net, "__name__", type(net).__name__))


def _value(value: object) -> object:
    return value.value if isinstance(value, Said) else value


def _written(value: object) -> str:
    if isinstance(value, Said):
        return value.text
    return f'"{value}"' if isinstance(value, str) else repr(value)


class FirstHalf(nn.Module):
    """The network without the channels of its variance."""

    def __init__(self, net: Callable[..., Any]) -> None:
        super().__init__()
        self.training = False
        self.net = net

    def forward(self, z: Tensor, *rest: Tensor) -> Any:
        """As many channels as ``z``, where the network returns twice as many."""
        out = self.net(z, *rest)
        return out[:, : z.shape[1]] if isinstance(out, Tensor) and out.shape[1] == 2 * z.shape[1] else out


class AtTimes(nn.Module):
    """The network at ``scale`` times the step, which is a whole number if it knows whole ones only."""

    def __init__(self, net: Callable[..., Any], scale: float, *, whole: bool) -> None:
        super().__init__()
        self.training = False
        self.net, self.scale, self.whole = net, scale, whole

    def forward(self, z: Tensor, step: Tensor, *rest: Tensor) -> Any:
        """What the network returns; whole steps that are not rescaled are int64, as a table wants them."""
        if self.whole:
            step = step.round()
        return self.net(z, step.long() if self.whole and self.scale == 1 else self.scale * step, *rest)

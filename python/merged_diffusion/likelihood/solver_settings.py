"""How a likelihood is computed, checked before anything is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final

import torch

from merged_diffusion import methods
from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood.dequantisation import KINDS, DequantisationKind
from merged_diffusion.methods import Method, ProbeKind, StepControl
from merged_diffusion.ode.devices import resolve_device
from merged_diffusion.ode.solve import WorkspaceKind
from merged_diffusion.scores.machine import DTYPES

SINGLE_RTOL: Final = 1e-6  # below it the rounding of a float32 network is a part of the error estimate
CORRECTED_TOL: Final = 0.01  # of adams; at 0.03 the first order of the path's error is not yet most of it


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The keyword arguments of `log_likelihood` that say how; `UsageError` where one cannot be meant."""

    seed: int = 0
    dequantise: DequantisationKind = "truncated-normal"
    importance: int = 1
    repeats: int = 1
    method: Method | None = None
    step_control: StepControl | None = None
    rtol: float | None = None
    atol: float | None = None
    tol: float | None = None
    h_max: float | None = None
    probe: ProbeKind | None = None
    probes: int = 1
    batch_size: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    workspace: WorkspaceKind | None = None
    profile_time: bool = False
    accept_gradient: str | None = None

    def __post_init__(self) -> None:
        _one_of("dequantise", self.dequantise, KINDS)
        for name, allowed in methods.WORDS.items():
            if getattr(self, name) is not None:
                _one_of(name, getattr(self, name), allowed)
        given = {name: getattr(self, name) for name in methods.OPTIONS}
        for name, value in methods.completed(self.method, given).items():
            object.__setattr__(self, name, value)
        _one_of("dtype", self.dtype, tuple(DTYPES))
        for name in ("importance", "repeats", "probes"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or value < 1):
                raise UsageError(f"{name} = {value} is no whole number from 1 up")
        methods.check_rows(self.batch_size)
        methods.check_seed(self.seed)
        methods.check(**{name: getattr(self, name) for name in methods.DEPENDENT})
        object.__setattr__(self, "device", resolve_device(self.device)[0])
        if self.dtype == "float64" and torch.device(self.device).type == "mps":
            raise UsageError(
                f'dtype = "float64", but device = "{self.device}" has no float64',
                hint='use dtype = "float32", or device = "cpu"',
            )
        if self.rtol is not None and self.dtype == "float32" and self.rtol < SINGLE_RTOL:
            warnings.warn(
                f"rtol = {self.rtol:g} lies below {SINGLE_RTOL:g}, where a float32 network's rounding is "
                'most of the error estimate; use dtype = "float64"',
                stacklevel=4,
            )

    @property
    def solver(self) -> dict[str, Any]:
        """What `ode.solve.solve` is told of the method."""
        names = ("method", *(name for name in methods.OPTIONS if name != "probe"))
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def corrects(self) -> bool | None:
        """Whether adams' path correction is applied; None for dopri5, which has none."""
        return None if self.tol is None else self.tol <= CORRECTED_TOL

    @property
    def n_draws(self) -> int:
        """Problems an image: K draws of the importance bound in each of R repeats."""
        return self.importance * self.repeats

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the networks."""
        return DTYPES[self.dtype]


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} = {value!r}, possible are {', '.join(allowed)}")

"""How a likelihood is computed, checked before anything is."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal, get_args

import torch

from merged_diffusion.errors import UsageError
from merged_diffusion.likelihood.dequantisation import KINDS, DequantisationKind
from merged_diffusion.ode.devices import resolve_device
from merged_diffusion.ode.probes import Kind as ProbeKind
from merged_diffusion.ode.solve import Method, WorkspaceKind

StepControl = Literal["per-image", "shared"]

RESOLUTION: Final = 100 * 2.0**-52  # 100 ulp of the float64 state: no error estimate below it means anything
LEAST_TOL: Final = 1e-7  # of adams: its errors come from inner products, where half of the digits cancel
SINGLE_RTOL: Final = 1e-6  # below it the rounding of a float32 network is a part of the error estimate
DTYPES: Final = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The keyword arguments of `log_likelihood` that say how; `UsageError` where one cannot be meant."""

    seed: int = 0
    dequantise: DequantisationKind = "truncated-normal"
    importance: int = 1
    repeats: int = 1
    method: Method = "dopri5"
    step_control: StepControl = "per-image"
    rtol: float = 1e-5
    atol: float = 1e-5
    tol: float = 3e-3
    h_max: float = 0.7
    probe: ProbeKind | None = None
    probes: int = 1
    batch_size: int | None = None
    device: str = "cpu"
    dtype: str = "float32"
    workspace: WorkspaceKind | None = None

    def __post_init__(self) -> None:
        _one_of("dequantise", self.dequantise, KINDS)
        _one_of("method", self.method, get_args(Method))
        _one_of("step_control", self.step_control, get_args(StepControl))
        _one_of("probe", self.probe_kind, get_args(ProbeKind))
        self._check_method()
        _one_of("dtype", self.dtype, tuple(DTYPES))
        for name in ("importance", "repeats", "probes", "batch_size"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or value < 1):
                raise UsageError(f"{name} = {value} is no whole number from 1 up")
        seed: Any = self.seed  # a caller without a type checker may give anything
        if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**64:
            raise UsageError(f"seed = {seed} is no whole number in 0..2**64 - 1")
        for name in ("rtol", "atol"):
            _check_tolerance(name, getattr(self, name))
        object.__setattr__(self, "device", resolve_device(self.device)[0])
        if self.dtype == "float64" and torch.device(self.device).type == "mps":
            raise UsageError(
                f'dtype = "float64", but device = "{self.device}" has no float64',
                hint='use dtype = "float32", or device = "cpu"',
            )
        if self.dequantise == "none" and self.importance > 1:
            raise UsageError(
                f'importance = {self.importance} weights draws of noise, but dequantise = "none" draws none',
                hint="use importance = 1",
            )
        if self.probe == "exact" and self.probes > 1:
            raise UsageError(
                f'probe = "exact" has no probes to average, but probes = {self.probes}', hint="use probes = 1"
            )
        if self.method == "dopri5" and self.dtype == "float32" and self.rtol < SINGLE_RTOL:
            warnings.warn(
                f"rtol = {self.rtol:g} lies below {SINGLE_RTOL:g}, where a float32 network's rounding is "
                'most of the error estimate; use dtype = "float64"',
                stacklevel=4,
            )

    def _check_method(self) -> None:
        if self.method == "dopri5" and self.probe == "fresh":
            raise UsageError(
                'probe = "fresh" draws a probe at every node, but dopri5 carries the log-density in its '
                "error norm and would take the new noise for error (5,000 evaluations in place of 120)",
                hint='use method = "adams", or probe = "fixed"',
            )
        if self.method == "adams" and self.step_control == "shared":
            raise UsageError(
                'step_control = "shared" belongs to method = "dopri5"',
                hint='method = "adams" has a step size for every image',
            )
        for name, least in (("tol", LEAST_TOL), ("h_max", 0.0)):
            value = getattr(self, name)
            if not (value >= least and 0 < value < math.inf):
                raise UsageError(
                    f"{name} = {value} is not a positive number" + (f" from {least:g} up" if least else ""),
                    hint="tol is an error in units of the noise (0.003), h_max a step in gamma (0.7)",
                )

    @property
    def probe_kind(self) -> ProbeKind:
        """The probe asked for, else the one that suits the method."""
        return self.probe or ("fresh" if self.method == "adams" else "fixed")

    @property
    def n_draws(self) -> int:
        """Problems an image: K draws of the importance bound in each of R repeats."""
        return self.importance * self.repeats

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the networks."""
        return DTYPES[self.dtype]


def _check_tolerance(name: str, value: Any) -> None:
    number = float(value) if isinstance(value, Real) else math.nan
    if not RESOLUTION <= number < math.inf:
        raise UsageError(
            f"{name} = {value} is no finite number from {RESOLUTION:.1e} up, 100 units in the last place of "
            "float64",
            hint="use a tolerance between 1e-3 and 1e-12",
        )


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} = {value!r}, possible are {', '.join(allowed)}")

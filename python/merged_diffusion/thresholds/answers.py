"""A threshold that may be the answer: by a name that no other has, and as the option that `nll` takes it by.

An end of what both experts allow may be eta = 0 or 1 of the merged range, where one expert is asked alone
over the range of both. ``--eta 0`` and ``--eta 1`` are the experts alone on ranges of their own, which is
another model with other bits/dim, so such an end is called by its word, ``min`` or ``max``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from merged_diffusion import _core
from merged_diffusion.sweeps.thresholds import reads_as_alone, row_name

CLOSE: Final = 1e-9  # of a printed eta to the one that is meant: rounding


@dataclass(frozen=True)
class Answer:
    """A threshold, or an expert alone, which has no ``gamma``."""

    eta: float
    gamma: float | None
    end: Literal["min", "max"] | None = None
    """Which end of what both experts allow it is."""

    @property
    def name(self) -> str:
        """``eta 0.3000``, ``eta min``, ``likelihood``."""
        if self.gamma is None:
            return "quality" if self.eta == 0 else "likelihood"
        return row_name(self.eta, self.gamma, self.end) if self.end is None else f"eta {self.end}"

    @property
    def setting(self) -> Mapping[str, float | str | None]:
        """Its words in `Settings`."""
        if self.gamma is None:
            return {"eta": self.eta, "gamma": None}
        if self.end is not None:
            return {"eta": self.end, "gamma": None}
        if reads_as_alone(self.eta):
            return {"eta": None, "gamma": self.gamma}
        return {"eta": self.eta, "gamma": None}

    @property
    def option(self) -> str:
        """What `nll` takes it by: ``--eta 0.305``, ``--eta min``, ``--eta 0``, ``--gamma=-9.25``."""
        eta = self.setting["eta"]
        if isinstance(eta, str):
            return f"--eta {eta}"
        if eta is None or abs(round(eta, 3) - eta) > CLOSE:
            return f"--gamma={self.gamma!r}"
        return f"--eta {round(eta, 3):g}"

    @property
    def threshold(self) -> dict[str, float | None]:
        """In all words of a threshold; of an expert alone in no other than eta."""
        gamma = self.gamma
        if gamma is None:
            return {"eta": self.eta, "gamma": None, "edm_sigma": None, "logsnr": None}
        sigma = float(_core.edm_sigma(gamma))
        return {"eta": self.eta, "gamma": gamma, "edm_sigma": sigma, "logsnr": -gamma}

    @property
    def at_edge(self) -> bool:
        """Whether it is an end of what the experts allow."""
        return self.gamma is None or self.end is not None

    @property
    def words(self) -> str:
        """For people."""
        if self.gamma is None:
            return f"the {self.name} expert alone, on its own range"
        at = f"gamma {self.gamma:.3f}, edm_sigma {float(_core.edm_sigma(self.gamma)):.4f}"
        if self.end is not None:
            which = "lower" if self.end == "min" else "upper"
            return f"{self.name}, the {which} end of what both allow ({at})"
        return f"eta {self.eta:.3f} ({at})"


LIKELIHOOD: Final = Answer(1.0, None)
QUALITY: Final = Answer(0.0, None)

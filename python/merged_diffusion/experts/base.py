"""What an expert is: a noise predictor eps_hat(z, gamma) in variance-preserving coordinates.

z = alpha x + sigma eps with gamma = -log SNR the only clock; an expert says over which gammas it was trained,
for images of which shape and how many grey levels, and what value it takes a pixel v of L levels to be:
``centred`` 2(v + 1/2)/L - 1, the middle of v's bin (VDM), or ``ends`` 2v/(L - 1) - 1 (EDM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.errors import ExpertError, UsageError

Pixels = Literal["centred", "ends"]
ImageShape = tuple[int | None, int | None, int | None]

PIXELS: tuple[Pixels, ...] = ("centred", "ends")


@runtime_checkable
class Expert(Protocol):
    """A noise predictor and what must be known to use it. The package's own are torch modules.

    One whose eps_hat is exactly -sigma times the score of one noised density may say so by an attribute
    ``is_closed_form = True``: the first-order error of adams' path is then taken out without evidence.
    """

    @property
    def name(self) -> str:
        """What messages and records call it."""

    @property
    def gamma_range(self) -> tuple[float, float]:
        """The gammas it was trained on, least noise first."""

    @property
    def pixels(self) -> Pixels:
        """The value that it takes a pixel to be."""

    @property
    def levels(self) -> int:
        """Grey levels L of the pixels."""

    @property
    def image_shape(self) -> ImageShape:
        """C, H, W; None where any size will do."""

    @property
    def conditional(self) -> bool:
        """Whether it needs a condition for every image."""

    def __call__(self, z: Tensor, gamma: Tensor, cond: Tensor | None = None) -> Tensor:
        """eps_hat [B, C, H, W], like z [B, C, H, W]; gamma float64 [B], cond [B, ...].

        gamma lies where z does, on the host where z's device has no float64 (mps).
        """


def takes_shape(own: ImageShape, shape: Sequence[int | None]) -> bool:
    """Whether images of ``shape`` suit one who models ``own``."""
    return all(size in (None, given) for size, given in zip(own, shape, strict=True))


def described(expert: Expert) -> str:
    """An expert in a line, which is its ``repr``: a torch module's would list every layer."""
    shape = "x".join("any" if size is None else str(size) for size in expert.image_shape)
    low, high = expert.gamma_range
    return (
        f"{type(expert).__name__}({expert.name}, {shape}, {expert.levels} levels, gamma {low:g} to {high:g})"
    )


def check_declaration(expert: Expert) -> None:
    """Refuse an expert that does not say what it is, or says it of impossible values."""
    facts = ("name", "gamma_range", "pixels", "levels", "image_shape", "conditional")
    missing = [fact for fact in facts if not hasattr(expert, fact)]
    if missing or not callable(expert):
        raise ExpertError(
            f"{type(expert).__name__} is no expert: it has no {', '.join(missing) or 'call'}",
            hint=f"load_pair({expert!r}) and load_expert take names"
            if isinstance(expert, str)
            else "CallableExpert makes one of any callable",
            expected=facts,
            found=missing,
        )
    _core.gamma_range(*expert.gamma_range)
    if expert.pixels not in PIXELS:
        raise ExpertError(
            f'expert {expert.name}: pixels = {expert.pixels!r} is neither "centred", 2(v + 1/2)/L - 1, '
            f'nor "ends", 2v/(L - 1) - 1',
            expert=expert.name,
        )
    if expert.levels < 2:
        raise ExpertError(
            f"expert {expert.name}: levels = {expert.levels}, where at least 2 grey levels are needed",
            expert=expert.name,
        )
    if len(expert.image_shape) != 3 or any(size is not None and size < 1 for size in expert.image_shape):
        raise ExpertError(
            f"expert {expert.name}: image_shape = {expert.image_shape}, where (C, H, W) is needed",
            hint="None stands for any size",
            expert=expert.name,
        )


def check_labels(expert: Expert, labels: npt.NDArray[np.int64]) -> None:
    """Refuse classes that a conditional expert does not know, where it says in ``label_range`` which it does.

    Raises
    ------
    UsageError
    """
    known: tuple[int, int] | None = getattr(expert, "label_range", None)
    if not expert.conditional or known is None:
        return
    wrong = labels[(labels < known[0]) | (labels > known[1])]
    if len(wrong):
        raise UsageError(
            f"label {wrong[0]} is no class of expert {expert.name}: {max(known[0], 0)} to {known[1]}",
            hint="give one of these, or labels from the data set that it was trained on",
            expert=expert.name,
            expected=list(known),
            found=int(wrong[0]),
        )


def check_posterior(expert: Expert, what: str, *, guided: bool = False) -> None:
    """Refuse an expert whose eps_hat is no posterior mean for ``what``, which takes it for one.

    ``guided`` says that a guided one may do it all the same (`experts/guided.py`).

    Minibatch optimal transport (Tong et al. 2024) couples noise and image: the ODE and its likelihood hold,
    but eps_hat is not the mean of the noise in z, and what is made of such means is biased.

    Raises
    ------
    ExpertError
    """
    if getattr(expert, "is_coupled", False):
        raise ExpertError(
            f"expert {expert.name} was trained with coupled noise and images (otcfm): {what} would be biased",
            hint="its likelihood and samples by its own ODE hold: nll --expert, sample --sampler ode",
            expert=expert.name,
        )
    if not guided and getattr(expert, "is_guided", False):
        raise ExpertError(
            f"expert {expert.name} is guided and predicts no mean of the noise: {what} would mean nothing",
            hint="its flow has a likelihood and samples; for the rest take the expert without its guide",
            expert=expert.name,
        )


def like_input(name: str, out: object, z: Tensor) -> Tensor:
    """What the expert ``name`` returned for z, if arithmetic will neither broadcast nor promote it."""
    if not isinstance(out, Tensor):
        raise ExpertError(
            f"expert {name} returned {type(out).__name__}, where a tensor is needed",
            hint=f"unpack the network's result in a function of your own{_unpacked(out)}",
            expert=name,
        )
    facts = (
        ("shape", tuple(z.shape), tuple(out.shape)),
        ("dtype", z.dtype, out.dtype),
        ("device", z.device, out.device),
    )
    for fact, expected, found in facts:
        if expected != found:
            raise ExpertError(
                f"expert {name} returned {fact} {found} for an input of {fact} {expected}",
                hint=_remedy(fact, out, z),
                expert=name,
                expected=str(expected),
                found=str(found),
            )
    return out


def _unpacked(out: object) -> str:
    """How, where it shows."""
    if isinstance(out, tuple | list) and out and isinstance(out[0], Tensor):
        return ": return out[0]"
    if isinstance(getattr(out, "sample", None), Tensor):
        return ": return out.sample"
    if isinstance(out, dict) and len(tensors := [k for k, v in out.items() if isinstance(v, Tensor)]) == 1:
        return f": return out[{tensors[0]!r:.40}]"
    return ""


def _remedy(fact: str, out: Tensor, z: Tensor) -> str | None:
    """What to return in place of ``out``, which differs from ``z`` in its shape, dtype or device."""
    if fact == "dtype":
        return "return out.float()" if z.dtype.itemsize == 4 else f"return out.to({z.dtype})"
    if fact == "device":
        return "return out.to(z.device)"
    if out.dim() != 4 or z.dim() != 4 or len(out) != len(z):
        return None
    channels = z.shape[1]
    if out.shape[1] == 2 * channels and out.shape[2:] == z.shape[2:]:
        return f"a network that also predicts a variance: return out[:, :{channels}]"
    if out.shape == z.permute(0, 2, 3, 1).shape:
        return "channels come second: return out.permute(0, 3, 1, 2)"
    return None

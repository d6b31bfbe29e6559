"""The shape of the images that a model draws."""

from __future__ import annotations

from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import takes_shape
from merged_diffusion.merge import MergedModel


def drawn_shape(model: MergedModel, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """C, H, W of the experts, or as ``given`` where they take any.

    Raises
    ------
    UsageError
        Nothing says it, or the experts model another.
    """
    channels, height, width = given or model.image_shape
    if channels is None or height is None or width is None:
        raise UsageError(
            f"the experts take images of any size ({list(model.image_shape)})",
            hint="give --image-shape C,H,W",
        )
    if given is not None and not takes_shape(model.image_shape, given):
        asked = ",".join(map(str, given))
        raise UsageError(
            f"--image-shape {asked}, but the experts model {list(model.image_shape)}",
            hint="leave it out",
        )
    return channels, height, width

"""A checkpoint that does not say how it is to be read, tried in every published way on the user's own images.

Nothing is chosen: the losses are shown, and the user says which it is.
"""

from __future__ import annotations

from pathlib import Path

import torch

from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.errors import CheckpointError, MergedDiffusionError
from merged_diffusion.experts.base import takes_shape
from merged_diffusion.experts.cards import read_expert
from merged_diffusion.experts.checkpoints.read_as import ReadAs, parsed
from merged_diffusion.experts.denoising import denoise
from merged_diffusion.experts.noised import Place
from merged_diffusion.legs import asked_over
from merged_diffusion.merge import as_model

EXAMPLES = 3
FEW_GAMMAS = 6


def with_trials(error: CheckpointError, data: Data) -> CheckpointError:
    """``error``, and the denoising loss of every reading that it names as a candidate.

    Any other error is returned as it is.
    """
    candidates, file = error.fields.get("expected"), error.fields.get("file")
    if error.fields.get("key") != "read_as" or not isinstance(candidates, list) or not isinstance(file, str):
        return error
    found: list[tuple[float, str, bool]] = []
    for words in (_sized(words, data) for words in candidates):
        try:
            found += _tried(Path(file), words, data)
        except (MergedDiffusionError, RuntimeError):
            continue  # not the shape of these images, or no network that takes them
    if not found:
        return error
    rows = "\n".join(f"  {loss:9.4g}  --as {words}" for loss, words, _ in sorted(found))
    if any(fits for _, _, fits in found):
        hint = "the least is probably it, if the images are like those of the training: say it"
    else:
        hint = "none of them denoises (images unlike those of the training, or another training)"
    return CheckpointError(
        f"{error.message}\nmean denoising loss on {EXAMPLES} of your images (1: nothing) as\n{rows}",
        hint=f"{hint}; {error.hint}",
        **error.fields,
    )


def _sized(words: str, data: Data) -> str:
    """With the images' height, where a file does not tell it and the network's names need it."""
    said = parsed(words)
    if said.family != "score_sde" or "size" in said.options:
        return words
    return str(ReadAs(said.family, {**said.options, "size": data.images.shape[2]}))


def _tried(file: Path, words: str, data: Data) -> list[tuple[float, str, bool]]:
    expert = read_expert(file, parsed(words))
    if not takes_shape(expert.image_shape, data.images.shape[1:]) or expert.levels != data.levels:
        return []
    ((one, over),) = asked_over(as_model(expert).legs())
    x = torch.from_numpy(pixel_values(data.images[:EXAMPLES], data.levels))
    cond = torch.zeros(len(x), dtype=torch.int64) if expert.conditional else None
    if data.labels is not None and cond is not None:
        cond = torch.from_numpy(data.labels[:EXAMPLES]).long()
    with torch.no_grad():
        tried = denoise(one, Place(x, torch.device("cpu"), cond=cond), over, gammas=FEW_GAMMAS)
    return [] if tried is None else [(tried.mean_loss, words, tried.fits)]

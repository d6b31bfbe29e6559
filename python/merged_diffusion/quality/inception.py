"""Inception's 2048 features by torch-fidelity (extra ``fid``), from a weight file that we read ourselves.

The library would download the file, or unpickle it unsafely. So its bytes are hashed first, read with
``weights_only=True``, and handed over as tensors that were written anew in memory. Its cache of features is
part of functions that are not called here.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from merged_diffusion.catalogue.references import check_present, published
from merged_diffusion.errors import CheckpointError, ExpertError
from merged_diffusion.files.torch_weights import read_torch_weights
from merged_diffusion.quality.feature_network import Extractor

DIM: Final = 2048
RESIZE: Final = "tensorflow-1-bilinear-299"
ROWS: Final = 32  # 0.3 GB of activations at 299 x 299
GREY: Final = 1


def load_inception(cache: str | Path | None = None, device: str = "cpu") -> Extractor:
    """The network with the published weights, from the cache.

    Raises
    ------
    CheckpointError
        They are not there; the message says which file, from where, to where.
    """
    weights = published()
    check_present([weights], cache)
    return inception(weights.path(cache), str(weights.downloads[0].sha256), device)


def inception(path: Path, sha256: str, device: str = "cpu") -> Extractor:
    """The network with the weights in the file ``path``, whose SHA-256 is ``sha256``."""
    state = read_torch_weights(path, sha256)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        # A torchvision of another torch fails with a RuntimeError.
        raise ExpertError(
            f"Inception features need torch-fidelity, which cannot be imported ({error})",
            hint="pip install 'merged-diffusion[fid]', with a torchvision that fits torch",
        ) from error
    # The library reads what we wrote, not the file.
    written = io.BytesIO()
    torch.save(state, written)
    written.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", [str(DIM)], written)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not the weights of this network ({error})", file=str(path)) from error
    network = network.to(device)

    def features(images: Tensor) -> Tensor:
        # As EDM does: a grey image is three equal channels.
        colour = images.expand(-1, 3, -1, -1) if images.shape[1] == GREY else images
        found: Tensor = network(colour)[0]
        return found

    return Extractor("inception", DIM, sha256, 256, None, features, RESIZE, ROWS, device)

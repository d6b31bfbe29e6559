"""Files that stand for public ones."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import torch


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def bare(path: Path, dim: int = 64, **changes) -> Path:
    """EDM's statistics: ``mu`` and ``sigma``."""
    arrays = {"mu": np.linspace(-1, 1, dim), "sigma": np.diag(np.linspace(0.5, 2, dim)), **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def pickled(path: Path, value, protocol: int = 4) -> Path:
    """EDM2's statistics: a pickled dict."""
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def weights(path: Path, value) -> tuple[Path, str]:
    """A file of torch and its SHA-256."""
    torch.save(value, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()

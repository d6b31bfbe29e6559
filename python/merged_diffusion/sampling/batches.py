"""Batches of samples that wait in the folder of parts for the others: a small npz each."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import RunCorruptError
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import UNREADABLE
from merged_diffusion.sampling import sample_files
from merged_diffusion.sampling.samples import Samples

ROLE: Final = "evaluations_"


def batch_of(samples: Samples) -> bytes:
    """The content of a batch."""
    columns: dict[str, npt.NDArray[Any]] = {"images": samples.images, "ids": samples.ids}
    if samples.labels is not None:
        columns["labels"] = samples.labels
    columns |= {ROLE + role: counts for role, counts in samples.evaluations.items()}
    return sample_files.of_columns(columns | {"levels": np.array(samples.levels)})


def columns_in(part: Directory, name: str) -> dict[str, npt.NDArray[Any]]:
    """A batch; one that is not whole is refused."""
    content = part.read(name)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as columns:
            return {key: columns[key] for key in ("ids", *columns.files)}
    except UNREADABLE as error:
        raise RunCorruptError(
            f"{part.path / name}: is no whole batch of samples",
            hint="remove it: its images are drawn again",
            file=str(part.path / name),
        ) from error


class KnownIds:
    """The ids of batches, each of which is read once."""

    def __init__(self) -> None:
        self._ids: dict[str, npt.NDArray[np.int64]] = {}

    def of(self, part: Directory, names: Iterable[str]) -> set[int]:
        """The ids in the batches of these names."""
        found: set[int] = set()
        for name in names:
            if name not in self._ids:
                self._ids[name] = columns_in(part, name)["ids"]
            found.update(self._ids[name].tolist())
        return found


def samples_in(part: Directory, name: str) -> Samples:
    """The samples of a batch."""
    found = columns_in(part, name)
    roles = {key.removeprefix(ROLE): value for key, value in found.items() if key.startswith(ROLE)}
    try:
        return Samples(found["images"], found["ids"], found.get("labels"), int(found["levels"]), roles)
    except (KeyError, ValueError, TypeError) as error:
        raise RunCorruptError(
            f"{part.path / name}: is no batch of samples",
            hint="remove it: its images are drawn again",
            file=str(part.path / name),
        ) from error


def summary(samples: Samples) -> dict[str, object]:
    """Count, hash and mean evaluations of samples."""
    by_role = {role: float(counts.mean()) for role, counts in samples.evaluations.items()}
    evaluations = {"total": sum(by_role.values()), "likelihood": 0.0, "quality": 0.0} | by_role
    return {"n": len(samples), "sha256": samples.sha256, "evaluations": evaluations}

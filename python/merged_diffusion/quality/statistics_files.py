"""Files of statistics, read as data: EDM's and our ``.npz``, and EDM2's pickle by the inert interpreter.

npz: ``mu`` [D], ``sigma`` [D, D]; ours also ``about`` (JSON), ``group_n`` [16], ``group_mu`` [16, D],
``group_sigma`` [16, D (D + 1)/2] (lower triangles of scatter/n, float32), ``reference`` [R, D], and
``neighbours`` (JSON) of those that know what train scores.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from merged_diffusion.errors import DataError, StorageError, UsageError
from merged_diffusion.files.arrays import NPZ, read_columns
from merged_diffusion.files.pickled_statistics import read_pickle
from merged_diffusion.files.pictures import IMAGES
from merged_diffusion.files.reading import opened, sha256_of
from merged_diffusion.files.zips import open_zip
from merged_diffusion.quality.calibration import Calibration
from merged_diffusion.quality.few_images import FewImages, check_size
from merged_diffusion.quality.moments import GROUPS, Law, Sums
from merged_diffusion.quality.statistics import About, Statistics
from merged_diffusion.runs.directory import Directory, write_file
from merged_diffusion.runs.places import followed

FORMAT: Final = 1
COLUMNS: Final = (*("mu", "sigma", "about", "group_n", "group_mu", "group_sigma", "reference", "neighbours"),)
# Products of two stay finite; no features come near.
LARGEST: Final = 1e100
OTHER_MEANS: Final = ("mu", "m", "mean", "means", "mu_clean", "ref_mu", "mu_s", "act_mean")
OTHER_COVARIANCES: Final = (
    *("sigma", "s", "cov", "covariance", "sig", "sigma_clean", "ref_sigma", "sigma_s", "act_cov", "std"),
)
ZIP: Final = b"PK\3\4"
PICKLE: Final = b"\x80"

Array = npt.NDArray[np.generic]


def is_statistics(path: Path, *, by_any_name: bool = False) -> bool:
    """Whether a file holds a mean and a covariance, and no images.

    ``by_any_name``: or what other code calls so, which `read_statistics` refuses by its names.
    """
    if not path.is_file():
        return False
    with opened(path) as stream:
        magic = stream.read(len(ZIP))
    if magic.startswith(PICKLE):
        return True
    if magic != ZIP:
        return False
    # A zip of many pictures is no statistics, and no fault.
    with open_zip(path, IMAGES) as archive:
        names = {name.removesuffix(".npy") for name in archive.names}
    is_other = by_any_name and "images" not in names and _other_names(names) is not None
    return {"mu", "sigma"} <= names or is_other


def _other_names(names: Collection[str]) -> tuple[str, str] | None:
    """What other code calls mean and covariance, where both are among ``names``."""
    pairs = [(mean, spread) for mean in OTHER_MEANS for spread in OTHER_COVARIANCES]
    return next((pair for pair in pairs[1:] if set(pair) <= set(names)), None)  # the first are ours


def read_statistics(path: Path) -> Statistics:
    """The statistics in a file of any of the three kinds; nothing in it is executed.

    Raises
    ------
    DataError
        Not statistics, or with values that no features have.
    UnsafeFileError
        An object array, or a pickle that would have to be executed.
    """
    if not path.is_file():
        raise UsageError(f"{path} is no file", hint="name an .npz with mu and sigma, or images")
    with opened(path) as stream:
        is_pickle = stream.read(1) == PICKLE
    columns, names = read_pickle(path) if is_pickle else _zipped(path)
    mean, covariance = _law(columns, names, str(path))
    about, floor = _about(columns.get("about"), str(path))
    groups = _groups(columns, len(mean), str(path))
    n = None if about is None else about.n
    law = Law(torch.from_numpy(mean), torch.from_numpy(covariance), n, groups)
    reference = columns.get("reference")
    if reference is not None:
        _check(reference, (len(reference), len(mean)), "reference", str(path))
    text, calibration = columns.get("neighbours"), Calibration()
    if text is not None:
        calibration = Calibration.of(str(text), str(path))
    return Statistics(law, about, reference, floor, str(path), sha256_of(path), calibration)  # type: ignore[arg-type]


def check_target(path: Path) -> None:
    """`UsageError` unless ``path`` is an ``.npz`` that is new, or holds statistics; it can be written."""
    if path.suffix != ".npz":
        raise UsageError(f"{path} does not end in .npz", hint="statistics are written as .npz")
    if not path.absolute().parent.is_dir():
        raise StorageError(f"{path}: there is no folder {path.absolute().parent}", file=str(path))
    if path.exists() and not is_statistics(path):
        raise UsageError(f"{path} exists and holds no statistics", hint="name another file")
    target = followed(path)
    with Directory(target.absolute().parent) as folder:  # before hours of features, not after
        folder.remove([folder.write_draft(target.name, b"")])


def write_statistics(path: Path, statistics: Statistics) -> None:
    """An ``.npz`` that appears whole or not at all.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    law = statistics.law.dense() if isinstance(statistics.law, FewImages) else statistics.law
    arrays: dict[str, npt.NDArray[Any]] = {"mu": law.mean.numpy(), "sigma": law.covariance.numpy()}
    if statistics.about is not None:
        about = {"format": FORMAT, **asdict(statistics.about), "floor": statistics.floor}
        arrays["about"] = np.array(json.dumps(about))
    if law.groups:
        lower = torch.tril_indices(law.dim, law.dim)
        arrays["group_n"] = np.array([group.n for group in law.groups])
        arrays["group_mu"] = torch.stack([group.mean for group in law.groups]).numpy()
        triangles = [(group.scatter[*lower] / max(group.n, 1)).float() for group in law.groups]
        arrays["group_sigma"] = torch.stack(triangles).numpy()
    if statistics.reference is not None:
        arrays["reference"] = statistics.reference
    if statistics.calibration != Calibration():
        arrays["neighbours"] = np.array(statistics.calibration.as_json())
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_file(path, content.getvalue())


def _zipped(path: Path) -> tuple[dict[str, Array], list[str]]:
    """The arrays of statistics, and the names of all."""
    with open_zip(path, NPZ) as archive:
        archive.check()
        names = [name.removesuffix(".npy") for name in archive.names]
        return read_columns(archive, COLUMNS, str(path)), names


def _law(
    columns: dict[str, Array], names: Collection[str], where: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """``mu`` and ``sigma``, checked."""
    missing = [name for name in ("mu", "sigma") if name not in columns]
    if missing and (found := _other_names(names)):
        mean_name, spread = found
        raise DataError(
            f"{where}: statistics by other names: {mean_name} and {spread}, where mu and sigma are read",
            hint=f"numpy.savez('new.npz', mu=f[{mean_name!r}], sigma=f[{spread!r}]) of f = numpy.load(file), "
            "if they are mean [D] and covariance [D, D]",
            file=where,
            found=list(found),
        )
    if missing:
        raise DataError(
            f"{where} holds no {' and no '.join(missing)}: not statistics of a Frechet distance",
            hint="an .npz with mu [D] and sigma [D, D], as fid-ref writes it",
            file=where,
        )
    mean, covariance = columns["mu"], columns["sigma"]
    if mean.ndim != 1 or len(mean) == 0:
        raise DataError(f"{where}: mu has shape {list(mean.shape)}, expected [D]", file=where, key="mu")
    _check(mean, mean.shape, "mu", where)
    _check(covariance, (len(mean), len(mean)), "sigma", where)
    exact = covariance.astype(np.float64)
    largest = float(np.abs(exact).max())
    if exact.diagonal().min() < 0 or np.abs(exact - exact.T).max() > 1e-6 * largest:
        raise DataError(
            f"{where}: sigma is no covariance (a negative variance, or not symmetric)",
            file=where,
            key="sigma",
        )
    return mean.astype(np.float64), (exact + exact.T) / 2


def _check(values: Array, shape: tuple[int, ...], key: str, where: str) -> None:
    if values.dtype.kind != "f" or values.shape != shape:
        raise DataError(
            f"{where}: {key} is {values.dtype} {list(values.shape)}, expected numbers of {list(shape)}",
            file=where, key=key, expected=list(shape), found=list(values.shape),
        )  # fmt: skip
    # A NaN goes through the maximum, and fails the test.
    if not float(np.abs(values).max(initial=0)) < LARGEST:
        raise DataError(
            f"{where}: {key} holds values that are not finite, or beyond {LARGEST:.0e}", file=where, key=key
        )


def _about(text: Array | None, where: str) -> tuple[About | None, tuple[tuple[int, float], ...]]:
    if text is None:
        return None, ()
    try:
        table = json.loads(str(text))
        version, floor = table.pop("format"), table.pop("floor")
        if version > FORMAT:
            raise DataError(f"{where} has format {version}; this version reads {FORMAT}", file=where)
        table["image_shape"] = tuple(table["image_shape"])
        about = About(**table)
        for field in fields(About):
            if type(getattr(about, field.name)).__name__ not in (field.type, "tuple"):
                raise TypeError(field.name)
        return about, tuple((int(n), float(distance)) for n, distance in floor)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: about is broken ({error!r})", file=where, key="about") from error


def _groups(columns: dict[str, Array], dim: int, where: str) -> tuple[Sums, ...]:
    names = ("group_n", "group_mu", "group_sigma")
    if not all(name in columns for name in names):
        return ()
    check_size(dim, where)
    counts, means, triangles = (columns[name] for name in names)
    if counts.dtype.kind not in "iu" or counts.shape != (GROUPS,) or int(counts.min()) < 0:
        raise DataError(f"{where}: group_n is no list of {GROUPS} counts", file=where, key="group_n")
    _check(means, (GROUPS, dim), "group_mu", where)
    _check(triangles, (GROUPS, dim * (dim + 1) // 2), "group_sigma", where)
    rows, columns_ = torch.tril_indices(dim, dim)
    sums = []
    for n, mean, triangle in zip(counts.tolist(), means, triangles, strict=True):
        scatter = torch.zeros(dim, dim, dtype=torch.float64)
        scatter[rows, columns_] = torch.from_numpy(triangle.astype(np.float64)) * n
        scatter[columns_, rows] = scatter[rows, columns_]
        sums.append(Sums(n, torch.from_numpy(mean.astype(np.float64)), scatter))
    return tuple(sums)

"""Statistics of a model by which the sampler DPM-Solver-v3 takes longer steps: l, s and b, by gamma.

With lambda = log(alpha/sigma) = -gamma/2 a step leaves the linear part of the flow out, and of what remains

    f = (sigma eps_hat - l z)/alpha,    d f/d lambda = s f + b + rest    (Zheng et al. 2023, DPM-Solver-v3).

l is the diagonal of sigma times the Jacobian of eps_hat, and s and b are the regression of d f/d lambda on f,
both on average over images, for each value of an image or one for each of its channels. Any l, s and b give
the same images in the limit of many steps; good ones give them in few. l = 1, s = b = 0 is the prediction of
the clean image, l = 0, s = -1, b = 0 that of the noise.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataError, ExpertError, UsageError
from merged_diffusion.files.arrays import NPZ, read_columns
from merged_diffusion.files.zips import open_zip
from merged_diffusion.roles import roles_in

ROLES: Final = ("likelihood", "quality")
NAMES: Final = ("gamma", "linear", "slope", "shift")
ABOUT: Final = "about"
LEAST: Final = 4  # gammas of a cubic spline
SLACK: Final = 1e-6  # of gamma, beyond a table's ends

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """One expert's l (``linear``), s (``slope``) and b (``shift``) at rising ``gamma`` [T].

    They are [T, C, H, W], or [T, C, 1, 1] where a channel's values are alike.

    Raises
    ------
    UsageError
        The arrays do not belong together, or are not finite.
    """

    gamma: Floats
    linear: Floats
    slope: Floats
    shift: Floats

    def __post_init__(self) -> None:
        shapes = {name: list(getattr(self, name).shape) for name in NAMES}
        n = len(self.gamma)
        if (
            n < LEAST
            or self.gamma.ndim != 1
            or any(getattr(self, name).ndim != 4 or len(getattr(self, name)) != n for name in NAMES[1:])
        ):
            raise UsageError(
                f"a table of statistics has the shapes {shapes}",
                hint=f"gamma [T], T from {LEAST} up; linear, slope and shift [T, C, H, W] or [T, C, 1, 1]",
            )
        if not all(np.isfinite(getattr(self, name)).all() for name in NAMES):
            raise UsageError("a table of statistics holds values that are not finite")
        if not (np.diff(self.gamma) > 0).all():
            raise UsageError("the gammas of a table of statistics do not rise")


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Tables of one expert, or of two, by role; ``experts`` are the SHA-256 of their weights where known.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> model = md.load_pair("digits")
    >>> images = md.load_data("digits", "train").select(limit=8)
    >>> statistics = md.fit_model_statistics(model, images, spacing=2.0)
    >>> md.draw(model, range(2), sampler=md.DpmV3(steps=8, statistics=statistics))
    Samples(2 images 1x8x8, 17 levels)
    """

    tables: Mapping[str, Table]
    experts: Mapping[str, str | None] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(self.tables.keys() - set(ROLES))
        if unknown or not self.tables:
            raise UsageError(
                f"statistics of {', '.join(unknown) or 'no expert'}", hint=f"roles are {', '.join(ROLES)}"
            )

    @property
    def sha256(self) -> str:
        """Of the tables: what samples depend on."""
        digest = hashlib.sha256()
        for role in sorted(self.tables):
            digest.update(role.encode())
            for name in NAMES:
                values = getattr(self.tables[role], name)
                digest.update(json.dumps(list(values.shape)).encode() + values.astype("<f8").tobytes())
        return digest.hexdigest()

    def as_dict(self) -> dict[str, object]:
        """What a result says of them: hash, experts, images, gammas."""
        ranges = {
            role: [float(table.gamma[0]), float(table.gamma[-1])] for role, table in self.tables.items()
        }
        return {"sha256": self.sha256, "experts": dict(self.experts), "gamma_ranges": ranges, **self.about}

    def check(self, legs: Sequence[tuple[str, float, float]], shape: Sequence[int]) -> None:
        """`UsageError` unless each leg (role, start, end) lies in its expert's table, of such images."""
        for role, start, end in legs:
            table = self.tables.get(role)
            if table is None:
                several = len(roles_in(role)) > 1
                asked = " and ".join(roles_in(role)) + (" at once" if several else " as an expert")
                raise UsageError(
                    f"the statistics are of {' and '.join(self.tables)}, and the model asks {asked}",
                    hint="merged-diffusion model-statistics measures those of this model"
                    if role in ROLES
                    else "dpm-v3 draws from an expert alone and from a pair's threshold, not under a gate "
                    "nor from several experts; unipc does",
                )
            low, high = float(table.gamma[0]), float(table.gamma[-1])
            if min(start, end) < low - SLACK or max(start, end) > high + SLACK:
                raise UsageError(
                    f"the {role} expert goes from gamma {start:.4g} to {end:.4g}, and its statistics are "
                    f"known from {low:.4g} to {high:.4g}",
                    hint="merged-diffusion model-statistics measures those of this model",
                )
            for name in NAMES[1:]:
                own = getattr(table, name).shape[1:]
                if any(here not in (1, asked) for here, asked in zip(own, shape, strict=True)):
                    raise UsageError(
                        f"the statistics are of images {list(own)}, and the model's are {list(shape)}"
                    )

    def check_experts(self, found: Mapping[str, str | None]) -> None:
        """`ExpertError` where they were measured with other weights than were ``found``, by role."""
        for role, sha256 in self.experts.items():
            if sha256 and found.get(role) and found[role] != sha256:
                raise ExpertError(
                    f"these statistics are of another {role} expert (weights {sha256[:16]}, here "
                    f"{str(found[role])[:16]})",
                    hint="measure those of this model: merged-diffusion model-statistics",
                    role=role,
                    expected=sha256,
                    found=found[role],
                )


def load_model_statistics(path: str | Path) -> ModelStatistics:
    """The statistics in a file that ``merged-diffusion model-statistics`` wrote.

    Raises
    ------
    DataError
        It cannot be read, or holds none.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.load_model_statistics("photos-statistics.npz")  # doctest: +SKIP
    """
    columns = tuple(f"{role}.{name}" for role in ROLES for name in NAMES)
    try:
        with open_zip(Path(path), NPZ) as archive:
            found = read_columns(archive, (*columns, ABOUT), str(path))
        about = json.loads(str(found[ABOUT]))
        tables = {
            role: Table(*(np.asarray(found[f"{role}.{name}"], dtype=np.float64) for name in NAMES))
            for role in ROLES
            if f"{role}.{NAMES[0]}" in found
        }
        experts = {str(role): sha and str(sha) for role, sha in dict(about.pop("experts")).items()}
        return ModelStatistics(tables, experts, about)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, UsageError, DataError) as error:
        said = (
            error.message if isinstance(error, UsageError | DataError) else f"{type(error).__name__}: {error}"
        )
        raise DataError(
            f"{path}: holds no statistics of a model ({said})",
            hint="merged-diffusion model-statistics --data DATA --out FILE.npz writes them",
            file=str(path),
        ) from error


def model_statistics_npz(statistics: ModelStatistics) -> bytes:
    """The content of a file that `load_model_statistics` reads: float32, but for gamma.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> from pathlib import Path
    >>> images = md.load_data("digits", "train").select(limit=4)
    >>> statistics = md.fit_model_statistics(md.load_expert("bundled:digits-vdm"), images, spacing=4.0)
    >>> _ = Path("ems.npz").write_bytes(md.model_statistics_npz(statistics))
    >>> md.load_model_statistics("ems.npz").sha256 == statistics.sha256
    True
    """
    columns: dict[str, npt.NDArray[np.generic]] = {
        f"{role}.{name}": values if name == NAMES[0] else values.astype(np.float32)
        for role, table in statistics.tables.items()
        for name in NAMES
        for values in (getattr(table, name),)
    }
    about = {"experts": dict(statistics.experts), **statistics.about}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **columns, **{ABOUT: np.array(json.dumps(about))})
    return content.getvalue()


def rounded(table: Table) -> Table:
    """As a file keeps it."""
    return Table(
        table.gamma, *(getattr(table, name).astype(np.float32).astype(np.float64) for name in NAMES[1:])
    )

"""Samples on their way into a file: what is drawn is kept, so that a killed command goes on.

Until all images are there they lie in ``<out>.part/``: ``settings.json`` says how they are drawn, a small npz
holds each batch that is done, whole or not at all. Then the file is written beside them and moved into place
in one step. Workers that draw a share each keep theirs in one folder; who finds all images there writes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from merged_diffusion.errors import RunCorruptError, RunLockedError, RunMismatchError, StorageError
from merged_diffusion.reading import opened
from merged_diffusion.runs import versions
from merged_diffusion.runs.journal import storage_error
from merged_diffusion.runs.settings import FORMAT, MACHINE, differences, read_settings, write_json
from merged_diffusion.sampling import files
from merged_diffusion.sampling.samples import Samples

PART: Final = ".part"
LOCK_SECONDS: Final = 0.25
WRITE_SECONDS: Final = 600.0  # that another worker may take for the file
ROLE: Final = "evaluations_"
BYTES_TO_SPARE: Final = 1 << 20

Integers = npt.NDArray[np.int64]


def recorded_machine(out: Path) -> dict[str, Any]:
    """Batch size, threads, device, dtype and compile of the samples that are there or on their way."""
    record = _recorded(out)
    held = {} if record is None else record.get("settings", {})
    return {key: held[key] for key in MACHINE if held.get(key) is not None}


def recorded_eta(out: Path) -> float | None:
    """The threshold of the samples that are there or on their way, if they have one."""
    threshold = (_recorded(out) or {}).get("threshold") or {}
    eta = threshold.get("eta")
    return float(eta) if isinstance(eta, float) else None


def _recorded(out: Path) -> dict[str, Any] | None:
    form = files.form_of(out)
    if is_taken(out):
        return None if form == "png" else files.read_record(form, out)
    return read_settings(_part(out))


def is_taken(out: Path) -> bool:
    """Whether something is at the path; an empty directory is nothing."""
    return out.is_file() or (out.is_dir() and any(out.iterdir()))


def _part(out: Path) -> Path:
    return out.with_name(out.name + PART)


class Store:
    """The images of one command, ``ids`` [N], by way of a folder of parts to ``out``.

    ``identity`` is all that the images depend on. A picture of all (PNG) is made anew whatever was there; any
    other output that exists must be of the same identity, and is complete then.
    """

    def __init__(
        self, out: Path, ids: Integers, identity: Mapping[str, Any], shard: tuple[int, int] = (0, 1)
    ) -> None:
        """Begin, or go on.

        Raises
        ------
        RunMismatchError
            Images of other settings lie there.
        RunError
            Something else lies there.
        RunLockedError
            Another process draws the same share.
        StorageError
            The place cannot be written.
        """
        self.out = out
        self._ids = ids
        self._form = files.form_of(out)
        self._part = _part(out)
        self._asked = dict(identity) | {"format": FORMAT, "ids": [int(ids[0]), int(ids[-1]) + 1]}
        self._is_maker = False  # of the folder of parts
        self.finished = self._is_complete()
        self._lock = FileLock(
            self._part / f"shard-{shard[0]:04d}-of-{shard[1]:04d}.lock", timeout=LOCK_SECONDS
        )
        if self.finished is None:
            self._begin()

    def _is_complete(self) -> dict[str, Any] | None:
        """The record of the output that is there already; None where it has to be made."""
        if self._form == "png" or not is_taken(self.out):
            return None
        record = files.read_record(self._form, self.out)
        result = record.pop("result", None)
        self._check(self.out, record)
        return None if result is None else dict(result)

    def _begin(self) -> None:
        try:
            try:
                self._part.mkdir(parents=True)
                self._is_maker = True
            except FileExistsError:
                self._part.mkdir(exist_ok=True)  # raises where it is no folder
            free = shutil.disk_usage(self._part).free
        except OSError as error:
            raise storage_error(self._part, error) from error
        needed = 3 * len(self._ids) * int(np.prod(self._asked["image_shape"])) + BYTES_TO_SPARE
        if free < needed:
            raise StorageError(
                f"{self._part}: {free} bytes are free, but {len(self._ids)} images need up to {needed}",
                hint="free space or choose another --out",
                file=str(self._part),
            )
        try:
            self._lock.acquire()
        except Timeout:
            raise RunLockedError(
                f"{self._part}: another process draws this share of the images",
                hint="wait for it, stop it, or give each worker its own --shard I/N",
                file=str(self._part),
            ) from None
        except OSError as error:
            raise storage_error(self._part, error) from error
        held = read_settings(self._part)
        if held is None:
            write_json(self._part / "settings.json", self._asked | {"versions": versions()})
            return
        try:
            self._check(self._part, held)
        except RunMismatchError:
            self.close()
            raise

    def _check(self, where: Path, recorded: Mapping[str, Any]) -> None:
        found = differences(recorded, self._asked)
        if not found:
            return
        listed = "; ".join(
            f"{k.removeprefix('settings.')} {a} there, {b} here" for k, (a, b) in found.items()
        )
        raise RunMismatchError(
            f"{where}: holds samples of other settings: {listed}",
            hint=f"use another --out, or remove {where} if it is not needed",
            differences={key: {"recorded": a, "asked": b} for key, (a, b) in found.items()},
        )

    def held(self) -> set[int]:
        """The ids that are drawn."""
        if self.finished is not None:
            return {int(i) for i in self._ids}
        return {int(i) for path in self._parts() for i in _column(path, "ids")}

    def append(self, samples: Samples) -> None:
        """Keep a batch; it survives the death of this process from here on."""
        columns: dict[str, npt.NDArray[Any]] = {"images": samples.images, "ids": samples.ids}
        if samples.labels is not None:
            columns["labels"] = samples.labels
        columns |= {ROLE + role: counts for role, counts in samples.evaluations.items()}
        path = self._part / f"{int(samples.ids.min()):020d}.npz"
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            files.save_columns(draft, columns | {"levels": np.array(samples.levels)})
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise storage_error(path, error) from error

    def finish(self) -> dict[str, Any] | None:
        """Write the output if all images are there; what it says of them, else None."""
        if self.finished is not None:
            shutil.rmtree(self._part, ignore_errors=True)
            return self.finished
        try:
            with FileLock(self._part / "finish.lock", timeout=WRITE_SECONDS):
                self.finished = self._written()
        except Timeout:
            raise RunLockedError(f"{self._part}: another worker has been writing for too long") from None
        except OSError as error:
            raise storage_error(self.out, error) from error
        if self.finished is not None:
            self.close()
            shutil.rmtree(self._part, ignore_errors=True)
        return self.finished

    def _written(self) -> dict[str, Any] | None:
        parts = self._parts()
        if not parts:
            return self._is_complete()  # another worker was faster
        samples = Samples.joined([_read(path) for path in parts])
        if not np.isin(self._ids, samples.ids).all():
            return None
        samples = samples.in_order(self._ids)
        result = summary(samples)
        draft = self._part / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.unlink(missing_ok=True)
        files.write(self._form, draft, samples, self._asked | {"result": result})
        draft.replace(self.out)
        return result

    def _parts(self) -> list[Path]:
        return sorted(self._part.glob("*.npz"))

    def close(self) -> None:
        """Free the share for other processes."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self.finished is None and self._is_maker:
            self._leave_nothing_empty()

    def _leave_nothing_empty(self) -> None:
        """Take away the folder that this process made, where nothing was drawn: settings alone bind nobody.

        One that was there may be another worker's, who has yet to lock its share.
        """
        settings, own = self._part / "settings.json", Path(self._lock.lock_file)
        try:
            if {path.name for path in self._part.iterdir()} <= {settings.name, own.name}:
                settings.unlink(missing_ok=True)
                own.unlink(missing_ok=True)
                self._part.rmdir()
        except OSError:
            return  # another worker came, or the disk is gone; what is there does no harm


def summary(samples: Samples) -> dict[str, Any]:
    """Count, hash and mean evaluations of samples."""
    by_role = {role: float(counts.mean()) for role, counts in samples.evaluations.items()}
    evaluations = {"total": sum(by_role.values()), "likelihood": 0.0, "quality": 0.0} | by_role
    return {"n": len(samples), "sha256": samples.sha256, "evaluations": evaluations}


def _read(path: Path) -> Samples:
    try:
        with opened(path) as file, np.load(file, allow_pickle=False) as columns:
            found = {key: columns[key] for key in columns.files}
        return Samples(
            found["images"],
            found["ids"],
            found.get("labels"),
            int(found["levels"]),
            {key.removeprefix(ROLE): value for key, value in found.items() if key.startswith(ROLE)},
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise _corrupt(path) from error


def _column(path: Path, key: str) -> npt.NDArray[Any]:
    try:
        with opened(path) as file, np.load(file, allow_pickle=False) as columns:
            found: npt.NDArray[Any] = columns[key]
            return found
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise _corrupt(path) from error


def _corrupt(path: Path) -> RunCorruptError:
    return RunCorruptError(
        f"{path}: is no whole batch of samples", hint="remove it: its images are drawn again", file=str(path)
    )

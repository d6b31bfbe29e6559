"""Samples on their way into a file: what is drawn is kept, so that a killed command goes on.

Until all images are there they lie in ``<out>.part/``: ``settings.json`` says how they are drawn, a small npz
holds each batch that is done, whole or not at all. Then the file is written beside them and moved into place
in one step. Workers that draw a share each keep theirs in one folder; who finds all images there writes.
The folder takes another name, ``<out>.part.1a2b3c4d``, before it is taken apart, so that no command goes on
in half of it; what a killed command left of one goes with the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import IncompleteError, RunCorruptError, RunError, RunLockedError, StorageError
from merged_diffusion.runs import versions
from merged_diffusion.runs.directory import Directory, strangers, token
from merged_diffusion.runs.folder import LOCK, locked
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.lock import LOOK_SECONDS, Lock
from merged_diffusion.runs.places import followed, make, refuse_special, require_space, unmake
from merged_diffusion.runs.settings_file import FORMAT, json_text, read_settings
from merged_diffusion.sampling import sample_files
from merged_diffusion.sampling.batches import KnownIds, batch_of, samples_in, summary
from merged_diffusion.sampling.parts import (
    DRAFT,
    FINISH,
    LEFT,
    OWN,
    SETTINGS,
    batch_name,
    batch_names,
    clear_leftovers,
    is_same,
    is_share_taken,
    is_taken,
    part_of,
    require_same,
    share_lock,
    take_apart,
)
from merged_diffusion.sampling.samples import Samples

WRITE_SECONDS: Final = 600.0  # that another worker may take for the file
BYTES_TO_SPARE: Final = 1 << 20

Integers = npt.NDArray[np.int64]


class Store:
    """The images of one command, ``ids`` [N], by way of a folder of parts to ``out``.

    ``identity`` is all that the images depend on. A picture of all (PNG) is made anew whatever was there; any
    other output that exists must be of the same identity, and is complete then.
    """

    def __init__(
        self, out: Path, ids: Integers, identity: Mapping[str, object], shard: tuple[int, int] = (0, 1)
    ) -> None:
        """Begin, or go on.

        Raises
        ------
        RunMismatchError, RunError, RunLockedError
            Images of other settings, or something else, lie there; another process draws the same share.
        StorageError
            The place cannot be written.
        """
        self.out = out
        self._ids = ids
        self._form = sample_files.form_of(out)
        refuse_special(out)  # before anything is drawn, and once more before it is written
        self._target, self._at = followed(out), part_of(out)
        self._asked = dict(identity) | {"format": FORMAT, "ids": [int(ids[0]), int(ids[-1]) + 1]}
        self._is_maker = False  # of the folder of parts
        self._made: list[Path] = []
        self._place: Directory | None = None  # where the output goes
        self._part: Directory | None = None
        self._lock: Lock | None = None
        self._share, self._shard, self._known = share_lock(shard), shard, KnownIds()
        self.finished = self._is_complete() if self._form != "png" else None
        try:
            self._made = make(self._target.parent)
            self._place = Directory(self._target.parent)
            if self.finished is None:
                self._begin()
            clear_leftovers(_open(self._place), self._at.name)
        except BaseException:
            with suppress(StorageError):
                self._leave_nothing_empty()
            self._close()
            raise

    def _is_complete(self) -> dict[str, object] | None:
        """The record of the output that is there already; None where it has to be made."""
        if not is_taken(self.out):
            return None
        record = sample_files.read_record(self._form, self.out)
        result = record.pop("result", None)
        require_same(self.out, record, self._asked)
        with as_kept(self.out):
            return None if result is None else dict(result)

    def _begin(self) -> None:
        place, name = _open(self._place), self._at.name
        self._is_maker = place.make_folder(name)
        part = self._part = place.folder(name)
        others = strangers(part.names(), OWN)
        if others and part.status(SETTINGS) is None:
            raise RunError(
                f"{self._at}: is there and was not made by this package ({', '.join(others[:3])})",
                hint="use another --out, or move it away",
                file=str(self._at),
            )
        size = math.prod(cast("list[int]", self._asked["image_shape"]))
        require_space(self._at, 3 * len(self._ids) * size + BYTES_TO_SPARE, f"{len(self._ids)} images")
        self._lock = Lock(part, self._share)
        if not self._lock.acquire(LOOK_SECONDS):
            refused = RunLockedError(
                f"{self._at}: another process draws this share of the images",
                hint="wait for it, stop it, or give each worker its own --shard I/N",
                file=str(self._at),
            )
            raise self._lock.explained(refused)
        with locked(part, SETTINGS):
            held = read_settings(self._at)
            if held is not None:
                require_same(self._at, held, self._asked)
                return
            if batch_names(_open(self._part)):
                raise RunCorruptError(
                    f"{self._at}: its batches have no {SETTINGS} that says how they were drawn",
                    hint=f"remove {self._at}: its images are drawn again",
                    file=str(self._at),
                )
            part.write(SETTINGS, json_text(self._asked | {"versions": versions()}))

    def held(self) -> set[int]:
        """The ids that are drawn."""
        if self.finished is None:
            try:
                part = _open(self._part)
                found = self._known.of(part, batch_names(part))
                if self._is_there():
                    return found
            except StorageError:
                if self._is_there():
                    raise
            self._by_another()  # while it was read
        return {int(i) for i in self._ids}

    def is_at_work(self, shard: tuple[int, int]) -> bool:
        """Whether a process draws the share of worker I of N."""
        return self._part is not None and is_share_taken(self._part, shard)

    def append(self, samples: Samples) -> None:
        """Keep a batch; it survives the death of this process from here on."""
        if not self._is_there():
            self._by_another()  # who had drawn the same
            return
        _open(self._part).write(batch_name(int(samples.ids.min()), self._shard), batch_of(samples))

    def finish(self) -> dict[str, object] | None:
        """Write the output if all images are there; what it says of them, else None.

        Raises
        ------
        IncompleteError
            Images that were drawn are gone.
        """
        place, aside = _open(self._place), f"{self._at.name}.{token()}"
        if self.finished is not None:
            held = read_settings(self._at)
            if held is not None and is_same(self._at, held, self._asked):
                place.rename(self._at.name, aside)
                take_apart(place, aside)
            return self.finished
        if not self._is_there():
            return self._by_another()
        refused = RunLockedError(f"{self._at}: another worker has been writing for too long")
        try:
            with Lock(_open(self._part), FINISH).held(WRITE_SECONDS, refused):
                if self._is_there():
                    self.finished = self._written()
                if self.finished is not None:
                    place.rename(self._at.name, aside)
                    place.sync()
        except StorageError:
            if self._is_there() or self.finished is not None:
                raise
        if self.finished is None:
            return None if self._is_there() else self._by_another()
        self._release()
        take_apart(place, aside)
        return self.finished

    def _by_another(self) -> dict[str, object]:
        """What the output says that another worker has written, who then took the folder of parts away."""
        self.finished = self._is_complete()
        if self.finished is None:
            self._require_there()
        return self.finished or {}

    def _is_there(self) -> bool:
        return _open(self._part).is_there()

    def _require_there(self) -> None:
        if not self._is_there():
            raise IncompleteError(
                f"{self._at}: was removed or replaced while images were drawn; they are lost",
                hint="the same command draws them again",
                file=str(self._at),
            )

    def _written(self) -> dict[str, object] | None:
        part, place = _open(self._part), _open(self._place)
        samples = self._all()
        if samples is None:
            return None
        result = summary(samples)
        record = self._asked | {"result": result}
        if not sample_files.remove_folder(part, DRAFT):
            part.remove([DRAFT])
        if self._form == "folder":
            part.make_folder(DRAFT)
            with part.folder(DRAFT) as draft:
                sample_files.write_folder(draft, samples, record)
        else:
            part.write_new(DRAFT, sample_files.content(self._form, samples, record))
        place.require_replaceable(self._target.name)
        part.rename(DRAFT, self._target.name, into=place)
        place.sync()
        return result

    def _all(self) -> Samples | None:
        """The samples of this command, if all are there."""
        names = batch_names(_open(self._part))
        if not names:
            return None
        samples = Samples.joined([samples_in(_open(self._part), name) for name in names])
        return samples.in_order(self._ids) if np.isin(self._ids, samples.ids).all() else None

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _close(self) -> None:
        try:
            self._release()
        finally:
            for folder in (self._part, self._place):
                if folder is not None:
                    folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._release()
            if self.finished is None:
                self._leave_nothing_empty()
        except StorageError:
            if error is None:
                raise
        finally:
            with suppress(StorageError):
                self._close()

    def _leave_nothing_empty(self) -> None:
        """Take away the folder that this process made, where nothing was drawn: settings alone bind nobody.

        One that was there may be another worker's, who has yet to lock its share.
        """
        part, place = self._part, self._place
        if self._is_maker and part is not None and place is not None and part.is_there():
            self._release()
            own = {SETTINGS, self._share, LOCK}
            if {name for name in part.names() if strangers([name], LEFT)} <= own:
                part.remove(name for name in part.names() if not strangers([name], LEFT))
                part.remove(sorted(own))
                place.remove_folder(self._at.name)
        unmake(self._made)


def _open(folder: Directory | None) -> Directory:
    if folder is None:
        raise RunError("the place of the samples is closed")
    return folder

"""Measuring in a folder that all workers see: each measures its blocks, and all go on from the same rows.

``settings.json`` says what command it is; a worker holds ``shard-0001-of-0004.lock`` as long as it is there.
Rows of a stage lie in a folder of its name, exact likelihoods in an ordinary run for each model. What was
measured stays, so a command that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from merged_diffusion.data.images import Data
from merged_diffusion.errors import MergedDiffusionError, RunMismatchError, StorageError
from merged_diffusion.jobs.blocks import ALONE, Blocks, FixedShare, JointShare, Work
from merged_diffusion.jobs.exact_group import ExactGroup, folder_of
from merged_diffusion.jobs.first_numbers import first_numbers
from merged_diffusion.jobs.kept_rows import KeptRows
from merged_diffusion.jobs.measuring_images import Labels, groups_of
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.presence import Presence
from merged_diffusion.jobs.row_stage import RowStage
from merged_diffusion.jobs.telling import Telling
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel
from merged_diffusion.runs import versions
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.folder import LOCK, locked, refuse_strangers
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.places import make, unmake
from merged_diffusion.runs.settings_file import FORMAT, differences, json_text, listed, read_settings
from merged_diffusion.sampling.parts import share_lock
from merged_diffusion.scores.by_image import ByImage, Floats, Measure
from merged_diffusion.scores.named_objects import ByName

SETTINGS: Final = "settings.json"
PACKAGE: Final = "merged_diffusion"
TRIES: Final = 3
CALLS: Final = 16  # whose rows are measured at once, and kept


@dataclass(frozen=True)
class Stage:
    """A part of a command, whose names are kept in a folder of their own."""

    whole: SharedMeasuring
    place: str = ""

    def part(self, name: str) -> Stage:
        """A part of it."""
        return Stage(self.whole, f"{self.place}{name}/")

    def by_image(self, name: str, data: Data) -> ByImage:
        """Rows of images, shared out."""

        def measured(
            n: int, width: int, measure: Measure, *, rows: int = 1, is_steady: bool = False
        ) -> Floats:
            if n != len(data):
                raise ValueError(f"{n} images, where the set has {len(data)}")
            return self.rows(name, data, width, measure, rows=rows, is_steady=is_steady).all()

        return measured

    def rows(
        self,
        name: str,
        data: Data,
        width: int,
        measure: Measure,
        *,
        rows: int = 1,
        is_steady: bool = False,
        observe: Callable[[int], object] = lambda _: None,
    ) -> KeptRows:
        """The same, to be read in parts; all rows are there. ``observe`` gets the number of new ones."""
        at_once = len(data) if is_steady else CALLS * max(rows, 1)
        return self.whole.rows(f"{self.place}{name}", data, width, measure, max(rows, 1), at_once, observe)

    def once(self, name: str, find: Callable[[], Sequence[float]]) -> list[float]:
        """Numbers of whoever was first."""
        return self.whole.once(f"{self.place}{name}", find)

    def likelihoods(
        self,
        models: Mapping[str, MergedModel],
        data: Data,
        options: Options,
        *,
        labels: Labels = None,
        progress: bool = False,
        together: Sequence[str] = (),
    ) -> dict[str, Likelihood]:
        """Exact likelihoods, in a run for each model."""
        groups = groups_of(models, together)
        return self.whole.likelihoods(self.place, groups, data, options, labels, progress)


class SharedMeasuring:
    """The folder of a command, open for worker I of N.

    ``identity`` is all that the numbers depend on; ``plan`` the experts and settings of exact runs; the
    result goes to ``file``; ``tell`` gets a line about workers that give no sign; with ``all_come`` all N
    were begun together. Where the blocks are a crew's, its workers have the experts and the images by
    ``names``, and this process keeps what they say.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, object],
        blocks: Blocks = ALONE,
        plan: Plan | None = None,
        *,
        file: Path | None = None,
        tell: Callable[[str], object] = lambda _: None,
        names: ByName | None = None,
        all_come: bool = False,
    ) -> None:
        """Begin, or go on.

        Raises
        ------
        RunMismatchError, RunError, RunLockedError
            What is measured there is another command's, or by another version of the package; it is something
            else; the worker is there already.
        StorageError
            It cannot be written.
        """
        self.path, self._plan, self._file, self._tell = path, plan, file, tell
        self._names, self._all_come = names, all_come
        is_fixed = isinstance(blocks, FixedShare) and blocks.shard[1] > 1
        self.blocks: Blocks = JointShare(blocks.shard) if is_fixed else blocks
        self.shard = blocks.shard
        self._asked = dict(identity) | {"format": FORMAT}
        self.notes: list[str] = []
        """What a user should know of what is there: other versions."""
        self._begin()

    def _begin(self, tries: int = TRIES) -> None:
        self._open = ExitStack()
        self._made = make(self.path)
        path = self.path
        try:
            self._folder = self._open.enter_context(Directory(path))
            places = [share_lock((rank, self.shard[1])) for rank in range(self.shard[1])]
            refuse_strangers(self._folder, SETTINGS, LOCK, *places)
            self.presence = Presence(self._folder, self.shard, self._tell)
            with locked(self._folder, SETTINGS):
                self._agree()
                self.presence.take()
                self.telling = Telling(self._folder, self.presence, self._file, all_come=self._all_come)
        except BaseException as error:
            # Whoever made it may have failed meanwhile, and removed it.
            is_gone = isinstance(error, StorageError) and not path.exists()
            self._open.close()
            unmake(self._made)
            if not (is_gone and tries):
                raise
            self._begin(tries - 1)

    def _agree(self) -> None:
        held = read_settings(self.path)
        if held is None:
            self._folder.write(SETTINGS, json_text(self._asked | {"versions": versions()}))
            return
        with as_kept(self.path):
            found = differences(held, self._asked)
        if found:
            raise RunMismatchError(
                f"{self.path}: holds what a command of other settings measured: {listed(found)}",
                hint="use another --work",
                differences={key: {"recorded": a, "asked": b} for key, (a, b) in found.items()},
            )
        self._agree_on_versions(held.get("versions") or {})

    def _agree_on_versions(self, old: Mapping[str, str | None]) -> None:
        """Another version of the package may measure something else by the same name: it is refused."""
        new = versions()
        changed = {key: (old.get(key), own) for key, own in new.items() if old.get(key) != own}
        if PACKAGE in changed:
            recorded, own = changed[PACKAGE]
            raise RunMismatchError(
                f"{self.path}: was measured by version {recorded} of merged-diffusion, and this is {own}",
                hint=f"use another --work, or version {recorded}",
                differences={PACKAGE: {"recorded": recorded, "found": own}},
            )
        if changed:
            self.notes.append(f"{self.path} was begun in another environment: {listed(changed)}")

    def whole(self) -> Stage:
        """The command, by whose names all is kept."""
        return Stage(self)

    def rows(
        self,
        name: str,
        data: Data,
        width: int,
        measure: Measure,
        rows: int,
        at_once: int,
        observe: Callable[[int], object],
    ) -> KeptRows:
        """The rows of all images, once they are there; ``measure`` is given so many at once, at most."""
        kept = self._open.enter_context(KeptRows(self.path / name, data, width, self.shard))

        def heard(n: int) -> None:
            self.presence.sign()
            observe(n)

        stage = RowStage(name, kept, measure, at_once, heard)
        is_at_work, crew = self.presence.is_at_work, self.blocks.crew
        work = Work(f"{self.path.name}/{name}", len(data), 1, rows, stage.done, is_at_work, pace=name)
        sent = b"" if crew is None or self._names is None else self._names.dumps(measure)
        for taken in self.blocks.passes:
            for mask in taken(work):
                if crew is None:
                    stage.take(mask)
                else:
                    stage.hand_out(mask, crew, sent)
        kept.flush()
        return kept

    def once(self, name: str, find: Callable[[], Sequence[float]]) -> list[float]:
        """Numbers as whoever was first found them; others need not look."""
        path = (self.path / name).with_name(f"{folder_of(Path(name).name)}.json")
        return first_numbers(path, find, lambda: locked(self._folder, SETTINGS))

    def likelihoods(
        self,
        place: str,
        groups: Sequence[Mapping[str, MergedModel]],
        data: Data,
        options: Options,
        labels: Labels,
        progress: bool,
    ) -> dict[str, Likelihood]:
        """The likelihoods of all images under all models, once they are there."""
        if self._plan is None:
            raise TypeError("exact runs take a plan")
        own = replace(self._plan, data=data, whole=data)
        found: dict[str, Likelihood] = {}
        with ExitStack() as opened:
            begun = [
                opened.enter_context(
                    ExactGroup(
                        self.path / place,
                        own,
                        group,
                        options,
                        labels,
                        self.shard,
                        progress=progress,
                        sign=self.presence.sign,
                        crew=self.blocks.crew,
                        names=self._names,
                    )
                )
                for group in groups
            ]
            for taken in self.blocks.passes:
                for group in begun:
                    work = group.work(f"{self.path.name}/{place}", self.presence.is_at_work)
                    for mask in taken(work):
                        group.score(mask)
            for group in begun:
                found |= group.likelihoods()
        return {name: found[name] for models in groups for name in models}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave(error)
        finally:
            self._open.close()
            unmake(self._made)

    def _leave(self, error: BaseException | None) -> None:
        """Free the worker's place; a folder in which nothing was measured binds nobody."""
        with suppress(MergedDiffusionError):
            self.presence.release()
            if error is None or not self._made:
                return
            own = {SETTINGS, LOCK, share_lock(self.shard)}
            # Who takes a place does it under this lock: nobody else's can come between.
            with locked(self._folder, SETTINGS):
                if set(self._folder.names()) <= own:
                    self._folder.remove(sorted(own))

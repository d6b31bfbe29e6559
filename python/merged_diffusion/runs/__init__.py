"""A run: a directory that keeps settings, an append-only journal of images per worker, and a summary.

``settings.json`` says what was asked, ``images-0000-of-0001.jsonl`` holds a record per image of worker 0 of
1, ``environments/`` the versions that the records name, ``summary.json`` the summary over all records. An
expert that was scored alone beside the merged model has a run of its own inside (``likelihood/``,
``quality/``). Readers merge all ``images-*.jsonl`` by id, so a run goes on with any number of workers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from merged_diffusion.errors import RunError, RunMismatchError, StorageError
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.environment import Versions, versions
from merged_diffusion.runs.folder import LOCK, locked, made_folder, refuse_strangers
from merged_diffusion.runs.journal import Journal, is_at_work, journal_path, others_at_work, worker_at_work
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.kept_versions import ENVIRONMENTS, keep_versions
from merged_diffusion.runs.known_records import KnownRecords
from merged_diffusion.runs.places import unmake
from merged_diffusion.runs.settings_file import (
    FORMAT,
    Settings,
    differences,
    is_machine,
    json_text,
    listed,
    read_settings,
    takes_selection,
)
from merged_diffusion.scores.record import Record

__all__ = ["Journal", "KnownRecords", "Run", "open_run", "others_at_work", "versions", "worker_at_work"]

PARTS: Final = ("likelihood", "quality")
SETTINGS: Final = "settings.json"
SUMMARY: Final = "summary.json"
OF_WORKERS: Final = re.compile(r"images-[0-9]{4,}-of-[0-9]{4,}\.(jsonl|owner|lock)")
OF_ENVIRONMENTS: Final = re.compile(r"[0-9a-f]{8}\.json|\.[0-9a-f]{8}\.json\.[0-9]+")

log = logging.getLogger(__name__)


def open_run(folder: str | Path) -> Run:
    """A `Run` to read: ``.settings``, ``.records()``, ``.parts()``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> summary = md.evaluate("digits", limit=2, out="results/digits")
    >>> [record.status for record in md.open_run("results/digits").records()]
    ['ok', 'ok']
    """
    path = Path(folder)
    settings = read_settings(path)
    if settings is None and (path / "sweep.json").is_file():
        rows = ", ".join(sorted(row.parent.name for row in path.glob("*/settings.json")))
        raise RunError(
            f"{path}: is a sweep, whose rows are runs ({rows or 'none is kept as one'})",
            hint="name one of them, or use runs export and runs report, which take all",
        )
    if settings is None:
        found, hint = _no_run(path)
        raise RunError(f"{path}: {found}", hint=hint)
    return Run(path, settings)


def _no_run(path: Path) -> tuple[str, str]:
    """What is there in the place of a run, and what to do."""
    if (path / "threshold.json").is_file():
        return "is what threshold found (threshold.json), and no run", "nll with the option in it makes one"
    if path.is_file():
        return "is a file, and a run is a directory", "samples are for fid and runs report"
    return "holds no settings.json, so it is no run", "name a directory given as --out"


class Run:
    """A run on disk. `open_run` gives one to read, `Run.open` one to write."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self.settings = settings
        self.notes: list[str] = []
        self.rebatched = False
        self._known = KnownRecords(path)
        self._journal: Journal | None = None
        self._directory: Directory | None = None  # of a run that is written
        self._environment = ""
        self._made: list[Path] = []
        self._is_new = False

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.settings.get('command', 'nll')})"

    @classmethod
    def open(
        cls,
        path: Path,
        settings: Mapping[str, object],
        *,
        selection: Mapping[str, object] | None = None,
        shard: tuple[int, int] = (0, 1),
        allow_rebatch: bool = False,
        strict_env: bool = False,
        n_expected: int = 0,
        known: KnownRecords | None = None,
    ) -> Run:
        """Begin a run in ``path``, or go on with the one that is there.

        ``selection`` names the images that this command adds (``limit``, ``ids``), ``known`` holds what was
        read of the run before. ``notes`` of the result say what a user should know: other versions, a torn
        tail that was cut.

        Raises
        ------
        RunMismatchError
            The run has other settings or data (``fields["differences"]``).
        RunLockedError
            Another process works on the same shard.
        StorageError
            The directory cannot be written.
        """
        made = made_folder(path, n_expected)
        current = versions()
        asked = {**settings, "format": FORMAT, "versions": current, "selections": [dict(selection or {})]}
        directory: Directory | None = None
        run: Run | None = None
        try:
            directory = Directory(path)
            refuse_strangers(directory, SETTINGS)
            with locked(directory, SETTINGS, SUMMARY):
                with as_kept(path):
                    run = cls._agree(directory, asked, allow_rebatch=allow_rebatch, strict_env=strict_env)
                run._made = made
                run._known = known or run._known
                run._begin(shard, current)
        except BaseException as error:
            is_ours = bool(made) and isinstance(error, StorageError)  # and nobody else's lock
            with suppress(StorageError, RunError):
                if run is not None:
                    run.discard_if_unused()
                elif directory is not None and is_ours and directory.status(SETTINGS) is None:
                    directory.remove([LOCK])
            if directory is not None:
                directory.close()
            unmake(made)
            raise
        return run

    @classmethod
    def _agree(cls, directory: Directory, asked: Settings, *, allow_rebatch: bool, strict_env: bool) -> Run:
        """Write the settings of a new run, or compare them with those of the run that is there."""
        held = read_settings(directory.path)
        if held is None:
            directory.write(SETTINGS, json_text(asked))
            run = cls(directory.path, asked)
            run._is_new = True
        else:
            run = cls(directory.path, held)
            run._compare(asked, allow_rebatch=allow_rebatch, strict_env=strict_env)
            if takes_selection(held, asked):
                directory.write(SETTINGS, json_text(held))
        run._directory = directory
        return run

    def _compare(self, asked: Settings, *, allow_rebatch: bool, strict_env: bool) -> None:
        found = differences(self.settings, asked)
        self.rebatched = any(map(is_machine, found))
        fatal = {k: v for k, v in found.items() if not (allow_rebatch and is_machine(k))}
        if fatal:
            hint = "use another --out"
            if all(map(is_machine, fatal)):
                hint = "--allow-rebatch goes on and marks the rows: their last bits may differ"
            raise RunMismatchError(
                f"{self.path}: holds a run of other settings: " + listed(fatal),
                hint=hint,
                differences={key: {"recorded": a, "asked": b} for key, (a, b) in fatal.items()},
            )
        old, new = self.settings.get("versions", {}), asked["versions"]
        changed = {key: (old.get(key), new[key]) for key in new if old.get(key) != new[key]}
        if changed and strict_env:
            raise RunMismatchError(
                f"{self.path}: was begun in another environment: " + listed(changed),
                hint="--strict-env was given; without it the run goes on and records the environment",
                differences={key: {"recorded": a, "found": b} for key, (a, b) in changed.items()},
            )
        if changed:
            self.notes.append(f"{self.path} was begun in another environment: {listed(changed)}")

    def _begin(self, shard: tuple[int, int], current: Versions) -> None:
        self._environment = keep_versions(self._written, current)
        self._journal = Journal(journal_path(self.path, shard), self._written, self._known)
        if self._journal.cut:
            self.notes.append(
                f"{self._journal.path}: cut {self._journal.cut} bytes of a record that was not finished"
            )

    @property
    def _written(self) -> Directory:
        if self._directory is None:
            raise RunError(f"{self.path}: was opened to be read")
        return self._directory

    def append(self, record: Record, found: Versions | None = None) -> None:
        """Keep one record; it survives the death of this process from here on.

        ``found``: the versions that it was made by, where that was in another process.
        """
        if self._journal is None:
            raise RunError(f"{self.path}: was opened to be read")
        environment = self._environment if found is None else keep_versions(self._written, found)
        self._journal.append(replace(record, environment=environment, rebatched=self.rebatched))

    def records(self) -> list[Record]:
        """The records of all workers, one per id, in ascending order of ids.

        Raises `RunCorruptError` where a line before the tail is damaged.
        """
        return self._known.records(None if self._journal is None else self._journal.held)

    def parts(self) -> dict[str, Run]:
        """The experts that were scored alone beside this run."""
        return {
            name: open_run(self.path / name) for name in PARTS if read_settings(self.path / name) is not None
        }

    def write_summary(self, summarise: Callable[[], Mapping[str, object]]) -> None:
        """Replace ``summary.json``.

        Workers that end together do it one after the other, so that the last one summarises all records.
        """
        directory = self._written
        self.check()
        with locked(directory, SETTINGS, SUMMARY):
            if directory.status(SETTINGS) is None:
                log.warning("%s: its %s was removed, and is written again", self.path, SETTINGS)
                directory.write(SETTINGS, json_text(self.settings))
            directory.write(SUMMARY, json_text(summarise()))

    def check(self) -> None:
        """`IncompleteError` where the journal of this process was removed, replaced or cut meanwhile."""
        if self._journal is not None:
            self._journal.check()

    def discard_if_unused(self) -> None:
        """Take back a run that this process began and that neither holds a record nor has another worker.

        What goes is what a run makes, by name; a directory in which something else lies stays.
        """
        directory, self._directory = self._directory, None
        self._close_quietly()
        if directory is None:
            return
        with directory:
            if not self._is_new or not directory.is_there():
                return
            with locked(directory, SETTINGS, SUMMARY):
                names = directory.names()
                if self.records() or set(PARTS) & set(names):
                    return
                if any(is_at_work(self.path / name) for name in names if name.endswith(".jsonl")):
                    return
                # The settings last: what is left by a process that is killed here is a run still.
                directory.remove(name for name in names if OF_WORKERS.fullmatch(name))
                if ENVIRONMENTS in names:
                    with directory.folder(ENVIRONMENTS) as known:
                        known.remove(name for name in known.names() if OF_ENVIRONMENTS.fullmatch(name))
                    directory.remove_folder(ENVIRONMENTS)
                directory.remove([SUMMARY, SETTINGS, LOCK])
        unmake(self._made)

    def _close_quietly(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            with suppress(StorageError):
                journal.close()

    def close(self) -> None:
        """Force the records to the disk and free the shard."""
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        journal, self._journal = self._journal, None
        directory, self._directory = self._directory, None
        try:
            if journal is not None:
                journal.__exit__(kind, error, trace)
        finally:
            if directory is not None:
                directory.close()

"""The scores of a run that was kept, image by image, beside what its data set knows of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from merged_diffusion.bound import Bound
from merged_diffusion.data import NAMES, Data, load_data
from merged_diffusion.errors import DataError, UnsafeFileError, UsageError
from merged_diffusion.frames import Column
from merged_diffusion.jobs.identity import Identity
from merged_diffusion.jobs.kept_runs import check_scored
from merged_diffusion.jobs.summary import scores
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.runs import Run, open_run
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.scores.record import Record

log = logging.getLogger("merged_diffusion")


def load_scores(run: str | Path | Run, *, cache: str | Path | None = None) -> Likelihood | Bound:
    """The scores that a run holds, as `log_likelihood` and `variational_bound` return them.

    Parameters
    ----------
    run
        A directory that was given as ``out`` or ``--out``, one of its parts (``likelihood``, ``quality``), or
        the row of a sweep.
    cache
        The folder in which ``cifar10`` and ``imagenet32`` are looked for.

    Returns
    -------
    Likelihood or Bound
        The records in ascending order of ids. Names of files and labels stand beside them where the very
        images are still found at the place from which they were scored: a path that was given relative to
        another working folder is looked for in this one, and in those above the run.

    Raises
    ------
    RunError
        The directory holds no run, or a damaged one.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> summary = md.evaluate("digits", limit=4, out="results/digits")
    >>> found = md.load_scores("results/digits")
    >>> found.mean == summary.means.bits_per_dim.mean
    True
    >>> list(found.to_dict())[:4]
    ['id', 'label', 'status', 'bits_per_dim']
    """
    return scores_of(run if isinstance(run, Run) else open_run(run), partial(load_data, cache=cache))


def scores_of(run: Run, load: Callable[..., Data]) -> Likelihood | Bound:
    """`load_scores` of a run whose set of images ``load`` reads, as `load_data` does."""
    check_scored(run)
    with as_kept(run.path):
        identity, records = Identity.from_dict(run.settings), run.records()
    beside = _beside(identity, records, load, run.path)
    with as_kept(run.path):
        return scores(identity, records, beside=beside)


def _beside(
    identity: Identity, records: list[Record], load: Callable[..., Data], folder: Path
) -> dict[str, Column]:
    """What the data set knows of the images of some records; nothing where it is not there any more."""
    settings = identity.settings
    data = _data_again(identity, load, folder)
    if data is None:
        return {}
    places = {int(image): place for place, image in enumerate(data.ids)}
    positions = [places.get(record.id, -1) for record in records]
    if -1 in positions:
        log.warning(
            "%s: names other ids than those that were scored, so nothing stands beside them",
            settings["data"],
        )
        return {}
    return {name: column[np.array(positions, dtype=int)] for name, column in data.columns.items()}


def _data_again(identity: Identity, load: Callable[..., Data], folder: Path) -> Data | None:
    """The very images that were scored; None, and a warning why, where they are not found."""
    settings, told = identity.settings, ""
    given = str(settings["data"])
    for source in _sources(given, folder):
        try:
            data = load(source, settings["split"], settings["levels"], variant=settings["variant"])
        except (DataError, UnsafeFileError, UsageError) as error:
            told = told or f"the images of the run are not read again, so nothing stands beside them: {error}"
            continue
        if data.sha256 == identity.data.sha256:
            return data
        told = (
            told or f"{given}: holds other images than those that were scored, so nothing stands beside them"
        )
    if _is_relative(given):
        told += (
            f"; its path is relative, and was looked for in {Path.cwd()} and in the folders above {folder}"
        )
    log.warning("%s", told)
    return None


def _is_relative(data: str) -> bool:
    """Whether that is a path relative to the working folder of the command that scored it."""
    return data not in NAMES and not Path(data).is_absolute()


def _sources(data: str, folder: Path) -> Iterator[str]:
    """Where a set may lie: as it was given, and relative to the folders above its run."""
    yield data
    if _is_relative(data):
        here = Path.cwd()
        yield from (
            str(above / data)
            for above in folder.resolve().parents
            if above != here and (above / data).exists()
        )

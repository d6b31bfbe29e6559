"""The scores of a run that was kept, image by image, beside what its data set knows of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from merged_diffusion.bound import Bound
from merged_diffusion.data import Data, load_data
from merged_diffusion.errors import DataError, UnsafeFileError, UsageError
from merged_diffusion.frames import Column
from merged_diffusion.jobs.identity import Identity
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
        images are still found at the place from which they were scored.

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
    with as_kept(run.path):
        identity, records = Identity.from_dict(run.settings), run.records()
    beside = _beside(identity, records, load)
    with as_kept(run.path):
        return scores(identity, records, beside=beside)


def _beside(identity: Identity, records: list[Record], load: Callable[..., Data]) -> dict[str, Column]:
    """What the data set knows of the images of some records; nothing where it is not there any more."""
    settings = identity.settings
    try:
        data = load(settings["data"], settings["split"], settings["levels"], variant=settings["variant"])
    except (DataError, UnsafeFileError, UsageError) as error:
        log.warning("the images of the run are not read again, so nothing stands beside them: %s", error)
        return {}
    if data.sha256 != identity.data.sha256:
        log.warning(
            "%s: holds other images than those that were scored, so nothing stands beside them",
            settings["data"],
        )
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

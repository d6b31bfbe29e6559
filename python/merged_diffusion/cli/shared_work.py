"""Workers of ``threshold``, ``gate`` and ``fid``, which decide from what all of them measure.

Each measures a share and waits for the rows of the others, in a directory that all see (``--work``). The
first worker tells the result; where it is gone, the first of the others. With ``--ray`` this process alone
decides, keeps and tells, and the workers of a cluster measure for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import click

from merged_diffusion.cli import crews, options, output, workers
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings

if TYPE_CHECKING:
    from merged_diffusion.data.images import Data
    from merged_diffusion.jobs.crew import Recipe
    from merged_diffusion.jobs.measuring_images import Measuring
    from merged_diffusion.jobs.plan import Plan
    from merged_diffusion.jobs.shared_measuring import SharedMeasuring
    from merged_diffusion.quality.feature_network import Extractor
    from merged_diffusion.quality.statistics import Known
    from merged_diffusion.scores.named_objects import ByName

work = click.option(
    "--work", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Keep in this directory what is measured of each image: all workers see it, and the same command "
    "goes on where it stopped.",
)  # fmt: skip


def worker_of(given: options.Given) -> workers.Worker:
    """The worker that options and launcher make of this process.

    Raises
    ------
    UsageError
        There are several and no directory in common, or the options contradict each other.
    """
    crews.check(given, os.environ)
    worker = workers.worker_share(given["shard"], os.environ)
    workers.store_address(worker, given["store"], os.environ)
    if worker.shard[1] > 1 and given["work"] is None:
        raise UsageError(
            f"{worker.shard[1]} workers keep what they measure in one directory, and none is given",
            hint="give --work DIR",
        )
    return worker


def is_free(given: options.Given, worker: workers.Worker, file: Path | None) -> bool:
    """Whether the result may go to ``file``: nothing is there, or what a worker of this command told."""
    if file is None or not file.exists():
        return True
    from merged_diffusion.jobs.telling import is_own

    return worker.shard[1] > 1 and is_own(given["work"], file)


class Shared:
    """Who measures in a command, and whether this process tells what comes of it."""

    def __init__(self, kept: SharedMeasuring | None, worker: workers.Worker, *, quiet: bool) -> None:
        from merged_diffusion.jobs.measuring_images import HERE

        self.kept = kept
        self.measuring: Measuring = HERE if kept is None else kept.whole()
        self._worker, self._quiet, self._tells = worker, quiet, False

    def features(
        self, name: str, data: Data, extractor: Extractor, observe: Callable[[int], None]
    ) -> Known | None:
        """Who has the features of the images, once all are there; None: who asks computes them."""
        if self.kept is None:
            return None

        from merged_diffusion.quality.feature_rows import FeatureRows

        stage = f"{name}-{extractor.name}-{extractor.sha256[:8]}"
        measure, rows = FeatureRows(extractor, data), extractor.rows
        found = self.kept.whole().rows(
            stage, data, extractor.dim, measure, rows=rows, is_steady=True, observe=observe
        )
        return found.at

    def tells(self) -> bool:
        """Once all is measured."""
        self._tells = self.kept is None or self.kept.telling.tells()
        if not self._tells and not self._quiet and self._worker.speaks:
            output.say("note: another worker told the result")
        return self._tells

    def heard(self, observe: Callable[[int], object]) -> Callable[[int], None]:
        """The same, and a sign to the other workers."""

        def told(n: int) -> None:
            observe(n)
            if self.kept is not None:
                self.kept.presence.sign()

        return told

    def end(self) -> None:
        """Say that it is told, and stay for those that are still there: this process may hold their store."""
        if self.kept is None:
            return
        if self._tells:
            self.kept.telling.told()
        if self._worker.shard[0] == 0:
            self.kept.telling.await_others()


@contextmanager
def shared(
    given: options.Given,
    worker: workers.Worker,
    identity: Mapping[str, object],
    plan: Plan | None = None,
    *,
    recipe: Callable[[], tuple[Recipe, ByName]],
    file: Path | None = None,
) -> Iterator[Shared]:
    """The directory of ``--work``, open; without one, measuring is this process's alone.

    With ``--ray`` there is one all the same, which nobody keeps, and workers make by the ``recipe`` what they
    know by these names. The result goes to ``file``.
    """
    where: Path | None = given["work"]
    if where is None and given["ray"] is None:
        yield Shared(None, worker, quiet=given["quiet"])
        return
    from merged_diffusion.jobs.shared_measuring import SharedMeasuring

    def tell(text: str) -> None:
        if not given["quiet"]:
            output.say(f"note: {text}")

    with ExitStack() as opened:
        made, names = (None, None) if given["ray"] is None else recipe()
        if where is None:
            where = Path(opened.enter_context(TemporaryDirectory(prefix="merged-diffusion-"))) / "work"
        asked = crews.blocks_of(worker, given, lambda: cast("Recipe", made), same_package=True)
        blocks = opened.enter_context(asked)
        all_come = worker.is_launched or given["store"] not in (None, "off")
        kept = opened.enter_context(
            SharedMeasuring(
                where, identity, blocks, plan, file=file, tell=tell, names=names, all_come=all_come
            )
        )
        for note in [] if given["quiet"] else kept.notes:
            output.say(f"note: {note}")
        found = Shared(kept, worker, quiet=given["quiet"])
        yield found
        found.end()


@contextmanager
def tuned(
    command: str,
    settings: Settings,
    given: options.Given,
    worker: workers.Worker,
    file: Path | None,
    *names: str,
) -> Iterator[tuple[Plan, Shared, dict[str, Any]]]:
    """The plan of what is chosen on other images than it is reported on, who measures, and how to ask for it.

    ``names`` are the options of the command's own that its numbers depend on; the result goes to ``file``.
    """
    from merged_diffusion.experts.checks import checked_once
    from merged_diffusion.jobs.plan import place
    from merged_diffusion.jobs.threads import configured
    from merged_diffusion.thresholds.auto import without_threshold
    from merged_diffusion.thresholds.choice_recipe import ChoiceRecipe

    quiet = given["quiet"] or not worker.speaks
    with output.remarks(quiet=quiet):
        workers.take_gpu(worker, settings.machine.device)
        plan, _ = place(without_threshold(settings), given["work"])
        own = identity(command, plan, given, *names, "no_test")
        with configured(threads=plan.threads, deterministic=settings.deterministic), checked_once():
            plan.check_experts()
            for note in () if quiet else plan.notes:
                output.say(f"note: {note}")
            recipe = partial(ChoiceRecipe.of, plan, given["tune_data"], given["tune_limit"])
            with shared(given, worker, own, plan, recipe=recipe, file=file) as found:
                yield (
                    plan,
                    found,
                    {
                        "tune_data": given["tune_data"],
                        "tune_limit": given["tune_limit"],
                        "test": not given["no_test"],
                        "progress": not quiet and sys.stderr.isatty(),
                        "tell": (lambda _: None) if quiet else output.say,
                        "measuring": found.measuring,
                    },
                )


def identity(command: str, plan: Plan, given: options.Given, *names: str) -> dict[str, object]:
    """All that the numbers of a command depend on; ``names`` are those of its own options."""
    from merged_diffusion.data.images import ids_sha256

    own = {name: given[name] for name in ("tune_data", "tune_limit", *names)}
    found = plan.describe() | {"command": command, "asked": own, "chosen": ids_sha256(plan.data)}
    # Files of one name may hold other images on another machine, or later; a set by its name is checked.
    if given["work"] is not None and given["tune_data"] is not None:
        from merged_diffusion.thresholds.auto import tuning_data

        tune = tuning_data(plan.settings, given["tune_data"], given["tune_limit"])
        found["tune"] = {"sha256": tune.sha256, "chosen": ids_sha256(tune)}
    return found

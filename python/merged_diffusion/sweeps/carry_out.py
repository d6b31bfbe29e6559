"""A sweep carried out: ``sweep(settings, out="results/sweep")`` is what ``merged-diffusion sweep`` does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from merged_diffusion.errors import MergedDiffusionError, UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.sweeps import sweep_folder, table
from merged_diffusion.sweeps.place import place
from merged_diffusion.sweeps.request import Metric, Request, stated
from merged_diffusion.sweeps.spent import Cost
from merged_diffusion.sweeps.sweep_plan import Observer, SweepPlan
from merged_diffusion.sweeps.thresholds import Eta


class Sweep:
    """A plan being carried out. `result` may be asked for at any time, also after an interrupt."""

    def __init__(
        self,
        plan: SweepPlan[Any],
        *,
        out: Path | None = None,
        allow_rebatch: bool = False,
        strict_env: bool = False,
    ) -> None:
        self.plan = plan
        self.out = out
        self.cost = Cost()
        self.seconds = 0.0
        self._errors: dict[str, dict[str, Any]] = {}
        if out is not None:
            spent, self.seconds, made = sweep_folder.begin(
                out, self._table([], None), allow_rebatch=allow_rebatch
            )
            self.cost = Cost(spent["spent"], spent["single_runs"])
        try:
            self._rows = plan.opened(out, allow_rebatch=allow_rebatch, strict_env=strict_env)
        except BaseException:
            if out is not None and made is not None:
                with suppress(MergedDiffusionError):
                    sweep_folder.take_back(out, made)
            raise

    @property
    def notes(self) -> list[str]:
        """What opening the rows found worth saying."""
        return self._rows.notes

    def left(self) -> dict[str, int]:
        """Images to score or to draw, by row."""
        return self._rows.left()

    def run(self, observe: Observer | None = None) -> None:
        """Compute what is not there yet; ``observe(row, record or samples)`` is called as they are made."""

        def failed(name: str, error: Exception) -> None:
            self._errors[name] = told(error)

        begin = time.monotonic()
        try:
            self._rows.run(observe, self.cost, failed)
        except BaseException:
            self.cost.time_profile = None  # where the time of what was cut short went is not known
            self.seconds += time.monotonic() - begin
            with suppress(MergedDiffusionError):  # what cut it short is told
                self.write()
            raise
        self.seconds += time.monotonic() - begin
        self.write()

    def write(self) -> None:
        """Replace ``sweep.json``."""
        if self.out is not None:
            sweep_folder.write(self.out, self.result())

    def result(self) -> dict[str, Any]:
        """The table over what there is: the content of ``sweep.json``."""
        lines, paired = self._rows.lines(self._errors)
        return self._table(lines, table.compare(lines, [row.eta for row in self.plan.rows], paired))

    def _table(self, lines: list[table.Line], best: dict[str, Any] | None) -> dict[str, Any]:
        found = self.plan.identity() | {
            "rows": lines,
            "evaluations": {"spent": self.cost.spent, "single_runs": self.cost.single_runs},
            "best": best,
            "seconds": self.seconds,
        }
        if self.plan.settings.machine.profile_time and self.cost.time_profile is not None:
            loaded = self.plan.base.data_seconds
            found["time_profile"] = self.cost.time_profile.with_data(loaded).as_dict()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()


def sweep(
    settings: Settings | Mapping[str, Any],
    etas: Sequence[Eta] | None = None,
    *,
    metric: Metric = "nll",
    times: int | None = None,
    profile: bool = False,
    num: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    out: str | Path | None = None,
    observe: Observer | None = None,
) -> dict[str, Any]:
    """Compute a metric of the pair at every threshold; by default the set's grid and both experts alone.

    ``settings``, or a mapping of some of them such as ``{"data": "digits"}``, name no threshold. Noise is the
    same for all rows, and each row is to the last bit what a command gives at that threshold: `evaluate` for
    ``nll`` and ``vlb``, `draw` for ``sample``.

    Parameters
    ----------
    metric
        ``nll``, exact likelihood, what rows have in common computed once; ``vlb``, the variational bound;
        ``sample``, ``num`` images of each row and their distance from the known set by its primary metric.
    times, profile
        vlb: as of `variational_bound`.
    num, sampling, image_shape
        sample: how many images (1,000), and ``{"sampler": "heun", "steps": 18}``: options of `draw`, whose
        seed is that of the settings.
    observe
        Called with a row's name and a record, or `Samples`, as they are made.

    Returns the table that ``sweep.json`` holds (docs/formats.md): rows with their summaries, paired
    differences to the best, thresholds that cannot be told from it, evaluations spent and saved.
    """
    settings = settings if isinstance(settings, Settings) else _settings(settings)
    own = {"times": times, "profile": profile, "num": num, "sampling": sampling, "image_shape": image_shape}
    request = Request.of(metric, stated(settings) | own)
    plan, path = place(settings, etas, None if out is None else Path(out), request)
    plan.check_experts()
    with Sweep(plan, out=path) as running:
        running.run(observe)
        return running.result()


def _settings(given: Mapping[str, Any]) -> Settings:
    known = [field.name for field in fields(Settings)]
    strange = [name for name in given if name not in known]
    if strange or "data" not in given:
        what = f"no setting is called {strange[0]!r}" if strange else "the settings name no data"
        raise UsageError(what, hint=f"possible are {', '.join(known)}")
    return Settings.of(given)


def told(error: Exception) -> dict[str, Any]:
    """An error as a row keeps it."""
    if isinstance(error, MergedDiffusionError):
        return {
            "type": type(error).__name__,
            "message": error.message,
            "fields": error.fields,
            "hint": error.hint,
        }
    return {"type": type(error).__name__, "message": str(error), "fields": {}, "hint": None}

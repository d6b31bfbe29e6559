"""What the rows of a sweep compute, and which options belong to that; torch is not needed to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.ode import methods
from merged_diffusion.samplers import CHURN, Sampling
from merged_diffusion.scores.defaults import SWEPT, TIMES

Metric = Literal["nll", "vlb", "sample"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
SCORED: Final = ("nll", "vlb")
OF_SAMPLES: Final = ("sampler", "steps", "order", "sigmas", "statistics", "clip", "decode", *CHURN)
# Who takes an option that not every metric takes.
OWNERS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("dequantise", "importance", "probe", "probes", "quad_check", "preset", "profile_time"), ("nll",)
    ),
    **dict.fromkeys(methods.WORDS, ("nll", "sample")),
    **dict.fromkeys(("times", "profile"), ("vlb",)),
    **dict.fromkeys(("split", "levels", "limit", "ids", "repeats"), SCORED),
    **dict.fromkeys(("allow_failed", "allow_rebatch", "strict_env"), SCORED),
    **dict.fromkeys(("num", "ref", "features", "image_shape", "sampling", *OF_SAMPLES), ("sample",)),
}
LABELS: Final[Mapping[str, tuple[str, ...]]] = {"from-data": SCORED, "cycle": ("sample",)}


@dataclass(frozen=True, kw_only=True)
class Request:
    """``times`` and ``profile`` of a bound; ``num`` images, drawn as ``how`` says, of samples.

    Those are measured against ``ref`` (statistics, other images, or a set by its name; by default the set of
    the data, and of a path that is no known set its own images) in ``features``, as `fid` does.
    """

    metric: Metric = "nll"
    times: int = TIMES
    profile: bool = False
    num: int = SWEPT
    ref: str | None = None
    features: str | None = None
    image_shape: tuple[int, int, int] | None = None
    how: Sampling = Sampling()  # noqa: RUF009  frozen
    gate: str | None = None
    """The card of one, which is a row more."""

    @classmethod
    def of(cls, metric: str, given: Mapping[str, Any]) -> Self:
        """From options by name; None and False were not given. ``sampling`` may hold those of samples.

        Raises
        ------
        UsageError
            An option belongs to another metric, or its value is not possible.
        """
        chosen = next((word for word in METRICS if word == metric), None)
        if chosen is None:
            raise UsageError(f"metric = {metric!r}, possible are {', '.join(METRICS)}")
        stated = {name: value for name, value in given.items() if value is not None and value is not False}
        for name, value in stated.items():
            owners = LABELS.get(value) if name == "labels" else OWNERS.get(name)
            if owners is not None and chosen not in owners:
                shown = "" if value is True else f" {value}"
                raise UsageError(
                    f"{name.replace('_', '-')}{shown} belongs to metric {' and '.join(owners)}, and the"
                    f" metric is {chosen}",
                    hint=f"leave it out, or use metric {owners[0]}",
                )
        names: tuple[str, ...] = ("times", "profile", "num", "ref", "features", "image_shape")
        own = {name: stated[name] for name in names if name in stated}
        for name, least in (("times", 1), ("num", 2)):
            if own.get(name, least) < least:
                raise UsageError(
                    f"{name} {own[name]} lies below {least}", hint=f"use a number from {least} up"
                )
        if chosen == "sample":
            how: dict[str, object] = {
                name: stated[name] for name in ("seed", *OF_SAMPLES, *methods.WORDS) if name in stated
            }
            own["how"] = Sampling.of(how | dict(stated.get("sampling", {})))
        return cls(metric=chosen, **own)


def stated(settings: Settings) -> dict[str, object]:
    """The words of settings that differ from their defaults, but for those that the method fills in."""
    usual, filled = Settings(data=settings.data).as_dict(), (*methods.WORDS, "probe")
    words = settings.as_dict() | {"profile_time": settings.machine.profile_time or None}
    return {name: value for name, value in words.items() if name not in filled and value != usual.get(name)}

"""Which experts are meant, and whether the files are there: by names and paths alone, without torch."""

from __future__ import annotations

from typing import Final, Literal

from merged_diffusion.catalogue.absent import absent
from merged_diffusion.catalogue.entries import PairCard, known, pair_card, public
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.roles import roles_of

GIVEN: Final = "given in Python"  # the source of an expert that no name or path led to
ROLES: Final[tuple[Literal["likelihood", "quality"], ...]] = ("likelihood", "quality")


def pair_of(settings: Settings, data: str) -> PairCard | None:
    """The named pair, else that of the known data set ``data`` unless both experts are given."""
    if settings.pair is not None:
        return pair_card(settings.pair)
    if settings.experts is not None:
        return None
    if settings.likelihood_expert is not None and settings.quality_expert is not None:
        return None
    return pair_card(data) if data in known()["pair"] else None


def sources(settings: Settings, pair: PairCard | None) -> dict[str, str]:
    """The experts by role, as far as they are given or the pair's."""
    if settings.expert is not None:
        return {"expert": settings.expert}
    if settings.experts is not None:
        return dict(zip(roles_of(len(settings.experts)), settings.experts, strict=True))
    given = {"likelihood": settings.likelihood_expert, "quality": settings.quality_expert}
    of_pair = {} if pair is None else pair.sources(settings.cache)
    named = {role: source or of_pair.get(role) for role, source in given.items()}
    return {role: source for role, source in named.items() if source is not None}


def both_sources(settings: Settings, pair: PairCard | None, data: str) -> dict[str, str]:
    """The experts of both roles; `UsageError` where one is neither given nor the pair's."""
    found = sources(settings, pair)
    for role in ROLES:
        if role not in found:
            raise UsageError(
                f"no {role} expert: {data} has no pair of its own",
                hint=f"give --pair NAME or --{role}-expert, or one expert alone by --expert",
            )
    return found


def check_present(settings: Settings) -> None:
    """Refuse where public files are not in the cache, all of them named at once.

    Raises
    ------
    CheckpointError
        Files of an expert are missing.
    DataNotFoundError
        Only data are.
    """
    name = settings.data if settings.variant is None else f"{settings.data}-{settings.variant}"
    guides = [] if settings.guidance is None else [settings.guidance.guide]
    experts = dict.fromkeys([*sources(settings, pair_of(settings, settings.data)).values(), *guides])
    wanted = [*(public("expert", source) for source in experts), public("data", name)]
    missing = [entry for entry in wanted if entry is not None and not entry.is_present(settings.cache)]
    if missing:
        raise absent(missing, settings.cache)

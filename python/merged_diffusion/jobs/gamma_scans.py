"""Which experts of a run were scanned in gamma, and what is known of them: measured once for an expert.

A scan (`experts/gamma_scan.py`) takes about 600 forward calls with a product, as much as six to twelve
images. What the catalogue says of a bundled expert, or an earlier run left in the cache under the hash of
weights and code, costs nothing. Else it is made where it is at most a twentieth of what this worker's images
take, or where ``--quad-check all`` asks for it. It is the network's, in full precision whatever the run's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from merged_diffusion.caller import warn_caller
from merged_diffusion.catalogue.cache import cached
from merged_diffusion.catalogue.entries import known
from merged_diffusion.errors import ExpertWarning, RunCorruptError, StorageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.cards import located, parted
from merged_diffusion.experts.gamma_scan import scan_gamma
from merged_diffusion.experts.spikes import GammaScan, n_points
from merged_diffusion.jobs.asked import Asked
from merged_diffusion.jobs.cost import NOMINAL_EVALUATIONS
from merged_diffusion.jobs.identity import GUIDANCE, ExpertIdentity
from merged_diffusion.jobs.pilot_runs import pilot_images, with_check
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.sources import GIVEN
from merged_diffusion.legs import asked_over
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.machine import DTYPE, PRECISION
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import GAMMA_SCAN, read_settings, read_versioned, write_json
from merged_diffusion.scores.inputs import examples
from merged_diffusion.scores.prepared import ready
from merged_diffusion.scores.usual_rows import scoring_rows

FORMAT: Final = 3  # 1: at most eight spikes, and keys without object, shape and dtype; 2: no small ones
FOLDER: Final = "gamma-scans"
Scans = Mapping[str, GammaScan]
"""By role."""
SHARE: Final = 0.05  # of the forward passes of a run
BUNDLED: Final = "bundled:"


def with_scans(plan: Plan, out: Path | None, n_left: int) -> Plan:
    """The plan with what scans say of the experts of each of its models, and a warning where one has a spike.

    ``n_left`` images are left to this worker, under all models together; for none nothing is measured.
    """
    if not asks(plan):
        return plan
    models = plan.models.models
    found = scanned(plan, models, {name: recorded(plan.folder(out, name)) for name in models}, n_left)
    for name, scans in found.items():
        if scans:
            plan = with_check(plan, name, GAMMA_SCAN, as_words(scans))
    return plan


def asks(plan: Plan) -> bool:
    """Whether spikes of the plan's experts matter, and are asked for."""
    return plan.metric.name == "nll" and plan.settings.check_of_quadrature != "off"


def as_words(scans: Scans) -> dict[str, object]:
    """As JSON values."""
    return {role: scan.as_dict() for role, scan in scans.items()}


def scanned(
    plan: Plan,
    models: Mapping[str, MergedModel],
    recorded: Mapping[str, Scans],
    n_left: int,
) -> dict[str, Scans]:
    """What scans say of the experts of each of these models over what it asks them; warns of spikes.

    ``recorded`` are those of earlier commands; an expert is scanned once for all models.
    """
    experts: dict[str, Expert] = {}
    for model in models.values():
        for leg in model.legs(toward="noise"):
            for role, expert in zip(leg.roles, leg.parts, strict=True):
                experts.setdefault(role, expert)
    asked = {name: _asked(model) for name, model in models.items()}
    open_roles = {role for name, over in asked.items() for role in over if role not in recorded.get(name, {})}
    whole = _whole(plan, {role: expert for role, expert in experts.items() if role in open_roles}, n_left)
    found: dict[str, Scans] = {}
    for name, roles in asked.items():
        scans = {}
        for role, over in roles.items():
            if role in recorded.get(name, {}) or role in whole:
                scans[role] = (recorded.get(name, {}).get(role) or whole[role]).over(*over)
        found[name] = scans
    _warn(experts, found)
    return found


def of_all(plan: Plan, n_left: int) -> Scans:
    """Of every expert of the plan over its own range, where it is solved alone, too; warns of spikes.

    ``n_left``: as many images are solved, under all models together.
    """
    experts = plan.models.experts
    whole = _whole(plan, experts, n_left) if asks(plan) else {}
    found = {role: scan.over(*experts[role].gamma_range) for role, scan in whole.items()}
    _warn(experts, {"": found})
    return found


def _whole(plan: Plan, experts: Mapping[str, Expert], n_left: int) -> dict[str, GammaScan]:
    """Their scans, known or made now; none of those that are not worth it."""
    known = {role: _known(plan, role) for role in experts}
    missing = {role: experts[role] for role, scan in known.items() if scan is None}
    if missing and n_left and _is_worth(plan, missing.values(), n_left):
        known |= {role: _measured(plan, role, expert) for role, expert in missing.items()}
    return {role: scan for role, scan in known.items() if scan is not None}


def _asked(model: MergedModel) -> dict[str, tuple[float, float]]:
    """The gammas over which a model asks its experts, by role."""
    legs = model.legs(toward="noise")
    over = {id(expert): gammas for expert, gammas in asked_over(legs)}
    return {role: over[id(expert)] for leg in legs for role, expert in zip(leg.roles, leg.parts, strict=True)}


def _warn(experts: Mapping[str, Expert], found: Mapping[str, Scans]) -> None:
    """Of each expert with a spike, by the model that meets most of it."""
    for role, expert in experts.items():
        met = {name: scans[role] for name, scans in found.items() if role in scans and scans[role].spikes}
        if not met:
            continue
        words = max(met.values(), key=lambda scan: scan.together).words(expert.name)
        of = "" if len(found) == 1 else f" (met by {', '.join(met)})"
        warn_caller(ExpertWarning(f"{words}{of}", f"spike of {role}"))


def recorded(out: Path | None) -> Scans:
    """What the run at ``out`` knows of the experts of its model."""
    settings = None if out is None else read_settings(out)
    if out is None or settings is None:
        return {}
    with as_kept(out):
        return Asked.from_dict(settings.get("settings", {})).gamma_scan


def _known(plan: Plan, role: str) -> GammaScan | None:
    """Of the catalogue or of the cache."""
    about = plan.models.identity[role]
    stated = known()["expert"].get(about.source.removeprefix(BUNDLED), {}).get("scanned", {})
    if stated and stated["weights_sha256"] == about.weights_sha256 and GUIDANCE not in about.provenance:
        return GammaScan(stated["largest"], stated["gamma"], ())
    path = _path(plan, about)
    if path is None:
        return None
    with suppress(StorageError, RunCorruptError, KeyError, TypeError):  # then it is measured again
        kept = read_versioned(path, what="a scan of an expert", hint="remove the file")
        if kept is not None and kept["format"] == FORMAT:
            return GammaScan.from_dict(kept["scan"])
    return None


def _path(plan: Plan, about: ExpertIdentity) -> Path | None:
    """Where the cache keeps it; None of an expert that hashes of weights and code do not tell.

    A file of code may make several experts of equal weights, which their names tell; the code of a module
    has no hash at all.
    """
    if about.weights_sha256 is None or about.source == GIVEN or GUIDANCE in about.provenance:
        return None
    bare, _ = parted(about.source)
    name = ""
    if located(bare, plan.settings.cache) is None:
        if about.code_sha256 is None:
            return None
        name = about.source.rpartition(":")[2]
    parts = (about.weights_sha256, about.code_sha256, about.predicts, about.input, about.pixels, about.levels)
    seen = (name, dict(about.provenance), plan.data.images.shape[1:], plan.settings.machine.dtype or DTYPE)
    found = json.dumps([*parts, about.gamma_range, *seen], sort_keys=True, default=str)
    key = hashlib.sha256(found.encode()).hexdigest()
    return cached(FOLDER, f"{key}.json", folder=plan.settings.cache)


def _is_worth(plan: Plan, experts: Iterable[Expert], n_left: int) -> bool:
    """Whether what is left to this worker is so long that scans are a small part of it, or asks for them."""
    options = plan.settings.options()
    if options.probes.companion:
        return True
    passes = 1 + (plan.data.images[0].size if options.probes.kind == "exact" else options.probes.n)
    spent = n_left * options.n_draws * NOMINAL_EVALUATIONS[options.solver.method] * passes
    return sum(2 * n_points(*expert.gamma_range) for expert in experts) <= SHARE * spent


def _measured(plan: Plan, role: str, expert: Expert) -> GammaScan:
    """On the first image of the set, and kept in the cache."""
    settings, images = plan.settings, pilot_images(plan, 1)
    place = replace(settings.machine, precision=PRECISION).here(plan.usual_rows)
    labels = plan.labels(images)
    rows = place.rows if settings.compile else scoring_rows(n_points(*expert.gamma_range), place.device)
    if settings.accept.batch_coupled:
        rows = 1
    with ready([expert], place):
        scan = scan_gamma(
            expert,
            torch.from_numpy(examples(images)[0]),
            device=place.device,
            dtype=place.dtype,
            rows=rows,
            cond=None if labels is None else torch.as_tensor(labels, device=place.device),
        )
    path = _path(plan, plan.models.identity[role])
    if path is not None:
        with suppress(StorageError, OSError):  # a cache that cannot be written
            write_json(path, {"format": FORMAT, "scan": scan.as_dict()})
    return scan

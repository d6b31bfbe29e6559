"""``fid``: distances of images from a reference, and how they lie among its images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli import (
    completion,
    crews,
    fid_reference,
    measure,
    options,
    output,
    shared_work,
    workers,
)
from merged_diffusion.cli.progress import duration

if TYPE_CHECKING:
    from merged_diffusion.data import Data
    from merged_diffusion.quality.assess import Figure
    from merged_diffusion.quality.statistics import Known, Statistics

EPILOG: Final = """\b
Examples:
  merged-diffusion fid samples.npz --ref digits
  merged-diffusion fid samples.npz --ref photos --copies
  merged-diffusion fid samples.zip --ref cifar10
  merged-diffusion fid samples.npz --ref statistics.npz --json
  merged-diffusion fid photos --ref other_images/ --features pixels
"""


@options.command("fid", EPILOG)
@click.argument("images", metavar="IMAGES", shell_complete=completion.data)
@click.option(
    "--ref", "reference", required=True, metavar="STATS|IMAGES|NAME", shell_complete=completion.reference,
    help="What to compare with: statistics (.npz, EDM2's .pkl), other images, or a set by its name.",
)  # fmt: skip
@measure.features
@click.option("--data", metavar="NAME", help="Refuse statistics that are of another set than this.")
@click.option(
    "--copies", is_flag=True,
    help="Search all images of the reference for copies, also where its statistics hold some of them alone; "
    "features of a set's train split are kept in the cache.",
)  # fmt: skip
@measure.images
@options.shard_of
@options.store_at
@crews.ray_at
@shared_work.work
@measure.network
def command(given: options.Given) -> int:
    """Measure how far IMAGES are from a reference set: Frechet distance (FID) and kernel distance (KID).

    Beside them stand precision, recall, density, coverage and the share of copies, where single images of the
    reference are known. IMAGES is what sample writes (npz, zip, folder) or a set by its name. Distances fall
    as images are more: compare them at equal numbers only, and at 10,000 or more.

    Several workers share the images in --work, or those of a cluster by --ray.
    """
    from merged_diffusion.quality.assess import describe
    from merged_diffusion.quality.measuring import absences, check, compare
    from merged_diffusion.quality.statistics import remarks
    from merged_diffusion.quality.yardstick import yardsticks_of

    data, cache = given["data"], given["cache"]
    worker = shared_work.worker_of(given)
    quiet = given["quiet"] or not worker.speaks
    with measure.machine(given["device"], given["threads"], quiet=quiet) as place:
        workers.take_gpu(worker, given["device"])
        chosen = measure.chosen(given)
        network = {"device": place, "cache": cache, "rows": given["rows"], "like": chosen}
        begun = yardsticks_of(given["reference"], given["features"], **network)
        recipe = partial(fid_reference.recipe, given, place, chosen, begun)
        identity = _identity(given, place, chosen)
        with shared_work.shared(given, worker, identity, recipe=recipe) as shared:
            pairs = [(fid_reference.collected(given, one, used, shared), used) for one, used in begun]
            known_by = fid_reference.train_features(given, pairs[0], shared) if given["copies"] else None
            known: list[Known | None] = []
            for statistics, extractor in pairs:
                if data is not None:
                    statistics.check_data(data)
                if shared.kept is not None:
                    check(chosen, statistics, extractor)
                with measure.progress(len(chosen), quiet=quiet) as observe:
                    known.append(shared.features("images", chosen, extractor, observe))
            if not shared.tells():
                return 0
            train = fid_reference.train_of(given, pairs[0], known_by) if given["copies"] else None
            figures: list[Figure] = []
            for position, (statistics, extractor) in enumerate(pairs):
                cost = _cost(len(chosen), statistics, quiet=quiet)
                searched = train if position == 0 else None
                with (
                    measure.progress(len(chosen), quiet=quiet) as observe,
                    measure.progress(cost, quiet=quiet, unit="distance") as solved,
                ):
                    figures += compare(
                        chosen, statistics, extractor, shared.heard(observe), train=searched,
                        solved=shared.heard(solved), known=known[position],
                    )  # fmt: skip
            statistics, extractor = pairs[0]
            notes = remarks(len(chosen), extractor.dim)
            absent = absences(len(chosen), statistics, extractor, train)
            if given["as_json"]:
                value = {
                    "command": "fid",
                    "images": measure.facts(chosen),
                    "reference": describe(statistics),
                    "features": measure.feature_facts(extractor),
                    "metrics": [figure.as_dict() for figure in figures],
                    "absent": absent,
                    "remarks": notes,
                }
                output.emit_json(value)
                return 0
            for note in [] if quiet else notes:
                output.say(f"warning: {note}")
            for line in [] if quiet else _left_out(absent, given["reference"]):
                output.say(f"note: {line}")
            about = statistics.about
            of = statistics.name if about is None else f"{about.n} of {about.data}/{about.split}"
            output.emit(f"{set_name(chosen.name, chosen.split)}  {len(chosen)} images against {of}")
            output.emit("\n".join(map(_line, figures)))
    return 0


def _line(figure: Figure) -> str:
    text = f"{figure.name:<28} {figure.value:.4g}"
    text += "" if figure.se is None else f" ± {figure.se:.2g}"
    text += "" if figure.floor is None else f"   an ideal model at this n: {figure.floor:.3g}"
    return text + ("   biased" if figure.biased else "")


def _left_out(absent: dict[str, str], reference: str) -> Iterator[str]:
    """What is not there, and why, a line for each reason."""
    for reason in dict.fromkeys(absent.values()):
        names = [name for name, own in absent.items() if own == reason]
        hint = f"; fid --ref {reference} --copies searches them" if names[0].startswith("copies") else ""
        yield f"no {', '.join(names)}: {reason}{hint}"


def _cost(n: int, statistics: Statistics, *, quiet: bool) -> int:
    """How many distances are computed; it is said where they take more than seconds."""
    from merged_diffusion.quality.few_images import DENSE
    from merged_diffusion.quality.frechet_cost import frechet_cost

    cost = frechet_cost(n, statistics)
    if statistics.law.dim > DENSE and not quiet:
        output.say(
            f"note: {statistics.law.dim} features: {cost.problems} eigenvalue problems of size {cost.size}, "
            f"about {duration(cost.seconds())}, and {cost.bytes / 1e9:.2g} GB of memory"
        )
    return cost.problems


def _identity(given: options.Given, place: str, chosen: Data) -> dict[str, Any]:
    """All that features depend on, beside the images that they are of."""
    asked = {name: given[name] for name in ("reference", "features", "copies")}
    settings = {"batch_size": given["rows"], "device": place}
    data = {"sha256": chosen.sha256, "n": len(chosen)}
    return {"command": "fid", "settings": settings, "asked": asked, "data": data}

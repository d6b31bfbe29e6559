"""``--ray``: the images are computed by the workers of a Ray cluster, and kept by this process alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from merged_diffusion.cli import options, output, workers
from merged_diffusion.cli.launchers import rank_of
from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    from merged_diffusion.jobs.blocks import Blocks
    from merged_diffusion.jobs.crew import Recipe


def address(value: str) -> str:
    """HOST:PORT, auto or local."""
    host, _, port = value.rpartition(":")
    if value in ("auto", "local") or (host and "/" not in host and port.isascii() and port.isdecimal()):
        return value
    raise click.BadParameter(
        f"{value!r} is neither local, auto nor HOST:PORT, for instance 10.0.0.1:6379"
    ) from None


ray_at = click.option(
    "--ray", type=address, metavar="ADDRESS|local",
    help="Have the images computed by workers of the Ray cluster at HOST:PORT (or auto), on a node of which "
    "this is begun; local: of one on this machine. Each takes a GPU, or --threads processors.",
)  # fmt: skip


def check(given: options.Given, environment: Mapping[str, str]) -> None:
    """Refuse ``--ray`` beside other ways to share, and where Ray is not installed; it is not loaded yet.

    Raises
    ------
    UsageError
        So it is.
    """
    where = given["ray"]
    if where is None:
        return
    rank = rank_of(environment)
    others = [f"--{name}" for name in ("shard", "store") if given[name] is not None]
    if others or rank is not None:
        raise UsageError(
            f"--ray {where} beside {others[0] if rank is None else rank.variables}: both share the images",
            hint="one command with --ray is enough, and it is begun once",
        )
    found = find_spec("ray")
    if found is None or found.origin is None:  # a folder of that name is no package
        raise UsageError(
            f"--ray {where}, but Ray is not installed", hint="pip install 'merged-diffusion[ray]'"
        )


@contextmanager
def blocks_of(
    worker: workers.Worker,
    given: options.Given,
    recipe: Callable[[], Recipe],
    *,
    same_package: bool = False,
) -> Iterator[Blocks]:
    """How the images are shared: by a crew where ``--ray`` is given, which makes its plans by the recipe.

    Raises
    ------
    UsageError
        The cluster does not answer.
    """
    where, quiet = given["ray"], given["quiet"]
    if where is None:
        yield workers.blocks_of(worker, given["store"], os.environ, quiet=quiet)
        return
    from merged_diffusion.jobs.crew_shares import CrewShares
    from merged_diffusion.jobs.ray_pool import LOCAL, RayPool
    from merged_diffusion.runs.environment import versions

    def tell(text: str) -> None:
        if not quiet:
            output.say(f"note: {text}")

    made = recipe()
    if made.device.startswith("cuda:"):
        raise UsageError(
            f"--device {made.device} with --ray: a worker sees one GPU, which Ray chooses",
            hint="--device cuda",
        )
    with RayPool(where, made) as pool:
        place = "on this machine" if where == LOCAL else f"at {where}"
        tell(f"Ray {place}, {pool.words}; blocks of images by their speed")
        is_strict = given.get("strict_env", False)
        yield CrewShares(pool, versions(), is_strict, tell, same_package=same_package)

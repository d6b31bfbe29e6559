"""Where a training runs, and how a step's work is cut: nothing here changes a weight but in its last bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merged_diffusion.errors import UsageError
from merged_diffusion.training.recipe import Recipe


@dataclass(frozen=True)
class TrainingMachine:
    """What a training asks of the machine.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``; under a launcher each process takes the GPU of its
        number.
    batch_per_device
        Rows that a device computes at once; the whole batch stays. None: as the recipe's ``accumulate`` says.
    channels_last, compiled
        Weights in the order that convolutions of GPUs like; the network compiled (``torch.compile``).
    data_cache
        Folder in which the images lie as a plain file, mapped into memory. None: sets from 256 MiB on in
        the package's cache, others not.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> machine = md.TrainingMachine(device="cuda", batch_per_device=64, compiled=True)  # doctest: +SKIP
    >>> md.TrainingMachine(batch_per_device=16).batch_per_device
    16
    """

    device: str = "cpu"
    batch_per_device: int | None = None
    channels_last: bool = False
    compiled: bool = False
    data_cache: Path | None = None

    def parts(self, recipe: Recipe, size: int, rank: int) -> list[slice]:
        """The rows of a batch that process ``rank`` of ``size`` computes, part by part; all of one length.

        Raises
        ------
        UsageError
            The batch is no such equal parts.
        """
        if recipe.batch % size:
            fitting = [n for n in range(1, recipe.batch + 1) if recipe.batch % n == 0 and n <= size]
            raise UsageError(
                f"a batch of {recipe.batch} images is not {size} equal shares, one for each process",
                hint=f"start {fitting[-1]} processes, or state another batch in the recipe",
            )
        share = recipe.batch // size
        rows = self.batch_per_device
        if rows is None:
            if share % recipe.accumulate:
                raise UsageError(
                    f"{share} images a device are not {recipe.accumulate} (accumulate) equal parts",
                    hint="--batch-per-device N says how many a device computes at once",
                )
            rows = share // recipe.accumulate
        if rows < 1 or share % rows:
            fitting = [n for n in range(1, share + 1) if share % n == 0]
            raise UsageError(
                f"--batch-per-device {rows} is no equal part of the {share} images a device "
                f"({recipe.batch} on {size})",
                hint=f"possible are {', '.join(map(str, fitting))}",
            )
        first = rank * share
        return [slice(at, at + rows) for at in range(first, first + share, rows)]

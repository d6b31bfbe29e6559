"""Where networks run, and how: as it is asked for, and as it is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Final, Literal, get_args

from merged_diffusion.errors import UsageError

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "float64"]
Precision = Literal["float32", "tf32", "bf16"]
WorkspaceKind = Literal["host", "torch"]

DTYPES: Final = get_args(Dtype)
PRECISIONS: Final = get_args(Precision)
WORKSPACES: Final = get_args(WorkspaceKind)
DEVICE: Final = "cpu"
DTYPE: Final = "float32"
PRECISION: Final = "float32"
MOST_THREADS: Final = 1024
MOST_ROWS: Final = 1 << 16  # of a network call: one solve holds no more problems to fill them with


@dataclass(frozen=True)
class Machine:
    """What a call asks of the machine; None: what suits it. But for ``precision``, last bits depend on it.

    Parameters
    ----------
    device
        ``auto`` (cuda if usable, else cpu), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Experts that are torch
        modules are moved there, and back at the end. By default cpu; of `evaluate`, `sweep` and the command
        line what the run there has, else auto.
    dtype
        Of the networks, ``float32`` or ``float64``; states are float64.
    precision
        Of layers: ``float32``, in full, as those of float64 networks are; ``tf32``, rounded factors of
        NVIDIA's GPUs; ``bf16``, under autocast. The last two change numbers, and not only last bits:
        `evaluate` and the command line measure by how much.
    batch_size
        Rows of every network call. A likelihood halves it, for good, where the device's memory does not
        suffice.
    threads
        Of torch and of the core; None leaves them as they are.
    workspace
        ``host`` or ``torch``: what steps the states.
    profile_time
        Whether a result's ``time_profile`` says where the time went. No number depends on it.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> machine = md.Machine(device="cpu", batch_size=32)
    >>> found = md.log_likelihood(md.load_pair("digits"), md.load_data("digits")[:2], machine=machine)
    >>> len(found)
    2
    """

    device: str | None = None
    dtype: Dtype | None = None
    batch_size: int | None = None
    threads: int | None = None
    workspace: WorkspaceKind | None = None
    profile_time: bool = False
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UsageError(f"dtype = {self.dtype!r}, possible are {', '.join(DTYPES)}")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise UsageError(f"precision = {self.precision!r}, possible are {', '.join(PRECISIONS)}")
        if self.is_reduced and self.dtype == "float64":
            raise UsageError(
                f'precision = "{self.precision}" is of float32 networks, and dtype = "float64"',
                hint="leave one of them out",
            )
        if self.workspace is not None and self.workspace not in WORKSPACES:
            raise UsageError(f"workspace = {self.workspace!r}, possible are {', '.join(WORKSPACES)}")
        threads: object = self.threads
        if threads is not None and not (isinstance(threads, Integral) and 1 <= int(threads) <= MOST_THREADS):
            raise UsageError(f"threads = {threads}, possible are 1 to {MOST_THREADS}")
        rows: object = self.batch_size
        if rows is not None and not (isinstance(rows, Integral) and 1 <= int(rows) <= MOST_ROWS):
            raise UsageError(
                f"batch_size = {rows}: a network call has 1 to {MOST_ROWS} rows",
                hint="leave it out for what suits the device",
                batch_size=rows,
                most=MOST_ROWS,
            )

    @property
    def is_reduced(self) -> bool:
        """Whether layers compute in less than their networks' numbers."""
        return self.precision not in (None, PRECISION)

    def here(self, usual_rows: Callable[[torch.device], int]) -> Place:
        """The same on this machine; ``usual_rows`` of a network call where nobody says.

        Raises
        ------
        UsageError
            The device is not usable, or has no numbers of that type.
        """
        import torch

        from merged_diffusion.experts.arithmetic import check_numbers
        from merged_diffusion.ode.devices import resolve_device

        device = torch.device(resolve_device(self.device or DEVICE)[0])
        dtype: torch.dtype = getattr(torch, self.dtype or DTYPE)
        if dtype == torch.float64 and device.type == "mps":
            raise UsageError(
                f'dtype = "float64", but device = "{self.device}" has no float64',
                hint='use dtype = "float32", or device = "cpu"',
            )
        precision = self.precision or PRECISION
        check_numbers(precision, device)
        rows = self.batch_size or usual_rows(device)
        return Place(device, dtype, rows, self.threads, self.workspace, precision)


@dataclass(frozen=True)
class Place:
    """Device, type and precision of the networks, rows of their calls, threads, and what steps the states."""

    device: torch.device
    dtype: torch.dtype
    rows: int
    threads: int | None = None
    workspace: WorkspaceKind | None = None
    precision: Precision = PRECISION

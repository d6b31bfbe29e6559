"""Every error of the package: one class for each exit code, with the facts as fields.

The message says what was given and what is allowed, ``hint`` what to do. The command line turns the class
into its exit code; ``--json`` prints the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypedDict, Unpack


class Facts(TypedDict, total=False):
    """What an error may know, as JSON values: those that apply stand in its ``fields``."""

    file: str
    """A path, or the name of a stream."""
    member: str | None
    """The member of an archive."""
    key: str
    """The name of a table's entry, of an array in a file, or of a setting."""
    offset: int
    """In bytes, from the beginning of the file."""
    index: Sequence[int]
    """Where the first offending value of an array lies."""
    expected: object
    found: object
    differences: object
    """What is recorded beside what was asked for."""
    missing: Sequence[object]
    """Files, each with its place and how to get it; or ids without a record."""
    url: str
    status: int | None
    """The HTTP status of an answer."""
    errno: int | None
    expert: str | None
    role: str
    gamma: float | None
    """Where an integration or a loss failed."""
    ids: Sequence[int]
    """The images that failed."""
    image: int
    device: str
    rows: int
    """Rows of a network call for which the memory did not suffice."""
    batch_size: object
    most: int
    bpd_tol: float
    floor: float
    """The least ``bpd_tol`` that probes allow."""
    host: str
    pid: int | str
    claim: str
    """The file by which another process holds a shard."""


class MergedDiffusionError(Exception):
    """Anything that the package refuses or cannot do.

    ``message`` says what was given and what is allowed, ``hint`` what to do; ``fields`` holds the facts.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> try:
    ...     md.load_data("cifar")
    ... except md.UsageError as error:
    ...     print(error.exit_code, error.message)
    2 'cifar' is neither digits, photos, scenes, cifar10, imagenet32 nor an existing path
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, **fields: Unpack[Facts]) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields: Facts = fields

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


class UsageError(MergedDiffusionError, ValueError):
    """An argument outside what is allowed."""

    exit_code = 2


class ExpertRangeError(UsageError):
    """An expert would be asked at a gamma where it was not trained."""


class DataError(MergedDiffusionError):
    """Images that are refused."""

    exit_code = 3


class DataIntegrityError(DataError):
    """A data file whose content is broken."""


class DataNotFoundError(DataError):
    """A known data set whose files, or the package that makes them, are not here."""


class ExpertError(MergedDiffusionError):
    """An expert that cannot be used: not found, unsound, or failing its start check."""

    exit_code = 4


class CheckpointError(ExpertError):
    """A checkpoint that is refused."""


class UnsupportedCheckpointError(CheckpointError):
    """An honest checkpoint of a kind that this version does not know."""


class UnsafeFileError(MergedDiffusionError):
    """A file that would have to be executed, or exceeds the limits of its format."""

    exit_code = 4


class SolveError(MergedDiffusionError):
    """Images whose integration failed; the others are unharmed."""

    exit_code = 5


class StorageError(MergedDiffusionError):
    """A run directory that cannot be written."""

    exit_code = 6


class RunError(MergedDiffusionError):
    """A run directory that cannot be used."""

    exit_code = 7


class RunLockedError(RunError):
    """Another process works on the same shard."""


class RunMismatchError(RunError):
    """A run directory of other settings or other data."""


class RunCorruptError(RunError):
    """A record before the tail whose checksum does not fit."""


class ResourceError(MergedDiffusionError):
    """Memory that does not suffice even for one image at a time."""

    exit_code = 8


class IncompleteError(MergedDiffusionError):
    """Records are missing: other workers were to write them, or they were removed."""

    exit_code = 9


class ExpertWarning(UserWarning):
    """An expert may not be what it is declared to be, or could not be looked at closely enough to tell.

    ``about`` names what it is about, where several texts would say the same: one of them suffices.
    """

    def __init__(self, message: str, about: str | None = None) -> None:
        super().__init__(message)
        self.about = about

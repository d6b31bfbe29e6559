"""What goes to standard output and how errors look, for people and as JSON."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO, TypedDict

import click

from merged_diffusion.cli import stdout
from merged_diffusion.errors import MergedDiffusionError, StorageError
from merged_diffusion.escapes import in_json, shown

STDOUT: Final = "standard output"
DEBUG: Final = "MERGED_DIFFUSION_DEBUG"
REPORT: Final = (
    f"this is a fault of merged-diffusion; report it with the output of the same command under {DEBUG}=1"
)
_warned: Final[set[str]] = set()  # lines of this command on standard error


def emit(text: str) -> None:
    """One text on standard output. A reader that has gone away (``| head``) is no error.

    A warning that the same terminal has shown already is not repeated; a file has it.

    Raises
    ------
    StorageError
        It is full, or cannot be written for another reason.
    """
    if all(stream is not None and stream.isatty() for stream in (stdout.own(), sys.stderr)):
        text = "\n".join(line for line in text.split("\n") if line not in _warned)
    _print(shown(text))


def _print(text: str, *, ends: bool = False) -> None:
    """``ends``: whether a reader that has gone away ends the command."""
    try:
        print(text, file=stdout.own(), flush=True)
    except BrokenPipeError:
        silenced()
        if ends:
            raise
    except OSError as error:
        silenced()
        raise unwritable(error) from error


def unwritable(error: OSError) -> StorageError:
    """A failed write of standard output, or of a file that nobody has named yet."""
    return StorageError(
        f"{error.filename or STDOUT}: cannot be written ({error.strerror or error})",
        hint="free space, or choose another place",
        file=str(error.filename or STDOUT),
    )


def emit_json(value: Mapping[str, object]) -> None:
    """The one JSON object of ``--json``."""
    _print(_as_json(value))


def emit_line(value: Mapping[str, object]) -> None:
    """One of many JSON objects; there are no more once the reader has gone away (`BrokenPipeError`)."""
    _print(_as_json(value), ends=True)


def _as_json(value: Mapping[str, object]) -> str:
    return in_json(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False))


def _plain(value: Mapping[str, object]) -> Any:
    """As JSON values."""
    from merged_diffusion.runs.records import plain  # with numpy, which neither help nor refusals need

    return plain(value)


def say(text: str) -> None:
    """One line on standard error."""
    try:
        print(shown(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def silenced() -> int:
    """Point standard output to nowhere, so that the interpreter's last flush cannot fail either."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stream = stdout.own()
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
    return 0


class ErrorFields(TypedDict):
    """What went wrong; ``fields`` are those of the exception."""

    type: str
    message: str
    fields: object
    hint: str | None


class ErrorValue(TypedDict):
    """An error under ``--json``, beside whatever there is, and the exit code."""

    error: ErrorFields
    code: int


def error_value(
    kind: str, message: str, code: int, *, hint: str | None = None, **fields: object
) -> ErrorValue:
    """An error under ``--json``."""
    return {
        "error": {"type": kind, "message": message, "fields": _jsonable(fields), "hint": hint},
        "code": code,
    }


def _jsonable(fields: Mapping[str, object]) -> Any:
    return json.loads(json.dumps(_plain(fields), default=str, allow_nan=False))


def refusal(error: MergedDiffusionError, *, as_json: bool) -> int:
    """Print an error of the package; its exit code."""
    if as_json:
        kind = type(error).__name__
        emit_json(error_value(kind, error.message, error.exit_code, hint=error.hint, **error.fields))
    if not as_json or error.fields.get("file") == STDOUT:
        say(f"error: {_without_lines_of_others(error)}")
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    return error.exit_code


def _without_lines_of_others(error: MergedDiffusionError) -> str:
    """The text of an error; a name with a new line in it stays on its line."""
    text = str(error)
    for value in error.fields.values():
        if isinstance(value, str) and "\n" in value:
            text = text.replace(value, shown(value, one_line=True))
    return text


def usage_error(error: click.ClickException, *, as_json: bool) -> int:
    """Print what click refuses; its exit code."""
    if as_json:
        emit_json(error_value(type(error).__name__, error.format_message(), error.exit_code))
    else:
        message = io.StringIO()
        error.show(message)
        say(message.getvalue().rstrip("\n"))
    return error.exit_code


def stopped(how: str, code: int, *, as_json: bool) -> int:
    """Print that a signal ended the command."""
    if code == 0:
        return 0
    if as_json:
        emit_json(error_value("Interrupted", how, code))
    else:
        say(how)
    return code


def unexpected(error: Exception, *, as_json: bool) -> int:
    """Print an error nobody foresaw; 1."""
    text = f"{type(error).__name__}: {error}"
    if as_json:
        emit_json(error_value(type(error).__name__, str(error), 1, hint=REPORT))
    else:
        say(f"unexpected error: {text}\n{REPORT}")
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    return 1


class _Remarks(logging.Handler):
    """The package's log as lines on standard error, but for those that were ``said``."""

    def __init__(self, said: set[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        if text not in self._said:
            self._said.add(text)
            say(text)


@contextmanager
def remarks(*, quiet: bool = False, told: Collection[str] = ()) -> Iterator[None]:
    """Warnings and the package's log as one line each on standard error, once, without lines of code.

    ``quiet`` leaves out all but errors, ``told`` what the result says by itself (`ExpertWarning.about`). What
    networks print goes there, too.
    """
    said: set[str] = set(told)
    _warned.clear()

    def show(
        message: Warning | str,
        category: type[Warning],  # noqa: ARG001  the hook's signature
        filename: str,  # noqa: ARG001
        lineno: int,  # noqa: ARG001
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        about = getattr(message, "about", None) or str(message)
        if not quiet and about not in said:
            said.add(about)
            _warned.add(f"warning: {message}")
            say(f"warning: {message}")

    log, handler = logging.getLogger("merged_diffusion"), _Remarks(said)
    handler.setLevel(logging.ERROR if quiet else logging.WARNING)
    log.addHandler(handler)
    try:
        with stdout.reserved(), warnings.catch_warnings():
            # A remark is no failure, whatever PYTHONWARNINGS says.
            warnings.filterwarnings("default", category=UserWarning)
            warnings.showwarning = show
            yield
    finally:
        log.removeHandler(handler)

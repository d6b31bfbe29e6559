"""One file over HTTP: with time-outs, going on where it was cut off, never longer than it says it is.

What has arrived lies in ``NAME.part``; ``NAME.part.json`` holds the server's mark of that version (ETag or
date), by which it refuses to go on with the rest of another one (RFC 9110, If-Range).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from merged_diffusion.errors import ResourceError, StorageError
from merged_diffusion.fetch.patience import PIECE, Pace, patiently
from merged_diffusion.files.reading import read_text
from merged_diffusion.runs.directory import Directory, write_file

if TYPE_CHECKING:
    from requests import Response

Observer = Callable[[int, int | None], None]  # bytes that are there, bytes of the whole

TIMEOUTS: Final = (10.0, 30.0)  # seconds to connect, and between two packets
ATTEMPTS: Final = 4  # in a row that brought nothing further
PAUSE_SECONDS: Final = 1.0
MAX_BYTES: Final = 1 << 34
RETRIED: Final = (408, 425, 429, 500, 502, 503, 504)
WHOLE: Final = 200
PARTIAL: Final = 206
RANGE_FAULT: Final = 416
BY_HAND: Final = "run the command again to go on, or bring the file by hand (--dry-run: address and path)"


def receive(
    url: str,
    part: Path,
    *,
    is_known: bool = False,
    observe: Observer | None = None,
) -> None:
    """Bring ``url`` into ``part``, which may hold its beginning. ``is_known``: its hash will be checked.

    Raises
    ------
    ResourceError
        The network or the server failed; what arrived is kept.
    StorageError
        There is no room for it.
    """
    from requests import RequestException

    vain, pace = 0, Pace()
    while True:
        before = _size(part)
        try:
            with Directory(part.parent) as place:
                fd = place.open(part.name, os.O_RDWR | os.O_CREAT)
            with os.fdopen(fd, "r+b") as stream:
                _request(url, stream, part, pace, is_known=is_known, observe=observe)
            part.with_name(f"{part.name}.json").unlink(missing_ok=True)
            return
        except RequestException as error:  # an OSError as well
            vain = 0 if _size(part) >= before + PIECE else vain + 1
            status = None if error.response is None else error.response.status_code
            if vain >= ATTEMPTS or (status is not None and status not in (*RETRIED, RANGE_FAULT)):
                raise _failure(url, status, error) from error
        except OSError as error:
            raise StorageError(f"{part} cannot be written ({error.strerror})", file=str(part)) from error
        time.sleep(PAUSE_SECONDS * vain)


def size_at(url: str) -> int | None:
    """The size that the server states of a file, None where it states none; `ResourceError` as above."""
    import requests

    def ask() -> Response:
        return requests.head(
            url, timeout=TIMEOUTS, allow_redirects=True, headers={"Accept-Encoding": "identity"}
        )

    try:
        answer = patiently(ask, lambda: 0, url, BY_HAND)
        if answer.status_code in (405, 501):  # a server that knows no HEAD
            return None
        answer.raise_for_status()
        check_status(answer)
    except requests.RequestException as error:
        status = None if error.response is None else error.response.status_code
        raise _failure(url, status, error) from error
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def check_status(response: Response) -> None:
    """`ResourceError` for an answer that is neither a file, a part of one, nor a failure that HTTP knows."""
    if response.ok and response.status_code not in (WHOLE, PARTIAL):
        raise ResourceError(
            f"{response.url}: the server answered {response.status_code}",
            hint=BY_HAND, url=response.url, status=response.status_code,
        )  # fmt: skip


def _request(
    url: str,
    stream: BinaryIO,
    part: Path,
    pace: Pace,
    *,
    is_known: bool,
    observe: Observer | None,
) -> None:
    """One request for what is missing; cut short is an error of the connection."""
    from pooch import HTTPDownloader
    from requests import ConnectionError as Cut
    from requests import HTTPError

    mark = _mark(part)
    offset = stream.seek(0, os.SEEK_END)
    if offset and mark is None and not is_known:
        offset = stream.truncate(0)  # nothing says that the rest would be of the same file
        stream.seek(0)
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-"} | ({} if mark is None else {"If-Range": mark})
    answer = _Answer(stream, part, offset, pace, observe)
    download = HTTPDownloader(
        progressbar=answer, chunk_size=PIECE, timeout=TIMEOUTS, headers=headers, hooks={"response": answer}
    )

    def bring() -> None:
        try:
            download(url, stream, None)
        finally:
            answer.hang_up()  # by the thread that reads: another would wait for it

    try:
        patiently(bring, lambda: answer.arrived // PIECE, url, BY_HAND, pace)
    except HTTPError as error:
        if error.response is None or error.response.status_code != RANGE_FAULT:
            raise
        if answer.whole != offset:  # what is here is no beginning of what is there
            stream.truncate(0)
            raise
    if answer.whole is not None and stream.tell() < answer.whole:
        raise Cut(f"cut off after {stream.tell()} of {answer.whole} bytes")
    os.fsync(stream.fileno())


class _Answer:
    """Looks at an answer before its body is read, and at every piece of the body after.

    requests calls it with the response, pooch as its progress bar.
    """

    def __init__(
        self, stream: BinaryIO, part: Path, offset: int, pace: Pace, observe: Observer | None
    ) -> None:
        self._stream, self._part, self._offset, self._observe = stream, part, offset, observe
        self._pace = pace
        self.whole: int | None = None
        self.arrived = 0  # bytes of this answer; a chunk may be of any length
        self.total = 0  # pooch's: of this answer alone
        self._response: Response | None = None

    def __call__(self, response: Response, *_: object, **__: object) -> None:
        self._response, headers = response, response.headers
        if response.is_redirect:
            if response.url.startswith("https:") and headers["Location"].startswith("http:"):
                raise ResourceError(
                    f"{response.url}: redirected to {headers['Location']}, without encryption", hint=BY_HAND
                )
            return
        if response.status_code == RANGE_FAULT:
            whole = headers.get("Content-Range", "").rpartition("/")[2]
            self.whole = int(whole) if whole.isdecimal() else None
        if not response.ok:
            return
        check_status(response)
        if headers.get("Content-Type", "").startswith("text/html"):
            raise ResourceError(
                f"{response.url}: a web page instead of a file (a log-in, or a provider's page)", hint=BY_HAND
            )
        length = headers.get("Content-Length", "")
        if response.status_code != PARTIAL:
            self._offset = 0
            self._stream.truncate(0)
        self._stream.seek(self._offset)
        self.whole = self._offset + int(length) if length.isdecimal() else None
        self._check_room()
        tag = headers.get("ETag", "W/")
        mark = tag if not tag.startswith("W/") else headers.get("Last-Modified")
        write_file(self._part.with_name(f"{self._part.name}.json"), json.dumps({"mark": mark}).encode())

    def _check_room(self) -> None:
        if self.whole is None:
            return
        if self.whole > MAX_BYTES:
            raise ResourceError(f"{self._part.name}: {self.whole} bytes exceed the limit of {MAX_BYTES}")
        free = shutil.disk_usage(self._part.parent).free
        if self.whole - self._offset > free:
            raise StorageError(
                f"{self._part}: {self.whole - self._offset} bytes are missing, {free} are free",
                hint="make room, or name another --cache",
                file=str(self._part),
            )

    def update(self, _: int) -> None:
        """Look at what has arrived: a body may not outgrow its declared length, or the limit."""
        arrived = self._stream.tell()
        self._pace.bytes += arrived - self._offset - self.arrived
        self.arrived = arrived - self._offset
        if arrived > (MAX_BYTES if self.whole is None else self.whole):
            raise ResourceError(f"{self._part.name}: more bytes than the server declared", hint=BY_HAND)
        if self._observe is not None:
            self._observe(arrived, self.whole)

    def hang_up(self) -> None:
        """Close the connection, which a fault may have left open."""
        if self._response is not None:
            self._response.close()

    def reset(self) -> None:
        """Nothing: pooch's gesture of a full bar."""

    def close(self) -> None:
        """Nothing, as above."""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mark(part: Path) -> str | None:
    """The server's mark of the version that ``part`` is the beginning of."""
    try:
        kept: Any = json.loads(read_text(part.with_name(f"{part.name}.json")))
    except (OSError, ValueError):
        return None
    mark = kept.get("mark") if isinstance(kept, dict) else None
    return mark if isinstance(mark, str) else None


def _failure(url: str, status: int | None, error: Exception) -> ResourceError:
    what = f"{type(error).__name__}: {error}" if status is None else f"the server answered {status}"
    return ResourceError(f"{url}: {what}", hint=BY_HAND, url=url, status=status)

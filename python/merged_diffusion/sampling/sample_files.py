"""Samples as files: an npz, a zip or a folder of PNG named as EDM names them, or one PNG of all.

Every form holds a record of how it was made (``settings`` in an npz, ``settings.json`` in a zip or folder, a
text chunk of a PNG) and no time of day, so that the same samples are the same bytes. Only an npz keeps the
levels; pictures show 256 of them.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from merged_diffusion.data.images import MAX_LEVELS
from merged_diffusion.data.mosaic import as_shown, picture
from merged_diffusion.errors import RunError, UsageError
from merged_diffusion.files.reading import opened, read_text
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import UNREADABLE
from merged_diffusion.runs.records import plain
from merged_diffusion.sampling.samples import Samples

Form = Literal["npz", "zip", "png", "folder"]
FORMS: Final[Mapping[str, Form]] = {".npz": "npz", ".zip": "zip", ".png": "png", "": "folder"}
STRANGE: Final = frozenset(
    (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".npy", ".pt", ".tar", ".h5")
)
RECORD: Final = "settings"
LABELS: Final = "dataset.json"  # EDM's table of classes
THOUSANDS: Final = re.compile(r"[0-9]{5,}")  # of `name`
PICTURE: Final = re.compile(r"img[0-9]{8,}\.png")
MOST_TILES: Final = 10_000

Record = Mapping[str, object]


def form_of(out: Path) -> Form:
    """What a path asks for by its ending; `UsageError` for the ending of another kind of file."""
    suffix = out.suffix.lower()
    if suffix in STRANGE:
        raise UsageError(
            f"--out {out}: samples are not written as {suffix}",
            hint="use FILE.npz, FILE.zip, FILE.png (one picture of all), or a directory",
        )
    return FORMS.get(suffix, "folder")


def check_replaceable(out: Path, *, overwrite: bool) -> None:
    """`UsageError` where a picture of others lies at ``out``: one of ours is made anew, any other is not."""
    if form_of(out) != "png" or overwrite or not out.exists() or out.is_dir():
        return
    try:
        if out.is_file() and (out.stat().st_size == 0 or json.loads(_png_record(out))["command"] == "sample"):
            return
    except (*UNREADABLE, SyntaxError, Image.DecompressionBombError):
        pass  # no picture, or none of ours
    raise UsageError(
        f"--out {out} exists and is no picture that sample made; nothing was written",
        hint="name another file, or replace it with --overwrite",
    )


def check_form(form: Form, levels: int, n: int) -> None:
    """`UsageError` where a form cannot hold ``n`` images of so many levels."""
    if form != "npz" and levels > MAX_LEVELS:
        raise UsageError(
            f"PNG files here hold 256 grey levels, the samples have {levels}", hint="write FILE.npz"
        )
    if form == "png" and n > MOST_TILES:
        raise UsageError(
            f"{n} images in one picture, at most {MOST_TILES} are shown", hint="write FILE.zip or a directory"
        )


def content(form: Form, samples: Samples, record: Record) -> bytes:
    """The file of all samples, in their order; of every form but a folder."""
    makers = {"npz": _npz, "zip": _zip, "png": _grid}
    return makers[form](samples, _text(record))


def write_folder(folder: Directory, samples: Samples, record: Record) -> None:
    """All samples, in their order, in an empty directory."""
    places: dict[str, Directory] = {}
    with ExitStack() as stack:
        for member, pixels in _members(samples, _text(record)):
            parent, _, own = member.rpartition("/")
            if parent and parent not in places:
                folder.make_folder(parent)
                places[parent] = stack.enter_context(folder.folder(parent))
            (places[parent] if parent else folder).write_new(own, pixels)
        for place in (*places.values(), folder):
            place.sync()


def remove_folder(parent: Directory, name: str) -> bool:
    """Remove what `write_folder` writes, by name; False where something else lies there."""
    found = parent.status(name)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return found is None
    with parent.folder(name) as folder:
        for own in folder.names():
            if THOUSANDS.fullmatch(own):
                with folder.folder(own) as thousand:
                    thousand.remove(png for png in thousand.names() if PICTURE.fullmatch(png))
                folder.remove_folder(own)
        folder.remove([LABELS, f"{RECORD}.json"])
    return parent.remove_folder(name)


def read_record(form: Form, path: Path) -> dict[str, Any]:
    """How a file was made.

    Raises
    ------
    RunError
        It was not made by this package.
    """
    readers: dict[Form, Callable[[Path], str]] = {
        "npz": _npz_record,
        "zip": _zip_record,
        "png": _png_record,
        "folder": lambda folder: read_text(folder / f"{RECORD}.json"),
    }
    try:
        record = json.loads(readers[form](path))
    except (*UNREADABLE, SyntaxError, Image.DecompressionBombError) as error:
        raise RunError(
            f"{path}: is there and holds no samples of this package; nothing was written",
            hint="use another --out",
            file=str(path),
        ) from error
    if not isinstance(record, dict):
        raise RunError(f"{path}: its record is no JSON object", hint="use another --out", file=str(path))
    return record


def name(image: int) -> str:
    """Of the PNG file of an id: thousands in a folder, so that names sort as ids do."""
    return f"{image // 1000:05d}/img{image:08d}.png"


def _text(record: Record) -> str:
    return json.dumps(plain(record), indent=1, allow_nan=False)


def _npz(samples: Samples, record: str) -> bytes:
    columns: dict[str, npt.NDArray[Any]] = {"images": samples.images, "ids": samples.ids}
    if samples.labels is not None:
        columns["labels"] = samples.labels
    return of_columns(columns | {"levels": np.array(samples.levels), "settings": np.array(record)})


def of_columns(columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The content of an npz."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **columns)
    return stream.getvalue()


def _zip(samples: Samples, record: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for member, pixels in _members(samples, record):
            archive.writestr(zipfile.ZipInfo(member), pixels)  # a ZipInfo has no time of day of its own
    return stream.getvalue()


def _grid(samples: Samples, record: str) -> bytes:
    text, stream = PngInfo(), io.BytesIO()
    text.add_text(RECORD, record)
    Image.fromarray(picture(samples.images, samples.levels)).save(stream, format="PNG", pnginfo=text)
    return stream.getvalue()


def _members(samples: Samples, record: str) -> Iterator[tuple[str, bytes]]:
    names = [name(int(image)) for image in samples.ids]
    for member, pixels in zip(names, as_shown(samples.images, samples.levels), strict=True):
        content = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(content, "PNG")
        yield member, content.getvalue()
    if samples.labels is not None:
        yield LABELS, json.dumps({"labels": list(zip(names, samples.labels.tolist(), strict=True))}).encode()
    yield f"{RECORD}.json", record.encode()


def _npz_record(path: Path) -> str:
    with opened(path) as file, np.load(file, allow_pickle=False) as columns:
        return str(columns[RECORD])


def _zip_record(path: Path) -> str:
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        return archive.read(f"{RECORD}.json").decode()


def _png_record(path: Path) -> str:
    with opened(path) as file, Image.open(file) as picture:
        return str(picture.info[RECORD])

"""Files to read are regular files; a pipe, a device, a socket and a folder are refused at once."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from merged_diffusion.cli import main
from merged_diffusion.files import reading

KINDS = ("pipe", "socket", "device", "folder")
ROOT = Path(__file__).parents[2]


def laid(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_an_error_of_the_system(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid(kind, tmp_path / "file", monkeypatch)
    with pytest.raises(OSError, match=f"it is a (named )?{kind}, a regular file is needed"):
        reading.read_bytes(tmp_path / "file")


def test_a_regular_file_is_read_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("ä", "utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert reading.read_text(tmp_path / "link") == "ä"


RUN = ROOT / "tests" / "reference" / "run-format-1"
# Command, the file that it reads, and the exit code of a file of that kind that cannot be read.
READERS = {
    "settings of a run": (("runs", "show", "run"), "run/settings.json", (6, 7)),
    "records of a run": (("runs", "show", "run"), "run/images-0000-of-0001.jsonl", (6, 7)),
    "table of a sweep": (("runs", "report", "sweep", "--out", "a.html"), "sweep/sweep.json", (6, 7)),
    "settings of samples": (("runs", "report", "drawn", "--out", "a.html"), "drawn/settings.json", (6, 7)),
    "card": (("train", "card.toml", "--out", "out"), "card.toml", (4,)),
    "card of an expert": (("experts", "inspect", "x"), "x/card.toml", (4,)),
    "weights": (("experts", "inspect", "x"), "x/model.safetensors", (4,)),
    "checkpoint": (("experts", "inspect", "x.pkl"), "x.pkl", (4,)),
    "images": (("data", "show", "x.npz"), "x.npz", (2, 3)),
    "a picture of a folder": (("data", "show", "d"), "d/a.png", (2, 3, 4)),
    "labels of a folder": (("data", "show", "d"), "d/dataset.json", (2, 3)),
    "images of a distance": (("fid", "x.npz", "--ref", "digits"), "x.npz", (2, 3)),
    "statistics": (("fid", "digits", "--ref", "x.npz"), "x.npz", (2, 3)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_readers_refuse_what_is_no_regular_file(
    reader: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, name, codes = READERS[reader]
    monkeypatch.chdir(tmp_path)
    if reader == "records of a run":
        shutil.copytree(RUN, tmp_path / "run")
        for path in tmp_path.glob("run/images-*.jsonl"):
            path.unlink()
    if reader == "weights":
        bundled = ROOT / "python" / "merged_diffusion" / "experts" / "bundled"
        card = next(bundled.rglob("card.toml"), None)
        (tmp_path / "x").mkdir()
        shutil.copy(card or ROOT / "recipes" / "digits-vdm.toml", tmp_path / "x" / "card.toml")
    laid(kind, tmp_path / name, monkeypatch)
    assert main(list(command)) in codes
    assert capsys.readouterr().err.count("\n") <= 2


def test_a_sweep_names_no_row_outside_of_itself(tmp_path: Path) -> None:
    from merged_diffusion.errors import RunCorruptError
    from merged_diffusion.reports import results

    (tmp_path / "other").mkdir()
    row = {"name": "likelihood", "threshold": None, "summary": None, "folder": "../other"}
    table = {"format": 1, "metric": "nll", "data": {}, "pair": {"experts": {}}, "settings": {}}
    table |= {"rows": [row], "evaluations": {}, "seconds": 0.0}
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(json.dumps(table))
    with pytest.raises(RunCorruptError, match="outside"):
        results.read(sweep)


def test_a_page_reads_no_file_that_settings_name_outside_of_the_run(tmp_path: Path) -> None:
    from merged_diffusion.reports.shown_images import _source

    (tmp_path / "secret.npz").touch()
    run = tmp_path / "run"
    run.mkdir()
    (run / "inner.npz").touch()
    (run / "link.npz").symlink_to(tmp_path / "secret.npz")
    for outside in (str(tmp_path / "secret.npz"), "../secret.npz", "link.npz", "/dev/zero", "missing.npz"):
        assert _source(outside, run) is None
    assert _source("photos", run) == "photos"
    assert _source("inner.npz", run) == run / "inner.npz"


def test_hashes_of_a_cache_are_a_regular_file(tmp_path: Path) -> None:
    from merged_diffusion.catalogue.fetched import recorded
    from merged_diffusion.errors import StorageError

    os.mkfifo(tmp_path / "hashes.json")
    with pytest.raises(StorageError, match="named pipe"):
        recorded(tmp_path)

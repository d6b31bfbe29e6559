"""What others have edited, or left at a place, is told as such: no key or type is taken for granted."""

import json
import zipfile
from argparse import Namespace
from contextlib import suppress

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from merged_diffusion.errors import RunCorruptError, RunError, RunMismatchError
from merged_diffusion.jobs import pilot
from merged_diffusion.reports import results
from merged_diffusion.reports.sample_record import sample_record
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.records import decode, encode
from merged_diffusion.sampling import parts, sample_files, store
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.table import SweepTable
from merged_diffusion.thresholds import auto
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.state import TrainingState

DEEP = "[" * 100_000
SETTINGS = ('{"format":1}', '{"format":1,"settings":3}', '{"format":1,"settings":[]}')
TABLE = {"format": 1, "metric": "nll", "data": {}, "pair": {"experts": {}}, "settings": {},
         "rows": [], "evaluations": {"spent": 0}, "seconds": 0.0}  # fmt: skip
STRANGE = {
    "nothing": lambda path: path.write_bytes(b""),
    "a few bytes": lambda path: path.write_bytes(b"\x93NUMPY"),
    "one array": lambda path: _saved(path, np.save),
    "other columns": lambda path: _saved(path, np.savez),
    "deep settings": lambda path: _members(path, DEEP),
    "settings of others": lambda path: _members(path, '{"settings":3,"result":5}'),
    "a torn member": lambda path: _torn(path),
}


def _saved(path, save):
    with path.open("wb") as file:
        save(file, np.zeros(3))


def _members(path, record):
    if path.suffix == ".npz":
        np.savez(path, settings=np.array(record))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("settings.json", record)


def _torn(path):
    """A member whose compressed bytes are none."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.json" if path.suffix == ".zip" else "settings.npy", b"0123456789" * 20)
    content = bytearray(path.read_bytes())
    start = content.index(b"settings") + len("settings.json" if path.suffix == ".zip" else "settings.npy")
    content[start : start + 6] = b"\xff" * 6
    path.write_bytes(content)


@pytest.mark.parametrize("ending", [".npz", ".zip"])
@pytest.mark.parametrize("kind", STRANGE)
def test_samples_are_not_put_over_a_file_of_others(tmp_path, kind, ending):
    out = tmp_path / f"out{ending}"
    STRANGE[kind](out)
    before = out.read_bytes()
    with pytest.raises(RunError):
        parts.recorded_machine(out)
    with pytest.raises(RunError):
        store.Store(out, np.arange(2), {"settings": {}, "image_shape": [1, 2, 2]})
    assert out.read_bytes() == before
    with suppress(RunError):
        sample_record(out)


@pytest.mark.parametrize("content", SETTINGS[1:])
def test_the_machine_and_threshold_of_edited_samples(tmp_path, content):
    part = tmp_path / "a.npz.part"
    part.mkdir()
    (part / "settings.json").write_text(content)
    with pytest.raises(RunCorruptError):
        parts.recorded_machine(tmp_path / "a.npz")
    (part / "settings.json").write_text('{"format":1,"threshold":"high"}')
    with pytest.raises(RunCorruptError):
        parts.recorded_threshold(tmp_path / "a.npz")


@pytest.mark.parametrize("content", SETTINGS)
def test_the_threshold_and_tolerance_of_an_edited_run(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(RunCorruptError):
        auto.with_threshold(Namespace(eta="auto"), tmp_path)
    for settings in (3, {"bpd_tol": 0.01}, {"bpd_tol": 0.01, "tol": "x", "h_max": 1.0}):
        (tmp_path / "settings.json").write_text(json.dumps({"format": 1, "settings": settings}))
        with pytest.raises(RunCorruptError):
            pilot.with_tolerance(Namespace(settings=Namespace(bpd_tol=0.01)), tmp_path)


@pytest.mark.parametrize(
    "content", ['{"format":1}', DEEP, '{"format":1,"metric":3,"data":3}', json.dumps(TABLE | {"seconds": []})]
)
def test_the_table_of_an_edited_sweep(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(RunError) as found, as_kept(tmp_path):
        sweep_folder.begin(tmp_path, SweepTable.of(TABLE))
    assert isinstance(found.value, RunCorruptError)
    with pytest.raises(RunError), as_kept(tmp_path):
        results.read(tmp_path)


def test_what_is_too_deep_is_corrupt(tmp_path):
    with pytest.raises(RunCorruptError), as_kept(tmp_path):
        json.loads(DEEP)


@pytest.mark.parametrize("recipe", ["[]", "3", DEEP, "nothing"])
def test_the_recipe_of_an_edited_checkpoint(tmp_path, recipe):
    path = tmp_path / "checkpoint.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"recipe": recipe, "step": "1"})
    recipe = Recipe(data="digits", seed=0, steps=1, batch=1, learning_rate=1.0, ema=0.9)
    state = TrainingState(torch.nn.Linear(1, 1), recipe)
    with pytest.raises(RunCorruptError, match="delete it"):
        state.load(path, {"a": 1})
    save_file({"a": torch.zeros(1)}, path, {"recipe": "{}", "step": "1"})
    with pytest.raises(RunMismatchError):
        state.load(path, {"a": 1})


@pytest.mark.parametrize("key", ["status", "bits_per_dim"])
def test_a_run_goes_on_over_no_records_of_other_types(tmp_path, key):
    """``nll`` as a call: the second command finds the records of the first one edited."""
    from merged_diffusion.jobs.evaluate import evaluate
    from merged_diffusion.jobs.settings import Settings

    given = {"data": "digits", "pair": "digits", "limit": 1, "tol": 0.1, "threads": 1, "device": "cpu"}
    settings = Settings.of(given)
    evaluate(settings, out=tmp_path / "run")
    journal = next((tmp_path / "run").glob("images-*.jsonl"))
    records = [decode(line) for line in journal.read_bytes().splitlines()]
    for record in records:
        if key == "status":
            del record[key]
        else:
            record[key] = "x"
    journal.write_bytes(b"".join(map(encode, records)))
    with pytest.raises(RunCorruptError):
        evaluate(settings, out=tmp_path / "run")


def test_a_draft_of_a_picture_is_none(tmp_path):
    out = tmp_path / "a.png"
    out.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RunError):
        sample_files.read_record("png", out)

"""scenes: what is in the package, and how views are cut from photographs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from merged_diffusion.catalogue.entries import known
from merged_diffusion.cli import main
from merged_diffusion.data import load_data, scenes, views
from merged_diffusion.data.bundled import hold_back
from merged_diffusion.data.views import CONTRAST, views_anywhere, views_apart
from merged_diffusion.errors import DataError, DataNotFoundError
from merged_diffusion.fetch import photographs as fetched
from merged_diffusion.fetch.photographs import found
from merged_diffusion.files.reading import sha256_of

NOTICE = Path(__file__).parents[2] / "NOTICE"
SHAREABLE = {"CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0"}


def photograph(path, width=700, height=500, seed=0):
    """A picture in which every place has a colour of its own: red is x, green is y, blue noise."""
    y, x = np.mgrid[:height, :width]
    blue = np.random.RandomState(seed).randint(0, 256, (height, width))
    pixels = np.stack([x * 255 // width, y * 255 // height, blue], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def squares(views, width, height):
    """Where the views lie, from their colours: left, top, right, bottom in pixels."""
    red, green = views[:, 0].astype(float), views[:, 1].astype(float)
    x, y = red.mean(axis=1) * width / 255, green.mean(axis=2) * height / 255
    return x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)


def test_the_test_split_is_the_published_one():
    data = load_data("scenes")
    assert data.images.shape == (360, 3, 32, 32)
    assert data.sha256 == known()["data"]["scenes"]["sha256"]
    assert data.duplicates == 0
    assert np.array_equal(data.labels, np.repeat(np.arange(12), 30))
    assert np.array_equal(data.labels, data.clusters)


def test_parts_share_no_photograph_and_shipped_ones_may_be_shared():
    photos = scenes.photographs()
    assert len({photo.sha256 for photo in photos}) == len(photos) == 39
    parts = {part: [p for p in photos if p.part == part] for part in ("test", "tune", "train")}
    assert {part: len(of) for part, of in parts.items()} == {"test": 12, "tune": 4, "train": 23}
    assert [p.label for p in parts["test"]] == list(range(12))
    assert {p.licence for p in parts["test"]} <= SHAREABLE
    notice = NOTICE.read_text()
    for photo in parts["test"]:
        assert f"{photo.file}" in notice
        assert photo.author in notice
        assert photo.licence in notice


def test_the_test_split_is_the_one_that_the_code_cuts():
    chosen = [photo for photo in scenes.photographs() if photo.part == "test"]
    try:
        files = found(chosen)
    except DataNotFoundError:
        pytest.skip("Debian's lomiri-wallpapers-16.04 is not installed")
    assert scenes.cut(chosen, files, "test").sha256 == known()["data"]["scenes"]["sha256"]


def test_views_apart_show_nothing_twice(tmp_path):
    found = views_apart(photograph(tmp_path / "a.png", 1400, 1000), 30, seed=1)
    assert found.shape == (30, 3, 32, 32)
    left, top, right, bottom = squares(found, 1400, 1000)
    for i in range(30):
        for j in range(i):
            apart = max(left[i] - right[j], left[j] - right[i], top[i] - bottom[j], top[j] - bottom[i])
            assert apart > -8  # half a step of a colour, 255 of them over 1400 pixels, on each side
    assert (bottom - top).max() > 0.35 * 1000
    assert (bottom - top).min() < 0.08 * 1000


def test_views_anywhere_differ_and_are_of_all_scales(tmp_path):
    file = photograph(tmp_path / "a.png", 1400, 1000)
    found = views_anywhere(file, 200, seed=1)
    assert len({view.tobytes() for view in found}) == 200
    _, top, _, bottom = squares(found, 1400, 1000)
    sides = (bottom - top) * 32 / 31
    assert sides.min() < 80
    assert sides.max() > 800
    assert np.median(sides) == pytest.approx((64 * 1000) ** 0.5, rel=0.2)
    assert np.array_equal(views_anywhere(file, 200, seed=1), found)
    assert not np.array_equal(views_anywhere(file, 200, seed=2), found)


def test_what_is_finer_than_a_pixel_of_a_view_is_averaged(tmp_path):
    y, x = np.mgrid[:1000, :1400]
    board = ((x + y) % 2 * 200 + x * 55 // 1400).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    found = views_anywhere(tmp_path / "a.png", 30, seed=0)
    columns = found.astype(float).mean(axis=2)[:, 0]
    assert np.abs(np.diff(columns, axis=1)).max() < 4
    assert 95 < columns.min() < columns.max() < 160


def test_views_that_show_nothing_are_none(tmp_path, monkeypatch):
    pixels = np.full((500, 700, 3), 90, dtype=np.uint8)
    pixels[:, 350:] = np.random.RandomState(0).randint(0, 256, (500, 350, 3))
    Image.fromarray(pixels).save(tmp_path / "half.png")
    found = views_anywhere(tmp_path / "half.png", 40, seed=0)
    assert found.reshape(40, 3, -1).std(axis=2).max(axis=1).min() >= CONTRAST
    Image.fromarray(pixels[:, :350]).save(tmp_path / "none.png")
    monkeypatch.setattr(views, "ROUNDS", 2)
    monkeypatch.setattr(views, "TRIES", 10)
    with pytest.raises(DataError, match="only 0 of 3 views"):
        views_anywhere(tmp_path / "none.png", 3, seed=0)
    with pytest.raises(DataError, match="no room for 3 views apart"):
        views_apart(tmp_path / "none.png", 3, seed=0)


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Three photographs of our own in the place of the real ones, and their folder."""
    folder = tmp_path / "unpacked" / "usr"
    folder.mkdir(parents=True)
    named = {"tune": "a.jpg", "train": "b.JPG", "test": "c.jpeg"}
    model = scenes.photographs()[0]
    photos = []
    for label, (part, name) in enumerate(named.items()):
        file = photograph(folder / name, seed=label)
        photos.append(
            replace(model, label=label, part=part, file=name, package="some-package", sha256=sha256_of(file))
        )
    for module in (scenes, fetched):
        monkeypatch.setattr(module, "photographs", lambda: tuple(photos))
    monkeypatch.setattr(scenes, "N_VIEWS", {"test": 3, "tune": 5, "train": 40})
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path / "cache"))
    return folder.parent


def test_train_is_made_by_a_command_and_holds_whole_photographs_back(few, capsys):
    with pytest.raises(DataNotFoundError, match="merged-diffusion data make scenes"):
        load_data("scenes", split="train")
    assert main(["data", "make", "scenes", "--photographs", str(few), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    train = load_data("scenes", split="train")
    assert told["data"]["sha256"] == train.sha256
    assert told["as_published"] is False
    assert train.images.shape == (45, 3, 32, 32)
    fit, held = hold_back(train)
    assert set(fit.labels) == {1}
    assert set(held.labels) == {0}
    assert (len(fit), len(held)) == (40, 5)


def test_photographs_are_known_by_their_content(few, capsys):
    (few / "usr" / "a.jpg").rename(few / "renamed.jpg")
    assert main(["data", "make", "scenes", "--photographs", str(few), "--quiet"]) == 0
    assert "not the very pixels" in capsys.readouterr().out


def test_missing_photographs_are_named_with_their_package(few, capsys):
    (few / "usr" / "b.JPG").write_bytes(b"another content")
    assert main(["data", "make", "scenes", "--photographs", str(few), "--quiet"]) == 3
    told = capsys.readouterr().err
    assert "1 of the 2 photographs are not here: b.JPG (some-package)" in told
    assert "apt install some-package" in told
    assert main(["data", "make", "scenes", "--photographs", str(few / "nowhere"), "--quiet"]) == 2
    assert "is no folder" in capsys.readouterr().err

"""Results as tables: the same numbers in columns, data frames, HTML and files, and rows by position."""

import csv
import io
import json
import pickle
import re
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from tests.data.makers import png, write_folder

import merged_diffusion as md
from merged_diffusion.cli import main
from merged_diffusion.errors import UsageError
from merged_diffusion.frames import SHOWN, Tabular
from merged_diffusion.scores.record import Record


def write_pictures(folder, images):
    write_folder(folder, {f"{7 * k % 10}-{k}.png": png(image) for k, image in enumerate(images)})


@pytest.fixture
def command(capsys):
    """Run a command: exit code, standard output and standard error."""

    def run(*words):
        capsys.readouterr()
        code = main(list(words))
        return SimpleNamespace(exit_code=code, **capsys.readouterr()._asdict())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine photos as PNG files whose names do not sort as ids of another set would."""
    place = tmp_path_factory.mktemp("photos")
    write_pictures(place, md.load_data("photos")[:9])
    return place


@pytest.fixture(scope="module")
def data(folder):
    return md.load_data(folder)


@pytest.fixture(scope="module")
def scores(data):
    return md.log_likelihood(md.load_expert("bundled:photos-vdm"), data)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "run"
    settings = md.Settings(data=str(folder), pair="photos", compare=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "at gamma_min")  # the quality expert alone has noise below 3 tau
        return place, md.evaluate(settings, out=place)


def test_files_are_named_beside_ids(data, scores, folder):
    assert data.files == tuple(sorted(path.name for path in folder.glob("*.png")))
    table = scores.to_dict()
    assert table["file"].tolist() == list(data.files)
    assert table["id"].tolist() == data.ids.tolist()


def test_a_known_set_in_a_folder_keeps_the_names_of_its_files(tmp_path):
    known = md.load_data("photos")
    write_folder(tmp_path / "set", {f"{k:03d}.png": png(image) for k, image in enumerate(known)})
    found = md.load_data(tmp_path / "set")
    assert (found.name, found.clusters.tolist()) == ("photos", known.clusters.tolist())
    assert found[5:7].files == ("005.png", "006.png")


def test_columns_are_the_arrays(scores):
    table = scores.to_dict()
    assert np.array_equal(table["bits_per_dim"], scores.bits_per_dim)
    for name, term in scores.terms_nats.items():
        assert np.array_equal(table[name], term)
    assert np.array_equal(table["evaluations_likelihood"], scores.evaluations["likelihood"])
    assert {len(column) for column in table.values()} == {len(scores)}


def test_frames_hold_the_columns(scores):
    pandas, polars = scores.to_pandas(), scores.to_polars()
    for name, column in scores.to_dict().items():
        assert pandas[name].tolist() == polars[name].to_list() == column.tolist()


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_package_that_is_not_there_is_named(scores, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"pip install {name}"):
        getattr(scores, f"to_{name}")()


def test_positions_slices_and_masks_choose_images(scores):
    assert scores[3] is scores.records[3]
    assert scores[-1].id == scores.ids[-1]
    assert [record.id for record in scores] == scores.ids.tolist()
    for key in (slice(2, 5), [2, 3, 4], np.isin(np.arange(9), [2, 3, 4])):
        part = scores[key]
        assert part.records == scores.records[2:5]
        assert part.to_dict()["file"].tolist() == scores.to_dict()["file"][2:5].tolist()
        assert part.mean == pytest.approx(scores.bits_per_dim[2:5].mean())
    with pytest.raises(IndexError):
        scores[9]


def test_data_are_indexed_as_arrays(data):
    assert len(data) == len(list(data)) == 9
    assert np.array_equal(data[4], data.images[4])
    assert data[2:4].files == data.files[2:4]
    assert data[[5, 1]].ids.tolist() == [5, 1]
    assert data[data.ids > 6].ids.tolist() == [7, 8]


def test_samples_are_indexed_as_arrays():
    samples = md.draw(md.load_pair("digits"), [4, 9, 2], sampler=md.Heun(steps=2))
    assert np.array_equal(samples[1], samples.images[1])
    assert samples[1:].ids.tolist() == [9, 2]
    assert samples.to_dict()["id"].tolist() == [4, 9, 2]
    assert 'img src="data:image/png;base64,' in samples._repr_html_()


def test_html_shows_the_error_of_every_image(scores):
    found = scores._repr_html_()
    for value, error in zip(scores.bits_per_dim, scores.se_probe, strict=True):
        assert f"<td>{value:.4f} ± {error:.4f}</td>" in found
    assert "<th>bits_per_dim ± se_probe</th>" in found  # which of its errors that is
    assert repr(scores) in found
    assert "status" not in found


def test_html_of_failures_says_so():
    cost = {"evaluations": {"likelihood": 1, "quality": 0}, "steps": {"accepted": 1, "rejected": 0}}
    record = Record(id=7, status="nonfinite", bits_per_dim=None, terms_nats=None, **cost)
    found = md.Likelihood((record,), 4)
    assert "<td>nonfinite</td>" in found._repr_html_()
    assert np.isnan(found.to_pandas()["bits_per_dim"][0])


def test_html_is_short_and_escaped():
    class Names(Tabular):
        def __repr__(self):
            return "<script>"

        def to_dict(self):
            return {"name": np.array([f"<b>{k}" for k in range(SHOWN + 3)])}

    found = Names()._repr_html_()
    assert found.count("<tr>") == 1 + SHOWN + 1
    assert "3 more rows" in found
    assert not re.search("<b>|<script>", found)


def test_summary_has_a_row_for_each_model(run):
    _, summary = run
    table = summary.to_pandas().set_index("name")
    assert list(table.index) == ["merged", "likelihood", "quality"]
    assert table.loc["merged", "bits_per_dim"] == summary.means.bits_per_dim.mean
    assert table.loc["quality", "difference"] == summary.compare[1].paired.difference
    assert np.isnan(table.loc["merged", "difference"])
    assert len(repr(summary)) < 120


def test_sweep_has_a_row_for_each_threshold():
    table = md.sweep("digits", [0.1, 0.3], limit=3, seed=4)
    frame = table.to_pandas()
    assert frame["eta"].tolist() == [0.1, 0.3]
    assert frame["bits_per_dim"].tolist() == [row.value[0] for row in table]
    assert table[1] is table.rows[1]
    assert len(table) == 2
    assert all(len(repr(row)) < 80 for row in table)


@pytest.fixture(scope="module")
def results(scores):
    """What the functions of the package return, by the name of its class."""
    data = md.load_data("photos")[:9]
    experts = [md.load_expert(f"bundled:photos-{name}") for name in ("vdm", "edm")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "at gamma_min")
        other = md.log_likelihood(experts[1], data)
    bound = md.variational_bound(experts[0], data, times=2, repeats=2)
    density = md.log_likelihood(experts[0], data, dequantise="none")
    features = np.random.default_rng(0).standard_normal((40, 3))
    assessed = md.assess(md.load_data("digits")[:60], "digits")
    found = [
        md.paired_difference(scores, other), scores.estimate(), scores.summary(), bound.estimate(),
        bound.summary(), density.summary(), md.estimate_mean(scores, md.load_data("photos")),
        md.find_threshold(*experts, data), md.find_switches(experts, data),
        md.loss_profile(experts[0], data, gammas=np.linspace(-13, 5, 9)),
        md.frechet_distance(features, features + 0.5), assessed, assessed.primary,
    ]  # fmt: skip
    return {type(one).__name__: one for one in found}


def test_every_result_is_a_table_and_a_line_of_few_digits(results):
    assert len(results) == 13
    for name, found in results.items():
        columns = found.to_dict()
        assert len({len(column) for column in columns.values()}) == 1
        assert list(found.to_pandas()) == found.to_polars().columns == list(columns)
        assert repr(found).startswith(f"{name}(")
        assert len(repr(found)) < 120
        assert not re.search(r"\d\.\d{5}", repr(found))  # no number to more than four decimals
        shown = found._repr_html_()
        assert repr(found) in shown
        assert not re.search(r"\d\.\d{5}", shown)
        copied = pickle.loads(pickle.dumps(found))
        for key, column in columns.items():
            np.testing.assert_array_equal(copied.to_dict()[key], column)


def test_a_result_of_one_row_has_its_attributes_for_columns(results):
    for name in ("Difference", "MeanOfLikelihoods", "MeanOfBounds", "MeanOverSet", "Distance", "Figure"):
        found = results[name]
        for key, column in found.to_dict().items():
            value = getattr(found, key)
            value = ", ".join(value) if isinstance(value, tuple) else value
            assert np.isnan(column[0]) if value is None else column.tolist() == [value]


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("MeansOfLikelihoods", "bits_per_dim"),
        ("MeansOfBounds", "bits_per_dim"),
        ("MeansOfDensities", "log_density_nats"),
    ],
)
def test_means_are_a_row_under_the_names_of_scores(results, name, mean):
    found = results[name]
    (row,) = found.to_pandas().to_dict("records")
    value = getattr(found, mean)
    assert (row[mean], row["se_images"], row["n"]) == (value.mean, value.se_images, found.n)
    for key, nats in found.terms_nats.items():
        assert row[key] == nats
    for role, count in found.evaluations.items():
        assert row[f"evaluations_{role}"] == count
    assert f"{value.mean:.4f}" in repr(found)


def test_means_that_are_not_there_are_told_so():
    cost = {"evaluations": {"likelihood": 1, "quality": 0}, "steps": {"accepted": 1, "rejected": 0}}
    record = Record(id=7, status="nonfinite", bits_per_dim=None, terms_nats=None, **cost)
    found = md.Likelihood((record,), 4).summary()
    assert "1 images, 1 failed, no mean" in repr(found)
    assert np.isnan(found.to_dict()["bits_per_dim"][0])
    assert np.isnan(found.to_dict()["se_probe"][0])


def test_the_curves_of_a_threshold_have_a_row_for_each_eta(results):
    found = results["Found"]
    frame = found.to_pandas().set_index("eta")
    assert frame["mean"].idxmin() == found.eta
    assert frame.loc[found.eta, "gamma"] == found.gamma
    assert f"<td>{found.eta:.4f}</td>" in found._repr_html_()  # whichever rows a notebook shows


def test_an_assessment_is_still_the_dictionary_of_a_summary(results):
    found = results["Assessment"]
    assert isinstance(found, dict)
    assert list(found) == ["primary", "others", "reference", "absent"]
    assert json.loads(json.dumps(found))["primary"]["value"] == found.primary.value
    frame = found.to_pandas()
    assert frame["name"].tolist() == [found["primary"]["name"], *(one["name"] for one in found["others"])]
    assert frame["value"].tolist() == [one.value for one in (found.primary, *found.others)]
    assert found.absent == found["absent"]
    assert found.reference["sha256"] == found["reference"]["sha256"]


def test_run_is_read_back_with_its_files(run, data):
    place, summary = run
    for name, means in (("", summary.means), ("quality", summary.compare[1].means)):
        found = md.load_scores(place / name)
        assert found.summary() == means  # with what the pilot of the command found of quadrature
        assert found.to_dict()["file"].tolist() == list(data.files)
    pair = md.load_scores(place), md.load_scores(place / "likelihood")
    assert md.paired_difference(*pair) == summary.compare[0].paired


def test_images_that_changed_name_no_files(run, folder, tmp_path, caplog):
    place, _ = run
    hidden = tmp_path / "hidden"
    folder.rename(hidden)
    try:
        assert "file" not in md.load_scores(place).to_dict()
        assert "not read again" in caplog.text
        caplog.clear()
        write_pictures(folder, md.load_data("photos")[9:18])
        assert "file" not in md.load_scores(place).to_dict()
        assert "other images" in caplog.text
    finally:
        for path in folder.glob("*"):
            path.unlink()
        folder.rmdir()
        hidden.rename(folder)


def test_ids_that_changed_name_no_labels(tmp_path, caplog):
    def saved(ids):
        digits = md.load_data("digits")[:3]
        columns = {"images": digits.images, "labels": np.array([1, 2, 3]), "levels": 17, "ids": np.array(ids)}
        np.savez(tmp_path / "mine.npz", **columns)

    saved([10, 20, 30])
    settings = md.Settings(data=str(tmp_path / "mine.npz"), expert="bundled:digits-vdm")
    md.evaluate(settings, out=tmp_path / "run")
    assert md.load_scores(tmp_path / "run").to_dict()["label"].tolist() == [1, 2, 3]
    saved([5, 15, 25])
    assert "label" not in md.load_scores(tmp_path / "run").to_dict()
    assert "other ids" in caplog.text


def test_an_id_that_names_two_images_is_refused():
    with pytest.raises(UsageError, match="one names two images"):
        md.evaluate(md.load_data("digits")[[2, 2]], "digits")


def exported(run_command, *words):
    done = run_command("runs", "export", *map(str, words), "--what", "images")
    assert done.exit_code == 0, done.err
    return done


def test_export_of_images_is_the_table(run, command, tmp_path):
    place, _ = run
    rows = list(csv.DictReader(io.StringIO(exported(command, place).out)))
    assert {row["model"] for row in rows} == {"merged", "likelihood", "quality"}
    for name in ("merged", "quality"):
        found = md.load_scores(place if name == "merged" else place / name)
        own = [row for row in rows if row["model"] == name]
        assert [row["file"] for row in own] == found.to_dict()["file"].tolist()
        assert [float(row["bits_per_dim"]) for row in own] == found.bits_per_dim.tolist()
    out = tmp_path / "images.parquet"
    for _ in range(2):  # what is ours is replaced
        exported(command, place, "--out", out)
    import pandas as pd

    frame = pd.read_parquet(out)
    assert frame["bits_per_dim"].tolist() == [float(row["bits_per_dim"]) for row in rows]
    assert list(frame) == list(rows[0])


def test_export_of_images_replaces_nothing_else(run, command, tmp_path):
    place, _ = run
    for name in ("a.csv", "a.parquet"):
        out = tmp_path / name
        out.write_bytes(b"PAR1 of somebody else PAR1")
        done = command("runs", "export", str(place), "--what", "images", "--out", str(out))
        assert done.exit_code == 2
        assert out.read_bytes() == b"PAR1 of somebody else PAR1"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--table", "1"], "use one of them"),
        (["--format", "latex"], "--format csv"),
        (["--format", "parquet"], "--out FILE.parquet"),
    ],
)
def test_export_of_images_refuses_what_cannot_be_meant(run, command, words, text):
    done = command("runs", "export", str(run[0]), "--what", "images", *words)
    assert done.exit_code == 2
    assert text in done.err

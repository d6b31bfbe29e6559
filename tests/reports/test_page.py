"""The page of a report: whole in one file, escaped, with what it promises."""

import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from merged_diffusion.cli import main
from merged_diffusion.data import load_data
from merged_diffusion.errors import RunError, RunMismatchError
from merged_diffusion.reports.export import exported
from merged_diffusion.reports.page import report
from merged_diffusion.reports.repeat import command_lines
from merged_diffusion.reports.results import read

from .conftest import bits, expert, quality

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes; complains about tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_page_loads_nothing(make_sweep):
    text, _ = report([make_sweep()])
    page = Page(text)
    for tag, attributes in page.found:
        assert tag not in ("script", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    policy = next(a["content"] for _, a in page.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_ids_of_figures_do_not_meet(make_sweep):
    several = [bits(1.75, 0.05), bits(1.70, 0.04), bits(1.71, 0.04), bits(1.80, 0.06)]
    text, _ = report([make_sweep(etas=(0.3, 0.4), summaries=several)])
    ids = [a["id"] for _, a in Page(text).found if "id" in a]
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_hostile_names_stay_text(make_sweep):
    name = "<script>alert(1)</script>\"'&"
    folder = make_sweep("<img src=x onerror=alert(1)>", data={"name": name})
    text, _ = report([folder])
    page = Page(text)
    assert not {"script"} & {tag for tag, _ in page.found}
    assert not [a for _, a in page.found if a.get("src") == "x"]
    assert any(name in words for words in page.words)


def test_headline_differences_and_command(make_sweep):
    text, warnings = report([make_sweep()])
    words = " ".join(" ".join(Page(text).words).split())
    assert warnings == []
    assert "1.700 ± 0.040 bits/dim" in words
    assert "eta 0.2 to 0.4 cannot be told from it" in words
    assert "merged − quality expert alone: −0.050 ± 0.010 bits/dim (paired, 24 images)" in words
    assert "500 evaluations, 0.50 of those of single runs" in words
    assert "merged-diffusion sweep \\ --etas 0,0.3,1 \\ --data digits \\ --limit 24" in words


def test_curves_need_more_than_one_threshold(make_sweep):
    one, _ = report([make_sweep("one")])
    several = [bits(1.75, 0.05), bits(1.70, 0.04), bits(1.71, 0.04), bits(1.80, 0.06)]
    two, _ = report([make_sweep("two", etas=(0.3, 0.4), summaries=several)])
    assert one.count("<figure>") == 0
    assert two.count("<figure>") == 2  # the means, and the paired differences


def test_mixed_seeds_are_warned_of_on_the_page(make_sweep):
    text, warnings = report([make_sweep("a"), make_sweep("b", seed=3)])
    assert any("other seeds" in warning for warning in warnings)
    assert 'class="warning"' in text


def test_mixed_data_are_refused(make_sweep):
    with pytest.raises(RunMismatchError):
        report([make_sweep("a"), make_sweep("b", data={"name": "photos"})])


def test_run_shows_its_best_and_worst_images(pair_run):
    text, _ = report([pair_run])
    alts = [a["alt"] for tag, a in Page(text).found if tag == "img"]
    records = [
        json.loads(line) for path in pair_run.glob("images-*.jsonl") for line in path.read_text().splitlines()
    ]
    ordered = [r["id"] for r in sorted(records, key=lambda r: r["bits_per_dim"])]
    expected = [*ordered[:3], *ordered[-3:][::-1]]
    assert alts == [f"image {image}" for image in expected]
    assert "image-rendering: pixelated" in text
    assert "weights_sha256" in text


def test_images_that_are_not_here_are_left_out_with_a_note(pair_run):
    settings = json.loads((pair_run / "settings.json").read_text())
    settings["settings"]["data"] = "nowhere"
    (pair_run / "settings.json").write_text(json.dumps(settings))
    text, _ = report([pair_run])
    assert "The images are left out" in text
    assert not [tag for tag, _ in Page(text).found if tag == "img"]


def test_samples_of_a_sweep_share_columns(make_sweep):
    folder = make_sweep(metric="sample", sampler="ode", summaries=[quality(v, 0.1) for v in (9.0, 2.0, 2.5)])
    images = load_data("digits").images
    for k, name in enumerate(("likelihood", "eta-0.3000", "quality")):
        (folder / name).mkdir()
        np.savez(folder / name / "samples.npz", images=images[k : k + 8], ids=np.arange(8) + k, levels=17)
    alts = [a["alt"] for tag, a in Page(report([folder])[0]).found if tag == "img"]
    assert alts == [f"sample {image}" for image in range(2, 8)] * 3


RECORD = {
    "command": "sample",
    "settings": {"sampler": "heun", "steps": 18, "seed": 2},
    "threshold": {"eta": 0.3, "gamma": -2.5, "edm_sigma": 0.3, "logsnr": 2.5},
    "legs": [
        {"role": "likelihood", "start": -7.9, "end": -2.5},
        {"role": "quality", "start": -2.5, "end": 8.8},
    ],
    "experts": {
        "likelihood": expert("small_vdm", -7.9, 5.0),
        "quality": expert("small_edm", -7.0, 8.8),
    },
    "result": {"n": 8, "evaluations": {"total": 37.0}},
}


@pytest.mark.parametrize("form", ["npz", "folder"])
def test_samples_alone_are_shown(tmp_path, form):
    images = load_data("digits").images[:8]
    place = tmp_path / "drawn.npz"
    if form == "npz":
        np.savez(place, images=images, ids=np.arange(8), levels=17, settings=np.array(json.dumps(RECORD)))
    else:
        place = tmp_path / "drawn"
        (place / "00000").mkdir(parents=True)
        for k, image in enumerate(images):
            pixels = np.rint(image[0] * (255 / 16)).astype(np.uint8)
            Image.fromarray(pixels).save(place / "00000" / f"img{k:08d}.png")
        (place / "settings.json").write_text(json.dumps(RECORD))
    text, _ = report([place])
    page = Page(text)
    assert [a["alt"] for tag, a in page.found if tag == "img"] == [f"sample {k}" for k in range(8)]
    words = " ".join(" ".join(page.words).split())
    assert "samples (heun)" in words
    assert "8 images" in words
    assert "--likelihood-expert bundled:small_vdm" in words
    assert "--gamma -2.5" in words
    assert "--num 8" in words


def test_record_that_is_too_large_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", settings=np.array(" " * 2**20))
    with pytest.raises(RunError, match="larger than"):
        report([tmp_path / "x.npz"])


def test_command_quotes_for_a_shell(make_sweep):
    folder = make_sweep(settings={"data": "my images; rm", "seed": 3, "ids": [0, 16], "compare": True})
    assert command_lines(read(folder))[2:] == [
        "--data 'my images; rm'",
        "--seed 3",
        "--ids 0:16",
        "--compare",
    ]


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("nll", ("--limit", "2", "--rtol", "1e-3", "--atol", "1e-3")),
        ("vlb", ("--limit", "2", "--times", "2", "--profile")),
        ("sample", ("--num", "32", "--sampler", "heun", "--steps", "3", "--image-shape", "1,8,8")),
    ],
)
def test_the_command_that_repeats_a_sweep_goes_on_in_its_directory(metric, more, tmp_path, capsys):
    out = ("--out", str(tmp_path / "swept"), "--json", "--quiet")
    words = ("sweep", "--data", "digits", "--metric", metric, "--etas", "0,min,0.3", "--threads", "1", *more)
    assert main([*words, *out]) == 0
    first = json.loads(capsys.readouterr().out)
    command = " ".join(command_lines(read(tmp_path / "swept")))
    assert main([*shlex.split(command)[1:], *out]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["evaluations"] == first["evaluations"]
    assert [row["paired"] for row in again["rows"]] == [row["paired"] for row in first["rows"]]


def test_the_headline_says_where_an_expert_alone_is_better(make_sweep):
    text = report([make_sweep("one")])[0]
    assert "eta 0.3, the best of 3 rows; eta 0.2 to 0.4 cannot be told from it" in text
    summaries = [bits(1.6, 0.05), bits(1.7, 0.04), bits(1.8, 0.06)]
    text = report([make_sweep("two", summaries=summaries)])[0]
    assert "the best threshold; the best of 3 rows is likelihood expert alone (small_vdm); eta" in text


def test_a_difference_to_an_expert_that_is_best_is_shown(make_sweep):
    def paired(to, difference):
        return {"to": to, "difference": difference, "se": 0.01, "se_images": 0.01, "n": 24}

    folder = make_sweep("two", summaries=[bits(1.6, 0.05), bits(1.7, 0.04), bits(1.8, 0.06)])
    table = json.loads((folder / "sweep.json").read_text())
    for row, difference in zip(table["rows"], (0.0, 0.1, 0.2), strict=True):
        row["paired"] = paired("likelihood", difference)
    (folder / "sweep.json").write_text(json.dumps(table))
    text = report([folder])[0]
    assert "merged − likelihood expert alone: +0.100 ± 0.010 bits/dim (paired, 24 images)" in text
    assert "merged − quality expert alone" not in text


def test_a_file_of_another_kind_is_not_replaced(make_sweep, tmp_path, capsys):
    sweep, notes, page = make_sweep(), tmp_path / "notes.html", tmp_path / "page.html"
    notes.write_text("<p>mine</p>")
    assert main(["runs", "report", str(sweep), "--out", str(notes)]) == 2
    assert main(["runs", "export", str(sweep), "--out", str(notes)]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert notes.read_text() == "<p>mine</p>"
    for _ in range(2):
        assert main(["runs", "report", str(sweep), "--out", str(page)]) == 0
        for form in ("markdown", "latex", "csv"):
            out = str(tmp_path / f"table.{form}")
            assert main(["runs", "export", str(sweep), "--format", form, "--out", out]) == 0


def test_the_differences_of_two_samplers_name_theirs(make_sweep):
    values = [quality(5.0, 0.1), quality(4.0, 0.1), quality(6.0, 0.1)]
    sweeps = [
        make_sweep(sampler, metric="sample", sampler=sampler, summaries=values, etas=(eta,))
        for sampler, eta in (("ode", 0.3), ("ancestral", 0.4))
    ]
    text = report(sweeps)[0]
    assert "Differences are to eta 0.4000 (ancestral), eta 0.3000 (ode), of the same ids and noise." in text
    assert "Differences are to eta 0.3000, of the same ids and noise." in report(sweeps[:1])[0]
    table = exported([make_sweep(), *sweeps], number=3).text
    assert "| ours: eta 0.3 | this run, samples by ode | 1.700 ± 0.040 | 4.00 ± 0.10 | 120 |" in table
    assert table.count("this run, samples by ode") == table.count("this run, samples by ancestral") == 3

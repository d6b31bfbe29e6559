"""``runs export`` and ``runs report`` on a real run."""

import pytest


@pytest.fixture
def kept(run_cli, pair, tmp_path):
    out = tmp_path / "run"
    loose = ("--rtol", 1e-3, "--atol", 1e-3)
    found = run_cli(*pair("--limit", 4, "--gamma", -2.0, "--compare", "--out", out, *loose, "--json"))
    assert found.code == 0
    return out, found.json


def test_export_repeats_the_figures_of_the_summary(run_cli, kept):
    folder, summary = kept
    found = run_cli("runs", "export", folder, "--format", "csv")
    assert found.code == 0
    lines = found.out.splitlines()
    assert len(lines) == 4
    assert repr(summary["bits_per_dim"]["mean"]) in lines[2]
    assert [line.split()[0] for line in lines[1:]] == ["quality", "eta", "likelihood"]


def test_export_as_json_and_to_a_file(run_cli, kept, tmp_path):
    folder, _ = kept
    found = run_cli("runs", "export", folder, "--table", 4, "--out", tmp_path / "t.md", "--json")
    assert found.json["table"] == 4
    assert found.json["text"] == (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    ("form", "foreign"),
    [
        ("csv", "dear all, these are my notes\n"),
        ("csv", "model,gamma,mine\n1,2,3\n"),
        ("markdown", "# My page\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"),
        ("latex", "\\documentclass{article}\n\\begin{tabular}{l}\n\\end{tabular}\n"),
    ],
)
def test_export_replaces_its_own_files_only(run_cli, kept, tmp_path, form, foreign):
    folder, _ = kept
    out = tmp_path / "table"
    asked = ("runs", "export", folder, "--format", form, "--out", out)
    out.write_text(foreign)
    assert run_cli(*asked).code == 2
    assert out.read_text() == foreign
    out.write_text("")
    for number in (1, 4, 3, 1):
        found = run_cli(*asked, "--table", number, "--json")
        assert found.code == 0
        assert found.json["text"] == out.read_text()


def test_report_is_written_whole(run_cli, kept, tmp_path):
    folder, _ = kept
    found = run_cli("runs", "report", folder, "--out", tmp_path / "page.html")
    assert found.code == 0
    assert found.out.strip().endswith("page.html")
    assert (tmp_path / "page.html").read_text().rstrip().endswith("</html>")
    assert not list(tmp_path.glob(".page*"))


def test_other_data_have_their_exit_code(run_cli, kept, tmp_path):
    folder, _ = kept
    other = tmp_path / "sweep"
    other.mkdir()
    (other / "sweep.json").write_text(
        '{"format": 1, "metric": "nll", "data": {"name": "photos"}, "pair": {"experts": {}}, "settings": {},'
        ' "rows": [], "evaluations": {}, "seconds": 0.0}'
    )
    found = run_cli("runs", "report", folder, other, "--json")
    assert found.code == 7
    assert found.json["error"]["type"] == "RunMismatchError"


def test_place_that_cannot_be_written_is_told(run_cli, kept, tmp_path):
    (tmp_path / "file").write_text("")
    found = run_cli("runs", "export", kept[0], "--out", tmp_path / "file" / "t.md")
    assert found.code == 6
